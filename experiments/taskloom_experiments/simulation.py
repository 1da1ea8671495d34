"""How long a simulated task takes, what it costs and what it leaves behind.

Everything is drawn from the run's seed and the task's id, and from nothing else: a task takes the
same time whoever works it, in whichever order, in every run with the seed. So two runs that differ
in the number of agents or in the way of pulling do the same work, and what differs between them is
coordination. Only arithmetic lives here; who sleeps and calls is ``agents``.
"""

import json
import math
import random
from dataclasses import dataclass

DEFAULT_ESTIMATE_S = 15 * 60.0
"""For a task that nobody estimated, in simulated seconds."""

DEFAULT_NOISE = 0.25
"""The standard deviation of the logarithm of (time taken / time estimated)."""

_TOKENS_IN_PER_MINUTE = 2_400
_TOKENS_OUT_PER_MINUTE = 350
_USD_PER_MILLION_IN = 3.0
_USD_PER_MILLION_OUT = 15.0
_TESTS_PER_HOUR = 24


@dataclass(frozen=True)
class Work:
    """One task's worth of simulated work; ``seconds`` are real ones, speed taken into account."""

    seconds: float
    files: tuple[str, ...]
    tokens_in: int
    tokens_out: int
    cost_usd: float
    results: bytes


def work_for(
    task_id: str,
    estimate_s: float | None,
    *,
    seed: int,
    speed: float,
    noise: float = DEFAULT_NOISE,
) -> Work:
    """What working this task amounts to.

    The time is the estimate (simulated seconds; None or 0: DEFAULT_ESTIMATE_S) over the speed,
    times log-normal noise whose mean is 1: a fleet's work is expected to be what was estimated.
    Files are named after the task, so two tasks never share one.
    """
    draw = random.Random(f"{seed}:{task_id}")
    simulated_s = (estimate_s or DEFAULT_ESTIMATE_S) * draw.lognormvariate(-(noise**2) / 2, noise)
    tokens_in = _around(draw, _TOKENS_IN_PER_MINUTE * simulated_s / 60)
    tokens_out = _around(draw, _TOKENS_OUT_PER_MINUTE * simulated_s / 60)
    results = {
        "task_id": task_id,
        "passed": True,
        "tests": max(1, math.ceil(_TESTS_PER_HOUR * simulated_s / 3600)),
        "simulated_minutes": round(simulated_s / 60, 1),
    }
    return Work(
        seconds=simulated_s / speed,
        files=(f"src/{task_id}", f"tests/{task_id}"),
        tokens_in=tokens_in,
        tokens_out=tokens_out,
        cost_usd=cost_usd(tokens_in, tokens_out),
        results=json.dumps(results).encode(),
    )


def cost_usd(tokens_in: int, tokens_out: int) -> float:
    """What so many tokens cost."""
    usd = (tokens_in * _USD_PER_MILLION_IN + tokens_out * _USD_PER_MILLION_OUT) / 1e6
    return round(usd, 6)


def _around(draw: random.Random, amount: float) -> int:
    return max(1, round(amount * draw.uniform(0.8, 1.2)))
