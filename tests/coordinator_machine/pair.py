"""The server and its model side by side: the same is done to both, and all that shows compared."""

import asyncio
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from google.protobuf import text_format
from taskloom import v1
from taskloom_server.graph.errors import DomainError
from taskloom_server.graph.tasks import Task as Record
from taskloom_server.service import show
from taskloom_server.workflow_files import load_workflows

from tests.coordinator_machine.claim_verbs import WAITS, claim_next, give_back
from tests.coordinator_machine.house import START, House, stopped
from tests.coordinator_machine.model import Model, Verb
from tests.coordinator_machine.moves import Answer, Refused, lives
from tests.coordinator_machine.seen import (
    as_told,
    compare,
    said,
    status_expected,
    status_seen,
    task_expected,
    task_seen,
    worker_expected,
    worker_seen,
)
from tests.coordinator_machine.worker_verbs import end_leases, lose_stream, meet_due
from tests.coordinator_machine.world import DAY, World

WORKFLOWS = load_workflows("swarm")


@dataclass(eq=False, repr=False)
class Call:
    """A call, and what is to come of it: an answer, the reason of a refusal, or no answer yet."""

    key: int
    method: str
    request: Any
    verb: Verb
    arguments: tuple[Any, ...]
    named: dict[str, Any]
    task: "asyncio.Task[Any]"
    expected: Answer | str | None = None
    answered_at: int = 0
    cancelled: bool = False
    response: Any = None

    def is_remembered(self) -> bool:
        """Whether it has been answered, and the answer is worth being given again."""
        if not isinstance(self.expected, Answer):
            return False
        return self.verb is not claim_next or bool(self.expected.says.get("tasks"))

    def __repr__(self) -> str:
        request = text_format.MessageToString(self.request, as_one_line=True)
        return f"{self.method}({request})"


