"""Dirty logs with an answer key: what is planted is counted as it is planted, and by nothing else."""
