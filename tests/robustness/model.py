"""The graph as its history tells it: what is left when all events are applied in their order.

It is made of the images that the events carry and of the rules of the workflow file, and knows
nothing of the server's code.
"""

import math
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from typing import Any

from taskloom import v1

from tests.robustness.recording import number_of
from tests.robustness.rules import Rules, Workflow

START_BLOCKING = (v1.DEPENDENCY_TYPE_BLOCKS, v1.DEPENDENCY_TYPE_FOLLOWS)
# After these the work of a lapsed claim comes too late.
_MOVES = frozenset(
    {
        v1.EVENT_TYPE_TASK_CLAIMED,
        v1.EVENT_TYPE_TASK_RELEASED,
        v1.EVENT_TYPE_TASK_COMPLETED,
        v1.EVENT_TYPE_TASK_FAILED,
        v1.EVENT_TYPE_TASK_CANCELLED,
        v1.EVENT_TYPE_TASK_MOVED,
    }
)


@dataclass(slots=True)
class TaskState:
    """A task, as the latest event left it: one and the same, whatever its id is."""

    image: Any  # v1.Task
    number: int  # order of creation
    lapsed: tuple[str, int] | None = None  # worker and claim whose lease ran out
    lease_ms: int = 0  # of the claim that holds it
    lease_from: int = 0  # Unix ms: since when it runs
    fixed_until: int = 0  # Unix ms: its end, while a budget over the task is spent
    advisory: dict[str, Any] = field(default_factory=dict)  # v1.AdvisoryClaim by worker

    @property
    def id(self) -> str:
        """The task's id."""
        return str(self.image.id)

    @property
    def claim(self) -> int:
        """The claim revision; 0 when nobody holds it."""
        return int(self.image.claim_revision)

    @property
    def holder(self) -> str:
        """Who holds it; empty when nobody does."""
        return str(self.image.worker_id) if self.image.claim_revision else ""

    @property
    def deleted(self) -> bool:
        """Whether it is deleted."""
        return bool(self.image.HasField("delete_time"))


@dataclass(slots=True)
class WorkerState:
    """A worker, as the latest event left it."""

    image: Any  # v1.Worker
    connected: bool = True
    held: set[str] = field(default_factory=set)  # exclusively
    shares: set[str] = field(default_factory=set)  # by advisory claims
    rests_until: int = 0  # Unix ms
    connected_at: int = 0  # Unix ms


