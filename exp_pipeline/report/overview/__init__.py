"""The pages about all experiments: their index, the decision log, and what waits for whom."""
