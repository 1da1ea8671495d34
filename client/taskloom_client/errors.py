"""Refusals and failures of calls as exceptions, read from what the server sends with a status.

A server says why it refused in a google.rpc.Status in the trailing metadata, or on a Work stream
in a message. What is read here are the details that taskloom's services use; an error that comes
from no server at all (nobody listens, nobody answered in time) gets a sentence of its own. Nothing
here calls anything.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import timedelta
from typing import NamedTuple

import grpc
from google.protobuf.message import DecodeError, Message
from google.rpc import error_details_pb2, status_pb2
from grpc import aio
from taskloom import v1

_DETAILS_KEY = "grpc-status-details-bin"


@dataclass(frozen=True)
class FieldViolation:
    """A field of the request that does not hold what it must."""

    field: str
    """The way to it, such as ``root.children[2].title``."""
    description: str


@dataclass(frozen=True)
class PreconditionViolation:
    """One thing that stands in the way, such as a blocker that has not ended."""

    type: str
    """What kind of thing, such as ``DEPENDENCIES_UNMET``."""
    subject: str
    """Which one, such as a task's id."""
    description: str


@dataclass(frozen=True)
class Resource:
    """The thing that is missing, exists already, or is somebody else's."""

    type: str
    name: str
    owner: str
    """Who holds it; empty when nobody does, or when it does not matter."""
    description: str


class TaskloomError(Exception):
    """A call that did not succeed; ``str(error)`` is one sentence for a person.

    Catch a subclass where there is one for the case, else look at ``reason``: reasons are part of
    the contract, messages are not. All fields survive pickling.
    """

    def __init__(
        self,
        message: str = "",
        *,
        code: grpc.StatusCode = grpc.StatusCode.UNKNOWN,
        reason: str = "",
        metadata: Mapping[str, str] | None = None,
        field_violations: Sequence[FieldViolation] = (),
        violations: Sequence[PreconditionViolation] = (),
        resource: Resource | None = None,
        retry_delay: timedelta | None = None,
    ) -> None:
        super().__init__(message)
        self.message = message
        self.code = code
        self.reason = reason
        """UPPER_SNAKE, such as ``TASK_CLAIMED``; empty when the error is not taskloom's own."""
        self.metadata = dict(metadata or {})
        self.field_violations = tuple(field_violations)
        self.violations = tuple(violations)
        self.resource = resource
        self.retry_delay = retry_delay
        """How long to wait before trying again; None when the server gave no advice."""

    def __str__(self) -> str:
        said = self.message.rstrip(".") or "the call failed"
        return f"{said} ({self.reason or self.code.name})"

    @property
    def transient(self) -> bool:
        """True when the same call, with the same request_id, may well succeed a little later."""
        if self.code is grpc.StatusCode.RESOURCE_EXHAUSTED:
            return self.retry_delay is not None
        return self.code in _TRANSIENT


class Unavailable(TaskloomError):
    """Nobody answers, or the server is shutting down. The call may still have taken effect."""


class NotFound(TaskloomError):
    """A task, worker, workflow or attachment that the call names does not exist."""


class WorkerNotFound(NotFound):
    """The worker never connected, or disconnected since: connect again."""


class ClaimLost(TaskloomError):
    """The task is no longer held by the claim that the call showed: drop the work."""


class TaskClaimed(TaskloomError):
    """Another worker has the task; ``metadata["holder"]`` is who."""


class HistoryLost(TaskloomError):
    """A watch cannot go on from where it was: start anew with ``include_state``.

    The reason is INCARNATION_CHANGED (the database is another one now) or REVISION_COMPACTED
    (``metadata["oldest_revision"]`` is the oldest that is kept).
    """


# By the reason first, then by the code; an error found in neither is a plain TaskloomError.
_CLASSES: dict[str | grpc.StatusCode, type[TaskloomError]] = {
    "WORKER_NOT_FOUND": WorkerNotFound,
    "CLAIM_LOST": ClaimLost,
    "TASK_CLAIMED": TaskClaimed,
    "INCARNATION_CHANGED": HistoryLost,
    "REVISION_COMPACTED": HistoryLost,
    grpc.StatusCode.NOT_FOUND: NotFound,
    grpc.StatusCode.UNAVAILABLE: Unavailable,
}

_CODES: dict[int, grpc.StatusCode] = {code.value[0]: code for code in grpc.StatusCode}

# CANCELLED is a server that went away under the call: the caller's own cancellation is no error
# status but asyncio.CancelledError.
_TRANSIENT = frozenset(
    {
        grpc.StatusCode.UNAVAILABLE,
        grpc.StatusCode.DEADLINE_EXCEEDED,
        grpc.StatusCode.CANCELLED,
    }
)


# How grpc.aio ends a stream when a message cannot be written, as its connection has just broken.
_BROKEN_BY_WRITING = (grpc.StatusCode.INTERNAL, "Internal error from Core")


class _Origin(NamedTuple):
    """Where a failed call went, for errors that no server put into words."""

    target: str
    method: str
    timeout: float | None


