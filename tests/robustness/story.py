"""A history told by hand, for tests of the checker: true as it is told, and easily made untrue.

Each verb of a ``Story`` makes the events that the server would make of it, and the call that a
client would have recorded. ``happen`` adds a revision that nobody asked for.
"""

from typing import Any

from taskloom import v1

from tests.robustness.checker import check
from tests.robustness.history import History, Violation
from tests.robustness.recording import OK, Attempt, Call, Stream, Talk, tag_of
from tests.robustness.rules import DEFAULT, read_rules
from tests.robustness.truth import Truth
from tests.robustness.watchers import digest_of

_START = 1_800_000_000_000
_LEASE_MS = 1_000


class Story:
    """A history in the making; time passes by 10 ms with every revision."""

    def __init__(self) -> None:
        self.now = _START
        self.calls: list[Call] = []
        self.streams: list[Stream] = []
        self.talks: list[Talk] = []
        self.idle: list[tuple[int, int]] = []
        self.messages: list[tuple[int, bytes]] = []
        self.images: dict[str, v1.Task] = {}

    @property
    def revision(self) -> int:
        """The latest."""
        return len(self.messages)

    # Making events.

    def event(self, type_: Any, *, worker: str = "", reason: str = "", **after: Any) -> v1.Event:
        """An event of this moment; ``after`` is what it shows."""
        task_id = after["task"].id if "task" in after else ""
        if "dependency" in after:
            task_id = after["dependency"].to_task_id
        event = v1.Event(type=type_, worker_id=worker, task_id=task_id, reason=reason, **after)
        event.time.FromMilliseconds(self.now)
        return event

    def moved(
        self, type_: Any, task_id: str, *, worker: str = "", reason: str = "", **changes: Any
    ) -> v1.Event:
        """An event that shows a task with changes."""
        before = self.images.get(task_id) or v1.Task(id=task_id, workflow=DEFAULT)
        after = v1.Task()
        after.CopyFrom(before)
        after.revision = self.revision + 1
        for name, value in changes.items():
            setattr(after, name, value)
        after.ClearField("lease_expire_time")
        if after.claim_revision and after.status != "waiting":
            after.lease_expire_time.FromMilliseconds(self.now + _LEASE_MS)
        event = self.event(type_, worker=worker, reason=reason, task=after)
        if before.status and before.status != after.status:
            event.previous_status = before.status
        self.images[task_id] = after
        return event

    def happen(self, *events: v1.Event) -> int:
        """Make a revision of these events; its number."""
        number = self.revision + 1
        message = v1.WatchTasksResponse(revision=number, events=v1.WatchEvents(events=events))
        self.messages.append((number, message.SerializeToString(deterministic=True)))
        self.now += 10
        return number

    # Recording calls.

    def call(self, verb: str, ask: Any, answer: Any, agent: str = "") -> Call:
        """Record a call that was answered just now."""
        call = Call(len(self.calls) + 1, agent or ask.worker_id, verb, ask.SerializeToString())
        call.attempts = [Attempt(self.now - 15, self.now - 5, OK, "", "", b"")]
        self.calls.append(call)
        return self.answer(call, answer)

    def answer(self, call: Call, answer: Any) -> Call:
        """Let a call be answered otherwise."""
        attempt = call.attempts[0]
        call.attempts[0] = Attempt(
            attempt.start, attempt.end, OK, "", "", answer.SerializeToString(deterministic=True)
        )
        call.__dict__.pop("answers", None)
        return call

    def repeat(self, call: Call, contents: bytes) -> None:
        """Let a call have been made again, and answered with these bytes."""
        first = call.attempts[0]
        call.attempts[1:] = [Attempt(first.start, first.end, OK, "", "", contents)]
        call.__dict__.pop("answers", None)

    def refused(self, verb: str, ask: Any, code: str, reason: str) -> Call:
        """Record a call that was refused just now."""
        call = Call(len(self.calls) + 1, ask.worker_id, verb, ask.SerializeToString())
        call.attempts = [Attempt(self.now - 15, self.now - 5, code, reason, "", b"")]
        self.calls.append(call)
        return call

    @property
    def next_tag(self) -> str:
        """The tag of the next call."""
        return tag_of(len(self.calls) + 1)

    # Verbs, as they ought to be done.

    def connect(self, worker: str, *, max_claims: int = 1, tags: tuple[str, ...] = ()) -> None:
        """A worker connects."""
        image = v1.Worker(id=worker, max_claims=max_claims, tags=tags)
        event = self.event(v1.EVENT_TYPE_WORKER_CONNECTED, worker=worker)
        event.worker.CopyFrom(image)
        revision = self.happen(event)
        self.call(
            "Connect",
            v1.ConnectRequest(worker_id=worker),
            v1.ConnectResponse(worker=image, revision=revision),
        )

    def create(self, task_id: str, **fields: Any) -> Call:
        """Somebody creates a task that is ready, if the fields do not say otherwise."""
        fields = {"status": "pending", "max_attempts": 3, "ready": True, **fields}
        event = self.moved(v1.EVENT_TYPE_TASK_CREATED, task_id, title=self.next_tag, **fields)
        event.task.ready_time.FromMilliseconds(self.now)
        revision = self.happen(event)
        return self.call(
            "CreateTask",
            v1.CreateTaskRequest(id=task_id, title=event.task.title),
            v1.CreateTaskResponse(task=event.task, revision=revision),
        )

    def claimed(self, worker: str, task_id: str, **changes: Any) -> v1.Event:
        """The event of a claim."""
        changes = {
            "status": "working",
            "worker_id": worker,
            "claim_revision": self.revision + 1,
            "ready": False,
            **changes,
        }
        return self.moved(v1.EVENT_TYPE_TASK_CLAIMED, task_id, worker=worker, **changes)

    def claim(self, worker: str, task_id: str) -> int:
        """A worker claims a task by its name; the claim revision."""
        event = self.claimed(worker, task_id)
        revision = self.happen(event)
        self.call(
            "ClaimTask",
            v1.ClaimTaskRequest(worker_id=worker, task_id=task_id),
            v1.ClaimTaskResponse(task=event.task, revision=revision),
        )
        return revision

    def claim_next(self, worker: str, task_id: str) -> Call:
        """A worker is given a task."""
        event = self.claimed(worker, task_id)
        revision = self.happen(event)
        outcome = v1.CLAIM_OUTCOME_CLAIMED
        return self.call(
            "ClaimNextTask",
            v1.ClaimNextTaskRequest(worker_id=worker),
            v1.ClaimNextTaskResponse(tasks=[event.task], outcome=outcome, revision=revision),
        )

    def share(self, worker: str, task_id: str) -> int:
        """A worker works on a task by an advisory claim; the claim revision."""
        revision = self.revision + 1
        event = self.moved(v1.EVENT_TYPE_ADVISORY_CLAIM_MADE, task_id, worker=worker)
        made = event.task.advisory_claims.add(worker_id=worker, claim_revision=revision)
        made.claim_time.FromMilliseconds(self.now)
        made.lease.FromMilliseconds(_LEASE_MS)
        self.happen(event)
        self.call(
            "ClaimTask",
            v1.ClaimTaskRequest(worker_id=worker, task_id=task_id, mode=v1.CLAIM_MODE_ADVISORY),
            v1.ClaimTaskResponse(task=event.task, revision=revision),
        )
        return revision

    def park(self, worker: str, task_id: str, status: str = "waiting") -> None:
        """A worker lets a task wait for something outside, or goes on with it."""
        tag = self.next_tag
        event = self.moved(
            v1.EVENT_TYPE_TASK_MOVED, task_id, worker=worker, reason=tag, status=status
        )
        revision = self.happen(event)
        self.call(
            "UpdateTask",
            v1.UpdateTaskRequest(worker_id=worker, task_id=task_id, status=status, reason=tag),
            v1.UpdateTaskResponse(task=event.task, revision=revision),
        )

    def talk(self, worker: str, *messages: v1.WorkResponse, grace: float = 0.5) -> Talk:
        """A worker has a Work stream, from now on for a second, which tells it this at once."""
        start = v1.WorkStart(worker_id=worker)
        start.grace.FromMilliseconds(round(grace * 1000))
        talk = Talk(worker, start.SerializeToString(), start=self.now, end=self.now + 1000)
        talk.told = [(self.now, message.SerializeToString()) for message in messages]
        self.talks.append(talk)
        return talk

    def found_nothing(self, worker: str, outcome: Any) -> Call:
        """A worker is answered that there is nothing for it."""
        return self.call(
            "ClaimNextTask",
            v1.ClaimNextTaskRequest(worker_id=worker),
            v1.ClaimNextTaskResponse(outcome=outcome, revision=self.revision),
        )

    def complete(self, worker: str, task_id: str, claim: int) -> Call:
        """A worker completes a task."""
        tag = self.next_tag
        event = self.moved(
            v1.EVENT_TYPE_TASK_COMPLETED,
            task_id,
            worker=worker,
            reason=tag,
            status="completed",
            worker_id=worker,
            claim_revision=0,
            ready=False,
        )
        revision = self.happen(event)
        return self.call(
            "CompleteTask",
            v1.CompleteTaskRequest(
                worker_id=worker, task_id=task_id, claim_revision=claim, reason=tag
            ),
            v1.CompleteTaskResponse(task=event.task, revision=revision),
        )

    def expire(self, task_id: str, reason: str = "the lease of worker ran out") -> None:
        """The lease on a task ends."""
        image = self.images[task_id]
        spent = image.attempts + 1 >= image.max_attempts
        self.happen(
            self.moved(
                v1.EVENT_TYPE_TASK_FAILED if spent else v1.EVENT_TYPE_TASK_LEASE_EXPIRED,
                task_id,
                reason=reason,
                status="failed" if spent else "pending",
                worker_id=image.worker_id if spent else "",
                claim_revision=0,
                attempts=image.attempts + 1,
                ready=not spent,
            )
        )

    def wait(self, ms: int) -> None:
        """Time passes."""
        self.now += ms

    def watch(self, first: int, last: int) -> Stream:
        """A watch was told of these revisions."""
        request = v1.WatchTasksRequest(start_revision=first)
        stream = Stream("w", request.SerializeToString(), created=first - 1, reached=last)
        stream.told = [(n, digest_of(c)) for n, c in self.messages if first <= n <= last]
        self.streams.append(stream)
        return stream

    def history(self) -> History:
        """The whole."""
        return History(Truth("", self.messages), self.calls, self.streams, self.talks, self.idle)

    def judge(self) -> list[Violation]:
        """What the checker says of it."""
        return check(self.history(), read_rules()).violations
