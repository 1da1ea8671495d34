"""The account of a violation: what happened to the task and the worker concerned, in order."""

from collections.abc import Iterator
from typing import Any

from taskloom import v1

from tests.robustness.history import History, Violation
from tests.robustness.recording import Call

_EVENTS = 8  # of the task, or of the worker, up to the moment
_CALLS = 12
_BEFORE_MS = 50  # calls that began so long before the first of these events belong to it

Line = tuple[float, int, str]  # Unix ms, a rank among what happened then, the text


def tell(violation: Violation, history: History) -> str:
    """The violation as a sentence, and below it what led to it."""
    lines = sorted({*_lines(violation, history)})
    start = lines[0][0] if lines else 0
    told = [f"  {(time - start) / 1000:+8.3f} s  {text}" for time, _, text in lines]
    return "\n".join([f"{violation.promise}: {violation.text}", *told])


def _lines(violation: Violation, history: History) -> Iterator[Line]:
    events = [
        (revision, event)
        for revision, event in _events(history, violation.revision)
        if _concerns(event, violation)
    ][-_EVENTS:]
    for revision, event in events:
        yield event.time.ToMilliseconds(), 1, _event_text(revision, event)
    for call in violation.calls:
        yield call.start, 0, _call_text(call)
    for stream in violation.streams:
        yield (
            stream.start,
            0,
            f"{stream.watcher} watches from {stream.ask.start_revision}"
            f"{' with the state' if stream.ask.include_state else ''}, "
            f"filter {{{' '.join(str(stream.ask.filter).split())}}}: began after {stream.created}, "
            f"told {len(stream.told)} revisions, reached {stream.reached}, ended {stream.code}",
        )
    if not events:
        return
    since = events[0][1].time.ToMilliseconds() - _BEFORE_MS
    until = events[-1][1].time.ToMilliseconds() + _BEFORE_MS
    calls = [
        call
        for call in history.calls
        if call.end >= since and call.start <= until and _touches(call, violation)
    ]
    for call in sorted(calls, key=lambda call: call.start)[-_CALLS:]:
        yield call.start, 0, _call_text(call)


def _events(history: History, revision: int) -> Iterator[tuple[int, Any]]:
    for number, contents in history.truth.messages:
        if revision and number > revision + 1:
            return
        for event in v1.WatchTasksResponse.FromString(contents).events.events:
            yield number, event


def _concerns(event: Any, violation: Violation) -> bool:
    if violation.task_ids:
        return event.task_id in violation.task_ids
    return bool(event.worker_id) and event.worker_id in violation.worker_ids


def _touches(call: Call, violation: Violation) -> bool:
    """Whether a call is about the task; where it is all about a worker, whether that made it."""
    if violation.worker_ids and call.worker_id not in violation.worker_ids:
        return False
    if not violation.task_ids or violation.promise == "leases":
        return bool(violation.worker_ids)
    if getattr(call.ask, "task_id", "") in violation.task_ids:
        return True
    given = getattr(call.answer, "tasks", ()) if call.answer is not None else ()
    return any(task.id in violation.task_ids for task in given)


def _event_text(revision: int, event: Any) -> str:
    text = f"revision {revision}: {v1.EventType.Name(event.type).removeprefix('EVENT_TYPE_')}"
    if event.task_id:
        text += f" {event.task_id}"
    if event.worker_id:
        text += f" by {event.worker_id}"
    if event.HasField("task"):
        one = event.task
        text += f", {one.status}"
        if one.claim_revision:
            text += f", held by {one.worker_id} with claim {one.claim_revision}"
    return f"{text} ({event.reason})" if event.reason else text


def _call_text(call: Call) -> str:
    ask = call.ask
    text = f"{call.agent} calls {call.verb}"
    if task_id := getattr(ask, "task_id", ""):
        text += f" of {task_id}"
    if shown := getattr(ask, "claim_revision", 0):
        text += f" with claim {shown}"
    attempts = [f"{a.reason or a.code} after {a.end - a.start:.0f} ms" for a in call.attempts]
    text += f" ({call.tag}): {', then '.join(attempts)}"
    if call.answer is not None:
        text += f", revision {call.answer.revision}"
        if given := getattr(call.answer, "tasks", ()):
            text += f", given {', '.join(task.id for task in given)}"
    return text