def from_rpc_error(
    error: aio.AioRpcError, *, target: str, method: str, timeout: float | None
) -> TaskloomError:
    """The exception that says what ``error`` says; ``timeout`` is the call's, in seconds."""
    code = error.code()
    status = _rich_status(error)
    if status is None:
        details = error.details() or ""
        origin = _Origin(target, method, timeout)
        if (code, details) == _BROKEN_BY_WRITING:
            return _broken(origin)
        return _CLASSES.get(code, TaskloomError)(_in_words(code, details, origin), code=code)
    # gRPC puts RESOURCE_EXHAUSTED for the code of a refusal whose details are very long.
    code = _CODES.get(status.code, code)

    info, bad_request, failure, resource, retry = (
        error_details_pb2.ErrorInfo(),
        error_details_pb2.BadRequest(),
        error_details_pb2.PreconditionFailure(),
        error_details_pb2.ResourceInfo(),
        error_details_pb2.RetryInfo(),
    )
    found = _unpack(status, (info, bad_request, failure, resource, retry))
    by_reason = _CLASSES.get(info.reason) if info.reason else None
    return (by_reason or _CLASSES.get(code, TaskloomError))(
        status.message or error.details() or "",
        code=code,
        reason=info.reason,
        metadata=info.metadata,
        field_violations=[
            FieldViolation(v.field, v.description) for v in bad_request.field_violations
        ],
        violations=[
            PreconditionViolation(v.type, v.subject, v.description) for v in failure.violations
        ],
        resource=Resource(
            resource.resource_type, resource.resource_name, resource.owner, resource.description
        )
        if "ResourceInfo" in found
        else None,
        retry_delay=retry.retry_delay.ToTimedelta() if "RetryInfo" in found else None,
    )


def connection_broke(*, target: str, method: str, timeout: float | None) -> Unavailable:
    """The exception for a call that ended without a status, as its connection broke."""
    return _broken(_Origin(target, method, timeout))


def _broken(origin: _Origin) -> Unavailable:
    code = grpc.StatusCode.UNAVAILABLE
    return Unavailable(_in_words(code, "the connection broke", origin), code=code)


def from_refusal(refused: v1.WorkRefused) -> TaskloomError:
    """The exception that the call would have raised that was refused on a Work stream."""
    code = _CODES.get(refused.code, grpc.StatusCode.UNKNOWN)
    fields: list[FieldViolation] = []
    violations: list[PreconditionViolation] = []
    resource: Resource | None = None
    for subject in refused.subjects:
        if code is grpc.StatusCode.INVALID_ARGUMENT:
            fields.append(FieldViolation(subject, refused.message))
        elif code is grpc.StatusCode.NOT_FOUND:
            kind = refused.reason.removesuffix("_NOT_FOUND").lower()
            resource = Resource(kind, subject, owner="", description="")
        else:
            violations.append(PreconditionViolation(refused.reason, subject, description=""))
    by_reason = _CLASSES.get(refused.reason) if refused.reason else None
    return (by_reason or _CLASSES.get(code, TaskloomError))(
        refused.message,
        code=code,
        reason=refused.reason,
        metadata=refused.metadata,
        field_violations=fields,
        violations=violations,
        resource=resource,
        retry_delay=refused.retry_delay.ToTimedelta() if refused.HasField("retry_delay") else None,
    )


def _rich_status(error: aio.AioRpcError) -> status_pb2.Status | None:
    """The google.rpc.Status that came with the error; None when none did, or a damaged one."""
    for key, value in error.trailing_metadata() or ():
        if key == _DETAILS_KEY:
            try:
                return status_pb2.Status.FromString(value)
            except DecodeError:
                return None
    return None


def _unpack(status: status_pb2.Status, into: Iterable[Message]) -> set[str]:
    """Fill each message of ``into`` from the detail of its type; the names of those found."""
    found = set()
    for message in into:
        for detail in status.details:
            if detail.Is(message.DESCRIPTOR) and detail.Unpack(message):
                found.add(message.DESCRIPTOR.name)
    return found


def _in_words(code: grpc.StatusCode, details: str, origin: _Origin) -> str:
    """What to say of a status that gRPC itself made up, far from any server's words."""
    match code:
        case grpc.StatusCode.UNAVAILABLE:
            # gRPC strings its causes together with colons, at times in brackets; the last one is
            # what happened.
            cause = details.rstrip(". ").rsplit(": ", 1)[-1]
            if "[" not in cause:
                cause = cause.rstrip("]")
            return f"the server at {origin.target} cannot be reached: {cause or 'no connection'}"
        case grpc.StatusCode.DEADLINE_EXCEEDED if origin.timeout is not None:
            return f"{origin.method} was not answered within {origin.timeout:g} s"
        case grpc.StatusCode.UNIMPLEMENTED:
            return f"the server at {origin.target} does not know {origin.method}"
        case _:
            return details or f"{origin.method} failed"
