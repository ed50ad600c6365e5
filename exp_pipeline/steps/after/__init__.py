"""After shipping: drift, durability, the weekly review, retention, and who changed what."""
