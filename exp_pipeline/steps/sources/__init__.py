"""Sources of events: tried, guessed, drafted and written by the command line."""
