"""The whole: its status, pause and resume, reset."""

from dataclasses import dataclass, replace

from taskloom_server.coordinator.counts import Asked, Counts, count, count_on
from taskloom_server.coordinator.lookup import require_live_task, require_task
from taskloom_server.coordinator.pauses import shift_paused
from taskloom_server.coordinator.transitions import advance
from taskloom_server.graph.events import EventType
from taskloom_server.graph.workers import Pause
from taskloom_server.graph.workflows import Workflows
from taskloom_server.store.transaction import Transaction


@dataclass(frozen=True, slots=True)
class Status:
    """How the whole stands."""

    incarnation: str
    now: int
    paused: Pause | None
    paused_subtrees: list[Pause]
    over_budget: list[str]  # the tasks whose budgets are spent
    counts: Counts
    ready: int
    unmatched: int  # of the ready ones: those that no connected worker has the tags for
    claimed: int
    delayed: int
    open: int
    connected_workers: int
    oldest_revision: int
    revision: int
    workflows: Workflows  # by which it was counted

    def is_of(self, tx: Transaction) -> bool:
        """Whether what has changed since is told by events that are there still."""
        system = tx.system.get()
        return (
            self.workflows is tx.workflows
            and self.incarnation == system.incarnation
            and system.oldest_revision - 1 <= self.revision <= tx.seen
        )


def get_status(tx: Transaction, known: Status | None) -> Status:
    """How the whole stands.

    Costs as much as there are tasks, or, where it is ``known`` how it stood, as has happened since.
    """
    system = tx.system.get()
    if known is None or not known.is_of(tx):
        counts = count(tx)
    elif known.revision == tx.seen:
        return replace(known, now=tx.now, oldest_revision=system.oldest_revision)
    else:
        counts = count_on(tx, known.counts, known.revision)
    asked = tx.requirements.asked()
    matched: set[Asked] = set()
    for tags in tx.workers.connected_tags():
        matched.update(asked[id_] for id_ in tx.requirements.admitting(tags))
    return Status(
        system.incarnation,
        tx.now,
        system.paused,
        [pause for pause in tx.pauses.all() if _stands(tx, pause.task_id or "")],
        [budget.task_id for budget in tx.budgets.spent() if _stands(tx, budget.task_id)],
        counts,
        sum(counts.ready.values()),
        sum(number for what, number in counts.ready.items() if what not in matched),
        tx.tasks.claimed_count(),
        tx.tasks.delayed_count(),
        sum(counts.by_status.get(status, 0) for status in tx.workflows.open_statuses),
        tx.workers.connected(),
        system.oldest_revision,
        tx.seen,
        tx.workflows,
    )


def _stands(tx: Transaction, task_id: str) -> bool:
    """Whether there is still something that is held back."""
    task = tx.tasks.get(task_id)
    return task is not None and task.deleted_at is None


def pause(tx: Transaction, ask: Pause) -> tuple[Pause, int]:
    """Stop new claims, of everything or of one subtree; since when, and the revision.

    Raises TaskNotFound and TaskDeleted.
    """
    paused = ask._replace(at=tx.now)
    task = require_live_task(tx, ask.task_id) if ask.task_id else None
    if task is None:
        tx.system.pause(paused)
        tx.ask_again()  # for who waits is told, if he asked for that
    else:
        is_new = tx.pauses.get(task.id) is None
        tx.pauses.put(paused)
    tx.tell(EventType.PAUSED, paused, task_id=ask.task_id, reason=paused.reason)
    if task is not None and is_new:
        shift_paused(tx, task, +1)
    return paused, tx.seen


def resume(tx: Transaction, ask: Pause) -> int:
    """Let claims go on; the revision. Raises TaskNotFound."""
    if ask.task_id:
        task = require_task(tx, ask.task_id)
        if tx.pauses.get(task.id) is not None:
            tx.pauses.delete(task.id)
            told = ask._replace(at=tx.now)
            tx.tell(EventType.RESUMED, told, task_id=task.id, reason=ask.reason)
            for one in shift_paused(tx, task, -1):
                advance(tx, one)
    elif tx.system.get().paused is not None:
        tx.system.pause(None)
        tx.ask_again()
        tx.tell(EventType.RESUMED, ask._replace(at=tx.now), reason=ask.reason)
    return tx.seen


def reset(tx: Transaction, _: None) -> tuple[str, int]:
    """Delete everything; the new incarnation and its revision."""
    tx.requirements.forget()
    tx.ask_again()
    for name in tx.attachments.files():
        tx.drop_file(name)
    tx.incarnation = tx.system.begin(tx.committed, tx.now)
    return tx.incarnation, tx.seen
