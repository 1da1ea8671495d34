"""Statements that are built by Peewee once and run many times.

Building the five queries of a claim and its completion anew cost some 800 µs, running them
compiled some 50 µs. So a query is written with ``arg("name")`` where its values go, compiled
when its module is imported, and called with the values.
"""

from collections.abc import Iterable, Iterator
from typing import Any

import apsw
from peewee import SQL, NodeList, Query, Value

Row = tuple[Any, ...]


class _Slot:
    """Stands in a query for a value that comes with the call."""

    def __init__(self, name: str) -> None:
        self.name = name


def arg(name: str) -> Value:
    """A place in a query that the call's argument of this name fills."""
    return Value(_Slot(name), converter=False, unpack=False)


def by_no_index(column: Any) -> NodeList:
    """A column of which SQLite is not to use an index, where that would be the longer way."""
    return NodeList((SQL("+"), column), glue="")


class Statement:
    """One compiled query. Arguments are given by position, in the order of ``names``."""

    __slots__ = ("_constants", "sql")

    def __init__(self, query: Query, *names: str) -> None:
        """Compile. Raises ValueError unless ``names`` are just the query's arguments."""
        sql, params = query.sql()
        used = {p.name for p in params if isinstance(p, _Slot)}
        if used != set(names) or len(used) != len(names):
            raise ValueError(f"arguments {names} do not fit {sorted(used)} in {sql}")
        # Each placeholder is numbered: arguments first, then the query's own constants.
        numbers = {name: n for n, name in enumerate(names, 1)}
        constants: list[Any] = []
        pieces = sql.split("?")
        text = [pieces[0]]
        for param, piece in zip(params, pieces[1:], strict=True):
            if isinstance(param, _Slot):
                number = numbers[param.name]
            else:
                constants.append(param)
                number = len(names) + len(constants)
            text += (f"?{number}", piece)
        self.sql = "".join(text)
        self._constants = tuple(constants)

    def run(self, connection: apsw.Connection, *args: Any) -> None:
        """Execute for its effect."""
        connection.execute(self.sql, args + self._constants)

    def one(self, connection: apsw.Connection, *args: Any) -> Row | None:
        """The first row, or None."""
        row: Row | None = connection.execute(self.sql, args + self._constants).fetchone()
        return row

    def all(self, connection: apsw.Connection, *args: Any) -> list[Row]:
        """All rows."""
        return connection.execute(self.sql, args + self._constants).fetchall()

    def each(self, connection: apsw.Connection, *args: Any) -> Iterator[Row]:
        """The rows as they come."""
        return iter(connection.execute(self.sql, args + self._constants))

    def many(self, connection: apsw.Connection, rows: Iterable[Row]) -> None:
        """Execute once for each row of arguments."""
        constants = self._constants
        bindings = (row + constants for row in rows) if constants else rows
        connection.executemany(self.sql, bindings)
