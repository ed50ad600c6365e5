"""Effects of two arms from values of units: means, shares, ratios, quantiles; adjusted, stratified, paired."""
