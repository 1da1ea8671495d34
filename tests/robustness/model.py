"""The graph as its history tells it: what is left when all events are applied in their order.

It is made of the images that the events carry and of the rules of the workflow file, and knows
nothing of the server's code.
"""

from collections import defaultdict
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import taskloom_server
import yaml
from taskloom import v1

from tests.robustness.recording import number_of

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


@dataclass(frozen=True)
class Workflow:
    """What the workflow file allows."""

    exits: dict[str, frozenset[str]]
    terminal: frozenset[str]
    blocking: frozenset[str]
    parked: frozenset[str]
    initial: str
    assigned: str
    claimed: str
    disconnected: str
    completed: str
    failed: str


def read_workflow(name: str = "swarm") -> Workflow:
    """The rules of a built-in workflow, as its file has them."""
    path = Path(taskloom_server.__file__).parent / "workflows" / f"{name}.yaml"
    file = yaml.safe_load(path.read_text(encoding="utf-8"))
    states, settings = file["states"], file["settings"]
    return Workflow(
        exits={state: frozenset(rules["exits"]) for state, rules in states.items()},
        terminal=frozenset(state for state, rules in states.items() if rules.get("terminal")),
        blocking=frozenset(settings["blocking_states"]),
        parked=frozenset(state for state, rules in states.items() if rules.get("parked")),
        initial=settings["initial_state"],
        assigned=settings["assign_state"],
        claimed=settings["claim_state"],
        disconnected=settings["disconnect_state"],
        completed=settings["complete_state"],
        failed=settings["fail_state"],
    )


