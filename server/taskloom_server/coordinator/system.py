"""The whole: its status, pause and resume, reset."""

from dataclasses import dataclass

from taskloom_server.graph.events import EventType
from taskloom_server.graph.workers import Pause
from taskloom_server.store.transaction import Transaction


@dataclass(frozen=True, slots=True)
class Status:
    """How the whole stands."""

    incarnation: str
    now: int
    paused: Pause | None
    by_status: dict[str, int]
    ready: int
    claimed: int
    delayed: int
    open: int
    connected_workers: int
    oldest_revision: int
    revision: int


def get_status(tx: Transaction, _: None) -> Status:
    """How the whole stands."""
    system = tx.system.get()
    by_status, ready, claimed, delayed = tx.tasks.counts()
    still_open = sum(by_status.get(status, 0) for status in tx.workflows.open_statuses)
    return Status(
        system.incarnation,
        tx.now,
        system.paused,
        by_status,
        ready,
        claimed,
        delayed,
        still_open,
        tx.workers.connected(),
        system.oldest_revision,
        tx.seen,
    )


def pause(tx: Transaction, ask: Pause) -> tuple[Pause, int]:
    """Stop new claims; since when, and the revision."""
    paused = ask._replace(at=tx.now)
    tx.system.pause(paused)
    tx.tell(EventType.PAUSED, paused, reason=paused.reason)
    return paused, tx.seen


def resume(tx: Transaction, ask: Pause) -> int:
    """Let claims go on; the revision."""
    if tx.system.get().paused is not None:
        tx.system.pause(None)
        tx.ask_again()
        tx.tell(EventType.RESUMED, ask._replace(at=tx.now), reason=ask.reason)
    return tx.seen


def reset(tx: Transaction, _: None) -> tuple[str, int]:
    """Delete everything; the new incarnation and its revision."""
    tx.requirements.forget()
    tx.ask_again()
    tx.incarnation = tx.system.begin(tx.committed, tx.now)
    return tx.incarnation, tx.seen
