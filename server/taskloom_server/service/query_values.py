"""Queries and their values, between protos and the store."""

from typing import Any

from taskloom.v1 import admin_service_pb2 as pb

from taskloom_server.graph.errors import InvalidField
from taskloom_server.service import read
from taskloom_server.store.queries import Answer, Query, Value

_MAX_SQL = 64 << 10  # bytes
_MAX_PARAMETERS = 1_000
_MAX_ROWS = 10_000
_DEFAULT_ROWS = 1_000
_MAX_MS = 60_000
_DEFAULT_MS = 5_000
_ANSWER_MS = 500  # kept of a call's time for starting the query and telling what came of it
_TRUNCATIONS = {
    "": pb.QUERY_TRUNCATION_UNSPECIFIED,
    "rows": pb.QUERY_TRUNCATION_ROWS,
    "bytes": pb.QUERY_TRUNCATION_BYTES,
}


def read_query(request: pb.QueryRequest, context: Any) -> Query:
    """The query that is asked for, with no more time than its caller waits. Raises InvalidField."""
    size = len(request.sql.encode())
    if not request.sql.strip():
        raise InvalidField("sql", "is required")
    if size > _MAX_SQL:
        raise InvalidField("sql", f"has {size} bytes; at most {_MAX_SQL} are allowed")
    if "\0" in request.sql:
        raise InvalidField("sql", "contains a zero, at which SQLite would stop reading")
    if request.parameters and request.named_parameters:
        raise InvalidField("named_parameters", "cannot be given together with parameters")
    for field in ("parameters", "named_parameters"):
        if len(getattr(request, field)) > _MAX_PARAMETERS:
            raise InvalidField(field, f"has more than {_MAX_PARAMETERS:,} entries")
    named = {name: _value(value) for name, value in request.named_parameters.items()}
    max_ms = read.duration_ms("max_time", request, "max_time", low=1, high=_MAX_MS, default=None)
    max_ms = max_ms or _DEFAULT_MS
    remaining: float | None = context.time_remaining()
    if remaining is not None:
        max_ms = max(1, min(max_ms, int(remaining * 1_000) - _ANSWER_MS))
    return Query(
        sql=request.sql,
        parameters=list(map(_value, request.parameters)),
        named_parameters=named or None,
        max_rows=read.whole("max_rows", request.max_rows, 0, _MAX_ROWS) or _DEFAULT_ROWS,
        max_ms=max_ms,
    )


def _value(value: pb.QueryValue) -> Value:
    kind = value.WhichOneof("value")
    return getattr(value, kind) if kind else None


def show_answer(answer: Answer) -> pb.QueryResponse:
    """What a query returned."""
    response = pb.QueryResponse(
        columns=answer.columns,
        truncation=_TRUNCATIONS[answer.truncation],
        revision=answer.revision,
    )
    for row in answer.rows:
        values = response.rows.add().values
        for each in row:
            _set(values.add(), each)
    return response


def _set(message: pb.QueryValue, value: Value) -> None:
    match value:
        case int():
            message.integer = value
        case float():
            message.real = value
        case str():
            message.text = value
        case bytes():
            message.blob = value
