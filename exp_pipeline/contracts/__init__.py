"""Contracts: one pandera model per event and per published table, made from the one definition of each.

The definitions are plain data (`canonical` for the columns of events, `published` for tables); the models
stand in `models` and `tables`. Importing any module but those two loads neither pandera nor polars. Ask
`fields` for the canonical columns, `table_columns` for those of tables, `events` for the taxonomy,
`predicates` for the SQL that routes bad rows, `validation` for the frame checks, `catalogue` for the words.
"""
