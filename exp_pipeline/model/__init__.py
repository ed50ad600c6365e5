"""Frozen nouns and errors that every room speaks in."""
