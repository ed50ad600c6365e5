"""Files, partitions, engines and state: the only room that opens any of them."""
