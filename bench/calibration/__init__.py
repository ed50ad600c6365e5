"""Do the methods keep their promises? Error rates, coverage and power of each, by simulation."""
