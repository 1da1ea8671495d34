"""What a call costs in a simulation: its way there, its turn at the server, its way back.

A server is one thread that serves calls one after the other, which is what makes a crowd slow;
the ways are each call's own, as the agents are processes on machines of their own. Ways are drawn,
so that of two agents that ask at one moment either may be first.
"""

import random
from math import log

from taskloom_experiments.definition_parts import CallCosts


class Desk:
    """Where a server's turns are given, first come, first served. ``served`` counts them."""

    def __init__(self, server_s: float) -> None:
        self.server_s = server_s
        self.served = 0
        self._free_at = 0.0

    def turn(self, now: float) -> float:
        """When a call that arrives now has its turn."""
        begins = max(now, self._free_at)
        self._free_at = begins + self.server_s
        self.served += 1
        return begins


class Ways:
    """The ways of one agent's calls, in seconds."""

    def __init__(self, costs: CallCosts, seed: str) -> None:
        self._draw = random.Random(seed).lognormvariate
        self._median = log(costs.call_s / 2) if costs.call_s > 0 else None
        self._spread = costs.spread

    def next(self) -> float:
        """How long the next message is on its way."""
        return 0.0 if self._median is None else self._draw(self._median, self._spread)
