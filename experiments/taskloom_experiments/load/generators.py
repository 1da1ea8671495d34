"""Load generators, as processes: started, given orders together, gone with the context."""

import asyncio
import contextlib
import os
import sys
from asyncio.subprocess import Process
from collections.abc import AsyncIterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

from taskloom_experiments import processes
from taskloom_experiments.errors import ExperimentError
from taskloom_experiments.load.generator import CONNECTED
from taskloom_experiments.load.histogram import Histogram
from taskloom_experiments.load.orders import Done, Order, Station
from taskloom_experiments.load.serving import Served, tail

_STARTUP_S = 120.0
_OVERTIME_S = 60.0


class LoadFailed(ExperimentError):
    """An order could not be carried out; the text says why."""


@dataclass(frozen=True, slots=True)
class Period:
    """One period of load, as all generators together and the server's process saw it.

    ``rate``: operations a second. ``cpu_us``: the server's processor time for each of them.
    """

    count: int
    in_time: int
    rate: float
    cpu_us: float
    lost: int
    unfinished: int
    latencies: Mapping[str, Histogram] = field(default_factory=dict)

    def percentile_us(self, call: str, percent: float) -> float:
        """Of a call's latencies, in µs; 0 where there was none."""
        return self.latencies.get(call, Histogram()).percentile_us(percent)


class Generators:
    """Processes that make load on one server."""

    def __init__(self, server: Served, members: Sequence[Process], log: Path) -> None:
        self._server = server
        self._members = members
        self._log = log

    async def connected(self) -> None:
        """Wait until all workers are registered. Raises LoadFailed."""
        async with asyncio.timeout(_STARTUP_S):
            said = await asyncio.gather(*map(processes.read_line, self._members))
        if any(line != CONNECTED for line in said):
            raise LoadFailed(f"a load generator did not connect; its log: {tail(self._log)}")

    async def carry_out(self, order: Order) -> Period:
        """Have all generators do their part, at once. Raises LoadFailed."""
        cpu = self._server.cpu_seconds()
        number = len(self._members)
        for index, member in enumerate(self._members):
            part = replace(
                order,
                agents=share(order.agents, number, index),
                rate=order.rate / number,
                seed=order.seed * number + index,
            )
            assert member.stdin is not None
            member.stdin.write(f"{part.to_json()}\n".encode())
        try:
            async with asyncio.timeout(order.seconds + _OVERTIME_S):
                lines = await asyncio.gather(*map(processes.read_line, self._members))
        except TimeoutError:
            raise LoadFailed(
                f"{order.operation} was not answered {_OVERTIME_S:.0f} s after the end of its "
                f"{order.seconds:g} s; try fewer --agents"
            ) from None
        cpu = self._server.cpu_seconds() - cpu
        if None in lines:
            raise LoadFailed(f"a load generator ended; its log: {tail(self._log)}")
        return _together([Done.from_json(line) for line in lines if line is not None], cpu)


def _together(parts: Sequence[Done], cpu_s: float) -> Period:
    for part in parts:
        if part.failure:
            raise LoadFailed(part.failure)
    count = sum(part.count for part in parts)
    latencies: dict[str, Histogram] = {}
    for part in parts:
        for call, encoded in part.latencies.items():
            latencies.setdefault(call, Histogram()).add(encoded)
    return Period(
        count,
        sum(part.in_time for part in parts),
        sum(part.count / part.seconds for part in parts if part.count),
        cpu_s * 1e6 / max(count, 1),
        sum(part.lost for part in parts),
        sum(part.unfinished for part in parts),
        latencies,
    )


@contextlib.asynccontextmanager
async def generating(
    server: Served,
    folder: Path,
    *,
    workers: int,
    number: int = 2,
    connections: int = 8,
    tags: Sequence[str] = (),
    tasks: int = 0,
    ready: float = 1.0,
) -> AsyncIterator[Generators]:
    """So many generators with their workers and connections shared out among them."""
    members: list[Process] = []
    log = folder / "generators.log"
    number = min(number, workers)
    try:
        for index in range(number):
            station = Station(
                target=server.target,
                bare=server.bare,
                workers=share(workers, number, index),
                connections=max(1, share(connections, number, index)),
                first=sum(share(workers, number, before) for before in range(index)),
                tags=tuple(tags),
                tasks=tasks,
                ready=ready,
            )
            members.append(await processes.start(_command(station), log=log))
        together = Generators(server, members, log)
        await together.connected()
        yield together
    finally:
        await processes.stop(members, grace_s=2)


def share(whole: int, number: int, index: int) -> int:
    """The part of a whole that falls to one of so many, so that no two differ by more than one."""
    return whole // number + (index < whole % number)


def _command(station: Station) -> list[str]:
    return [
        *(sys.executable, "-P", "-m", "taskloom_experiments.load.generator"),
        *("--station", station.to_json(), "--parent", str(os.getpid())),
    ]
