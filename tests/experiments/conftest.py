"""Runs to analyse: databases with the tables that taskloom writes, filled by hand or by a model.

``new_run`` gives an empty database to fill row by row, ``small_run`` one whose every figure can be
computed on paper, ``fleet`` a modelled fleet of agents as large as one likes.
"""

import heapq
import json
import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import apsw
import pytest
from taskloom_experiments import processes
from taskloom_experiments.runs import RunRecord
from taskloom_server.graph.events import EventType

from tests import forked

START = 1_800_000_000_000
"""When all runs here begin, in Unix ms."""


@pytest.fixture(autouse=True)
def _forked_children(monkeypatch: pytest.MonkeyPatch) -> None:
    """Fork what runs and measurements start. ``test_processes`` starts them as they do, and so do
    the scripts, which are processes of their own."""
    executed = processes.start

    async def start(command: Sequence[str], *, log: Path) -> Any:
        is_module = command[1:3] == ["-P", "-m"]
        return await (forked.start_child if is_module else executed)(command, log=log)

    monkeypatch.setattr(processes, "start", start)


_SCHEMA = """
CREATE TABLE tasks (number INTEGER PRIMARY KEY, id TEXT UNIQUE NOT NULL, title TEXT,
  description TEXT, status TEXT NOT NULL, phase TEXT, priority INTEGER DEFAULT 5, worker_id TEXT,
  claimed_at INTEGER, needed_tags TEXT, wanted_tags TEXT, tags TEXT, points REAL,
  time_estimate_ms INTEGER, time_actual_ms INTEGER, started_at INTEGER, completed_at INTEGER,
  current_thought TEXT, metric_0 INTEGER DEFAULT 0, metric_1 INTEGER DEFAULT 0,
  metric_2 INTEGER DEFAULT 0, metric_3 INTEGER DEFAULT 0, metric_4 INTEGER DEFAULT 0,
  metric_5 INTEGER DEFAULT 0, metric_6 INTEGER DEFAULT 0, metric_7 INTEGER DEFAULT 0,
  cost_usd REAL DEFAULT 0, deleted_at INTEGER, deleted_by TEXT, deleted_reason TEXT,
  created_at INTEGER, updated_at INTEGER, workflow TEXT, parent_id TEXT, ready_at INTEGER,
  attempts INTEGER DEFAULT 0);
CREATE TABLE task_sequence (id INTEGER PRIMARY KEY, task_id TEXT, worker_id TEXT, status TEXT,
  phase TEXT, reason TEXT, timestamp INTEGER, end_timestamp INTEGER);
CREATE TABLE workers (id TEXT PRIMARY KEY, tags TEXT, max_claims INTEGER, registered_at INTEGER,
  last_heartbeat INTEGER, disconnected_at INTEGER, workflow TEXT, last_status TEXT, last_phase TEXT,
  claim_attempts INTEGER, claims_granted INTEGER, claims_lost INTEGER);
CREATE TABLE dependencies (from_task_id TEXT, to_task_id TEXT, dep_type TEXT);
CREATE TABLE attachments (task_id TEXT, attachment_type TEXT, sequence INTEGER, name TEXT,
  mime_type TEXT, content BLOB, file_path TEXT, created_at INTEGER);
CREATE TABLE file_locks (file_path TEXT, worker_id TEXT, task_id TEXT, reason TEXT,
  locked_at INTEGER);
CREATE TABLE claim_sequence (id INTEGER PRIMARY KEY, file_path TEXT, worker_id TEXT, task_id TEXT,
  event TEXT, reason TEXT, timestamp INTEGER, end_timestamp INTEGER);
CREATE TABLE events (revision INTEGER, ordinal INTEGER, time INTEGER, type INTEGER, task_id TEXT,
  worker_id TEXT, reason TEXT, after TEXT, before TEXT, ancestors TEXT,
  PRIMARY KEY (revision, ordinal)) WITHOUT ROWID;
"""


