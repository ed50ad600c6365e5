"""What whole clusters do to effects and to their errors."""
