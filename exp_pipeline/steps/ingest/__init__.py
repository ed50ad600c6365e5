"""From landed files to events: door, typing, contracts, duplicates, every row accounted for."""
