"""Small runs of the scenarios of ``taskloom load``: all that they promise to tell is there.

What the figures come to is not looked at, since that is the machine's as much as the server's.
"""

import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from taskloom import v1
from taskloom_client import Client
from taskloom_experiments.load import rates
from taskloom_experiments.load.calls import (
    OPERATIONS,
    CallSettings,
    measure_agents,
    measure_calls,
    measure_interceptors,
)
from taskloom_experiments.load.fanout import FanOutSettings, measure_fanout
from taskloom_experiments.load.generators import LoadFailed, generating
from taskloom_experiments.load.graphs import GATE, Graph, lay_out
from taskloom_experiments.load.measured import Measured
from taskloom_experiments.load.orders import Order
from taskloom_experiments.load.rates import RateSettings, measure_rates
from taskloom_experiments.load.serving import DATABASE, serving
from taskloom_experiments.load.sizes import SizeSettings, measure_sizes
from taskloom_experiments.load.startup import StartSettings, measure_start
from taskloom_experiments.load.store import (
    DependentsSettings,
    StoreSettings,
    measure_dependents,
    measure_store,
)
from taskloom_experiments.load.watched import WatchedSettings, measure_watched

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="processes are read from /proc")

# Each agent calls at least once in a period, however short that is.
BRIEF = {"rounds": 1, "seconds": 0.05}


