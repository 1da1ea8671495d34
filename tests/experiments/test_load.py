"""The load harness: what it counts is right, small runs of every scenario, the report."""

import json
from collections.abc import Sequence
from pathlib import Path

import grpc
import pytest
from google.protobuf.empty_pb2 import Empty
from grpc import aio
from hypothesis import given
from hypothesis import strategies as st
from taskloom_client import Client, TaskloomError
from taskloom_experiments.load import noop
from taskloom_experiments.load.commands import load_command
from taskloom_experiments.load.crowd import CrowdFailed, crowd
from taskloom_experiments.load.idle import IdleSettings, measure_idle
from taskloom_experiments.load.latencies import Latencies
from taskloom_experiments.load.leases import LeaseSettings, measure_leases
from taskloom_experiments.load.machine import describe_machine
from taskloom_experiments.load.measured import Figure, Measured
from taskloom_experiments.load.report import write_report
from taskloom_experiments.load.scenarios import Choice
from taskloom_experiments.load.serving import serving
from taskloom_experiments.load.waiting_agents import CrowdSettings
from taskloom_experiments.load.wakeup import WakeUpSettings, measure_wakeup
from taskloom_server.server import serving as serving_here
from taskloom_server.settings import Settings


def _figures(measured: Measured) -> dict[str, float]:
    return {figure.name: figure.value for figure in measured.figures}


@given(
    st.lists(st.integers(-(2**40), 2**40), min_size=1, max_size=60),
    st.integers(1, 1000).map(lambda tenths: tenths / 10),
)
def test_percentile_is_the_nearest_rank(samples: Sequence[int], percent: float) -> None:
    """A percentile is the smallest sample that at least so many of a hundred do not exceed."""
    found = Latencies(samples).percentile(percent)

    def share(limit: int) -> float:
        return 100 * sum(sample <= limit for sample in samples) / len(samples)

    assert found in samples
    assert share(found) >= percent - 1e-9
    assert all(share(sample) < percent - 1e-9 for sample in samples if sample < found)


def test_latencies_grow_after_they_were_asked() -> None:
    """Samples that are recorded or added later count, wherever they lie."""
    latencies = Latencies([5000, 1000])
    assert latencies.percentile(100) == 5000

    latencies.record(9000)
    latencies.add(Latencies([3000]))

    summary = latencies.summary()
    assert (summary.count, summary.mean_us, summary.p50_us, summary.max_us) == (4, 4.5, 3.0, 9.0)


def test_no_samples_have_no_percentile() -> None:
    """Nothing is made up where nothing was measured, nor for what is no percentage."""
    with pytest.raises(ValueError, match="no samples"):
        Latencies().percentile(99)
    with pytest.raises(ValueError, match="no percentage"):
        Latencies([1]).percentile(101)


async def test_noop_is_behind_the_guard(tmp_path: Path) -> None:
    """The no-op is treated as a call of taskloom's own: one that cannot be read is INVALID_FIELD.

    Without the guard gRPC would answer INTERNAL.
    """
    settings = Settings(db=tmp_path / "tasks.db", listen="127.0.0.1:0")
    async with (
        serving_here(settings, also=noop.add_noop) as server,
        Client(server.address) as client,
    ):
        assert await noop.noop(client.channel)(Empty()) == Empty()

        raw: aio.UnaryUnaryMultiCallable[bytes, bytes] = client.channel.unary_unary(
            f"/{noop.SERVICE}/Call"
        )
        with pytest.raises(TaskloomError, match="cannot be read") as refused:
            await raw(b"\xff")
    assert refused.value.code is grpc.StatusCode.INVALID_ARGUMENT


@pytest.mark.parametrize("way", ["claim", "stream"])
async def test_wakeup_takes_every_sample_beside_a_noop(way: str, tmp_path: Path) -> None:
    """Each wake-up is one sample of each latency, and all agents have their turns."""
    measured = await measure_wakeup(
        WakeUpSettings(way, agents=4, processes=2, connections=3, samples=9, warm_up=2), tmp_path
    )

    assert {summary.count for summary in measured.latencies.values()} == {9}
    assert measured.latencies["no-op call"].p50_us > 0
    figures = _figures(measured)
    assert figures["agents that were woken"] == 4
    assert figures["p99 from the call / no-op"] > 0


