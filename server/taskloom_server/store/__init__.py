"""The store: tables, migrations, compiled statements, the writer and the readers.

The only place that imports Peewee or a database driver. It knows rows, not rules: what a
row means is decided in ``coordinator`` and ``graph``.
"""
