"""Agents: clients that hold claims, and what each of them knows.

An agent chooses its next action at random, from its own seed, and by what it was told before. It
knows no more than a real one: what was not answered, it does not know. What there is to do is
in ``verbs``.
"""

import asyncio
import random
from collections import Counter, deque
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from typing import Any

from taskloom import v1

from tests.robustness.recording import VERBS, Call, Recorder, tag_of
from tests.robustness.wire import Wire

_CALL_SECONDS = 3.0
_TRIES = 5
_COME_BACK = frozenset({"SHUTTING_DOWN", "TOO_MANY_CALLS"})


@dataclass
class Board:
    """What the agents of one process share: numbers, names that were seen, and the quota."""

    process: int
    seed: str
    quota: int  # calls that are still to be made
    recorder: Recorder
    calls: int = 0
    numbers: int = 0
    hunger: int = 0  # claims that found nothing, less tasks made since
    revision: int = 0  # the latest that was seen
    tasks: deque[str] = field(default_factory=lambda: deque(maxlen=200))
    claims: deque[tuple[str, int]] = field(default_factory=lambda: deque(maxlen=100))
    links: deque[v1.Dependency] = field(default_factory=lambda: deque(maxlen=100))
    budgets: deque[str] = field(default_factory=lambda: deque(maxlen=20))  # tasks that have one
    deleted: deque[str] = field(default_factory=lambda: deque(maxlen=30))
    renamed: dict[str, str] = field(default_factory=dict)  # ids of before, and what became of them
    endings: Counter[str] = field(default_factory=Counter)  # OK, a refusal's reason, or a code
    on_progress: Callable[[int], None] = lambda _: None

    def number(self) -> int:
        """A number for a call, of which no other process makes use."""
        self.numbers += 1
        return self.process * 100_000_000 + self.numbers

    def made_call(self) -> None:
        """Count a call."""
        self.calls += 1
        self.on_progress(self.calls)

    @property
    def open(self) -> bool:
        """Whether there are calls to be made still."""
        return self.calls < self.quota


