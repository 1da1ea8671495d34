"""Latencies: every sample is kept, so that a percentile is a measured one, never an estimate.

Samples are whole nanoseconds, eight bytes each; a million need 8 MB. Who sends at given times
(open loop) records from the time at which it meant to send.
"""

from array import array
from collections.abc import Iterable
from dataclasses import asdict, dataclass


@dataclass(frozen=True, slots=True)
class Summary:
    """What is told of many latencies, in microseconds."""

    count: int
    mean_us: float
    p50_us: float
    p90_us: float
    p99_us: float
    p999_us: float
    max_us: float

    def to_dict(self) -> dict[str, float]:
        """As JSON has it."""
        return asdict(self)


class Latencies:
    """A growing collection of latencies in nanoseconds."""

    def __init__(self, samples: Iterable[int] = ()) -> None:
        self._samples = array("q", samples)
        self._sorted = False

    def __len__(self) -> int:
        return len(self._samples)

    def record(self, nanoseconds: int) -> None:
        """Add one sample; may be negative, where two clocks or two ways are compared."""
        self._samples.append(nanoseconds)
        self._sorted = False

    def add(self, other: "Latencies") -> None:
        """Add the samples of another collection, such as another process's."""
        self._samples.extend(other._samples)
        self._sorted = False

    def percentile(self, percent: float) -> int:
        """The smallest sample that ``percent`` of all samples do not exceed (nearest rank).

        Raises ValueError where there are no samples, or for a percentage outside 0 to 100.
        """
        if not self._samples:
            raise ValueError("there are no samples")
        if not 0 <= percent <= 100:
            raise ValueError(f"{percent} is no percentage")
        if not self._sorted:
            self._samples = array("q", sorted(self._samples))
            self._sorted = True
        # In thousandths of a percent: 99.9 % of 1,000 samples must be 999 of them, not 1,000.
        rank = -(-round(percent * 1000) * len(self._samples) // 100_000)
        return self._samples[max(rank, 1) - 1]

    def summary(self) -> Summary:
        """What is told of them. Raises ValueError where there are no samples."""
        p50, p90, p99, p999, most = (
            self.percentile(percent) / 1000 for percent in (50, 90, 99, 99.9, 100)
        )
        mean = sum(self._samples) / len(self._samples) / 1000
        return Summary(len(self._samples), mean, p50, p90, p99, p999, most)
