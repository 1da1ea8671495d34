"""Latencies as HDR histograms: of any number of calls, from any number of processes.

Three digits are kept of each, from 1 µs to a minute; what takes longer counts as a minute. Who
sends at given times (open loop) records from the time at which it meant to send, so that a server
that stands still is charged for all who would have called meanwhile. ``latencies`` keeps each
sample instead, for the measurements that have few of them.
"""

from hdrh.histogram import HdrHistogram

from taskloom_experiments.load.latencies import Summary

_MOST_US = 60_000_000
_DIGITS = 3


class Histogram:
    """Latencies, recorded in nanoseconds."""

    def __init__(self) -> None:
        self._counts = HdrHistogram(1, _MOST_US, _DIGITS)

    def __len__(self) -> int:
        count: int = self._counts.get_total_count()
        return count

    def record(self, nanoseconds: int) -> None:
        """Add one."""
        self._counts.record_value(min(max(nanoseconds // 1_000, 1), _MOST_US))

    def encode(self) -> str:
        """In HdrHistogram's own form (V2, compressed, base64), which all its ports read."""
        text: str = self._counts.encode().decode("ascii")
        return text

    def add(self, encoded: str) -> None:
        """Add those of another one, encoded."""
        self._counts.decode_and_add(encoded.encode("ascii"))

    def percentile_us(self, percent: float) -> float:
        """So many of a hundred took no longer than this, in µs. 0 where there is none."""
        return float(self._counts.get_value_at_percentile(percent))

    def summary(self) -> Summary:
        """What is told of them."""
        p50, p90, p99, p999 = (self.percentile_us(percent) for percent in (50, 90, 99, 99.9))
        most = float(self._counts.get_max_value())
        return Summary(len(self), self._counts.get_mean_value(), p50, p90, p99, p999, most)
