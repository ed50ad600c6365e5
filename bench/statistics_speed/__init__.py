"""How fast are the statistics, beside other packages that do the same work? See `run.py`."""
