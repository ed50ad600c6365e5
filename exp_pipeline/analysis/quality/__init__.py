"""Counts of days in, findings of data quality out."""