class RunDatabase:
    """A ``tasks.db`` to fill; times are given in seconds after ``START``."""

    def __init__(self, file: Path) -> None:
        file.parent.mkdir(parents=True, exist_ok=True)
        self.file = file
        self._connection = apsw.Connection(str(file))
        self._connection.execute("PRAGMA journal_mode = WAL").fetchall()
        for statement in _SCHEMA.split(";\n"):
            self._connection.execute(statement)
        self._connection.execute("BEGIN")
        self._revision = 0

    def insert(self, table: str, **row: Any) -> None:
        """Insert a row as it stands."""
        marks = ", ".join("?" * len(row))
        self._connection.execute(
            f"INSERT INTO {table} ({', '.join(row)}) VALUES ({marks})", tuple(row.values())
        )

    def task(
        self,
        name: str,
        status: str = "completed",
        *,
        worker: str | None = None,
        created: float = 0,
        ready: float | None = None,
        started: float | None = None,
        completed: float | None = None,
        **row: Any,
    ) -> None:
        """A task with its end state; its working time is from start to end unless given."""
        if worker and started is not None and completed is not None:
            row.setdefault("time_actual_ms", round((completed - started) * 1000))
        self.insert(
            "tasks",
            id=name,
            title=name,
            status=status,
            worker_id=worker,
            created_at=at(created),
            ready_at=None if ready is None else at(ready),
            started_at=None if started is None else at(started),
            completed_at=None if completed is None else at(completed),
            **row,
        )

    def history(self, task: str, *steps: tuple[float, str | None, str | None]) -> None:
        """The transitions of a task, (second, status, worker), each closed by the next."""
        ends: list[float | None] = [step[0] for step in steps[1:]]
        for (second, status, worker), end in zip(steps, [*ends, None], strict=True):
            self.insert(
                "task_sequence",
                task_id=task,
                worker_id=worker,
                status=status,
                timestamp=at(second),
                end_timestamp=None if end is None else at(end),
            )

    def claim(self, task: str, worker: str, *, ready: float, claimed: float) -> None:
        """The event that tells of a claim, with the task as it was then."""
        self._revision += 1
        after = {"task": {"id": task, "ready_at": at(ready), "claimed_at": at(claimed)}}
        self.insert(
            "events",
            revision=self._revision,
            ordinal=0,
            time=at(claimed),
            type=EventType.TASK_CLAIMED,
            task_id=task,
            worker_id=worker,
            after=json.dumps(after),
        )

    def assigned(self, task: str, worker: str, *, ready: float, assigned: float) -> None:
        """The event that tells of an assignment, with the task as it was then."""
        self._revision += 1
        told = {"id": task, "status": "assigned", "worker_id": worker, "ready_at": at(ready)}
        self.insert(
            "events",
            revision=self._revision,
            ordinal=0,
            time=at(assigned),
            type=EventType.TASK_MOVED,
            task_id=task,
            worker_id="boss",
            after=json.dumps({"task": told}),
        )

    def connected(self, worker: str, time: float) -> None:
        """The event that tells of a worker's connection."""
        self._revision += 1
        self.insert(
            "events",
            revision=self._revision,
            ordinal=0,
            time=at(time),
            type=EventType.WORKER_CONNECTED,
            worker_id=worker,
            after="{}",
        )

    def drop_events(self) -> None:
        """Make it a database that keeps no events."""
        self._connection.execute("DROP TABLE events")

    def give_tags(self, worker: str, *tags: str) -> None:
        """Give a registered worker tags."""
        self._connection.execute(
            "UPDATE workers SET tags = ? WHERE id = ?", (json.dumps(tags), worker)
        )

    def worker(
        self,
        name: str,
        attempts: int | None = 0,
        granted: int | None = 0,
        lost: int | None = 0,
        *,
        max_claims: int = 1,
        registered: float = 0,
        left: float | None = None,
    ) -> None:
        """A registration with its claim counters."""
        self.insert(
            "workers",
            id=name,
            max_claims=max_claims,
            registered_at=at(registered),
            last_heartbeat=at(registered if left is None else left),
            disconnected_at=None if left is None else at(left),
            claim_attempts=attempts,
            claims_granted=granted,
            claims_lost=lost,
        )

    def link(self, before: str, after: str, dep_type: str = "blocks") -> None:
        """A dependency."""
        self.insert("dependencies", from_task_id=before, to_task_id=after, dep_type=dep_type)

    def mark(self, second: float, event: str, path: str, worker: str) -> None:
        """A file marked (``claimed``) or unmarked (``released``)."""
        self.insert(
            "claim_sequence", file_path=path, worker_id=worker, event=event, timestamp=at(second)
        )

    def save(self) -> Path:
        """Commit and close; return the file."""
        self._connection.execute("COMMIT")
        self._connection.close()
        return self.file


