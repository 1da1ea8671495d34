"""How agents differ, and what becomes of it: how long a task takes, when it fails, who crashes.

All of it is drawn from the run's seed and from names, and from nothing else: the same agents do the
same in every run with the seed, as processes or in a simulation. Only arithmetic lives here; who
sleeps, calls and is killed is elsewhere. Times are simulated seconds.
"""

import random
from dataclasses import dataclass

_HOUR_S = 3600.0


@dataclass(frozen=True)
class Behaviour:
    """How an agent works.

    ``speed`` is a factor: at 2 a task takes half its time. ``failure_rate`` is the chance of every
    attempt at a task to fail, 0 to 1. ``crash_at`` is when its process is killed, counted from the
    start of the run; ``crash_rate`` how often that happens at random, per hour of its life.
    ``restart_after`` is how long it stays away then, None: for good. ``slow_response_s`` passes
    before each of its calls, and before it reacts to what it is told.
    """

    speed: float = 1.0
    failure_rate: float = 0.0
    crash_at: float | None = None
    crash_rate: float = 0.0
    restart_after: float | None = None
    slow_response_s: float = 0.0


def attempt_fails(behaviour: Behaviour, seed: int, task_id: str, attempt: int) -> bool:
    """Whether an attempt at a task fails; ``attempt`` is how many failed before it.

    The draw is the task's, not the agent's: what one agent fails at, an equal one fails at, too.
    """
    if not behaviour.failure_rate:
        return False
    draw = random.Random(f"{seed}:{task_id}:attempt {attempt}").random()
    return draw < behaviour.failure_rate


def crash_after(behaviour: Behaviour, seed: int, worker_id: str, life: int) -> float | None:
    """When an agent crashes, counted from the start of this life of it; None: it does not.

    Its first life is number 1. ``crash_at`` ends that one, ``crash_rate`` any.
    """
    moments = []
    if behaviour.crash_at is not None and life == 1:
        moments.append(behaviour.crash_at)
    if behaviour.crash_rate:
        draw = random.Random(f"{seed}:{worker_id}:life {life}")
        moments.append(draw.expovariate(behaviour.crash_rate / _HOUR_S))
    return min(moments, default=None)
