"""Incidents in, messages out: what opens and closes an incident, how a page reads, what carries it."""
