"""From events to sessions, learner-days and unit-days."""
