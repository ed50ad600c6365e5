"""Looking more than once: spending plans, always-valid intervals, posteriors."""