class Model:
    """All tasks, workers, dependencies, marks and attachments, and whether all is paused."""

    def __init__(self, rules: Rules) -> None:
        self.rules = rules
        self.revision = 0
        self.tasks: dict[str, TaskState] = {}
        self.named: defaultdict[str, list[TaskState]] = defaultdict(list)  # at any time
        self.workers: dict[str, WorkerState] = {}
        self.children: defaultdict[str, set[str]] = defaultdict(set)
        self.dependencies: set[tuple[str, str, int]] = set()  # from, to, type
        self.blockers: defaultdict[str, set[tuple[str, int]]] = defaultdict(set)  # from, type
        self.dependents: defaultdict[str, set[str]] = defaultdict(set)
        self.marks: dict[tuple[str, str], Any] = {}  # path, worker
        self.attachments: dict[tuple[str, str, int], Any] = {}
        self.paused = False
        self.paused_tasks: set[str] = set()
        self.ready: set[str] = set()
        self.spent: set[str] = set()  # the tasks whose budgets are said to be spent
        self.statuses: Counter[str] = Counter()  # of tasks not deleted
        self.in_state: Counter[tuple[str, str]] = Counter()  # likewise, by workflow and status
        self._born = 0

    def apply(self, event: Any, revision: int) -> None:
        """Let one event happen."""
        self.revision = revision
        after = event.WhichOneof("after")
        if event.type == v1.EVENT_TYPE_TASK_RENAMED:
            self._rename(event.task_id, event.task.id)
        if after == "task":
            self._apply_task(event)
        elif after == "worker":
            self._apply_worker(event)
        elif after == "dependency":
            self._apply_dependency(event)
        elif after == "file_mark":
            key = event.file_mark.path, event.file_mark.worker_id
            if event.type == v1.EVENT_TYPE_FILE_MARKED:
                self.marks[key] = event.file_mark
            else:
                self.marks.pop(key, None)
        elif after == "attachment":
            one = event.attachment
            if event.type == v1.EVENT_TYPE_ATTACHMENT_ADDED:
                self.attachments[one.task_id, one.type, one.sequence] = one
            else:
                self.attachments.pop((one.task_id, one.type, one.sequence), None)
        elif event.type in (v1.EVENT_TYPE_PAUSED, v1.EVENT_TYPE_RESUMED):
            if not event.task_id:
                self.paused = event.type == v1.EVENT_TYPE_PAUSED
            elif event.type == v1.EVENT_TYPE_PAUSED:
                self.paused_tasks.add(event.task_id)
            else:
                self.paused_tasks.discard(event.task_id)
        elif event.type == v1.EVENT_TYPE_BUDGET_SPENT:
            self.spent.add(event.task_id)
        elif event.type == v1.EVENT_TYPE_BUDGET_FREED:
            self.spent.discard(event.task_id)
        elif event.type == v1.EVENT_TYPE_TASK_OBLITERATED:
            self._obliterate(event.task_id)

    def _apply_task(self, event: Any) -> None:
        image = event.task
        task = self.tasks.get(image.id)
        if task is None:
            self._born += 1
            task = self.tasks[image.id] = TaskState(image, self._born)
            self.named[image.id].append(task)
            if image.parent_id:
                self.children[image.parent_id].add(image.id)
            self._count(image, +1)
        before = task.image
        if before.parent_id != image.parent_id:
            self.children[before.parent_id].discard(image.id)
            if image.parent_id:
                self.children[image.parent_id].add(image.id)
        time = event.time.ToMilliseconds()
        self._note_claim(event, task, before, time)
        self._count(before, -1)
        self._count(image, +1)
        task.image = image
        if image.ready and not task.deleted:
            self.ready.add(image.id)
        else:
            self.ready.discard(image.id)

    def _count(self, image: Any, by: int) -> None:
        if not image.HasField("delete_time"):
            self.statuses[image.status] += by
            self.in_state[image.workflow, image.status] += by

    def _rename(self, old: str, new: str) -> None:
        """A task, and all that hangs on it, goes by another id."""
        task = self.tasks[new] = self.tasks.pop(old)
        self.named[new].append(task)
        by_tasks: tuple[dict[str, Any], ...] = (self.children, self.blockers, self.dependents)
        for by_task in by_tasks:
            if old in by_task:
                by_task[new] = by_task.pop(old)
        _rename_in(self.children[task.image.parent_id], old, new)
        for child in self.children.get(new, ()):  # deleted ones are not told of
            image = self.tasks[child].image = _copy(self.tasks[child].image)
            image.parent_id = new
        for blocker, _ in self.blockers.get(new, ()):
            _rename_in(self.dependents[blocker], old, new)
        for dependent in self.dependents.get(new, ()):
            edges = self.blockers[dependent]
            self.blockers[dependent] = {(new if a == old else a, type_) for a, type_ in edges}
        for edge in [edge for edge in self.dependencies if old in edge[:2]]:
            self.dependencies.remove(edge)
            a, b = (new if end == old else end for end in edge[:2])
            self.dependencies.add((a, b, edge[2]))
        for key in [key for key in self.attachments if key[0] == old]:
            one = self.attachments.pop(key)
            self.attachments[new, key[1], key[2]] = _of_task(one, new)
        for path, mark in self.marks.items():
            if mark.task_id == old:
                self.marks[path] = _of_task(mark, new)
        for ids in (self.paused_tasks, self.spent, self.ready):
            _rename_in(ids, old, new)
        for worker in self.workers.values():
            _rename_in(worker.held, old, new)
            _rename_in(worker.shares, old, new)

    def _obliterate(self, task_id: str) -> None:
        """A task that was deleted is gone, and with it what hangs on it without an event."""
        task = self.tasks.pop(task_id)
        self.children[task.image.parent_id].discard(task_id)
        for by_task in (self.children, self.blockers, self.dependents):
            by_task.pop(task_id, None)
        for key in [key for key in self.attachments if key[0] == task_id]:
            del self.attachments[key]
        for ids in (self.paused_tasks, self.spent, self.ready):
            ids.discard(task_id)

    def _note_claim(self, event: Any, task: TaskState, before: Any, time: int) -> None:
        """What the event does to who holds the task, or held it."""
        image = event.task
        if before.claim_revision and not image.claim_revision:
            holder = self.worker(before.worker_id)
            holder.held.discard(image.id)
            if event.worker_id == before.worker_id and self._is_end_of_work(before, image):
                self._rest(holder, time)
        elif image.claim_revision and not before.claim_revision:
            self.worker(image.worker_id).held.add(image.id)
        if image.claim_revision and image.HasField("lease_expire_time"):
            begins = not before.claim_revision or not before.HasField("lease_expire_time")
            until = image.lease_expire_time.ToMilliseconds()
            if self.is_over_budget(image):
                if begins or not task.fixed_until:
                    task.fixed_until = until
            elif begins or (
                task.fixed_until and (until != task.fixed_until or not event.worker_id)
            ):
                # Begun, parked no more, or within budget again. That is told by an event of its
                # own, after those of the verb that made it so, which show the lease as it was.
                task.lease_from = time
                task.fixed_until = 0
            # Within budget again it is as long as before, though the grace of a stream may end it.
            if not task.fixed_until and (begins or event.worker_id == image.worker_id):
                task.lease_ms = until - time
        else:
            task.fixed_until = 0
        advisory = {one.worker_id: one for one in image.advisory_claims}
        for worker_id in advisory.keys() ^ task.advisory.keys():
            shares = self.worker(worker_id).shares
            (shares.add if worker_id in advisory else shares.discard)(image.id)
        task.advisory = advisory
        if is_expiry(event):
            begun = before.status != self.rules.of(before).assigned
            task.lapsed = (before.worker_id, before.claim_revision) if begun else None
        elif event.type in _MOVES:
            if event.type == v1.EVENT_TYPE_TASK_COMPLETED and task.lapsed and event.worker_id:
                self._rest(self.worker(event.worker_id), time)
            task.lapsed = None

    def _is_end_of_work(self, before: Any, after: Any) -> bool:
        """Whether a worker rests after this: when work has ended, well or not."""
        return after.status in self.rules.of(after).terminal or after.attempts > before.attempts

    def _rest(self, worker: WorkerState, time: int) -> None:
        cool_down = worker.image.cool_down.ToMilliseconds()
        worker.rests_until = time + cool_down if cool_down else 0

    def _apply_worker(self, event: Any) -> None:
        worker = self.worker(event.worker.id)
        worker.image = event.worker
        if event.type == v1.EVENT_TYPE_WORKER_CONNECTED:
            worker.connected = True
            worker.connected_at = event.time.ToMilliseconds()
        elif event.type == v1.EVENT_TYPE_WORKER_DISCONNECTED:
            worker.connected = False
            worker.rests_until = 0

    def _apply_dependency(self, event: Any) -> None:
        one = event.dependency
        key = one.from_task_id, one.to_task_id, one.type
        if event.type == v1.EVENT_TYPE_DEPENDENCY_ADDED:
            self.dependencies.add(key)
        else:
            self.dependencies.discard(key)
            if one.type == v1.DEPENDENCY_TYPE_CONTAINS:
                self._leave_parent(event, one.from_task_id, one.to_task_id)
        if one.type in START_BLOCKING:
            if event.type == v1.EVENT_TYPE_DEPENDENCY_ADDED:
                self.blockers[one.to_task_id].add((one.from_task_id, one.type))
                self.dependents[one.from_task_id].add(one.to_task_id)
            else:
                self.blockers[one.to_task_id].discard((one.from_task_id, one.type))
                if one.from_task_id not in {id_ for id_, _ in self.blockers[one.to_task_id]}:
                    self.dependents[one.from_task_id].discard(one.to_task_id)

    def _leave_parent(self, event: Any, parent_id: str, child_id: str) -> None:
        """A deleted task that is taken out of its parent is not told of for itself."""
        child = self.tasks.get(child_id)
        if child is None or not child.deleted or child.image.parent_id != parent_id:
            return
        self.children[parent_id].discard(child_id)
        image = child.image = _copy(child.image)
        image.parent_id = ""
        image.revision = self.revision
        image.update_time.CopyFrom(event.time)

    # Questions.

    def worker(self, worker_id: str) -> WorkerState:
        """The worker of this id, made up where no event told of it."""
        if worker_id not in self.workers:
            self.workers[worker_id] = WorkerState(v1.Worker(id=worker_id), connected=False)
        return self.workers[worker_id]

    def workflow_of(self, task: TaskState) -> Workflow:
        """The rules that a task goes by."""
        return self.rules.of(task.image)

    def unmet_blockers(self, task_id: str) -> set[str]:
        """The tasks that hold the start of this one back."""
        return {id_ for id_, _ in self.blockers.get(task_id, ()) if self._holds_back(id_)}

    def open_children(self, task_id: str) -> set[str]:
        """The children that hold the end of this one back."""
        return {id_ for id_ in self.children.get(task_id, ()) if self._holds_back(id_)}

    def _holds_back(self, task_id: str) -> bool:
        task = self.tasks.get(task_id)
        if task is None or task.deleted:
            return False
        return task.image.status in self.workflow_of(task).blocking

    def is_ready(self, task: TaskState) -> bool:
        """Whether some worker may take it, by the rules."""
        image = task.image
        return (
            image.status == self.workflow_of(task).initial
            and not image.claim_revision
            and not task.deleted
            and not image.HasField("not_before")
            and not self.unmet_blockers(task.id)
            and not self.open_children(task.id)
            and not self.is_paused(task)
            and not self.is_over_budget(image)
        )

    def is_paused(self, task: TaskState) -> bool:
        """Whether somebody has paused the task, or one above it."""
        if not self.paused_tasks:
            return False
        return task.id in self.paused_tasks or any(
            self.is_below(task.id, above) for above in self.paused_tasks
        )

    def line(self, image: Any) -> Iterator[str]:
        """The task's id, and those of all above it."""
        yield image.id
        while image.parent_id and image.parent_id in self.tasks:
            image = self.tasks[image.parent_id].image
            yield image.id

    def is_over_budget(self, image: Any) -> bool:
        """Whether the budget of a task, or of one above it, is said to be spent."""
        return bool(self.spent) and not self.spent.isdisjoint(self.line(image))

    def spending(self, task_id: str) -> tuple[float, int]:
        """What a task and all below it, deleted ones too, cost, and how many attempts failed."""
        cost, attempts = 0.0, 0
        below = [task_id]
        while below:
            one = self.tasks[below.pop()]
            cost += one.image.metrics.cost_usd
            attempts += one.image.attempts
            below += self.children.get(one.id, ())
        return cost, attempts

    def overspends(self, task: TaskState) -> bool:
        """Whether a task and all below it have spent the budget that it has."""
        image = task.image
        cost, attempts = self.spending(task.id)
        if image.HasField("max_cost_usd") and cost >= image.max_cost_usd:
            return True
        limit = image.max_subtree_attempts
        return bool(image.HasField("max_subtree_attempts") and attempts >= limit)

    def room(self, workflow: str) -> float:
        """How many more tasks may come into the claim state of a workflow."""
        state = self.rules.workflows[workflow].claimed
        limit = self.rules.workflows[workflow].limits.get(state, math.inf)
        return limit - self.in_state[workflow, state]

    def begun(self, worker: WorkerState) -> int:
        """How many tasks a worker holds, of those that count against its limit."""
        held = [self.tasks[id_] for id_ in worker.held]
        counted = sum(task.image.status not in self.workflow_of(task).parked for task in held)
        return counted + len(worker.shares)

    def lock_holders(self, worker_id: str, paths: Iterable[str]) -> set[tuple[str, str]]:
        """Which of the locks among these paths another worker holds, and who."""
        locks = {path for path in paths if is_lock(path)}
        return {key for key in self.marks if key[0] in locks and key[1] != worker_id}

    def admits(self, worker: WorkerState, task: TaskState) -> bool:
        """Whether the worker's tags do for the task."""
        tags = set(worker.image.tags)
        wanted = task.image.wanted_tags
        return tags.issuperset(task.image.needed_tags) and (
            not wanted or not tags.isdisjoint(wanted)
        )

    def may_claim(self, worker: WorkerState, task: TaskState) -> bool:
        """Whether the worker's roles let it claim the task without its being assigned to it."""
        return all(
            rules.may(worker.image.tags, "can_claim")
            for rules in (self.rules.of(worker.image), self.workflow_of(task))
        )

    def is_below(self, task_id: str, ancestor: str) -> bool:
        """Whether a task is a descendant of another."""
        task = self.tasks.get(task_id)
        while task is not None and task.image.parent_id:
            if task.image.parent_id == ancestor:
                return True
            task = self.tasks.get(task.image.parent_id)
        return False

    def takable(self, worker: WorkerState, scope: str) -> Iterable[TaskState]:
        """The ready tasks that the worker's tags do for, in no order."""
        for task_id in self.ready:
            task = self.tasks[task_id]
            is_below = not scope or self.is_below(task_id, scope)
            if is_below and self.admits(worker, task) and self.may_claim(worker, task):
                yield task


def is_lock(path: str) -> bool:
    """Whether a path is no file but a lock."""
    return path.startswith("lock:")


def _rename_in(ids: set[str], old: str, new: str) -> None:
    if old in ids:
        ids.remove(old)
        ids.add(new)


def _of_task(one: Any, task_id: str) -> Any:
    """A mark or an attachment, as that of another task."""
    renamed = _copy(one)
    renamed.task_id = task_id
    return renamed


def _copy(one: Any) -> Any:
    copied = type(one)()
    copied.CopyFrom(one)
    return copied


def is_expiry(event: Any) -> bool:
    """Whether the event is the end of a lease: told as such, or as the failure it came to."""
    if event.type == v1.EVENT_TYPE_TASK_LEASE_EXPIRED:
        return True
    return (
        event.type == v1.EVENT_TYPE_TASK_FAILED
        and not event.worker_id
        and number_of(event.reason) is None
    )
