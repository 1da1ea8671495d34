"""A model of the graph that knows no counters, events or tables; see test_readiness_model.

It works out anew, from nothing but the tasks and the dependencies there are, what the server keeps
up to date in columns.
"""

from dataclasses import dataclass, field
from typing import Any, TypeAlias

TYPES = ("blocks", "follows", "contains", "duplicate")
MAX_ATTEMPTS = 2
STEP = 1_000
"""How much time passes before each verb, in ms."""

ENDED = ("completed", "failed", "cancelled")
HELD = ("assigned", "working", "waiting")
EXITS = {
    "pending": ("assigned", "working", "cancelled"),
    "assigned": ("working", "pending", "cancelled"),
    "working": ("completed", "failed", "pending", "waiting"),
    "waiting": ("working", "completed", "failed", "pending", "cancelled"),
    "completed": ("pending",),
    "failed": ("pending",),
    "cancelled": (),
}

Verb: TypeAlias = tuple[Any, ...]
"""A verb's name and its arguments."""


class Refused(Exception):
    """What the model says a verb is refused with."""


@dataclass
class Node:
    """A task of the model."""

    number: int
    priority: int
    status: str = "pending"
    holder: str = ""
    deleted: bool = False
    attempts: int = 0
    worked_ms: int = 0
    since: int = 0
    deletion: int = 0
    """Which one: tasks that were deleted together share it."""
    deleted_at: int = 0