@pytest.mark.parametrize(
    ("way", "reached"), [("claim", 1), ("stream", 1), ("watch", 5), ("agent, next", 1)]
)
async def test_idle_counts_whom_one_task_reaches(way: str, reached: int, tmp_path: Path) -> None:
    """Of those who wait for a task one is given it; those who watch all hear of it."""
    measured = await measure_idle(
        IdleSettings(
            way, agents=5, processes=1, connections=3, rest_s=0.1, settle_s=0.2, at_rest_s=0.1
        ),
        tmp_path,
    )

    assert _figures(measured)[f"answers to one task ({reached} wanted)"] == reached


async def test_leases_are_told_once_each_and_never_early(tmp_path: Path) -> None:
    """As many ends are seen as leases were to end, none before its time."""
    measured = await measure_leases(
        LeaseSettings(workers=6, claims_each=2, ending=3, soonest_s=1.0, spread_s=0.2), tmp_path
    )

    assert measured.latencies["end of a lease"].count == 3
    assert _figures(measured)["earliest"] >= 0


async def test_crowd_tells_of_a_process_that_failed(tmp_path: Path) -> None:
    """A process that ends instead of waiting is an error, which tells what its log says."""
    log = tmp_path / "agents.log"
    async with serving(tmp_path) as server:
        settings = CrowdSettings(server.target, "no such way", agents=2, connections=1)
        async with crowd(settings, 1, log) as sleepers:
            await sleepers.connected()
            with pytest.raises(CrowdFailed, match="no such way"):
                await sleepers.wait()


def test_report_says_which_bars_are_met(tmp_path: Path) -> None:
    """A figure at its bar meets it, one above it is said to miss it, in both files."""
    figures = (
        Figure("at the bar", 3.0, "x", 3.0),
        Figure("above the bar", 3.01, "x", 3.0),
        Figure("without a bar", 1234.5, "ms"),
        Figure("at least the bar", 0.8, "x", 0.8, at_least=True, spread=(0.7, 0.9)),
        Figure("below its bar", 0.79, "x", 0.8, at_least=True),
    )
    one = Measured("a scenario", {"agents": 4}, figures, {"a call": Latencies([1500]).summary()})

    write_report(tmp_path, describe_machine(), [one])

    document = json.loads((tmp_path / "bench.json").read_text(encoding="utf-8"))
    verdicts = [True, False, None, True, False]
    assert [figure["met"] for figure in document["measured"][0]["figures"]] == verdicts
    assert document["measured"][0]["latencies"]["a call"]["p99_us"] == 1.5
    lines = (tmp_path / "bench.md").read_text(encoding="utf-8").splitlines()
    assert "| a scenario | at the bar | 3 x |  | ≤ 3 | met |" in lines
    assert "| a scenario | above the bar | 3.01 x |  | ≤ 3 | **missed** |" in lines
    assert "| a scenario | without a bar | 1,234.50 ms |  |  |  |" in lines
    assert "| a scenario | at least the bar | 0.80 x | 0.70 to 0.90 | ≥ 0.8 | met |" in lines
    assert "| a scenario | below its bar | 0.79 x |  | ≥ 0.8 | **missed** |" in lines
    assert "| a scenario | a call | 1 | 0.00 | 0.00 | 0.00 | 0.00 | 0.00 |" in lines


def test_machine_is_named_with_its_durability() -> None:
    """The durability told is that of the connection that writes."""
    machine = describe_machine()

    assert machine["durability"] == "synchronous=FULL, journal_mode=WAL"
    assert machine["grpcio"] == grpc.__version__


def test_unknown_scenario_is_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """A scenario that is not there is wrong input, and the sentence lists those that are."""
    assert load_command(["nonsense"], tmp_path / "out", Choice()) == 2

    assert "'nonsense'; there are claim, work, " in capsys.readouterr().err
    assert not (tmp_path / "out").exists()