def at(second: float) -> int:
    """Unix ms of so many seconds after the start."""
    return START + round(second * 1000)


def record(**changes: Any) -> RunRecord:
    """A run's record, whole unless changed."""
    values: dict[str, Any] = {
        "name": "pull-2",
        "pull": "next",
        "agents": 2,
        "speed": 600.0,
        "seed": 7,
        "started_at": at(-1),
        "ended_at": at(91),
        "partial": False,
        "partial_reason": None,
        "template": "browser-parallel.json",
        "workflow": "swarm",
        "agent_counters": {},
        "machine": {"cpu_count": 2, "python": "3.11.4", "platform": "Linux", "sqlite": "3.54.1"},
    }
    return RunRecord(**{**values, **changes})


@pytest.fixture
def new_run(tmp_path: Path) -> Callable[..., RunDatabase]:
    """An empty run database, in a folder of its own."""
    return lambda name="run": RunDatabase(tmp_path / name / "tasks.db")


@pytest.fixture
def new_record() -> Callable[..., RunRecord]:
    """A run's record, whole unless changed."""
    return record


@pytest.fixture
def small_run(new_run: Callable[..., RunDatabase]) -> RunDatabase:
    """Two agents, four tasks and a root; not yet saved.

    w1 works a (0 to 30 s) and d (60 to 90 s), w2 works b (0 to 20 s) and c (20 to 60 s); d waits
    for a, b and c. w1 lost one claim of b to w2.
    """
    run = new_run("small")
    run.worker("w1", attempts=3, granted=2, lost=1, left=95)
    run.worker("w2", attempts=2, granted=2, lost=0, left=95)
    run.task("root", created=0, completed=90)
    run.history("root", (0, "pending", None), (90, "completed", None))
    for name, worker, ready, start, end in (
        ("a", "w1", 0, 0, 30),
        ("b", "w2", 0, 0, 20),
        ("c", "w2", 0, 20, 60),
        ("d", "w1", 60, 60, 90),
    ):
        run.task(
            name,
            worker=worker,
            ready=ready,
            started=start,
            completed=end,
            parent_id="root",
            points=2,
            cost_usd=0.25,
            metric_0=100,
            metric_1=10,
        )
        steps = ((0, "pending", None), (start, "working", worker), (end, "completed", worker))
        run.history(name, *steps)
        run.claim(name, worker, ready=ready, claimed=start)
        run.link("root", name, "contains")
    for name in "abc":
        run.link(name, "d")
    return run


@dataclass
class _Agent:
    name: str
    attempts: int = 0
    granted: int = 0
    lost: int = 0
    calls: int = 0
    empty_polls: int = 0


@dataclass
class _Modelled:
    name: str
    seconds: float
    blockers: set[str] = field(default_factory=set)
    worker: str | None = None
    ready: float | None = 0.0
    started: float | None = None
    completed: float | None = None


_Step = tuple[float, str, _Modelled | None] | None
"""What an agent does next: when, what, and with which task; None when it goes home."""


@dataclass
class _Fleet:
    """A fleet at work: what each step of an agent does, and what its next one is."""

    every: dict[str, _Modelled]
    pull: str
    luck: random.Random

    def call(self) -> float:
        return self.luck.uniform(0.01, 0.05)

    def ready(self) -> list[_Modelled]:
        return [one for one in self.every.values() if one.ready is not None and not one.worker]

    def look(self, agent: _Agent, now: float, _: _Modelled | None) -> _Step:
        agent.calls += 1
        if all(one.completed is not None for one in self.every.values()):
            return None
        if ready := self.ready():
            return now + self.call(), "claim", ready[0]
        agent.empty_polls += 1
        return now + 0.1, "look", None

    def claim(self, agent: _Agent, now: float, task: _Modelled | None) -> _Step:
        agent.calls += self.pull == "poll"
        if self.pull == "next":  # listing and claiming are one step there
            task = next(iter(self.ready()), None)
        agent.attempts += task is not None
        answered = now + self.call()
        if task is None or task.worker is not None:
            agent.lost += task is not None
            return answered, "look", None
        agent.granted += 1
        task.worker, task.started = agent.name, answered
        return answered + task.seconds, "end", task

    def end(self, agent: _Agent, now: float, task: _Modelled | None) -> _Step:
        assert task is not None
        task.completed = now
        agent.calls += 1
        for one in self.every.values():
            one.blockers.discard(task.name)
            if one.ready is None and not one.blockers:
                one.ready = now
        return now + self.call(), "look", None


