"""Data quality of days: counted, judged, shown."""
