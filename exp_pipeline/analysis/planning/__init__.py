"""Before the start: baselines, days needed, what could be found."""
