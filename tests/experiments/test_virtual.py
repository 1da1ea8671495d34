"""The simulation: its loop, its runs, which are like those of processes, and made templates."""

import asyncio
import contextlib
import json
import os
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

import apsw
import pytest
import yaml
from taskloom_experiments.analysis import Run, analyse_run
from taskloom_experiments.commands import run_command, template_command
from taskloom_experiments.definition import definition_for_comparison
from taskloom_experiments.made_templates import make_template
from taskloom_experiments.pulls import PULLS
from taskloom_experiments.runs import RunRecord
from taskloom_experiments.virtual.loop import VirtualClock, VirtualLoop
from taskloom_experiments.virtual.run import EPOCH
from taskloom_server.graph.events import EventType

Answer = TypeVar("Answer")

QUARTER_MS = 900_000
_CHANCE = {"requests", "schema_migration", "system"}  # ids that clients made up, and dates


def virtually(main: Callable[[], Any]) -> Any:
    """The result of a coroutine on a loop whose time leaps."""
    with asyncio.Runner(loop_factory=VirtualLoop) as runner:
        return runner.run(main())


def write_template(file: Path, tasks: int, estimate_ms: int = QUARTER_MS) -> Path:
    """Independent tasks of one size, and one behind them all."""
    rows = [
        {"id": f"task-{n:02}", "title": "A task", "status": "pending", "time_estimate_ms": size}
        for n, size in enumerate([estimate_ms] * (tasks - 1) + [estimate_ms // 4])
    ]
    last = rows[-1]["id"]
    edges = [
        {"from_task_id": row["id"], "to_task_id": last, "dep_type": "blocks"} for row in rows[:-1]
    ]
    tables = {"tasks": rows, "dependencies": edges}
    file.write_text(json.dumps({"schema_version": 3, "tables": tables}))
    return file


def make(template: Path, output: Path, *, agents: int = 4, **words: Any) -> int:
    """Run a template as the command line does, simulated unless told otherwise."""
    given = {"simulate": True, "pull": ["next"], "speed": None, "timeout": None, **words}
    return run_command(
        None,
        output=output,
        seed=1,
        runs=(),
        template=template,
        workflow=None,
        agents=agents,
        charts=False,
        **given,
    )


def measured(folder: Path) -> Run:
    """The figures of a run."""
    return analyse_run(folder / "tasks.db", definition_for_comparison())


def contents(database: Path) -> dict[str, list[Any]]:
    """The rows of all tables that are not chance."""
    with contextlib.closing(apsw.Connection(str(database))) as connection:
        tables = [
            name
            for (name,) in connection.execute("SELECT name FROM sqlite_master WHERE type = 'table'")
            if name not in _CHANCE and not name.startswith("task_search")
        ]
        return {name: connection.execute(f'SELECT * FROM "{name}"').fetchall() for name in tables}


# The loop


def test_a_day_passes_at_once() -> None:
    """Sleeping takes no time, and everybody wakes in order at the time that he asked for."""

    async def main() -> list[tuple[str, float]]:
        woken: list[tuple[str, float]] = []

        async def sleep(name: str, seconds: float) -> None:
            await asyncio.sleep(seconds)
            woken.append((name, asyncio.get_running_loop().time()))

        await asyncio.gather(sleep("late", 86_400), sleep("early", 0.001), sleep("noon", 43_200))
        return woken

    began = time.monotonic()
    woken = virtually(main)
    assert [name for name, _ in woken] == ["early", "noon", "late"]
    assert [at for _, at in woken] == pytest.approx([0.001, 43_200, 86_400])
    assert time.monotonic() - began < 5


def test_timeouts_are_of_the_virtual_time() -> None:
    """What is late by that time is cut short then."""

    async def main() -> float:
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(3600):
                await asyncio.Event().wait()
        return asyncio.get_running_loop().time()

    assert virtually(main) == pytest.approx(3600)


def test_threads_are_not_started() -> None:
    """What would run beside runs at once, on the thread of the loop; what it raises is raised."""

    async def main() -> tuple[int, int, float]:
        import threading

        with pytest.raises(ZeroDivisionError):
            await asyncio.to_thread(lambda: 1 // 0)
        beside = await asyncio.to_thread(threading.get_ident)
        return beside, threading.get_ident(), asyncio.get_running_loop().time()

    beside, here, now = virtually(main)
    assert (beside, now) == (here, 0)


def test_the_clock_tells_the_loops_time() -> None:
    """A server's clock begins at its epoch and goes with the loop."""

    async def main() -> tuple[int, int]:
        loop = asyncio.get_running_loop()
        assert isinstance(loop, VirtualLoop)
        clock = VirtualClock(loop, 1_000_000)
        await clock.until(1_000_007)
        seven = clock.now()
        await asyncio.sleep(0.5)
        return seven, clock.now()

    assert virtually(main) == (1_000_007, 1_000_507)


# Runs


@pytest.mark.parametrize("pull", PULLS)
def test_a_simulated_run_is_complete_and_says_what_it_is(tmp_path: Path, pull: str) -> None:
    """By each way of pulling all tasks end, in their true time, and all files are there."""
    template = write_template(tmp_path / "template.json", 9)
    began = time.monotonic()
    assert make(template, tmp_path / "run", pull=[pull], agents=3) == 0
    assert time.monotonic() - began < 60

    folder = tmp_path / "run"
    record = RunRecord.load(folder / "run.json")
    assert not record.partial
    assert record.simulated["served"] > 9 * 4
    assert record.speed == 1
    assert 2.5 * QUARTER_MS < record.ended_at - record.started_at < 6 * QUARTER_MS
    assert (folder / "snapshot.json").is_file()
    assert "simulat" in (folder / "report.md").read_text()
    run = measured(folder)
    assert run.figures["completed_count"] == 9
    assert set(record.agent_counters) == {"agent-1", "agent-2", "agent-3"}


def test_the_same_seed_makes_the_same_database(tmp_path: Path) -> None:
    """Two simulations of one plan agree in every row, times and all."""
    template = write_template(tmp_path / "template.json", 9)
    for name in ("a", "b"):
        assert make(template, tmp_path / name, pull=["poll"], speed=3600) == 0
    one, other = contents(tmp_path / "a/tasks.db"), contents(tmp_path / "b/tasks.db")
    assert one["tasks"]
    assert one == other
    snapshots = [(tmp_path / name / "snapshot.json").read_bytes() for name in "ab"]
    assert snapshots[0] == snapshots[1]


def test_agents_get_in_each_others_way_as_they_do(tmp_path: Path) -> None:
    """Who lists and then claims is refused where another was quicker, and nobody by next."""
    template = write_template(tmp_path / "template.json", 24)
    for pull in ("poll", "next"):
        make(template, tmp_path / pull, pull=[pull], agents=8, speed=3600)
    refused = {pull: measured(tmp_path / pull).figures["claims_lost"] for pull in ("poll", "next")}
    assert refused["next"] == 0
    assert refused["poll"] >= 4


def test_a_run_that_takes_too_long_is_given_up(tmp_path: Path) -> None:
    """The timeout is of the virtual time, too, and what was done until then is kept."""
    template = write_template(tmp_path / "template.json", 9)
    assert make(template, tmp_path / "run", agents=1, timeout=3_000) == 3
    record = RunRecord.load(tmp_path / "run/run.json")
    assert record.partial_reason == "given up after 3000 s, its timeout"
    assert record.ended_at - record.started_at == pytest.approx(3_000_000, abs=10)
    assert 2 <= measured(tmp_path / "run").figures["completed_count"] <= 4
    assert (tmp_path / "run/snapshot.json").is_file()


def test_a_template_that_is_refused_is_told(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """The server's own words come out, and the record says them as well."""
    template = write_template(tmp_path / "template.json", 3)
    content = json.loads(template.read_text())
    content["tables"]["dependencies"].append(
        {"from_task_id": "task-02", "to_task_id": "task-00", "dep_type": "blocks"}
    )
    template.write_text(json.dumps(content))
    assert make(template, tmp_path / "run") == 2
    assert "CYCLE" in capsys.readouterr().err
    assert "CYCLE" in (RunRecord.load(tmp_path / "run/run.json").partial_reason or "")


_BUSY = 4
"""From how many who want to run, for each core, processes are not what is measured. The tests
themselves make two."""

_ALIKE: dict[str, tuple[dict[str, Any], float]] = {
    "pull": ({"pull": "next", "agents": 4}, 0.10),
    "push": (
        {"mode": "push", "agents": 3, "coordinator": {"notice_s": 10, "decision_s": 30}},
        0.10,
    ),
    "hybrid": (
        {
            "mode": "hybrid",
            "agents": 3,
            "coordinator": {"decision_s": 30},
            "decomposition": {"parts": 2, "decision_s": 60},
        },
        0.15,
    ),
    "crash": (
        {
            "pull": "stream",
            "groups": [
                {"name": "frail", "crash_at": 1200, "restart_after": 600},
                {"name": "sturdy", "count": 2},
            ],
        },
        0.10,
    ),
}
"""A small case of each mode, and how far its two ways may be apart: docs/simulation.md."""


@pytest.mark.parametrize("mode", _ALIKE)
def test_simulation_and_processes_agree(tmp_path: Path, mode: str) -> None:
    """One case made both ways: the same work, as evenly spread, in about the same time.

    What else a machine has to do only makes processes slower, so of five tries the best counts; and
    one that has far too much to do tells nothing.
    """
    case, tolerance = _ALIKE[mode]
    write_template(tmp_path / "template.json", 7, estimate_ms=3_600_000)
    file = write_definition(tmp_path, [{"name": "run", **case}])
    assert make_all(file, tmp_path / "simulated", speed=3600) == 0
    simulated = measured(tmp_path / "simulated/run").figures
    real: dict[str, float] = {}
    for _ in range(5):
        assert make_all(file, tmp_path / "real", speed=3600, simulate=False) == 0
        figures = dict(measured(tmp_path / "real/run").figures)
        real = min(real or figures, figures, key=lambda one: one["makespan_ms"])
        if real["makespan_ms"] == pytest.approx(simulated["makespan_ms"], rel=tolerance):
            break
    else:
        load, cores = os.getloadavg()[0], os.cpu_count() or 1
        if load > _BUSY * cores:
            pytest.skip(f"the machine has other work: its load is {load:.0f}, on {cores} cores")
    for figure in ("makespan_ms", "tasks_per_hour", "simulated_tasks_per_hour"):
        assert simulated[figure] == pytest.approx(real[figure], rel=tolerance), figure
    for figure in ("completed_by_agents", "agent_count", "cost_usd", "rework_rate"):
        assert simulated[figure] == pytest.approx(real[figure]), figure
    for figure in ("gini_coefficient", "idle_time_ratio"):
        assert simulated[figure] == pytest.approx(real[figure], abs=0.1), figure
    if mode != "hybrid":  # whose helpers race, both ways
        assert simulated["claims_lost"] == real["claims_lost"] == 0


def write_definition(folder: Path, runs: list[dict[str, Any]], **more: Any) -> Path:
    """A definition of these runs of the template that is in the folder."""
    content = {
        "experiment": {"name": "runs"},
        "workflow": "swarm",
        "template": "template.json",
        "runs": runs,
        **more,
    }
    file = folder / "runs.yaml"
    file.write_text(yaml.safe_dump(content))
    return file


def make_all(file: Path, output: Path, *, speed: float | None = None, simulate: bool = True) -> int:
    """Make the runs of a definition as the command line does."""
    return run_command(
        file,
        output=output,
        speed=speed,
        seed=1,
        pull=(),
        runs=(),
        template=None,
        workflow=None,
        agents=None,
        timeout=None,
        charts=False,
        simulate=simulate,
    )


def write_modes(folder: Path) -> Path:
    """Push, hybrid with tasks in store, and agents that are killed and come back."""
    write_template(folder / "template.json", 13)
    killed = {"crash_at": 300, "restart_after": 600, "lease_s": 300}
    runs = [
        {"name": "push", "mode": "push", "agents": 3, "coordinator": {"decision_s": 20}},
        {
            "name": "hybrid",
            "mode": "hybrid",
            "agents": 3,
            "coordinator": {"decision_s": 20, "max_backlog": 2},
            "decomposition": {"parts": 2, "decision_s": 30},
        },
        {"name": "killed", "pull": "stream", "agents": 3, "agent_config": killed},
        {
            "name": "back",
            "mode": "hybrid",
            "agents": 2,
            "agent_config": {**killed, "restart_after": 60},
            "coordinator": {},
        },
    ]
    return write_definition(folder, runs, simulation={"call_s": 0.01})


def test_all_modes_and_crashes_are_simulated(tmp_path: Path) -> None:
    """A coordinator decides in virtual time; who is killed loses its task by its lease alone.

    It comes back at its moment, and has cost a task a second attempt, also where it is back before
    its lease has ended.
    """
    assert make_all(write_modes(tmp_path), tmp_path / "results") == 0
    records = {
        name: RunRecord.load(tmp_path / "results" / name / "run.json")
        for name in ("push", "hybrid", "killed", "back")
    }
    assert {record.simulated["call_s"] for record in records.values()} == {0.01}
    assert "coordinator" in records["push"].agent_counters
    assert measured(tmp_path / "results/push").figures["claims_lost"] == 0
    assert measured(tmp_path / "results/hybrid").figures["total_count"] > 13 * 2
    assert [c["crashes"] for c in records["killed"].agent_counters.values()] == [1, 1, 1]
    rows = contents(tmp_path / "results/killed/tasks.db")
    assert measured(tmp_path / "results/killed").figures["completed_by_agents"] == 13
    assert any(row[3] == EventType.TASK_LEASE_EXPIRED for row in rows["events"])
    came = [row[2] - EPOCH for row in rows["events"] if row[3] == EventType.WORKER_CONNECTED]
    assert [back for back in came if back > 1_000] == pytest.approx([900_000] * 3, abs=100)
    assert measured(tmp_path / "results/push").figures["rework_rate"] == 0
    assert measured(tmp_path / "results/killed").figures["rework_rate"] == 3 / 13
    rows = contents(tmp_path / "results/back/tasks.db")
    assert not any(row[3] == EventType.TASK_LEASE_EXPIRED for row in rows["events"])
    assert measured(tmp_path / "results/back").figures["rework_rate"] == 2 / (13 * 3)


# Templates that are made up


@pytest.mark.parametrize(("shape", "waiting"), [("flat", 0), ("phased", 75), ("chains", 90)])
def test_a_made_template_has_so_many_tasks(shape: str, waiting: int) -> None:
    """A hundred to be worked, of which as many wait for another as the shape says."""
    tables = json.loads(make_template(100, shape, 1))["tables"]
    assert sum("time_estimate_ms" in row for row in tables["tasks"]) == 100
    kinds = [edge["dep_type"] for edge in tables["dependencies"]]
    assert (kinds.count("blocks"), kinds.count("contains")) == (waiting, 101)
    assert make_template(100, shape, 1) == make_template(100, shape, 1)
    assert make_template(100, shape, 1) != make_template(100, shape, 2)


def test_a_made_template_can_be_run(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """What the command writes, gzipped, a server takes, and agents work it to its end."""
    file = tmp_path / "made.json.gz"
    assert template_command(40, "phased", 3, file) == 0
    assert "40 tasks" in capsys.readouterr().out
    assert make(file, tmp_path / "run", agents=5) == 0
    figures = measured(tmp_path / "run").figures
    assert (figures["completed_by_agents"], figures["total_count"]) == (40, 42)


@pytest.mark.parametrize(
    ("tasks", "shape", "said"),
    [(0, "flat", "1 to 1,000,000"), (10**7, "flat", "1 to 1,000,000"), (5, "round", "'round'")],
)
def test_a_template_that_cannot_be_made_is_refused(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], tasks: int, shape: str, said: str
) -> None:
    """No tasks, too many, an unknown shape: one sentence, and no file."""
    assert template_command(tasks, shape, 1, tmp_path / "made.json") == 2
    assert said in capsys.readouterr().err
    assert not (tmp_path / "made.json").exists()


def test_a_template_goes_where_it_can_be_written(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """A folder that is not there is told."""
    assert template_command(5, "flat", 1, tmp_path / "nowhere/made.json") == 2
    assert "nowhere/made.json: cannot be written" in capsys.readouterr().err
