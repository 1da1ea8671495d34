"""Attachments: adding, listing, fetching and removing what is kept with tasks."""

from collections.abc import Sequence
from dataclasses import dataclass

from taskloom_server.coordinator import workers
from taskloom_server.coordinator.admission import check_claim
from taskloom_server.coordinator.lookup import require_live_task, require_task, workflow_for
from taskloom_server.graph.errors import AttachmentNotFound, InvalidField
from taskloom_server.graph.events import EventType
from taskloom_server.graph.tasks import Attachment, Task
from taskloom_server.graph.workers import Worker
from taskloom_server.graph.workflows import AttachmentType, Keeping, Unknown
from taskloom_server.store.transaction import Transaction

_AT_ONCE = 100  # attachments read at a time


@dataclass(frozen=True, slots=True)
class Attach:
    """An attachment to be."""

    task_id: str
    worker_id: str
    claim_revision: int
    type: str
    name: str
    mime_type: str  # empty: the one of its type
    content: bytes


@dataclass(frozen=True, slots=True)
class Find:
    """One attachment; without a sequence the latest of its type."""

    task_id: str
    type: str
    sequence: int | None


@dataclass(frozen=True, slots=True)
class Detach:
    """The removal of an attachment."""

    task_id: str
    worker_id: str
    claim_revision: int
    type: str
    sequence: int


@dataclass(frozen=True, slots=True)
class ListAttachments:
    """A page of a task's attachments, from the one after ``after``."""

    task_id: str
    type: str  # empty: all
    after: tuple[str, int]
    limit: int


@dataclass(frozen=True, slots=True)
class Found:
    """An attachment."""

    attachment: Attachment
    revision: int
    warnings: Sequence[str] = ()


@dataclass(frozen=True, slots=True)
class AttachmentPage:
    """Attachments without contents, and the place from which the next page goes on."""

    attachments: list[Attachment]
    next_after: tuple[str, int] | None
    revision: int


def attach(tx: Transaction, ask: Attach) -> Found:
    """Add an attachment.

    Raises TaskNotFound, TaskDeleted, WorkerNotFound, ClaimLost, InvalidField.
    """
    worker = workers.sign_of_life(tx, ask.worker_id)
    task = require_live_task(tx, ask.task_id)
    check_claim(tx, task, ask.worker_id, ask.claim_revision)
    rule = attachment_rule(tx, task, worker, ask.type)
    attachment = Attachment(
        task_id=task.id,
        attachment_type=ask.type,
        sequence=tx.attachments.next_sequence(task.id, ask.type),
        name=ask.name,
        mime_type=ask.mime_type or rule.mime_type or "text/plain",
        size=len(ask.content),
        created_at=tx.now,
        content=ask.content,
    )
    if rule.keeping is Keeping.REPLACE:
        _clear(tx, task, ask)
    tx.attachments.insert(attachment)
    info = attachment._replace(content=None)
    tx.tell(
        EventType.ATTACHMENT_ADDED,
        info,
        task_id=task.id,
        task=task,
        worker_id=ask.worker_id or None,
    )
    return Found(info, tx.seen, tx.noted.warnings)


def attachment_rule(
    tx: Transaction, task: Task, worker: Worker | None, type_: str
) -> AttachmentType:
    """What the task's workflow says of attachments of a type. Raises InvalidField.

    Of one that it does not list nothing, but where it takes no others, or wants that said.
    """
    if task.workflow not in tx.workflows.by_name:
        return AttachmentType(type_)
    workflow = workflow_for(tx, task, worker)
    listed = workflow.attachment_types
    if type_ in listed:
        return listed[type_]
    if workflow.unknown_attachment_type is not Unknown.ALLOW:
        problem = (
            f"workflow {workflow.name!r} has no attachment type {type_!r}; it has "
            f"{', '.join(listed) or 'none'}"
        )
        if workflow.unknown_attachment_type is Unknown.REJECT:
            raise InvalidField("type", problem)
        tx.warn(f"type: {problem}")
    return AttachmentType(type_)


def _clear(tx: Transaction, task: Task, ask: Attach) -> None:
    """Remove what is there of the type, for another one comes in its place."""
    while earlier := tx.attachments.page(task.id, ask.type, (ask.type, -1), _AT_ONCE):
        for one in earlier:
            tx.attachments.delete(one)
            tx.tell(
                EventType.ATTACHMENT_REMOVED,
                one,
                task_id=task.id,
                task=task,
                worker_id=ask.worker_id or None,
                reason="another one came in its place",
            )


def list_attachments(tx: Transaction, ask: ListAttachments) -> AttachmentPage:
    """A task's attachments, without contents. Raises TaskNotFound."""
    require_task(tx, ask.task_id)
    found = tx.attachments.page(ask.task_id, ask.type, ask.after, ask.limit + 1)
    shown = found[: ask.limit]
    place = None
    if len(found) > ask.limit:
        place = shown[-1].attachment_type, shown[-1].sequence
    return AttachmentPage(shown, place, tx.seen)


def get_attachment(tx: Transaction, ask: Find) -> Found:
    """One attachment with its content. Raises TaskNotFound and AttachmentNotFound."""
    require_task(tx, ask.task_id)
    sequence = ask.sequence
    if sequence is None:
        sequence = tx.attachments.latest_sequence(ask.task_id, ask.type)
    return Found(_require(tx, ask.task_id, ask.type, sequence), tx.seen)


def detach(tx: Transaction, ask: Detach) -> int:
    """Remove an attachment; the revision.

    Raises TaskNotFound, AttachmentNotFound, WorkerNotFound, ClaimLost.
    """
    workers.sign_of_life(tx, ask.worker_id)
    task = require_task(tx, ask.task_id)
    check_claim(tx, task, ask.worker_id, ask.claim_revision)
    attachment = _require(tx, ask.task_id, ask.type, ask.sequence)
    tx.attachments.delete(attachment)
    tx.tell(
        EventType.ATTACHMENT_REMOVED,
        attachment._replace(content=None),
        task_id=task.id,
        worker_id=ask.worker_id or None,
    )
    return tx.seen


def _require(tx: Transaction, task_id: str, type_: str, sequence: int | None) -> Attachment:
    attachment = None
    if sequence is not None:
        attachment = tx.attachments.get(task_id, type_, sequence)
    if attachment is None:
        number = "" if sequence is None else f" {sequence}"
        raise AttachmentNotFound(
            f"task {task_id!r} has no attachment {type_!r}{number}", subjects=(type_,)
        )
    return attachment
