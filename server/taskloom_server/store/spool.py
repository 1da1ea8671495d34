"""Rows that are put aside in a temporary file, and read as often as one likes.

So what is to be checked as a whole before any of it is written takes the memory of some rows.
"""

import marshal
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import IO, Any, Generic, TypeVar

Row = TypeVar("Row", bound=tuple[Any, ...])


class Spool(Generic[Row]):
    """Rows, put aside as tuples of plain values, in their order.

    The file is the caller's to close.
    """

    def __init__(
        self, make: Callable[[Iterable[Any]], Row], file: IO[bytes], at_once: int = 1_000
    ) -> None:
        """``make`` makes a row of its values; so many of them are in memory ``at_once``."""
        self._make = make
        self._file = file
        self._at_once = at_once
        self._last: list[tuple[Any, ...]] = []
        self._sizes: list[int] = []  # of what is written, a batch after the other
        self._rows = 0

    def append(self, values: tuple[Any, ...]) -> None:
        """Add a row by its values, which are no named tuple."""
        self._last.append(values)
        self._rows += 1
        if len(self._last) >= self._at_once:
            self._sizes.append(self._file.write(marshal.dumps(self._last)))
            self._last.clear()

    def __len__(self) -> int:
        """How many rows there are."""
        return self._rows

    def __iter__(self) -> Iterator[Row]:
        """The rows. Nothing can be added meanwhile."""
        for batch in self.batches():
            yield from batch

    def batches(self) -> Iterator[Sequence[Row]]:
        """The rows, some at a time."""
        start = 0
        for size in self._sizes:
            self._file.seek(start)
            yield list(map(self._make, marshal.loads(self._file.read(size))))
            start += size
        if self._last:
            yield list(map(self._make, self._last))
