"""Units whose outcome is missing: who they are, what bounds hold, how weights can help."""
