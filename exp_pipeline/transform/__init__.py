"""Tables in, tables out: each step an SQL file, with the Python that extends it."""
