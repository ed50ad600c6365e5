"""A real installation on this machine: daemon, code server, run workers, a database; killed for real."""
