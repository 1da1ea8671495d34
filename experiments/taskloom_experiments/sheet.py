"""Where the figures of a run are filled in, one by one, with what they are computed from."""

import math
from collections.abc import Iterable, Sequence


class Sheet:
    """The figures as they are filled in: a value, or the reason why there is none."""

    def __init__(self) -> None:
        self.figures: dict[str, float] = {}
        self.missing: dict[str, str] = {}

    def put(
        self, name: str, value: float | None, otherwise: str = "there is nothing to count"
    ) -> None:
        """Fill in a figure, or where the value is None, why there is none."""
        if value is None:
            self.missing[name] = otherwise
        else:
            self.figures[name] = value

    def ratio(self, name: str, part: float, whole: float, otherwise: str) -> None:
        """Fill in part over whole, or where the whole is nothing, why there is no ratio."""
        self.put(name, part / whole if whole else None, otherwise)


def percentile(values: Sequence[float], share: float) -> float:
    """The smallest value that at least this share (0 to 1) of the values do not exceed."""
    ordered = sorted(values)
    return ordered[max(0, math.ceil(share * len(ordered)) - 1)]


def total(values: Iterable[int | None]) -> int | None:
    """The sum of what is known; None where nothing is."""
    known = [value for value in values if value is not None]
    return sum(known) if known else None