class Agent:
    """A worker: its claims as far as it knows of them, and its way of calling."""

    def __init__(self, name: str, wire: Wire, board: Board) -> None:
        self.id = name
        self.board = board
        self.rng = random.Random(f"{board.seed}/{name}")
        self.connected = False
        self.lease = 1.0  # seconds
        self.held: dict[str, int] = {}  # claim revisions by task
        self.lost: deque[tuple[str, int]] = deque(maxlen=20)  # claims that it had once
        self.attached: deque[tuple[str, str, int]] = deque(maxlen=10)
        self.refusal = ""  # of the latest call
        self._wire = wire
        self._quiet_until = 0.0

    async def run(self, choose: Callable[["Agent"], Callable[["Agent"], Awaitable[None]]]) -> None:
        """Act until the quota is spent."""
        loop = asyncio.get_running_loop()
        while self.board.open:
            if (quiet := self._quiet_until - loop.time()) > 0:
                await asyncio.sleep(quiet)
            await choose(self)(self)

    def be_quiet(self, seconds: float) -> None:
        """Give no sign of life for so long."""
        self._quiet_until = asyncio.get_running_loop().time() + seconds

    async def call(
        self,
        verb: str,
        request: Any,
        *,
        number: int | None = None,
        seconds: float = _CALL_SECONDS,
        patient: bool = False,
        content: bytes = b"",
    ) -> Any:
        """The answer, or None where there was none; recorded, and repeated as clients do.

        ``number`` is that of the call where the request carries its tag. ``patient``: repeated
        until it is answered. ``content``: what follows the request, where that is a stream.
        """
        rng, board = self.rng, self.board
        number = board.number() if number is None else number
        ask = request.options if VERBS[verb].is_streamed else request
        repeatable = verb == "Heartbeat" or "request_id" not in ask.DESCRIPTOR.fields_by_name
        if not repeatable and (patient or rng.random() < 0.9):
            ask.request_id = f"{board.seed}/{tag_of(number)}"
            repeatable = True
        contents: bytes = request.SerializeToString(deterministic=True)
        call = Call(number, self.id, verb, contents, content=content)
        tries = 1000 if patient else _TRIES if repeatable else 1
        await self._try(call, seconds, tries, patient=patient)
        if repeatable and call.attempts[-1].answered and rng.random() < 0.03:
            await self._attempt(call, seconds, may_give_up=False)
        return self._known(call)

    async def repeat(self, call: Call) -> Any:
        """The answer to a call that was made already, and not answered."""
        await self._try(call, _CALL_SECONDS, _TRIES, patient=False)
        return self._known(call)

    async def _try(self, call: Call, seconds: float, tries: int, *, patient: bool) -> None:
        """Send a call until it is answered or refused, or until it was sent often enough."""
        rng = self.rng
        for tried in range(tries):
            attempt = await self._attempt(call, seconds, may_give_up=not patient)
            if attempt.answered or (attempt.refused and attempt.reason not in _COME_BACK):
                break
            if rng.random() < 0.1 and not patient:
                break
            if tried + 1 < tries:
                await asyncio.sleep(rng.uniform(0.01, 0.05) * (tried + 1))

    def _known(self, call: Call) -> Any:
        """Record a call that is over, and note what it taught; the answer."""
        self.board.recorder.add(call)
        last = call.attempts[-1]
        if last.reason == "WORKER_NOT_FOUND":
            self.connected = False
        answer = call.answer
        if answer is not None:
            self.board.revision = max(self.board.revision, answer.revision)
        self.refusal = last.reason
        return answer

    async def _attempt(self, call: Call, seconds: float, *, may_give_up: bool) -> Any:
        board = self.board
        give_up = None
        if may_give_up and self.rng.random() < 0.015:
            give_up = self.rng.uniform(0.0, 0.3) ** 2
        attempt = await self._wire.attempt(
            call.verb, call.request, seconds, content=call.content, give_up_after=give_up
        )
        call.attempts.append(attempt)
        board.endings[attempt.reason or attempt.code] += 1
        board.made_call()
        return attempt

    # What it knows.

    def took(self, task: Any) -> None:
        """It was given a task, by a claim of either mode."""
        claims = {one.worker_id: one.claim_revision for one in task.advisory_claims}
        if task.claim_revision:
            claims[task.worker_id] = task.claim_revision
        if self.id in claims:
            self.held[task.id] = claims[self.id]
            self.board.claims.append((task.id, claims[self.id]))

    def ended(self, task_id: str) -> None:
        """It holds the task no more, or does not know."""
        claim = self.held.pop(task_id, None)
        if claim is not None:
            self.lost.append((task_id, claim))

    def _hear_of_new_ids(self) -> None:
        """Somebody may have told it which of its tasks go by other ids by now."""
        for old in self.held.keys() & self.board.renamed.keys():
            if self.rng.random() < 0.7:
                self.held[self.board.renamed[old]] = self.held.pop(old)

    def a_task(self) -> str:
        """Some task, nobody knows in which state."""
        return self.rng.choice(self.board.tasks) if self.board.tasks else "nothing"

    def a_claim(self) -> tuple[str, int]:
        """A task and the claim to show for it: mostly one's own, sometimes not."""
        rng = self.rng
        self._hear_of_new_ids()
        dice = rng.random()
        if dice < 0.05 and self.lost:
            return rng.choice(self.lost)
        if dice < 0.07 and self.board.claims:
            return rng.choice(self.board.claims)
        if not self.held:
            return self.a_task(), 0
        task_id = rng.choice(list(self.held))
        if dice < 0.09:
            return task_id, self.held[task_id] - rng.randrange(1, 5)
        if dice < 0.17:
            return task_id, 0
        return task_id, self.held[task_id]
