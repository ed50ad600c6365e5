"""Who was assigned to what, by draw or by hash, and whether it was kept."""
