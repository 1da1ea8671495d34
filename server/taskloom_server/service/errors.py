"""The one table from domain errors to gRPC statuses, with the details that help a caller."""

import grpc
from google.protobuf import any_pb2, duration_pb2
from google.rpc import error_details_pb2, status_pb2

from taskloom_server.graph import errors

DOMAIN = "taskloom"

# A refusal travels as metadata, of which most clients take 8 KiB and not a byte more: a task
# may have a thousand blockers, so the message and the list of subjects are cut short.
_MAX_MESSAGE = 1_000  # bytes
_MAX_SUBJECTS = 1_500  # bytes, together

_C = grpc.StatusCode
CODES: dict[type[errors.DomainError], grpc.StatusCode] = {
    errors.InvalidField: _C.INVALID_ARGUMENT,
    errors.RequestIdReused: _C.INVALID_ARGUMENT,
    errors.Cycle: _C.INVALID_ARGUMENT,
    errors.InvalidSnapshot: _C.INVALID_ARGUMENT,
    errors.TaskNotFound: _C.NOT_FOUND,
    errors.WorkerNotFound: _C.NOT_FOUND,
    errors.WorkflowNotFound: _C.NOT_FOUND,
    errors.OverlayNotFound: _C.NOT_FOUND,
    errors.AttachmentNotFound: _C.NOT_FOUND,
    errors.TaskExists: _C.ALREADY_EXISTS,
    errors.IllegalTransition: _C.FAILED_PRECONDITION,
    errors.DependenciesUnmet: _C.FAILED_PRECONDITION,
    errors.ChildrenOpen: _C.FAILED_PRECONDITION,
    errors.TaskClaimed: _C.FAILED_PRECONDITION,
    errors.TaskDeleted: _C.FAILED_PRECONDITION,
    errors.ParentExists: _C.FAILED_PRECONDITION,
    errors.ParentEnded: _C.FAILED_PRECONDITION,
    errors.NotYet: _C.FAILED_PRECONDITION,
    errors.ClaimLimit: _C.FAILED_PRECONDITION,
    errors.TagsMissing: _C.FAILED_PRECONDITION,
    errors.CoolingDown: _C.FAILED_PRECONDITION,
    errors.Paused: _C.FAILED_PRECONDITION,
    errors.GateUnsatisfied: _C.FAILED_PRECONDITION,
    errors.WipLimit: _C.FAILED_PRECONDITION,
    errors.RoleForbids: _C.PERMISSION_DENIED,
    errors.NotEmpty: _C.FAILED_PRECONDITION,
    errors.OverlayUnfit: _C.FAILED_PRECONDITION,
    errors.ClaimLost: _C.ABORTED,
    errors.EtagMismatch: _C.ABORTED,
    errors.Superseded: _C.ABORTED,
    errors.RevisionCompacted: _C.OUT_OF_RANGE,
    errors.IncarnationChanged: _C.OUT_OF_RANGE,
    errors.SnapshotTooLarge: _C.RESOURCE_EXHAUSTED,
    errors.TooManyCalls: _C.RESOURCE_EXHAUSTED,
    errors.TooManyWatches: _C.RESOURCE_EXHAUSTED,
    errors.ShuttingDown: _C.UNAVAILABLE,
}

# What a refusal's subjects are, where they are things that the caller could look up.
_RESOURCES: dict[type[errors.DomainError], str] = {
    errors.TaskNotFound: "task",
    errors.WorkerNotFound: "worker",
    errors.WorkflowNotFound: "workflow",
    errors.OverlayNotFound: "overlay",
    errors.AttachmentNotFound: "attachment",
    errors.TaskExists: "task",
}


def code_of(error: errors.DomainError) -> grpc.StatusCode:
    """The status code of a refusal."""
    return CODES[type(error)]


def message_of(error: errors.DomainError) -> str:
    """The sentence for the person who asked, of a length that fits into metadata."""
    text = str(error).encode()
    if len(text) <= _MAX_MESSAGE:
        return str(error)
    return text[:_MAX_MESSAGE].decode(errors="ignore") + " …"


def _first_subjects(error: errors.DomainError) -> list[str]:
    """The subjects, as many of them as fit into metadata, the first always."""
    first: list[str] = []
    size = 0
    for subject in error.subjects:
        size += len(error.reason) + len(subject.encode())
        if first and size > _MAX_SUBJECTS:
            break
        first.append(subject)
    return first


def status_of(error: errors.DomainError) -> status_pb2.Status:
    """A refusal as google.rpc.Status: ErrorInfo, and what else helps."""
    details: list[any_pb2.Any] = []

    def add(detail: object) -> None:
        packed = any_pb2.Any()
        packed.Pack(detail)  # type: ignore[arg-type]
        details.append(packed)

    add(error_details_pb2.ErrorInfo(reason=error.reason, domain=DOMAIN, metadata=error.metadata))
    if isinstance(error, errors.InvalidField):
        violation = error_details_pb2.BadRequest.FieldViolation(
            field=error.field, description=error.problem
        )
        add(error_details_pb2.BadRequest(field_violations=[violation]))
    elif resource_type := _RESOURCES.get(type(error)):
        for subject in _first_subjects(error):
            add(error_details_pb2.ResourceInfo(resource_type=resource_type, resource_name=subject))
    elif error.subjects:
        violations = [
            error_details_pb2.PreconditionFailure.Violation(type=error.reason, subject=subject)
            for subject in _first_subjects(error)
        ]
        add(error_details_pb2.PreconditionFailure(violations=violations))
    if error.retry_after_ms is not None:
        delay = duration_pb2.Duration()
        delay.FromMilliseconds(error.retry_after_ms)
        add(error_details_pb2.RetryInfo(retry_delay=delay))
    number: int = code_of(error).value[0]
    return status_pb2.Status(code=number, message=message_of(error), details=details)


def trailing_metadata(error: errors.DomainError) -> tuple[tuple[str, bytes], ...]:
    """The metadata in which gRPC carries a rich status."""
    return (("grpc-status-details-bin", status_of(error).SerializeToString()),)
