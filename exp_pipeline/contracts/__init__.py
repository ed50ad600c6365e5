"""Contracts: one pandera model per event and per published table; the only definition of a schema.

Importing this package, or any module in it except `models` and `tables`, loads neither pandera nor polars:
they are imported on the first question that needs them. Ask `fields` for the columns, `events` for the
taxonomy, `predicates` for the SQL that routes bad rows, `validation` for the frame checks, `catalogue` for
the words.
"""