class Pair:
    """Both sides. What is done shows at once, but for a call that is held for the next."""

    def __init__(self, db: Path) -> None:
        self.house = House(db, WORKFLOWS)
        self.world = World(now=START)
        self.model = Model(self.world)
        self.waiting: list[Call] = []
        self.past: list[Call] = []  # those with a request_id: they can come again
        self._unchecked: list[Call] = []
        self._keys = 0
        self._revisions = 0  # how many were looked at
        self._told: dict[str, v1.Task] = {}  # by the last event about each task
        self._late_ms = 0
        self._holds = False
        self._interrupts = False

    # What can be done

    def call(
        self,
        method: str,
        request: Any,
        verb: Verb,
        *arguments: Any,
        remember: bool = False,
        **named: Any,
    ) -> None:
        """Call the server, and do the verb on the model. ``remember``: with a request_id."""
        if remember:
            request.request_id = f"request-{len(self.past)}"
        call = self._start(method, request, verb, arguments, named)
        if remember:
            self.past.append(call)
        self._expect(call)
        self._go_on(call)

    def again(self, past: Call) -> None:
        """Repeat a call with the same request_id."""
        call = self._start(past.method, past.request, past.verb, past.arguments, past.named)
        place = self._place_of(past)
        if place is not None:
            del self.model.line[place]
            past.expected = "SUPERSEDED"
        if past.is_remembered() and self.world.now < past.answered_at + DAY:
            call.expected, call.answered_at = past.expected, past.answered_at
            call.response = past.response
        else:
            self._expect(call, place)
        self.past[self.past.index(past)] = call
        self._go_on(call)

    def cancel(self, call: Call) -> None:
        """Let a caller who waits give up."""
        self._flush()
        place = self._place_of(call)
        if place is not None:
            del self.model.line[place]
            self.waiting.remove(call)
            call.task.cancel()
            call.cancelled = True
            self._flush()
            assert call.task.cancelled()

    def lose_stream(self, worker: str, grace: int) -> None:
        """Let a worker's last Work stream break."""
        self._flush()
        self.house.lose_stream(worker, grace)
        self.model.do(lose_stream, worker, grace)
        self._flush()

    def interrupt_next(self) -> None:
        """With the next call, let whoever is given something be gone in the instant."""
        self._interrupts = True

    def hold_next(self) -> None:
        """Commit the next call together with the one after it."""
        self._holds = True

    def be_late(self, ms: int) -> None:
        """Let time pass with the next call, so that it comes before the alarm rings."""
        self._flush()
        self._late_ms = ms

    def advance(self, ms: int) -> None:
        """Let time pass."""
        self._flush()
        self.house.clock.advance(ms)
        self.world.now += ms
        self._flush()

    def restart(self) -> None:
        """Stop the server, and start it on the same file."""
        self._flush()
        self.house.restart()
        for call in self.waiting:
            assert stopped(call.task.exception()), call
            call.expected = "SHUTTING_DOWN"
        self.waiting.clear()
        self.model.line.clear()
        self._flush()

    def end(self) -> None:
        """Take the server down."""
        self.house.end()

    # How it is done

    def _start(
        self,
        method: str,
        request: Any,
        verb: Verb,
        arguments: tuple[Any, ...],
        named: dict[str, Any],
    ) -> Call:
        self.house.clock.advance(self._late_ms)
        self.world.now += self._late_ms
        self._keys += 1
        task = self.house.start(method, request)
        return Call(self._keys, method, request, verb, arguments, named, task)

    def _expect(self, call: Call, place: int | None = None) -> None:
        try:
            answer = self.model.do(
                call.verb, *call.arguments, key=call.key, place=place, **call.named
            )
        except Refused as refused:
            call.expected = str(refused)
            if call.expected != "CLAIM_LOST":
                self._outlive(getattr(call.request, "worker_id", ""))
            return
        call.expected = None if answer is WAITS else answer
        call.answered_at = self.world.now

    def _outlive(self, worker: str) -> None:
        """Who is refused lives, if it is connected."""
        one = self.world.workers.get(worker)
        if one is not None and one.connected:
            lives(self.world, worker)

    def _place_of(self, call: Call) -> int | None:
        """Where in the line it stands."""
        keys = [waiter.key for waiter in self.model.line]
        return keys.index(call.key) if call.key in keys else None

    def _go_on(self, call: Call) -> None:
        self._unchecked.append(call)
        self._note_answered()
        late, self._late_ms = self._late_ms, 0
        holds, self._holds = self._holds, False
        interrupts, self._interrupts = self._interrupts, False
        if late:
            # What the server makes of the line before its alarm rings, the model must know.
            self.house.commit()
            self.house.deliver()
            self.model.end_group()
            self._note_answered()
            self._note_dismissed()
        elif interrupts and len(self._unchecked) == 1:
            self._interrupt()
        elif holds and not any(self.world.at_limit(one.ask.worker) for one in self.model.line):
            return
        self._flush()

    def _interrupt(self) -> None:
        """Cancel who was given tasks, after the commit and before he is told."""
        self.house.commit()
        for call in [*self.waiting, *self._unchecked]:
            if not isinstance(call.expected, Answer) or call.verb is not claim_next:
                continue
            given = call.expected.says["tasks"]
            if not given or call.task.done():
                continue
            call.task.cancel()
            call.cancelled = True
            if not call.request.request_id:
                worker = call.request.worker_id
                claims = {id: self._token(id, worker) for id in given}
                self.model.do(give_back, worker, claims)
                self._note_answered()
            return

    def _token(self, id: str, worker: str) -> int:
        task = self.world.tasks[id]
        advice = task.advice_of(worker)
        return advice.claim if advice else task.claim

    def _note_answered(self) -> None:
        """Expect the answers that the model has given to those who wait."""
        for call in [*self.waiting, *self._unchecked]:
            if call.key in self.model.answered:
                call.expected = self.model.answered.pop(call.key)
                call.answered_at = self.world.now

    def _note_dismissed(self) -> None:
        """Who holds all that he may, by now, may be told so while he waits, or later."""
        for call in [*self.waiting, *self._unchecked]:
            if call.expected is not None or not call.task.done():
                continue
            error = call.task.exception()
            assert error is None, f"{call} must wait, not be refused with {error!r}"
            call.response = call.task.result()
            outcome = v1.ClaimOutcome.Name(call.response.outcome)
            assert outcome == "CLAIM_OUTCOME_LIMIT_REACHED", f"{call} must wait, not be answered"
            assert self.world.at_limit(call.request.worker_id), f"{call} is not at its limit"
            call.expected = Answer(revision=call.response.revision)
            call.answered_at = self.world.now
            del self.model.line[self._place_of(call) or 0]

    # How it is compared

    def _flush(self) -> None:
        """Let the server do all that there is to do, and look at everything."""
        if self._unchecked:
            self.model.end_group()
        self.house.settle()
        met, self.house.met = self.house.met, []
        for worker in met:
            if worker:
                self.model.do(end_leases, worker)
            else:
                self.model.do(meet_due)
        if met:
            self.model.end_group()
        self._note_answered()
        self._note_dismissed()
        self._check_calls()
        self._check_events()
        self._check_workers()
        self._check_tasks()
        status = self.house.ask("GetStatus", v1.GetStatusRequest())
        compare("the status", status_seen(status), status_expected(self.world))
        self._check_deadline()

    def _check_calls(self) -> None:
        under_way, self.waiting, self._unchecked = [*self.waiting, *self._unchecked], [], []
        for call in under_way:
            if call.expected is None:
                self.waiting.append(call)
            elif call.cancelled:
                assert call.task.cancelled(), call
            else:
                _check_answer(call)

    def _check_events(self) -> None:
        """Each revision tells what changed, and nothing changes untold."""
        history = self.model.events
        for revision in self.house.revisions[self._revisions :]:
            told = sorted((event.type.name, _subject(event)) for event in revision.events)
            assert revision.number <= len(history), f"revision {revision.number} tells {told}"
            expected = history[revision.number - 1]
            compare(f"revision {revision.number}", {"events": told}, {"events": expected})
            for event in revision.events:
                if isinstance(event.after, Record):
                    self._told[event.after.id] = as_told(show.task(event.after))
        self._revisions = len(self.house.revisions)
        assert self._revisions == len(history), f"untold: {history[self._revisions :]}"

    def _check_workers(self) -> None:
        request = v1.ListWorkersRequest(include_disconnected=True, page_size=1000)
        shown = self.house.ask("ListWorkers", request).workers
        assert {worker.id for worker in shown} == set(self.world.workers)
        for one in shown:
            expected = worker_expected(self.world, self.world.workers[one.id])
            compare(f"worker {one.id}", worker_seen(one), expected)

    def _check_tasks(self) -> None:
        order: dict[str, Any] = {"order_by": v1.ORDER_BY_CREATE_TIME}
        request = v1.ListTasksRequest(include_deleted=True, page_size=1000, **order)
        shown = self.house.ask("ListTasks", request).tasks
        ids = [task.id for task in shown]
        compare("the list", {"tasks": ids}, {"tasks": list(self.world.tasks)})
        ready = self.world.ready()
        for one in shown:
            expected = task_expected(self.world, self.world.tasks[one.id], ready)
            compare(f"task {one.id}", task_seen(one), expected)
            if not one.HasField("delete_time"):  # of which nothing is told any more
                assert as_told(one) == self._told[one.id], (one, self._told[one.id])

    def _check_deadline(self) -> None:
        """The alarm wakes for nothing now and then, but never late."""
        for deadline in self.model.deadlines()[:1]:
            assert deadline > self.world.now, f"what was due at {deadline} has not been met"
            awaited = self.house.clock.next_awaited()
            assert awaited is not None, f"nobody waits for {deadline}"
            assert awaited <= deadline, f"the alarm waits for {awaited}, too late for {deadline}"


def _check_answer(call: Call) -> None:
    assert call.task.done(), f"{call} must be answered {call.expected}"
    error = call.task.exception()
    if isinstance(call.expected, str):
        assert error is not None, f"{call} must be refused with {call.expected}"
        assert _reason(error) == call.expected, call
        return
    if error is not None:
        raise AssertionError(f"{call} must be answered {call.expected}") from error
    assert call.expected is not None
    response = call.task.result()
    if call.response is not None:
        assert response == call.response, f"{call} must have its first answer again"
        return
    call.response = response
    heard = said(response, call.expected.says) | {"revision": response.revision}
    expected = call.expected.says | {"revision": call.expected.revision}
    compare(f"the answer to {call}", heard, expected)


def _reason(error: BaseException) -> str:
    if isinstance(error, DomainError):
        return error.reason
    raise error


def _subject(event: Any) -> str:
    """What an event is about."""
    return (event.worker_id if event.type.name.startswith("WORKER_") else event.task_id) or ""
