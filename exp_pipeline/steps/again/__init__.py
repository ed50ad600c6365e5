"""What must be made again, and making it: late data, catch-up, stale readouts."""
