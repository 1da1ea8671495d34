"""How the model does verbs: what follows from each of them, and who of those in line is served."""

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from tests.coordinator_machine.claim_verbs import WAITS, claim_next
from tests.coordinator_machine.moves import Answer, Refused, move
from tests.coordinator_machine.world import Next, World

_MOVES = {
    "TASK_CREATED",
    "TASK_CLAIMED",
    "TASK_RELEASED",
    "TASK_LEASE_EXPIRED",
    "TASK_COMPLETED",
    "TASK_FAILED",
    "TASK_CANCELLED",
    "TASK_MOVED",
    "TASK_DELETED",
}
_OF_TASKS = ("TASK_", "ADVISORY_")

Verb = Callable[..., Answer]


@dataclass
class Waiter:
    """A call in line; ``key`` is the caller's."""

    key: int
    ask: Next
    until: int
    idle: bool
    """It could take nothing at all when it was looked after last."""


@dataclass
class Model:
    """A world, the line of those who wait, and the history.

    ``answered`` are calls that waited and have got an answer, or a refusal, by their key.
    """

    world: World
    line: list[Waiter] = field(default_factory=list)
    answered: dict[int, Answer | str] = field(default_factory=dict)
    events: list[list[tuple[str, str]]] = field(default_factory=list)
    """By revision, from the first on: type and subject."""

    def do(
        self, verb: Verb, *arguments: Any, key: int = 0, place: int | None = None, **named: Any
    ) -> Answer:
        """Do a verb, and what follows from it. Raises Refused, and then nothing has changed.

        ``key`` is that of the call, and ``place`` where in the line it stands, should it have to
        wait: at the end, unless it takes another's place.
        """
        answer = self._change(verb, *arguments, **named)
        if answer is WAITS:
            ask = arguments[0]
            waiter = Waiter(key, ask, self.world.now + ask.wait, self._is_idle(ask))
            self.line.insert(len(self.line) if place is None else place, waiter)
        self._serve_line()
        return answer

    def end_group(self) -> None:
        """Look after those whose time has come, once all verbs of one transaction are done."""
        self._serve_line(at_end=True)

    def deadlines(self) -> list[int]:
        """All times at which something happens by itself."""
        world = self.world
        times = world.deadlines()
        for waiter in self.line:
            times.append(waiter.until)
            rest = world.workers[waiter.ask.worker].rests_until
            if rest > world.now and not world.paused and self._has_news(waiter.ask):
                times.append(rest)
        return sorted(times)

    def _has_news(self, ask: Next) -> bool:
        """Whether there is something to tell a worker that rests, once it has rested."""
        world = self.world
        return bool(world.choice(ask)) or (world.all_done(ask.scope) and not ask.when_done)

    def _change(self, verb: Verb, *arguments: Any, **named: Any) -> Answer:
        """Do a verb as one revision, with what follows in the graph."""
        world = self.world
        world.told = []
        ready = world.ready()
        hindered = {id for id in world.tasks if world.hindered(id)}
        answer = verb(world, *arguments, **named)
        if answer is WAITS:
            return answer
        self._roll_up(hindered)
        after = world.ready()
        # The event of a task's own move says by itself that it is ready, or is not any more.
        moved = {id for type_, id in world.told if type_ in _MOVES}
        for id in after - (ready - moved):
            world.tasks[id].ready_at = world.now
        world.told += [("TASK_READY", id) for id in after - ready - moved]
        world.told += [("TASK_BLOCKED", id) for id in ready - after - moved]
        if "unblocked_task_ids" in answer.says:
            freed = sorted(id for type_, id in world.told if type_ == "TASK_READY")
            answer.says["unblocked_task_ids"] = freed
        if world.told:
            world.revision += 1
            self.events.append(sorted(world.told))
        for type_, id in world.told:
            if type_.startswith(_OF_TASKS):
                world.tasks[id].revision = world.revision
        answer.revision = world.revision
        return answer

    def _roll_up(self, hindered: set[str]) -> None:
        """An unowned parent completes when the last thing that held it back goes."""
        world = self.world
        while done := [
            world.tasks[id]
            for id in hindered
            if world.free(id) and world.children(id) and not world.hindered(id)
        ]:
            for task in done:
                if task.not_before is None and not world.is_paused(task.id):
                    task.ready_at = world.now  # for this instant it was
                move(world, task, "completed")

    def _serve_line(self, *, at_end: bool = False) -> None:
        """Nobody waits while there is something for him, and who waits longest comes first."""
        world = self.world
        (freed, world.freed), (turned, world.turned) = (world.freed, set()), (world.turned, False)
        for waiter in list(self.line):
            worker = waiter.ask.worker
            over = at_end and world.now >= waiter.until
            if waiter.idle and not (at_end or turned or worker in freed):
                continue  # its rest may be over by now, but nobody has looked
            if world.at_limit(worker) and not over:
                continue  # he is told so when the server looks after him the next time
            answer: Answer | str
            try:
                until = waiter.until if at_end else world.now + 1
                answer = self._change(claim_next, waiter.ask, until=until)
            except Refused as refused:
                answer = str(refused)
            waiter.idle = self._is_idle(waiter.ask)
            if answer is not WAITS:
                self.line.remove(waiter)
                self.answered[waiter.key] = answer

    def _is_idle(self, ask: Next) -> bool:
        world = self.world
        worker = world.workers[ask.worker]
        return bool(world.hindrance(worker, world.load(worker.id)))
