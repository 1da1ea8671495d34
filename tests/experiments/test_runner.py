"""Runs as the runner makes them: real servers, real agents, and every way for them to go wrong.

What goes wrong is brought about from where the runner shows its progress: at the first sign of
work, never after a time.
"""

import asyncio
import json
import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import pytest
from taskloom_client import TaskloomError
from taskloom_experiments import observing
from taskloom_experiments.behaviour import Behaviour
from taskloom_experiments.database import open_database
from taskloom_experiments.definition import plain_definition
from taskloom_experiments.interruption import Interruption
from taskloom_experiments.planning import RunPlan, plan_runs
from taskloom_experiments.progress import Show, Standing, Teller
from taskloom_experiments.pulls import SERVER_CHOOSES
from taskloom_experiments.runner import execute_run
from taskloom_experiments.runs import RunRecord
from taskloom_experiments.serving import ServerFailed, serving
from taskloom_experiments.tables import read_tables
from taskloom_experiments.templates import read_template

from tests import forked

HOUR_MS = 3_600_000
NEVER_MS = 1_000_000 * HOUR_MS


def write_template(file: Path, estimates_ms: dict[str, int], **more: object) -> Path:
    """A template of independent tasks, and one behind them all."""
    tasks = [
        {"id": name, "title": name, "status": "pending", "time_estimate_ms": estimate, **more}
        for name, estimate in estimates_ms.items()
    ]
    first, *others = estimates_ms
    dependencies = [
        {"from_task_id": name, "to_task_id": first, "dep_type": "blocks"} for name in others
    ]
    tables = {"tasks": tasks, "dependencies": dependencies}
    file.write_text(json.dumps({"schema_version": 3, "tables": tables}))
    return file


NewPlan = Callable[..., RunPlan]


@pytest.fixture
def new_plan(tmp_path: Path) -> NewPlan:
    """A plan for a run of two agents in ``tmp_path/run``, at an hour in 0.1 s."""

    def make(
        estimates_ms: dict[str, int] | None = None, *, agents: int = 2, **more: object
    ) -> RunPlan:
        estimates_ms = estimates_ms or {"last": HOUR_MS} | {f"t{n}": HOUR_MS for n in range(5)}
        file = write_template(tmp_path / "template.json", estimates_ms, **more)
        definition = plain_definition(file, "swarm", agents)
        template = read_template(file)
        (plan,) = plan_runs(
            definition, template, tmp_path / "run", pulls=("next",), speed=36_000, flat=True
        )
        return plan

    return make


def all_changed(plan: RunPlan, **changes: object) -> RunPlan:
    """The plan, with all its agents changed alike."""
    fleet = {
        worker_id: replace(settings, **changes)  # type: ignore[arg-type]
        for worker_id, settings in plan.fleet.items()
    }
    return replace(plan, fleet=fleet)


class Watcher(Teller):
    """A teller that does something once, as soon as so many tasks are claimed."""

    def __init__(self, then: Callable[[], None] = lambda: None, *, claims: int = 1) -> None:
        super().__init__()
        self.said: list[str] = []
        self.seen: list[Standing] = []
        self._then = then
        self._claims = claims

    def say(self, sentence: str) -> None:
        """Keep it."""
        self.said.append(sentence)

    @contextmanager
    def showing(self, label: str) -> Iterator[Show]:
        """Keep what is shown, and act on it."""

        def show(standing: Standing) -> None:
            self.seen.append(standing)
            if standing.claims >= self._claims:
                self._claims = sys.maxsize
                self._then()

        yield show


@pytest.fixture(autouse=True)
def observant(monkeypatch: pytest.MonkeyPatch) -> None:
    """Look at runs more often than people need it."""
    monkeypatch.setattr(observing, "EVERY_S", 0.05)


async def run(plan: RunPlan, teller: Teller | None = None) -> RunRecord:
    """Make a run; nothing of it is there afterwards, and the record in its folder is the same."""
    record = await execute_run(plan, Interruption(), teller or Watcher())
    assert_nobody_left(plan.folder)
    assert RunRecord.load(plan.folder / "run.json") == record
    return record


