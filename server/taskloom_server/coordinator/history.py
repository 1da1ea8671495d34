"""History: how much of the log is kept, and forgetting the rest a little at a time."""

from dataclasses import dataclass

from taskloom_server.store.transaction import Transaction

# Events that one step forgets at the most: so small that no claim waits for it noticeably.
_STEP = 500


@dataclass(frozen=True, slots=True)
class Kept:
    """How much history is kept: what is younger than the age and among the latest revisions."""

    age_ms: int
    revisions: int


def compact(tx: Transaction, kept: Kept) -> bool:
    """Forget some of the history that need not be kept; whether there may be more of it."""
    system = tx.system.get()
    place = tx.events.step(_STEP)
    if place is None:
        return False
    revision, time = place
    too_many = system.revision - kept.revisions
    if revision > too_many and time > tx.now - kept.age_ms:
        return False
    tx.events.forget(before=revision)
    tx.system.forget_history(oldest=revision)
    return True
