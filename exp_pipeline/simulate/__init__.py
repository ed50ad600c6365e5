"""Synthetic schools, learners, tutors and events, with known truth."""