def processes_of(folder: Path, runner_pid: int | None = None) -> dict[str, int]:
    """The processes of the run in this folder: its server, and its agents by worker id."""
    listed = subprocess.run(
        ["ps", "-ww", "-eo", "pid=,args="], capture_output=True, text=True, check=True
    )
    found: dict[str, int] = {}
    for line in listed.stdout.splitlines():
        pid, command = line.split(None, 1)
        command = forked.commands.get(int(pid), command)
        if f"--db {folder}/tasks.db" in command:
            found["server"] = int(pid)
        if command.rstrip().endswith(f"--parent {runner_pid or os.getpid()}"):
            found[command.split("--worker-id ")[1].split()[0]] = int(pid)
    return found


async def until(condition: Callable[[], bool]) -> None:
    """Wait for something about processes that are not this one's children: they do not tell."""
    async with asyncio.timeout(30):
        while not condition():  # noqa: ASYNC110 - there is nothing that would set an event
            await asyncio.sleep(0.02)


def assert_nobody_left(folder: Path) -> None:
    """No server and no agent of this folder is there any more."""
    assert processes_of(folder) == {}


def kill(folder: Path, who: str, number: int = signal.SIGKILL) -> None:
    """Signal a process of the run."""
    os.kill(processes_of(folder)[who], number)


def tasks_in(database: Path) -> dict[str, tuple[str, str | None]]:
    """Status and worker of each task, and the file alone is the whole database."""
    assert not database.with_name("tasks.db-wal").exists()
    with open_database(database) as connection:
        rows = connection.execute("SELECT id, status, worker_id FROM tasks").fetchall()
    return {
        str(name): (str(status), None if worker is None else str(worker))
        for name, status, worker in rows
    }


async def test_run_leaves_everything_behind(new_plan: NewPlan) -> None:
    """A whole run: all tasks done, one whole database, a snapshot, a record with all counters."""
    plan = new_plan()
    teller = Watcher()

    record = await run(plan, teller)

    assert not record.partial
    assert {status for status, _ in tasks_in(plan.folder / "tasks.db").values()} == {"completed"}
    snapshot = json.loads((plan.folder / "snapshot.json").read_text())
    assert len(snapshot["tables"]["tasks"]) == 6
    assert record.ended_at > record.started_at
    assert set(record.agent_counters) == {"agent-1", "agent-2"}
    assert sum(agent["tasks_completed"] for agent in record.agent_counters.values()) == 6
    assert {agent["exit_code"] for agent in record.agent_counters.values()} == {0}
    assert record.machine["cpu_count"]
    assert teller.seen[-1].tasks == 6
    assert sorted(file.name for file in plan.folder.iterdir()) == [
        "run.json",
        "server.log",
        "snapshot.json",
        "tasks.db",
        "tasks.db-lock",
    ]


async def test_agents_start_together(new_plan: NewPlan) -> None:
    """No agent registers before all are there to begin."""
    plan = new_plan(agents=3)

    record = await run(plan)

    with open_database(plan.folder / "tasks.db") as connection:
        rows = connection.execute("SELECT registered_at FROM workers").fetchall()
    registered = [int(str(row[0])) for row in rows]
    assert len(registered) == 3
    assert min(registered) >= record.started_at


