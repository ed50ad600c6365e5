"""The same estimators over arrays: thousands of effects in one call."""
