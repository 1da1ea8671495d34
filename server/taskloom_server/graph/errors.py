"""Domain errors: every way in which a request can be refused.

A class is a reason; what the class knows (ids, holders, exits) is what helps the caller to
go on. Which gRPC status a reason becomes stands in ``service/errors.py`` and nowhere else.
"""

from collections.abc import Sequence
from typing import ClassVar


class DomainError(Exception):
    """A request that is refused. ``str()`` is a sentence for the person who asked.

    A verb that *raises* one is rolled back; one that *returns* it keeps what it wrote,
    which is how a refused claim is still counted.
    """

    reason: ClassVar[str]

    def __init__(
        self,
        message: str,
        *,
        subjects: Sequence[str] = (),
        metadata: dict[str, str] | None = None,
        retry_after_ms: int | None = None,
    ) -> None:
        """``subjects``: ids or names that the refusal is about, each worth a detail."""
        super().__init__(message)
        self.subjects = tuple(subjects)
        self.metadata = metadata or {}
        self.retry_after_ms = retry_after_ms


class InvalidField(DomainError):
    """A field's value is not of the field's form; ``field`` is its path in the request."""

    reason = "INVALID_FIELD"

    def __init__(self, field: str, message: str) -> None:
        super().__init__(f"{field}: {message}", subjects=(field,))
        self.field = field
        self.problem = message


class RequestIdReused(DomainError):
    """The request_id belongs to an earlier request with other contents."""

    reason = "REQUEST_ID_REUSED"


class Cycle(DomainError):
    """A dependency would close a cycle; ``subjects`` are the tasks along it."""

    reason = "CYCLE"


class InvalidSnapshot(DomainError):
    """A snapshot is damaged, of another version, or a row of it is wrong."""

    reason = "INVALID_SNAPSHOT"


class SnapshotTooLarge(DomainError):
    """A snapshot is larger than the server takes."""

    reason = "SNAPSHOT_TOO_LARGE"


class TaskNotFound(DomainError):
    """No task has this id."""

    reason = "TASK_NOT_FOUND"


class WorkerNotFound(DomainError):
    """No worker is connected under this id."""

    reason = "WORKER_NOT_FOUND"


class WorkflowNotFound(DomainError):
    """The server has no workflow of this name."""

    reason = "WORKFLOW_NOT_FOUND"


class OverlayNotFound(DomainError):
    """The server has no overlay of this name."""

    reason = "OVERLAY_NOT_FOUND"


class AttachmentNotFound(DomainError):
    """The task has no such attachment."""

    reason = "ATTACHMENT_NOT_FOUND"


class TaskExists(DomainError):
    """A task with this id is there already."""

    reason = "TASK_EXISTS"


class IllegalTransition(DomainError):
    """The task's state has no exit to the one asked for; ``subjects`` are the exits."""

    reason = "ILLEGAL_TRANSITION"


class DependenciesUnmet(DomainError):
    """Start-blockers have not ended well; ``subjects`` are the blockers."""

    reason = "DEPENDENCIES_UNMET"


class ChildrenOpen(DomainError):
    """Children have not ended; ``subjects`` are the children."""

    reason = "CHILDREN_OPEN"


class TaskClaimed(DomainError):
    """Another worker has the task; ``subjects`` names it."""

    reason = "TASK_CLAIMED"


class TaskDeleted(DomainError):
    """The task was deleted."""

    reason = "TASK_DELETED"


class ParentExists(DomainError):
    """The child has another parent already."""

    reason = "PARENT_EXISTS"


class ParentEnded(DomainError):
    """The parent has ended and takes no more children."""

    reason = "PARENT_ENDED"


class NotYet(DomainError):
    """The task's not_before has not passed."""

    reason = "NOT_YET"


class ClaimLimit(DomainError):
    """The worker holds as many tasks as it may."""

    reason = "CLAIM_LIMIT"


class TagsMissing(DomainError):
    """The worker lacks tags that the task asks for; ``subjects`` are the tags."""

    reason = "TAGS_MISSING"


class CoolingDown(DomainError):
    """The worker rests after the task it ended."""

    reason = "COOLING_DOWN"


class Paused(DomainError):
    """New claims are stopped until somebody resumes."""

    reason = "PAUSED"


class GateUnsatisfied(DomainError):
    """A gate keeps the task where it is; ``subjects`` are the gates that are not satisfied."""

    reason = "GATE_UNSATISFIED"


class WipLimit(DomainError):
    """A state has as many tasks as may be in it; ``subjects`` are those tasks."""

    reason = "WIP_LIMIT"


class RoleForbids(DomainError):
    """The worker's role has not the right; ``subjects`` are the roles that have it."""

    reason = "ROLE_FORBIDS"


class NotEmpty(DomainError):
    """A restore was asked for into a graph that has tasks."""

    reason = "NOT_EMPTY"


class OverlayUnfit(DomainError):
    """An overlay does not fit the workflow; ``where`` is its part that does not, as a path."""

    reason = "OVERLAY_UNFIT"

    def __init__(
        self,
        message: str,
        *,
        subjects: Sequence[str] = (),
        where: tuple[str | int, ...] = (),
    ) -> None:
        super().__init__(message, subjects=subjects)
        self.where = where


class ClaimLost(DomainError):
    """The caller does not hold the task, or not by this claim."""

    reason = "CLAIM_LOST"


class Superseded(DomainError):
    """The same request came again while this call waited, and takes its place."""

    reason = "SUPERSEDED"


class EtagMismatch(DomainError):
    """The task was changed since the caller read it."""

    reason = "ETAG_MISMATCH"


class RevisionCompacted(DomainError):
    """History before the oldest revision kept is gone."""

    reason = "REVISION_COMPACTED"


class IncarnationChanged(DomainError):
    """The database is another one than the caller knew."""

    reason = "INCARNATION_CHANGED"


class TooManyCalls(DomainError):
    """More calls at once than the server takes."""

    reason = "TOO_MANY_CALLS"


class TooManyWatches(DomainError):
    """More watches at once than the server takes."""

    reason = "TOO_MANY_WATCHES"


class ShuttingDown(DomainError):
    """The server is going."""

    reason = "SHUTTING_DOWN"
