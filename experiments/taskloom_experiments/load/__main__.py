"""Measures, prints the tables, and leaves them with the JSON in a folder.

    python -m taskloom_experiments.load [SCENARIO...] [--output DIR]

Whether a bar is met is said, and is not the exit code: a shared machine has its moods.
"""

import argparse
import asyncio
import sys
import tempfile
from collections.abc import Awaitable, Callable, Sequence
from pathlib import Path

from taskloom_experiments.load.idle import IdleSettings, measure_idle
from taskloom_experiments.load.leases import LeaseSettings, measure_leases
from taskloom_experiments.load.machine import describe_machine
from taskloom_experiments.load.measured import Measured
from taskloom_experiments.load.report import MARKDOWN_FILE, tables, write_report
from taskloom_experiments.load.snapshots import SnapshotSettings, measure_snapshots
from taskloom_experiments.load.wakeup import WakeUpSettings, measure_wakeup

Scenario = Callable[[Path], Awaitable[Measured]]


def _wakeup(settings: WakeUpSettings) -> Scenario:
    return lambda folder: measure_wakeup(settings, folder)


def _idle(settings: IdleSettings) -> Scenario:
    return lambda folder: measure_idle(settings, folder)


def _leases(settings: LeaseSettings) -> Scenario:
    return lambda folder: measure_leases(settings, folder)


def _snapshots(settings: SnapshotSettings) -> Scenario:
    return lambda folder: measure_snapshots(settings, folder)


SCENARIOS: dict[str, tuple[Scenario, ...]] = {
    "wakeup": (
        _wakeup(WakeUpSettings("claim")),
        _wakeup(WakeUpSettings("stream")),
    ),
    "idle": (
        _idle(IdleSettings("claim")),
        _idle(IdleSettings("stream")),
        _idle(IdleSettings("watch")),
        # As a fleet is: every agent has a connection of its own. A minute has all keepalives in it.
        _idle(IdleSettings("claim", connections=1_000, rest_s=60)),
        _idle(IdleSettings("stream", connections=1_000, rest_s=60)),
        _idle(IdleSettings("watch", connections=1_000, rest_s=60)),
        _idle(IdleSettings("watch", connections=1_000, rest_s=60, progress_s=60)),
        _idle(IdleSettings("agent, next", at_rest_s=70)),
        _idle(IdleSettings("agent, stream", at_rest_s=70)),
        _idle(IdleSettings("agent, watch", at_rest_s=70)),
    ),
    "leases": (
        _leases(LeaseSettings(workers=1_000, claims_each=10)),
        _leases(LeaseSettings(workers=10_000, claims_each=1)),
    ),
    "snapshots": (_snapshots(SnapshotSettings()),),
}


async def _measure(names: Sequence[str], folder: Path) -> list[Measured]:
    measured = []
    for name in names:
        for scenario in SCENARIOS[name]:
            # On the disk on which the results lie; some have their temporary files in memory.
            with tempfile.TemporaryDirectory(prefix=".bench-", dir=folder) as workplace:
                measured.append(await scenario(Path(workplace)))
            print(f"measured: {measured[-1].scenario}", file=sys.stderr)
    return measured


def main(arguments: Sequence[str] | None = None) -> int:
    """The command line."""
    parser = argparse.ArgumentParser(prog="taskloom_experiments.load", description=__doc__)
    parser.add_argument("scenarios", nargs="*", metavar="SCENARIO", help=", ".join(SCENARIOS))
    parser.add_argument("--output", type=Path, default=Path("results/bench"), metavar="DIR")
    given = parser.parse_args(arguments)
    if unknown := [name for name in given.scenarios if name not in SCENARIOS]:
        parser.error(f"no scenario is called {unknown[0]!r}; there are {', '.join(SCENARIOS)}")
    given.output.mkdir(parents=True, exist_ok=True)
    machine = describe_machine()
    measured = asyncio.run(_measure(given.scenarios or list(SCENARIOS), given.output))
    write_report(given.output, machine, measured)
    print(tables(measured))
    print(f"\nreport: {given.output / MARKDOWN_FILE}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