@dataclass(slots=True)
class TaskState:
    """A task, as the latest event left it."""

    image: Any  # v1.Task
    number: int  # order of creation
    lapsed: tuple[str, int] | None = None  # worker and claim whose lease ran out
    lease_ms: int = 0  # of the claim that holds it
    lease_from: int = 0  # Unix ms: since when it runs
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

    def __init__(self, workflow: Workflow) -> None:
        self.workflow = workflow
        self.revision = 0
        self.tasks: dict[str, TaskState] = {}
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
        self.statuses: defaultdict[str, int] = defaultdict(int)  # of tasks not deleted

    def apply(self, event: Any, revision: int) -> None:
        """Let one event happen."""
        self.revision = revision
        after = event.WhichOneof("after")
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
            pauses = event.type == v1.EVENT_TYPE_PAUSED
            if not event.task_id:
                self.paused = pauses
            elif pauses:
                self.paused_tasks.add(event.task_id)
            else:
                self.paused_tasks.discard(event.task_id)

    def _apply_task(self, event: Any) -> None:
        image = event.task
        task = self.tasks.get(image.id)
        if task is None:
            task = self.tasks[image.id] = TaskState(image, len(self.tasks))
            if image.parent_id:
                self.children[image.parent_id].add(image.id)
            self.statuses[image.status] += 1
        before = task.image
        if before.parent_id != image.parent_id:
            self.children[before.parent_id].discard(image.id)
            if image.parent_id:
                self.children[image.parent_id].add(image.id)
        time = event.time.ToMilliseconds()
        self._note_claim(event, task, before, time)
        if not before.HasField("delete_time"):
            self.statuses[before.status] -= 1
        if not image.HasField("delete_time"):
            self.statuses[image.status] += 1
        task.image = image
        if image.ready and not task.deleted:
            self.ready.add(image.id)
        else:
            self.ready.discard(image.id)

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
            if not before.claim_revision or not before.HasField("lease_expire_time"):
                task.lease_from = time  # begun, or parked no more
            if task.lease_from == time or event.worker_id == image.worker_id:
                task.lease_ms = image.lease_expire_time.ToMilliseconds() - time
        advisory = {one.worker_id: one for one in image.advisory_claims}
        for worker_id in advisory.keys() ^ task.advisory.keys():
            shares = self.worker(worker_id).shares
            (shares.add if worker_id in advisory else shares.discard)(image.id)
        task.advisory = advisory
        if is_expiry(event):
            begun = before.status != self.workflow.assigned
            task.lapsed = (before.worker_id, before.claim_revision) if begun else None
        elif event.type in _MOVES:
            if event.type == v1.EVENT_TYPE_TASK_COMPLETED and task.lapsed and event.worker_id:
                self._rest(self.worker(event.worker_id), time)
            task.lapsed = None

    def _is_end_of_work(self, before: Any, after: Any) -> bool:
        """Whether a worker rests after this: when work has ended, well or not."""
        return after.status in self.workflow.terminal or after.attempts > before.attempts

    def _rest(self, worker: WorkerState, time: int) -> None:
        cool_down = worker.image.cool_down.ToMilliseconds()
        worker.rests_until = time + cool_down if cool_down else 0

    def _apply_worker(self, event: Any) -> None:
        worker = self.worker(event.worker.id)
        worker.image = event.worker
        worker.connected = event.type == v1.EVENT_TYPE_WORKER_CONNECTED
        if worker.connected:
            worker.connected_at = event.time.ToMilliseconds()
        else:
            worker.rests_until = 0

    def _apply_dependency(self, event: Any) -> None:
        one = event.dependency
        key = one.from_task_id, one.to_task_id, one.type
        if event.type == v1.EVENT_TYPE_DEPENDENCY_ADDED:
            self.dependencies.add(key)
        else:
            self.dependencies.discard(key)
        if one.type in START_BLOCKING:
            if event.type == v1.EVENT_TYPE_DEPENDENCY_ADDED:
                self.blockers[one.to_task_id].add((one.from_task_id, one.type))
                self.dependents[one.from_task_id].add(one.to_task_id)
            else:
                self.blockers[one.to_task_id].discard((one.from_task_id, one.type))
                if one.from_task_id not in {id_ for id_, _ in self.blockers[one.to_task_id]}:
                    self.dependents[one.from_task_id].discard(one.to_task_id)

    # Questions.

    def worker(self, worker_id: str) -> WorkerState:
        """The worker of this id, made up where no event told of it."""
        if worker_id not in self.workers:
            self.workers[worker_id] = WorkerState(v1.Worker(id=worker_id), connected=False)
        return self.workers[worker_id]

    def unmet_blockers(self, task_id: str) -> set[str]:
        """The tasks that hold the start of this one back."""
        return {id_ for id_, _ in self.blockers.get(task_id, ()) if self._holds_back(id_)}

    def open_children(self, task_id: str) -> set[str]:
        """The children that hold the end of this one back."""
        return {id_ for id_ in self.children.get(task_id, ()) if self._holds_back(id_)}

    def _holds_back(self, task_id: str) -> bool:
        task = self.tasks.get(task_id)
        return task is not None and not task.deleted and task.image.status in self.workflow.blocking

    def is_ready(self, task: TaskState) -> bool:
        """Whether some worker may take it, by the rules."""
        image = task.image
        return (
            image.status == self.workflow.initial
            and not image.claim_revision
            and not task.deleted
            and not image.HasField("not_before")
            and not self.unmet_blockers(task.id)
            and not self.open_children(task.id)
            and not self.is_paused(task)
        )

    def is_paused(self, task: TaskState) -> bool:
        """Whether somebody has paused the task, or one above it."""
        if not self.paused_tasks:
            return False
        return task.id in self.paused_tasks or any(
            self.is_below(task.id, above) for above in self.paused_tasks
        )

    def begun(self, worker: WorkerState) -> int:
        """How many tasks a worker holds, of those that count against its limit."""
        parked = self.workflow.parked
        held = sum(self.tasks[id_].image.status not in parked for id_ in worker.held)
        return held + len(worker.shares)

    def admits(self, worker: WorkerState, task: TaskState) -> bool:
        """Whether the worker's tags do for the task."""
        tags = set(worker.image.tags)
        wanted = task.image.wanted_tags
        return tags.issuperset(task.image.needed_tags) and (
            not wanted or not tags.isdisjoint(wanted)
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
            if self.admits(worker, task) and (not scope or self.is_below(task_id, scope)):
                yield task


def is_expiry(event: Any) -> bool:
    """Whether the event is the end of a lease: told as such, or as the failure it came to."""
    if event.type == v1.EVENT_TYPE_TASK_LEASE_EXPIRED:
        return True
    return (
        event.type == v1.EVENT_TYPE_TASK_FAILED
        and not event.worker_id
        and number_of(event.reason) is None
    )
