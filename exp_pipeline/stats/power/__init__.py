"""How many units, clusters and looks a question needs."""
