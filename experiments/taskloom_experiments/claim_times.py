"""How long claims took to come about, one by one, in whole ms as the server's clock has them.

Two times are told apart. How long a task was *ready* before it was claimed is what its owner sees;
where there is more to do than agents can, most of it is waiting for an agent to be free. From when
the task was ready *and* the agent that took it was *free* is what the way of pulling is to blame
for: both were there, and did not know of each other.
"""

from collections import defaultdict
from collections.abc import Iterable
from dataclasses import dataclass

from taskloom_experiments.history import Span
from taskloom_experiments.tables import Tables


@dataclass(frozen=True)
class ClaimTimes:
    """A figure a claim, in the order of the claims; ``free_ms`` is None where it is not known."""

    ready_ms: tuple[int, ...]
    free_ms: tuple[int, ...] | None
    why_not_free: str = ""


def claim_times(tables: Tables, stints: Iterable[Span]) -> ClaimTimes:
    """The times of every claim of a task that was ready.

    What was ready before the first agent was there counts from then: nobody could take it.
    """
    registered = {
        worker.id: worker.registered_at
        for worker in tables.workers
        if worker.registered_at is not None
    }
    first = min(registered.values(), default=0)
    ends: dict[str | None, list[int]] = defaultdict(list)
    for stint in stints:
        ends[stint.worker_id].append(stint.end)
    ready, free = [], []
    for claim in tables.claims:
        since = max(claim.ready_at, first)
        ready.append(max(0, claim.claimed_at - since))
        since = max(since, registered.get(claim.worker_id, since))
        before = [end for end in ends[claim.worker_id] if end <= claim.claimed_at]
        free.append(max(0, claim.claimed_at - max([since, *before])))
    if any(worker.max_claims not in (None, 1) for worker in tables.workers):
        return ClaimTimes(tuple(ready), None, "agents held several tasks at once")
    return ClaimTimes(tuple(ready), tuple(free))
