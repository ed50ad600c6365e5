"""Facts in, decisions out; and what may not be seen yet."""