@pytest.fixture(scope="module")
def kept(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Where graphs are kept, so that each is made once."""
    return tmp_path_factory.mktemp("graphs")


def _figures(measured: Measured) -> dict[str, float]:
    return {figure.name: figure.value for figure in measured.figures}


# Graphs


@pytest.mark.parametrize(
    ("graph", "ready"),
    [
        (Graph(100), 100),
        (Graph(100, ready=0.1, requirements=7), 10),
        (Graph(100, ready=0.1, shape="chains"), 10),
        (Graph(100, ready=0.9, shape="fan-in"), 90),
    ],
    ids=lambda value: getattr(value, "name", str(value)),
)
async def test_graph_is_what_the_server_takes_for_one(
    graph: Graph, ready: int, kept: Path, tmp_path: Path, start_server: Callable[..., Any]
) -> None:
    """As many tasks are there and ready as asked for, and all that can be done can be done."""
    await lay_out(graph, kept, tmp_path)
    async with (
        start_server(db=tmp_path / DATABASE) as server,
        Client(server.address) as client,
    ):
        status = await client.admin.GetStatus(v1.GetStatusRequest())
        assert sum(status.tasks_by_status.values()) == graph.tasks + 1
        gate = (await client.tasks.GetTask(v1.GetTaskRequest(task_id=GATE))).task
        assert status.ready_tasks == ready + 1  # with the gate
        assert gate.status == "pending"
        await client.workers.Connect(
            v1.ConnectRequest(worker_id="w", tags=graph.tags, max_claims=1_000)
        )
        done = 0
        while True:
            answer = await client.claims.ClaimNextTask(
                v1.ClaimNextTaskRequest(worker_id="w", max_tasks=100)
            )
            if not answer.tasks:
                break
            for task in answer.tasks:
                await client.claims.CompleteTask(
                    v1.CompleteTaskRequest(worker_id="w", task_id=task.id)
                )
                done += 1
        expected = {"flat": ready, "chains": graph.tasks, "fan-in": ready + 1}
        assert done == expected[graph.shape]


def test_too_many_requirements_are_refused() -> None:
    """A worker cannot have the tags for any number of pairs."""
    with pytest.raises(ValueError, match="2016 pairs"):
        _ = Graph(10, requirements=3_000).pairs


# Closed loop, open loop


@pytest.mark.parametrize("operation", OPERATIONS)
async def test_each_operation_is_measured_beside_the_noop(
    operation: str, kept: Path, tmp_path: Path
) -> None:
    """Each gets as far as a figure, and the latencies of its calls stand beside the no-op's."""
    settings = CallSettings(operation, agents=4, tasks=5_000, processes=1, **BRIEF)  # type: ignore[arg-type]
    measured = await measure_calls(settings, tmp_path, kept)

    calls = {
        "claim": {"ClaimNextTask", "CompleteTask"},
        "work": {"next task"},
        "choose": {"ListTasks", "ClaimTask", "CompleteTask"},
        "create": {"CreateTask"},
        "update": {"UpdateTask"},
    }
    assert set(measured.latencies) == {"no-op", *calls[operation]}
    assert all(figure.value > 0 for figure in measured.figures)


async def test_interceptors_are_measured_against_a_bare_server(kept: Path, tmp_path: Path) -> None:
    """The same process answers both."""
    settings = CallSettings("noop", agents=4, processes=1, **BRIEF)  # type: ignore[arg-type]
    measured = await measure_interceptors(settings, tmp_path, kept)

    assert set(measured.latencies) == {"no-op", "no-op, bare"}
    assert _figures(measured)["server CPU / on a bare server"] > 0


async def test_agents_are_counted_up(kept: Path, tmp_path: Path) -> None:
    """There is a point of each curve for each number of agents."""
    settings = CallSettings(agents=5, tasks=5_000, **BRIEF)  # type: ignore[arg-type]
    measured = await measure_agents(settings, tmp_path, kept)

    assert [[x for x, _ in curve.points] for curve in measured.curves] == [[1, 4, 5]] * 2


async def test_an_order_for_more_than_there_is_fails(kept: Path, tmp_path: Path) -> None:
    """A graph that runs out of tasks is no measurement, and the sentence says what to do."""
    graph = Graph(100, ready=0.1, requirements=7)
    await lay_out(graph, kept, tmp_path)
    async with (
        serving(tmp_path) as server,
        generating(server, tmp_path, workers=2, tags=graph.tags) as generators,
    ):
        for loop in (Order("claim", 10, 2), Order("work", 10, 2), Order("claim", 10, 2, 1_000)):
            with pytest.raises(LoadFailed, match="ran out of ready tasks; give it more"):
                await generators.carry_out(loop)


async def test_any_ready_task_is_ready(kept: Path, tmp_path: Path) -> None:
    """A claim of any ready task names one that is, so that one worker alone is never refused."""
    graph = Graph(100, ready=0.1)
    await lay_out(graph, kept, tmp_path)
    async with (
        serving(tmp_path) as server,
        generating(
            server, tmp_path, workers=1, tags=graph.tags, tasks=graph.tasks, ready=graph.ready
        ) as generators,
    ):
        period = await generators.carry_out(Order("claim-any", 0.2, 1))
    assert period.count > 0
    assert period.lost == 0


async def test_sessions_are_added_up(kept: Path, tmp_path: Path) -> None:
    """All that all streams completed is counted: as many as were assigned on any of them."""
    await lay_out(Graph(5_000), kept, tmp_path)
    async with (
        serving(tmp_path) as server,
        generating(server, tmp_path, workers=4, tags=Graph(1).tags) as generators,
    ):
        period = await generators.carry_out(Order("work", 0.3, 4))
    assert period.count == len(period.latencies["next task"]) > 4


async def test_open_loop_charges_for_the_wait(kept: Path, tmp_path: Path) -> None:
    """While the server stands still, all who were to call are late by the time they had to wait."""
    await lay_out(Graph(1_000), kept, tmp_path)
    async with (
        serving(tmp_path) as server,
        generating(server, tmp_path, workers=2, number=1) as generators,
    ):
        server.process.send_signal(signal.SIGSTOP)
        try:
            period = await generators.carry_out(Order("noop", 0.5, 2, rate=200))
        finally:
            server.process.send_signal(signal.SIGCONT)
        assert period.in_time == 0
        assert period.unfinished > 50  # of 100, at random
        freed = await generators.carry_out(Order("noop", 0.5, 2, rate=200))
        assert freed.count > 50
        assert freed.unfinished == 0


async def test_rates_end_at_a_knee(
    kept: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The knee is one of the rates, or it is said that the machine does not keep up the least."""
    monkeypatch.setattr(rates, "SHARES", (0.2, 0.5, 1.0, 2.0))  # four are a curve, too
    settings = RateSettings(agents=4, tasks=5_000, rounds=1, seconds=0.2, processes=1)
    try:
        measured = await measure_rates(settings, tmp_path, kept)
    except LoadFailed as busy:
        assert "were kept up" in str(busy)  # noqa: PT017 - either is right, by the machine's mood
        return
    figures = _figures(measured)
    *curves, knee = measured.curves
    assert len(curves) == 6
    assert knee.points[0][0] == figures["knee"]
    assert figures["knee"] in [rate for rate, _ in curves[0].points]


# Other scenarios


async def test_sizes_are_compared_with_the_first(kept: Path, tmp_path: Path) -> None:
    """Each operation has a figure against the smallest graph, and a curve."""
    graphs = {float(tasks): Graph(tasks) for tasks in (100, 1_000)}
    settings = SizeSettings("tasks", graphs, bars={"turn": 1.15}, agents=4, processes=1, **BRIEF)  # type: ignore[arg-type]
    measured = await measure_sizes(settings, tmp_path, kept)

    against = [figure for figure in measured.figures if "1,000 against 100" in figure.name]
    assert [figure.bar for figure in against] == [1.15, None, None]
    assert [len(curve.points) for curve in measured.curves] == [2, 2, 2]


async def test_start_is_measured_to_the_first_answer(kept: Path, tmp_path: Path) -> None:
    """The database is opened again and again, and each time the server answers."""
    measured = await measure_start(StartSettings(tasks=100, rounds=2), tmp_path, kept)

    assert _figures(measured)["to the first answered call"] > 0


@pytest.mark.parametrize(("operation", "way"), [("claim", "watch, idle"), ("mixed", "watch, part")])
async def test_watched_servers_are_compared_with_unwatched(
    operation: str, way: str, kept: Path, tmp_path: Path
) -> None:
    """Both servers do the same, and only one of them has watches."""
    settings = WatchedSettings(
        operation,
        way,
        watches=5,
        agents=4,
        tasks=5_000,
        processes=1,
        **BRIEF,  # type: ignore[arg-type]
    )
    measured = await measure_watched(settings, tmp_path, kept)

    figures = _figures(measured)
    assert figures["throughput / without"] > 0
    assert {"with watches, throughput", "without, throughput"} <= figures.keys()


async def test_fanout_reaches_all(kept: Path, tmp_path: Path) -> None:
    """Every event and every message is received by all who listen, which the samples count."""
    settings = FanOutSettings((1, 5), rounds=2, events=3, processes=1)
    measured = await measure_fanout(settings, tmp_path, kept)

    assert {name: one.count for name, one in measured.latencies.items()} == {
        f"{what}, {number} have it": 6 for what in ("event", "no-op message") for number in (1, 5)
    }


async def test_store_does_what_its_statements_do(kept: Path, tmp_path: Path) -> None:
    """The raw statements lead to the same revision, which is checked where they are run."""
    settings = StoreSettings(agents=4, tasks=1_000, groups=3, rounds=2)
    measured = await measure_store(settings, tmp_path, kept)

    assert _figures(measured)["throughput / the same statements raw"] > 0
    assert _figures(measured)["statements of a pair"] > 10


async def test_dependents_are_all_freed(kept: Path, tmp_path: Path) -> None:
    """The completion frees as many as there are, which is checked where it is measured."""
    measured = await measure_dependents(DependentsSettings(300, rounds=1), tmp_path, kept)

    assert _figures(measured)["time / their updates in raw SQL"] > 0


# The command


@pytest.fixture
def started(tmp_path: Path) -> Iterator["subprocess.Popen[str]"]:
    """A measurement that has begun, and would take a quarter of an hour."""
    command = [
        *(sys.executable, "-m", "taskloom_experiments.load", "interceptors", "claim"),
        *("--rounds", "1", "--seconds", "0.05", "--tasks", "1000", "--output", str(tmp_path)),
        *("--agents", "2"),
    ]
    process = subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, start_new_session=True
    )
    yield process
    if process.poll() is None:
        process.kill()
    process.communicate()


def test_interrupted_load_leaves_a_report_and_no_processes(
    started: "subprocess.Popen[str]", tmp_path: Path
) -> None:
    """SIGINT after the first scenario: its figures are told, the exit code is 130, all is gone."""
    assert started.stderr is not None
    assert "measured in" in started.stderr.readline()
    started.send_signal(signal.SIGINT)
    out, err = started.communicate(timeout=60)

    assert started.returncode == 130
    assert "interrupted by SIGINT" in err
    assert "no-op through all interceptors" in out
    assert sorted(file.name for file in tmp_path.iterdir()) == ["bench.json", "bench.md", "graphs"]
    assert not _whose_command_names(tmp_path)


def _whose_command_names(folder: Path) -> list[str]:
    found = []
    for process in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            command = process.read_bytes()
        except OSError:
            continue  # gone
        if os.fsencode(folder) in command:
            found.append(command.decode())
    return found