def model_fleet(folder: Path, agents: int, pull: str = "next", *, tasks: int = 24) -> Path:
    """A run as a fleet would leave it: so many agents, independent tasks, one behind them all.

    A call takes 10 to 50 ms; an agent that lists may find the task gone when it claims it.
    """
    sizes = random.Random(tasks)
    work = [_Modelled(f"task-{n:02d}", sizes.lognormvariate(0.7, 0.45)) for n in range(tasks)]
    last = _Modelled("integrate", 3.0, {task.name for task in work}, ready=None)
    fleet = _Fleet({one.name: one for one in [*work, last]}, pull, random.Random(f"{agents}{pull}"))
    steps = {"look": fleet.look, "claim": fleet.claim, "end": fleet.end}
    members = [_Agent(f"agent-{number + 1}") for number in range(agents)]
    queue: list[tuple[float, int, _Agent, str, _Modelled | None]] = [
        (0.01 * number, number, agent, "look", None) for number, agent in enumerate(members)
    ]
    turn = agents
    while queue:
        now, _, agent, step, task = heapq.heappop(queue)
        if following := steps[step](agent, now, task):
            turn += 1
            heapq.heappush(queue, (following[0], turn, agent, *following[1:]))
    return _write_fleet(folder, members, list(fleet.every.values()), pull)


def _write_fleet(folder: Path, fleet: list[_Agent], tasks: list[_Modelled], pull: str) -> Path:
    run = RunDatabase(folder / "tasks.db")
    end = max(task.completed or 0 for task in tasks)
    for agent in fleet:
        run.worker(agent.name, agent.attempts, agent.granted, agent.lost, left=end + 0.1)
    run.task("root", completed=end)
    run.history("root", (-0.5, "pending", None), (end, "completed", None))
    for task in tasks:
        assert task.started is not None
        assert task.completed is not None
        run.task(
            task.name,
            worker=task.worker,
            created=-0.5,
            ready=-0.5 if task.name != "integrate" else task.ready,
            started=task.started,
            completed=task.completed,
            parent_id="root",
            points=3,
            cost_usd=0.12,
            metric_0=12_000,
            metric_1=1_800,
        )
        run.history(
            task.name,
            (-0.5, "pending", None),
            (task.started, "working", task.worker),
            (task.completed, "completed", task.worker),
        )
        ready = 0.0 if task.ready is None else task.ready
        run.claim(task.name, task.worker or "", ready=ready, claimed=task.started)
        run.link("root", task.name, "contains")
        if task.name != "integrate":
            run.link(task.name, "integrate", "follows")
    file = run.save()
    record(
        name=f"pull-{len(fleet)}",
        pull=pull,
        agents=len(fleet),
        started_at=at(-1),
        ended_at=at(end + 0.2),
        agent_counters={
            agent.name: {"calls": agent.calls, "empty_polls": agent.empty_polls} for agent in fleet
        },
    ).save(folder)
    return file


@pytest.fixture(scope="session")
def fleet(tmp_path_factory: pytest.TempPathFactory) -> Callable[..., Path]:
    """``fleet(agents, pull)``: the database of a modelled run, made once a session."""
    made: dict[tuple[int, str], Path] = {}
    base = tmp_path_factory.mktemp("fleet")

    def make(agents: int, pull: str = "next") -> Path:
        if (agents, pull) not in made:
            made[agents, pull] = model_fleet(base / f"{pull}-{agents}", agents, pull)
        return made[agents, pull]

    return make


@pytest.fixture
def reference_definition(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The project's reference definition, started from a folder that has its template."""
    file = Path(__file__).resolve().parents[3] / "shared/reference/pure-pull.yaml"
    if not file.is_file():
        pytest.skip(f"the reference is not there: {file}")
    templates = tmp_path / "experiments/templates"
    templates.mkdir(parents=True)
    (templates / "browser-parallel.json").write_text(json.dumps({}), encoding="utf-8")
    monkeypatch.chdir(tmp_path)
    return file
