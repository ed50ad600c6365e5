"""Pure statistics: numpy arrays and numbers in, small frozen results out. No tables, no clock, no files."""
