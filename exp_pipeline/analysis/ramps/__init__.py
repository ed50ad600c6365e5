"""What comes next in the life of an experiment and of its ramp."""
