"""Start: from the start of the server's process to the first call that it has answered."""

import time
from dataclasses import asdict, dataclass
from pathlib import Path

from taskloom import v1
from taskloom_client import Client

from taskloom_experiments.load.graphs import Graph, lay_out
from taskloom_experiments.load.measured import Measured, median_of
from taskloom_experiments.load.serving import serving

BAR_S = 2.0
_SMALL = 1_000


@dataclass(frozen=True, slots=True)
class StartSettings:
    """How many tasks are in the file, and how often it is opened."""

    tasks: int = 1_000_000
    rounds: int = 5


async def measure_start(settings: StartSettings, folder: Path, kept: Path) -> Measured:
    """The start with many tasks in turn with the start with a thousand."""
    graphs = {tasks: Graph(tasks, ready=0.1) for tasks in (_SMALL, settings.tasks)}
    for tasks, graph in graphs.items():
        (folder / str(tasks)).mkdir(exist_ok=True)
        await lay_out(graph, kept, folder / str(tasks))
    starts: dict[int, list[float]] = {tasks: [] for tasks in graphs}
    statuses: list[float] = []
    for number in range(settings.rounds):
        for tasks in graphs if number % 2 else reversed(graphs):
            began = time.monotonic()
            async with serving(folder / str(tasks)) as server, Client(server.target) as client:
                await client.workers.Connect(v1.ConnectRequest(worker_id=f"worker-{number}"))
                starts[tasks].append(time.monotonic() - began)
                began = time.monotonic()
                await client.admin.GetStatus(v1.GetStatusRequest())
                if tasks == settings.tasks:
                    statuses.append(time.monotonic() - began)
    many, few = starts[settings.tasks], starts[_SMALL]
    return Measured(
        f"start with {settings.tasks:,} tasks",
        asdict(settings),
        (
            median_of("to the first answered call", many, "s", BAR_S),
            median_of(f"with {_SMALL:,} tasks", few, "s"),
            median_of("against that", [a / b for a, b in zip(many, few, strict=True)], "x"),
            median_of("the first GetStatus", [1_000 * one for one in statuses], "ms"),
        ),
    )
