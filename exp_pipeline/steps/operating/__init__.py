"""What is judged every day, and what follows from it: locks, incidents, messages."""
