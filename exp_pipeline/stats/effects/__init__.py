"""Effects of two arms from unit values: means, shares, ratios, quantiles, adjusted, stratified, paired."""
