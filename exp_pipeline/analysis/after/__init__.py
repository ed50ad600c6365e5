"""After shipping: drift of what is served, lasting effects, and the week in review."""
