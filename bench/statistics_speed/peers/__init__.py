"""Other packages at the same work. Each script runs in its peer's own environment, by itself."""
