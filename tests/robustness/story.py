"""A history told by hand, for tests of the checker: true as it is told, and easily made untrue.

Each verb of a ``Story`` makes the events that the server would make of it, and the call that a
client would have recorded. ``happen`` adds a revision that nobody asked for.
"""

import hashlib
from typing import Any

from taskloom import v1

from tests.robustness.checker import check
from tests.robustness.history import History, Violation
from tests.robustness.recording import OK, Attempt, Call, Stream, Talk, content_of, tag_of
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
        for named in ("file_mark", "attachment"):
            if named in after:
                event.task_id = after[named].task_id
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
        who = agent or getattr(ask, "worker_id", "")
        call = Call(len(self.calls) + 1, who, verb, ask.SerializeToString())
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

    def connect(
        self, worker: str, *, max_claims: int = 1, tags: tuple[str, ...] = (), **fields: Any
    ) -> None:
        """A worker connects."""
        image = v1.Worker(id=worker, max_claims=max_claims, tags=tags, **fields)
        image.lease.FromMilliseconds(_LEASE_MS)
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
        self.images[task_id].CopyFrom(event.task)
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
        attempts = image.attempts + (image.status != "assigned")
        spent = attempts >= image.max_attempts
        self.happen(
            self.moved(
                v1.EVENT_TYPE_TASK_FAILED if spent else v1.EVENT_TYPE_TASK_LEASE_EXPIRED,
                task_id,
                reason=reason,
                status="failed" if spent else "pending",
                worker_id=image.worker_id if spent else "",
                claim_revision=0,
                attempts=attempts,
                ready=not spent,
            )
        )

    def update(self, task_id: str, worker: str = "", **changes: Any) -> v1.Task:
        """Somebody changes fields of a task."""
        tag = self.next_tag
        event = self.moved(
            v1.EVENT_TYPE_TASK_UPDATED, task_id, worker=worker, reason=tag, title=tag, **changes
        )
        self.call(
            "UpdateTask",
            v1.UpdateTaskRequest(task_id=task_id, worker_id=worker, title=tag, reason=tag),
            v1.UpdateTaskResponse(task=event.task, revision=self.happen(event)),
            agent="somebody",
        )
        return event.task

    def mark(self, worker: str, path: str, task_id: str = "", reason: str = "") -> v1.FileMark:
        """A worker has a mark from now on."""
        one = v1.FileMark(path=path, worker_id=worker, task_id=task_id, reason=reason)
        one.mark_time.FromMilliseconds(self.now)
        self.happen(
            self.event(v1.EVENT_TYPE_FILE_MARKED, worker=worker, reason=reason, file_mark=one)
        )
        return one

    def unmark(self, mark: v1.FileMark, reason: str = "the work ended") -> None:
        """A mark goes."""
        type_ = v1.EVENT_TYPE_FILE_UNMARKED
        self.happen(self.event(type_, worker=mark.worker_id, reason=reason, file_mark=mark))

    def renamed(self, old: str, new: str, reason: str = "") -> list[v1.Event]:
        """The events of another id for a task that has nothing below it."""
        self.images[new] = v1.Task()
        self.images[new].CopyFrom(self.images.pop(old))
        self.images[new].id = new
        told = self.moved(v1.EVENT_TYPE_TASK_RENAMED, new, reason=reason)
        told.task_id, told.left_filter = old, True
        return [told, self.moved(v1.EVENT_TYPE_TASK_UPDATED, new)]

    def rename(self, old: str, new: str) -> Call:
        """Somebody gives a task another id."""
        tag = self.next_tag
        told, after = self.renamed(old, new, tag)
        return self.call(
            "RenameTask",
            v1.RenameTaskRequest(task_id=old, new_task_id=new, reason=tag),
            v1.RenameTaskResponse(task=after.task, revision=self.happen(told, after)),
        )

    def delete(self, task_id: str) -> None:
        """Somebody deletes a task that nobody holds."""
        tag = self.next_tag
        event = self.moved(v1.EVENT_TYPE_TASK_DELETED, task_id, reason=tag, ready=False)
        event.task.delete_time.FromMilliseconds(self.now)
        self.call(
            "DeleteTask",
            v1.DeleteTaskRequest(task_id=task_id, reason=tag),
            v1.DeleteTaskResponse(deleted_task_ids=[task_id], revision=self.happen(event)),
        )

    def restore(self, task_id: str, **changes: Any) -> Call:
        """Somebody brings a deleted task back."""
        tag = self.next_tag
        self.images[task_id].ClearField("delete_time")
        changes = {"ready": True, **changes}
        event = self.moved(v1.EVENT_TYPE_TASK_RESTORED, task_id, reason=tag, **changes)
        return self.call(
            "RestoreTask",
            v1.RestoreTaskRequest(task_id=task_id, reason=tag),
            v1.RestoreTaskResponse(tasks=[event.task], revision=self.happen(event)),
        )

    def obliterate(self, task_id: str) -> None:
        """Somebody removes a deleted task for good."""
        tag = self.next_tag
        event = v1.Event(type=v1.EVENT_TYPE_TASK_OBLITERATED, task_id=task_id, reason=tag)
        event.time.FromMilliseconds(self.now)
        self.call(
            "ObliterateTask",
            v1.ObliterateTaskRequest(task_id=task_id, reason=tag),
            v1.ObliterateTaskResponse(task_ids=[task_id], revision=self.happen(event)),
        )

    def attach(self, task_id: str, type_: str, size: int = 20, *, large: bool = False) -> Call:
        """Somebody attaches something, by an upload if it is large."""
        number = len(self.calls) + 1
        content = content_of(number, size)
        one = v1.Attachment(
            task_id=task_id, type=type_, name=self.next_tag, size=size, in_file=large
        )
        one.sha256 = hashlib.sha256(content).hexdigest() if large else ""
        revision = self.happen(self.event(v1.EVENT_TYPE_ATTACHMENT_ADDED, attachment=one))
        if large:
            options = v1.UploadOptions(task_id=task_id, type=type_, name=one.name)
            return self.call(
                "UploadAttachment",
                v1.UploadAttachmentRequest(options=options),
                v1.UploadAttachmentResponse(attachment=one, revision=revision),
            )
        return self.call(
            "Attach",
            v1.AttachRequest(task_id=task_id, type=type_, name=one.name, content=content),
            v1.AttachResponse(attachment=one, revision=revision),
        )

    def think(self, worker: str, thought: str, task_id: str) -> Call:
        """A worker says what it thinks of a task that it holds."""
        image = v1.Worker(id=worker, max_claims=1, current_thought=thought)
        told = self.event(v1.EVENT_TYPE_WORKER_THOUGHT, worker=worker)
        told.worker.CopyFrom(image)
        changed = self.moved(
            v1.EVENT_TYPE_TASK_UPDATED, task_id, worker=worker, current_thought=thought
        )
        revision = self.happen(told, changed)
        return self.call(
            "SetThought",
            v1.SetThoughtRequest(worker_id=worker, task_id=task_id, thought=thought),
            v1.SetThoughtResponse(worker=image, task_ids=[task_id], revision=revision),
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

    def broken(self) -> set[str]:
        """Which promises the checker finds broken."""
        return {violation.promise for violation in self.judge()}