@pytest.mark.parametrize("pull", sorted(SERVER_CHOOSES))
async def test_no_claim_is_refused_where_the_server_chooses(new_plan: NewPlan, pull: str) -> None:
    """Four agents that want the same tasks at the same time: as many claims as tasks."""
    plan = new_plan({"last": HOUR_MS} | {f"t{n}": HOUR_MS // 4 for n in range(30)}, agents=4)
    plan = all_changed(plan, pull=pull)

    record = await run(plan)

    assert not record.partial
    counters = record.agent_counters.values()
    assert sum(agent["claims_tried"] for agent in counters) == 31
    assert sum(agent["claims_refused"] for agent in counters) == 0
    with open_database(plan.folder / "tasks.db") as connection:
        workers = read_tables(connection, plan.folder / "tasks.db").workers
    assert sum(worker.claim_attempts or 0 for worker in workers) == 31
    assert sum(worker.claims_lost or 0 for worker in workers) == 0


async def test_crashed_agent_is_noted_and_replaced_by_the_rest(new_plan: NewPlan) -> None:
    """kill -9 of an agent: its task goes to another one, and the record tells of it."""
    plan = new_plan({"last": HOUR_MS} | {f"t{n}": 2 * HOUR_MS for n in range(4)})
    teller = Watcher(lambda: kill(plan.folder, "agent-1"), claims=2)

    record = await run(plan, teller)

    assert record.partial
    assert record.partial_reason == "agent-1 ended by SIGKILL; the others went on"
    assert record.agent_counters["agent-1"] == {"crashes": 1, "exit_code": -signal.SIGKILL}
    assert record.agent_counters["agent-2"]["exit_code"] == 0
    tasks = tasks_in(plan.folder / "tasks.db")
    assert {status for status, _ in tasks.values()} == {"completed"}
    assert any("agent-1 ended by SIGKILL" in sentence for sentence in teller.said)


async def test_all_agents_crashed_leaves_a_partial_run(new_plan: NewPlan) -> None:
    """With nobody left the run is over at once, and says what is open."""
    plan = new_plan({"last": HOUR_MS, "never": NEVER_MS}, agents=1)
    teller = Watcher(lambda: kill(plan.folder, "agent-1"))

    record = await run(plan, teller)

    assert record.partial_reason is not None
    assert "2 of 2 tasks are open: agent-1 ended by SIGKILL" in record.partial_reason
    assert (plan.folder / "snapshot.json").exists()


async def test_crashed_server_leaves_a_partial_run(new_plan: NewPlan) -> None:
    """kill -9 of the server: agents go, and what was answered is kept, snapshot included."""
    plan = new_plan({"last": HOUR_MS, "quick": HOUR_MS, "never": NEVER_MS})
    teller = Watcher(lambda: kill(plan.folder, "server"), claims=2)

    record = await run(plan, teller)

    assert record.partial_reason is not None
    assert record.partial_reason.startswith("the server ended by SIGKILL after ")
    assert tasks_in(plan.folder / "tasks.db")["never"][0] in ("working", "pending")
    assert (plan.folder / "snapshot.json").exists()


async def test_run_that_takes_too_long_is_given_up(new_plan: NewPlan) -> None:
    """At its timeout a run is cut short, and what was done until then is kept."""
    plan = replace(new_plan({"last": HOUR_MS, "never": NEVER_MS}), timeout_s=0.5)

    record = await run(plan)

    assert record.partial_reason == "given up after 0.5 s, its timeout"
    tasks = tasks_in(plan.folder / "tasks.db")
    assert tasks == {"last": ("pending", None), "never": ("pending", None)}


async def test_run_that_nobody_can_finish_is_noticed(
    new_plan: NewPlan, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Tasks that no agent may take do not keep a run waiting for its timeout."""
    monkeypatch.setattr(observing, "STALLED_S", 0.3)
    plan = new_plan(needed_tags=["wizard"])
    plan = all_changed(plan, tags=("worker",))

    record = await run(plan)

    assert record.partial_reason is not None
    assert record.partial_reason == (
        "6 tasks are open and nothing moves: 5 are ready, but no agent takes them; none has the "
        "needed tags wizard; 1 wait for those"
    )


async def test_run_in_which_tasks_failed_says_how_many(
    new_plan: NewPlan, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What waits for tasks that failed will never be done, and the run says so."""
    monkeypatch.setattr(observing, "STALLED_S", 0.3)
    plan = new_plan({"last": HOUR_MS, "first": HOUR_MS})
    failing = Behaviour(failure_rate=1.0)
    plan = all_changed(plan, behaviour=failing)

    record = await run(plan)

    assert record.partial_reason == (
        "1 tasks are open and nothing moves: 1 failed; 1 wait for failed ones"
    )


async def test_interrupted_run_is_kept_and_called_partial(new_plan: NewPlan) -> None:
    """A signal ends agents and server in order; tasks in work are given back."""
    plan = new_plan({"last": HOUR_MS, "never": NEVER_MS})
    interruption = Interruption()
    teller = Watcher(lambda: os.kill(os.getpid(), signal.SIGTERM))

    with interruption.listening():
        record = await execute_run(plan, interruption, teller)

    assert_nobody_left(plan.folder)
    assert interruption.signal == signal.SIGTERM
    assert record.partial_reason is not None
    assert record.partial_reason.startswith("interrupted by SIGTERM after ")
    assert tasks_in(plan.folder / "tasks.db")["never"] == ("pending", None)
    assert record.agent_counters["agent-1"]["exit_code"] == 0


async def test_who_insists_is_obeyed_at_once(new_plan: NewPlan) -> None:
    """A second signal kills what is there, and the record still calls the run partial."""
    plan = new_plan({"last": HOUR_MS, "never": NEVER_MS}, agents=1)
    interruption = Interruption()

    def stop_agent_and_signal_twice() -> None:
        kill(plan.folder, "agent-1", signal.SIGSTOP)  # it will not leave when it is asked
        os.kill(os.getpid(), signal.SIGINT)
        asyncio.get_running_loop().call_later(0.2, os.kill, os.getpid(), signal.SIGINT)

    async def interrupted() -> None:
        with interruption.listening():
            await execute_run(plan, interruption, Watcher(stop_agent_and_signal_twice))

    task = asyncio.create_task(interrupted())
    await asyncio.wait([task])

    assert task.cancelled()
    assert RunRecord.load(plan.folder / "run.json").partial
    await until(lambda: not processes_of(plan.folder))


_RUNNER = """
import asyncio, sys
from pathlib import Path
from taskloom_experiments.commands import run_command
sys.exit(run_command(None, output=Path(sys.argv[2]), speed=36000, seed=1, pull=["next"], runs=[],
    template=Path(sys.argv[1]), workflow=None, agents=2, timeout=None, charts=False))
"""


@pytest.mark.skipif(sys.platform != "linux", reason="the kernel's tether is Linux's")
async def test_killed_runner_takes_everybody_with_it(tmp_path: Path) -> None:
    """kill -9 of the runner leaves no process behind, and a record that calls the run partial."""
    template = write_template(tmp_path / "t.json", {"last": HOUR_MS, "never": NEVER_MS})
    folder = tmp_path / "run"
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-c", _RUNNER, str(template), str(folder)), start_new_session=True
    )
    try:
        await until(lambda: len(processes_of(folder, process.pid)) == 3)
    finally:
        process.kill()
        await process.wait()

    await until(lambda: not processes_of(folder, process.pid))
    record = RunRecord.load(folder / "run.json")
    assert (record.partial, record.partial_reason) == (True, "the runner ended before the run did")
    assert not (folder / "metrics.json").exists()


async def test_refused_template_ends_the_experiment(new_plan: NewPlan) -> None:
    """What the server refuses to import is refused for all runs; the record says why."""
    plan = new_plan()
    tasks = json.loads(plan.template.content)
    tasks["tables"]["dependencies"].append(
        {"from_task_id": "last", "to_task_id": "nowhere", "dep_type": "blocks"}
    )
    broken = replace(plan.template, content=json.dumps(tasks).encode())

    with pytest.raises(TaskloomError, match="nowhere"):
        await execute_run(replace(plan, template=broken), Interruption(), Watcher())

    assert_nobody_left(plan.folder)
    record = RunRecord.load(plan.folder / "run.json")
    assert record.partial
    assert "nowhere" in (record.partial_reason or "")


async def test_server_that_does_not_come_up_says_why(tmp_path: Path) -> None:
    """A file that is no taskloom database: the error has the server's own words."""
    database = tmp_path / "tasks.db"
    database.write_text("something else entirely, and long enough to be read as a header")
    with pytest.raises(ServerFailed, match=r"the server did not come up: .*tasks\.db"):
        async with serving(database, tmp_path / "server.log"):
            pytest.fail("it serves")


async def test_agents_that_cannot_be_started_are_told(new_plan: NewPlan) -> None:
    """Agents that all fail at once end the run, with what one of them said last."""
    plan = new_plan()
    plan = all_changed(plan, pull="push")

    record = await run(plan)

    assert record.partial_reason is not None
    assert "agent-1 ended with exit code 2" in record.partial_reason
    assert "pull is 'push'" in record.partial_reason
