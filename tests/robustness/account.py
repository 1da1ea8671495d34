"""The account of a violation: what happened to the task and the worker concerned, in order."""

from collections.abc import Iterator
from typing import Any

from taskloom import v1

from tests.robustness.history import History, Violation
from tests.robustness.recording import Call, Stream

_EVENTS = 8  # of the task, or of the worker, up to the moment
_SIGNS = 4  # of life, where it is about a lease
_BEFORE_MS = 50  # calls that ended so long before the first of these events belong to it
# Told only where it is what went wrong.
_BYWORK = frozenset(
    {
        v1.EVENT_TYPE_TASK_UPDATED,
        v1.EVENT_TYPE_FILE_MARKED,
        v1.EVENT_TYPE_FILE_UNMARKED,
        v1.EVENT_TYPE_ATTACHMENT_ADDED,
        v1.EVENT_TYPE_ATTACHMENT_REMOVED,
    }
)

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
        if _concerns(event, violation) and (revision == violation.revision or _matters(event))
    ][-_EVENTS:]
    for revision, event in events:
        yield event.time.ToMilliseconds(), 1, _event_text(revision, event)
    for stream in violation.streams:
        yield stream.start, 0, _stream_text(stream)
    calls = {call.number: call for call in violation.calls}
    if events:
        since = events[0][1].time.ToMilliseconds()
        until = events[-1][1].time.ToMilliseconds()
        for call in history.calls:
            then = call.end >= since - _BEFORE_MS and call.start <= until
            if then and (_made(call, events) or _may_have_made(call, violation)):
                calls[call.number] = call
        if violation.promise == "leases":
            signs = [c for c in history.calls if c.worker_id in violation.worker_ids]
            last = sorted((c for c in signs if c.start < until), key=lambda call: call.start)
            calls |= {call.number: call for call in last[-_SIGNS:]}
    for call in calls.values():
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


def _matters(event: Any) -> bool:
    """Whether an event is part of any story: it moved the task, or changed what holds it back."""
    return event.type not in _BYWORK


def _made(call: Call, events: list[tuple[int, Any]]) -> bool:
    """Whether one of the events is what a call did."""
    if call.answer is None:
        return False
    for revision, event in events:
        if call.answer.revision != revision:
            continue
        given = [task.id for task in getattr(call.answer, "tasks", ())]
        if call.verb == "ClaimTask":
            given = [call.answer.task.id]
        if event.reason == call.tag or (
            event.type == v1.EVENT_TYPE_TASK_CLAIMED and (event.task_id in given)
        ):
            return True
    return False


def _may_have_made(call: Call, violation: Violation) -> bool:
    """Whether nobody knows what a call did to the task."""
    return call.unknown and getattr(call.ask, "task_id", "") in violation.task_ids


def _stream_text(stream: Stream) -> str:
    return (
        f"{stream.watcher} watches from {stream.ask.start_revision}"
        f"{' with the state' if stream.ask.include_state else ''}, "
        f"filter {{{' '.join(str(stream.ask.filter).split())}}}: began after {stream.created}, "
        f"told {len(stream.told)} revisions, reached {stream.reached}, ended {stream.code}"
    )


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
