"""The steps of the chain, one file per group: days or an experiment in, partitions written, facts out.

No Dagster here: assets, command line and benchmarks call the same functions.
"""
