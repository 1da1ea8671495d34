"""The store alone: what the verbs cost without gRPC, against raw SQL (``store_process``).

``claims``: groups of claims and of completions, against the same statements with the same values,
run through the same driver. ``dependents``: the completion of a task for which many others wait,
against an UPDATE for each of them. Both sides commit as the server does, each with its syncs.
"""

import json
import os
import sys
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from taskloom_experiments import processes
from taskloom_experiments.load.generators import LoadFailed
from taskloom_experiments.load.graphs import GATE, GATE_TAG, Graph, lay_out
from taskloom_experiments.load.measured import Measured, median_of
from taskloom_experiments.load.serving import tail

CLAIMS_BAR = 0.6
DEPENDENTS_BAR = 2.0


@dataclass(frozen=True, slots=True)
class StoreSettings:
    """So many groups a round, of as many calls as there are agents."""

    agents: int = 64
    tasks: int = 100_000
    groups: int = 20
    rounds: int = 9


@dataclass(frozen=True, slots=True)
class DependentsSettings:
    """How many tasks wait for one."""

    dependents: int = 10_000
    rounds: int = 5


async def measure_store(settings: StoreSettings, folder: Path, kept: Path) -> Measured:
    """Claims and completions in the store alone against their statements in raw SQL."""
    graph = Graph(settings.tasks)
    await lay_out(graph, kept, folder)
    told = await _process(
        "claims",
        folder,
        tags=graph.tags,
        agents=settings.agents,
        groups=settings.groups,
        rounds=settings.rounds,
    )
    wall, cpu = _ratios(told["raw"], told["ledger"])
    pairs = told["pairs"]
    return Measured(
        f"claim + complete in the store alone, groups of {settings.agents}",
        asdict(settings),
        (
            median_of("throughput / the same statements raw", wall, "x", CLAIMS_BAR, at_least=True),
            median_of("by processor time", cpu, "x"),
            median_of("pairs", [pairs / ns * 1e9 for ns, _ in told["ledger"]], "a second"),
            median_of("pairs, raw", [pairs / ns * 1e9 for ns, _ in told["raw"]], "a second"),
            median_of("CPU of a pair", [ns / pairs / 1e3 for _, ns in told["ledger"]], "µs"),
            median_of("CPU of a pair, raw", [ns / pairs / 1e3 for _, ns in told["raw"]], "µs"),
            median_of("statements of a pair", [told["statements"]], "statements"),
        ),
    )


async def measure_dependents(settings: DependentsSettings, folder: Path, kept: Path) -> Measured:
    """The end of a task for which many wait against an UPDATE for each."""
    await lay_out(Graph(2 * settings.dependents, ready=0.5), kept, folder)
    told = await _process(
        "dependents",
        folder,
        gate=GATE,
        tag=GATE_TAG,
        dependents=settings.dependents,
        rounds=settings.rounds,
    )
    wall, cpu = _ratios(told["ledger"], told["raw"])
    return Measured(
        f"completion of a task with {settings.dependents:,} dependents",
        asdict(settings),
        (
            median_of("time / their updates in raw SQL", wall, "x", DEPENDENTS_BAR),
            median_of("by processor time", cpu, "x"),
            median_of("completion", [ns / 1e6 for ns, _ in told["ledger"]], "ms"),
            median_of("their updates", [ns / 1e6 for ns, _ in told["raw"]], "ms"),
        ),
    )


def _ratios(
    these: Sequence[tuple[int, int]], those: Sequence[tuple[int, int]]
) -> tuple[list[float], list[float]]:
    """By the clock, and by processor time."""
    pairs = list(zip(these, those, strict=True))
    return [one[0] / other[0] for one, other in pairs], [one[1] / other[1] for one, other in pairs]


async def _process(what: str, folder: Path, **settings: Any) -> dict[str, Any]:
    log = folder / "store.log"
    command = [
        *(sys.executable, "-P", "-m", "taskloom_experiments.load.store_process"),
        *(what, str(folder), "--settings", json.dumps(settings), "--parent", str(os.getpid())),
    ]
    process = await processes.start(command, log=log)
    try:
        line = await processes.read_line(process)
    finally:
        await processes.stop([process], grace_s=2)
    if line is None:
        raise LoadFailed(f"the store could not be measured; its log: {tail(log)}")
    told: dict[str, Any] = json.loads(line)
    return told
