"""The worker as the rules see it, and whom the system lets take a task."""

from enum import Enum
from typing import NamedTuple


class Worker(NamedTuple):
    """One row of ``workers``, in the order of ``store.workers.COLUMNS``. Times in Unix ms."""

    tags: tuple[str, ...]
    overlays: tuple[str, ...]  # on its workflow, one upon the other
    id: str
    max_claims: int
    registered_at: int
    last_heartbeat: int
    disconnected_at: int | None
    workflow: str
    last_status: str | None
    last_phase: str | None
    lease_ms: int
    cool_down_ms: int
    cooling_until: int | None
    claim_attempts: int
    claims_granted: int
    claims_lost: int
    grace_until: int | None  # its Work stream broke: its claims end then, unless it comes back
    current_thought: str | None = None
    thought_at: int | None = None

    def lease_end(self, since: int, full: int) -> int:
        """When what it holds since then, until ``full`` as such, is taken from it; in Unix ms.

        The grace of a broken stream is an end of what it held or was given before that passed.
        """
        if self.grace_until is None or self.grace_until <= since:
            return full
        return min(full, self.grace_until)

    def seen_at(self, now: int) -> "Worker":
        """The worker as it is at that time: without a rest that is over."""
        if self.cooling_until is None or self.cooling_until > now:
            return self
        return self._replace(cooling_until=None)


class Pause(NamedTuple):
    """Who stopped new claims, when and why: of a task and all below it, or of everything."""

    by: str
    reason: str
    at: int
    task_id: str | None = None


class ClaimOrder(Enum):
    """Which ready task is the best one."""

    PRIORITY = "priority"  # the highest priority, then the oldest
    TEMPERATURE = "temperature"  # the hottest, then the oldest


class Outcome(Enum):
    """Why ClaimNextTask gave what it gave."""

    CLAIMED = "CLAIMED"
    NONE_READY = "NONE_READY"
    ALL_DONE = "ALL_DONE"
    PAUSED = "PAUSED"
    COOLING_DOWN = "COOLING_DOWN"
    LIMIT_REACHED = "LIMIT_REACHED"
    WIP_LIMIT = "WIP_LIMIT"  # the workflow's claim state is full
    FILES_LOCKED = "FILES_LOCKED"
    ROLE_FORBIDS = "ROLE_FORBIDS"  # it begins only what is assigned to it, and nothing is
    ASSIGNED = "ASSIGNED"  # likewise, and something is


def refusal(worker: Worker, held: int, paused: Pause | None, now: int) -> Outcome | None:
    """Why this worker may take no task at all just now; None when it may.

    ``held``: how many tasks it holds. In the order in which a person would want to know.
    """
    if paused is not None:
        return Outcome.PAUSED
    if held >= worker.max_claims:
        return Outcome.LIMIT_REACHED
    if worker.cooling_until is not None and worker.cooling_until > now:
        return Outcome.COOLING_DOWN
    return None