@dataclass
class Model:
    """Tasks and dependencies. Verbs are methods: they raise Refused, or change the model."""

    now: int = 0
    nodes: dict[str, Node] = field(default_factory=dict)
    edges: set[tuple[str, str, str]] = field(default_factory=set)
    deletions: int = 0

    # What follows from the tasks and the dependencies

    def alive(self, id: str) -> bool:
        """Whether a task has not been deleted."""
        return not self.nodes[id].deleted

    def holds_back(self, id: str) -> bool:
        """Whether what depends on a task has to wait for it."""
        return self.alive(id) and self.nodes[id].status not in ("completed", "cancelled")

    def blockers(self, id: str) -> set[str]:
        """The tasks that a task has to wait for."""
        return {
            from_
            for from_, to, type_ in self.edges
            if to == id and type_ in ("blocks", "follows") and self.holds_back(from_)
        }

    def children(self, id: str) -> set[str]:
        """The tasks right below a task."""
        return {
            to
            for from_, to, type_ in self.edges
            if from_ == id and type_ == "contains" and self.alive(to)
        }

    def open_children(self, id: str) -> set[str]:
        """Those of them that its completion has to wait for."""
        return {child for child in self.children(id) if self.holds_back(child)}

    def parent(self, id: str) -> str | None:
        """The task right above a task."""
        return next((f for f, to, type_ in self.edges if (to, type_) == (id, "contains")), None)

    def hindered(self, id: str) -> bool:
        """Whether other tasks keep a task from being ready."""
        return bool(self.blockers(id) or self.open_children(id))

    def free(self, id: str) -> bool:
        """Whether a task waits to be claimed, but for other tasks."""
        node = self.nodes[id]
        return not node.deleted and node.status == "pending"

    def ready(self) -> set[str]:
        """The tasks that can be claimed."""
        return {id for id in self.nodes if self.free(id) and not self.hindered(id)}

    def best(self) -> list[str]:
        """The same, in the order of taking."""
        return sorted(
            self.ready(), key=lambda id: (-self.nodes[id].priority, self.nodes[id].number)
        )

    def waits_for(self, id: str, other: str) -> bool:
        """Whether the end of one task waits for the end of another, or is the same."""
        seen, found = {id}, [id]
        while found:
            here = found.pop()
            for from_, to, type_ in self.edges:
                if not (self.alive(from_) and self.alive(to)) or type_ == "duplicate":
                    continue
                waiting, awaited = (from_, to) if type_ == "contains" else (to, from_)
                if waiting == here and awaited not in seen:
                    seen.add(awaited)
                    found.append(awaited)
        return other in seen

    # Verbs

    def perform(self, verb: Verb) -> set[str]:
        """Do it; the tasks that became ready by it. Raises Refused, and then nothing changed."""
        name, *arguments = verb
        ready, hindered = self.ready(), {id for id in self.nodes if self.hindered(id)}
        getattr(self, name)(*arguments)
        # An unowned parent completes when the last thing that held it back goes.
        while done := [
            id for id in hindered if self.free(id) and self.children(id) and not self.hindered(id)
        ]:
            for id in done:
                self._move(id, "completed")
        return self.ready() - ready

    def _move(self, id: str, status: str, holder: str = "") -> None:
        node = self.nodes[id]
        if node.status == "working":
            node.worked_ms += self.now - node.since
        node.status, node.holder, node.since = status, holder, self.now

    def _check_alive(self, *ids: str) -> None:
        if not all(map(self.alive, ids)):
            raise Refused("TASK_DELETED")

    def _check_holder(self, worker: str, id: str) -> None:
        self._check_alive(id)
        node = self.nodes[id]
        if node.status not in HELD or node.holder != worker:
            raise Refused("CLAIM_LOST")

    def _check_exit(self, id: str, status: str) -> None:
        if status not in EXITS[self.nodes[id].status]:
            raise Refused("ILLEGAL_TRANSITION")

    def _check_children(self, id: str) -> None:
        if self.open_children(id):
            raise Refused("CHILDREN_OPEN")

    def _check_start(self, id: str) -> None:
        if not self.nodes[id].holder:
            raise Refused("INVALID_FIELD")
        if self.nodes[id].status == "waiting":
            return  # it began before it was parked
        if self.blockers(id):
            raise Refused("DEPENDENCIES_UNMET")
        self._check_children(id)

    def create(self, id: str, priority: int, parent: str, blockers: tuple[str, ...]) -> None:
        """A task, below a parent and behind blockers."""
        if parent:
            self._check_alive(parent)
            if self.nodes[parent].status in ENDED:
                raise Refused("PARENT_ENDED")
        if id in self.nodes:
            raise Refused("TASK_EXISTS")
        self._check_alive(*blockers)
        if parent and any(self.waits_for(blocker, parent) for blocker in blockers):
            raise Refused("CYCLE")
        self.nodes[id] = Node(number=len(self.nodes), priority=priority)
        if parent:
            self.edges.add((parent, id, "contains"))
        self.edges |= {(blocker, id, "blocks") for blocker in blockers}

    def link(self, from_: str, to: str, type_: str) -> None:
        """A dependency."""
        self._check_alive(from_, to)
        if (from_, to, type_) in self.edges:
            return
        waiting, awaited = (from_, to) if type_ == "contains" else (to, from_)
        if from_ == to or (type_ != "duplicate" and self.waits_for(awaited, waiting)):
            raise Refused("CYCLE")
        if type_ == "contains":
            if self.parent(to) is not None:
                raise Refused("PARENT_EXISTS")
            if self.nodes[from_].status in ENDED:
                raise Refused("PARENT_ENDED")
        self.edges.add((from_, to, type_))

    def unlink(self, from_: str, to: str, type_: str) -> None:
        """A dependency less, or all between two tasks."""
        self.edges -= {edge for edge in self.edges if edge in _edges(from_, to, type_)}

    def claim(self, worker: str, id: str) -> None:
        """A task that is claimed by name."""
        self._check_alive(id)
        node = self.nodes[id]
        if node.status in HELD and node.holder != worker:
            raise Refused("TASK_CLAIMED")
        if node.status in ("working", "waiting"):
            return
        if node.status in ENDED:
            raise Refused("ILLEGAL_TRANSITION")
        if self.blockers(id):
            raise Refused("DEPENDENCIES_UNMET")
        self._check_children(id)
        self._move(id, "working", worker)

    def claim_next(self, worker: str) -> None:
        """The best task, claimed; or none."""
        for id in self.best()[:1]:
            self._move(id, "working", worker)

    def complete(self, worker: str, id: str) -> None:
        """The end of a task by its holder."""
        self._check_holder(worker, id)
        self._check_exit(id, "completed")
        self._check_children(id)
        self._move(id, "completed", worker)

    def fail(self, worker: str, id: str, retry: bool) -> None:
        """The same, without success; perhaps to be tried again."""
        self._check_holder(worker, id)
        self._check_exit(id, "failed")
        node = self.nodes[id]
        node.attempts += 1
        if retry and node.attempts < MAX_ATTEMPTS:
            self._move(id, "pending")
        else:
            self._move(id, "failed", worker)

    def release(self, worker: str, id: str) -> None:
        """A task that is given back."""
        self._check_holder(worker, id)
        self._move(id, "pending")

    def update(self, id: str, status: str) -> None:
        """Another status."""
        self._check_alive(id)
        node = self.nodes[id]
        if status == node.status:
            return
        self._check_exit(id, status)
        if status == "completed":
            self._check_children(id)
        if status == "working":
            self._check_start(id)
        if status == "failed":
            node.attempts += 1
        if status == "pending" and node.status not in HELD:
            node.attempts = 0
        self._move(id, status, "" if status == "pending" else node.holder)

    def assign(self, id: str, worker: str) -> None:
        """A task that is put into a worker's hands."""
        self._check_alive(id)
        node = self.nodes[id]
        if node.status in HELD:
            if node.holder != worker:
                raise Refused("TASK_CLAIMED")
            return
        self._check_exit(id, "assigned")
        self._move(id, "assigned", worker)

    def unassign(self, id: str) -> None:
        """A task that is taken out of them."""
        self._check_alive(id)
        if self.nodes[id].status in HELD:
            self._move(id, "pending")

    def delete(self, id: str, cascade: bool, force: bool) -> None:
        """A task that is gone, with those below it or without."""
        if not self.alive(id):
            return
        doomed, found = {id}, [id]
        while found:
            below = self.children(found.pop())
            doomed |= below
            found += below
        if len(doomed) > 1 and not cascade:
            raise Refused("CHILDREN_OPEN")
        if not force and any(self.nodes[each].status in HELD for each in doomed):
            raise Refused("TASK_CLAIMED")
        self.deletions += 1
        for each in doomed:
            node = self.nodes[each]
            node.deleted, node.deletion, node.deleted_at = True, self.deletions, self.now

    def restore(self, id: str, cascade: bool) -> None:
        """A task that is back again, with those that went with it or without."""
        if self.alive(id):
            return
        parent = self.parent(id)
        if parent is not None:
            self._check_alive(parent)
            ended = self.nodes[parent].status in ENDED
            if ended and self.nodes[id].status not in ("completed", "cancelled"):
                raise Refused("PARENT_ENDED")
        back, found = [id], [id]
        while found and cascade:
            here = found.pop()
            together = [
                to
                for from_, to, type_ in self.edges
                if (from_, type_) == (here, "contains")
                and self.nodes[to].deleted
                and self.nodes[to].deletion == self.nodes[id].deletion
            ]
            back += together
            found += together
        for each in back:
            self.nodes[each].deleted = False
        if any(self.in_a_cycle(each) for each in back):
            for each in back:
                self.nodes[each].deleted = True
            raise Refused("CYCLE")
        for each in back:
            node = self.nodes[each]
            if node.status == "working":
                node.worked_ms += node.deleted_at - node.since
                node.since = self.now
            if node.status in HELD:
                self._move(each, "pending")

    def in_a_cycle(self, id: str) -> bool:
        """Whether the task waits for something that waits for it."""
        return any(
            self.waits_for(awaited, id)
            for from_, to, type_ in self.edges
            if type_ != "duplicate" and self.alive(from_) and self.alive(to)
            for waiting, awaited in [(from_, to) if type_ == "contains" else (to, from_)]
            if waiting == id
        )

    def relink(self, gone: tuple[str, str, str], new: tuple[str, str, str]) -> None:
        """A dependency less and another more, or neither."""
        if gone not in self.edges:
            raise Refused("DEPENDENCY_NOT_FOUND")
        edges = set(self.edges)
        try:
            self.edges.discard(gone)
            self.link(*new)
        except Refused:
            self.edges = edges
            raise


def _edges(from_: str, to: str, type_: str) -> set[tuple[str, str, str]]:
    return {(from_, to, each) for each in ([type_] if type_ else TYPES)}
