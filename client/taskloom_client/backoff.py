"""How long to wait before trying again: growing delays with jitter. Waits for nothing itself."""

import random
from collections.abc import Iterator


def delays(first: float, longest: float) -> Iterator[float]:
    """Seconds to wait, one after another: doubling from ``first`` up to ``longest``, for ever.

    Each is drawn from the upper half of its range, so that those who failed together do not come
    back together, and nobody comes back at once.
    """
    ceiling = first
    while True:
        yield random.uniform(ceiling / 2, ceiling)
        ceiling = min(ceiling * 2, longest)
