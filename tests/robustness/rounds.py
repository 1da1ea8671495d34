"""One round: a server, clients, faults, and the judgement of what came of it."""

import asyncio
import json
import random
import sys
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from taskloom import v1

from tests.robustness import account
from tests.robustness.checker import check
from tests.robustness.faults import Faults, schedule
from tests.robustness.generator import Plan
from tests.robustness.history import History, Violation
from tests.robustness.model import is_lock
from tests.robustness.recording import Call, Stream, Talk, read_records
from tests.robustness.relay import Relay
from tests.robustness.rules import read_rules
from tests.robustness.server_process import ServerFailed, ServerProcess
from tests.robustness.truth import Truth, read_contents, read_filtered, read_until_quiet
from tests.robustness.verbs import BASE
from tests.robustness.watchers import KEEPER
from tests.robustness.wire import connect

_ROOT = Path(__file__).parents[2]
_QUIET_SECONDS = 60.0
# What a server that works as it should does not log.
_NEVER_LOGGED = ("unforeseen error", "cannot meet deadlines", "cannot write", "Traceback")


@dataclass(frozen=True)
class Size:
    """How much is done in a round."""

    calls: int
    agents: int
    streams: int
    watchers: int
    faults: int
    processes: int = 1


@dataclass
class Outcome:
    """What came of a round."""

    figures: Counter[str] = field(default_factory=Counter)
    endings: Counter[str] = field(default_factory=Counter)  # of calls: OK, a reason or a code
    violations: list[Violation] = field(default_factory=list)
    accounts: list[str] = field(default_factory=list)


class _Progress:
    """How many calls the generators have made."""

    def __init__(self) -> None:
        self.calls: dict[int, int] = {}
        self._more = asyncio.Condition()

    async def told(self, process: int, calls: int) -> None:
        async with self._more:
            self.calls[process] = calls
            self._more.notify_all()

    async def beyond(self, calls: int) -> None:
        async with self._more:
            await self._more.wait_for(lambda: sum(self.calls.values()) >= calls)


async def run_round(seed: str, size: Size, folder: Path) -> Outcome:
    """Run one, and judge it. All that it leaves is in the folder."""
    server = ServerProcess(folder / "tasks.db", folder / "server.log")
    relay = Relay()
    faults = Faults(server, relay, seed)
    outcome = Outcome()
    try:
        address = await relay.start()
        await faults.begin()
        await _lay_base(server)
        plans = [
            Plan(
                address=address,
                seed=seed,
                process=process,
                agents=size.agents,
                streams=size.streams,
                watchers=size.watchers,
                calls=size.calls // size.processes,
                records=str(folder / f"records-{process}"),
            )
            for process in range(size.processes)
        ]
        await _load(plans, faults, schedule(seed, size.faults), outcome)
        history = await _read(plans, faults, outcome)
        await _take_down(server, seed, outcome)
        history.truth.db = server.db
        verdict = check(history, read_rules())
        outcome.violations += verdict.violations
        outcome.figures.update(verdict.judged)
        _judge_log(server, outcome)
        outcome.accounts = [account.tell(one, history) for one in _first(outcome.violations)]
        outcome.figures["revisions"] = history.truth.revision
        outcome.figures += _events(history.truth)
    except ServerFailed as error:
        outcome.violations.append(Violation("server", str(error)))
    finally:
        await relay.stop()
        await server.close()
    outcome.figures += Counter(
        {
            "rounds": 1,
            "kills": server.kills,
            "stops": server.stops,
            "restarts": server.restarts,
            "cuts": relay.cuts,
            "connections": relay.accepted,
            "violations": len(outcome.violations),
        }
    )
    for kind, count in faults.committed.items():
        outcome.figures[f"fault {kind}"] += count
    return outcome


async def _lay_base(server: ServerProcess) -> None:
    """A task that stays open, for tasks below it: nobody has the tag that its child needs."""
    child = v1.TaskNode(id=f"{BASE}.child", title="stays", needed_tags=["nobody"])
    root = v1.TaskNode(id=BASE, title="stays open", children=[child])
    keeper = v1.ConnectRequest(worker_id=KEEPER, tags=["red"])
    async with connect(f"127.0.0.1:{server.port}") as channel:
        await v1.WorkerServiceStub(channel).Connect(keeper, timeout=30, wait_for_ready=True)
        tree = v1.CreateTaskTreeRequest(root=root)
        await v1.TaskServiceStub(channel).CreateTaskTree(tree, timeout=30, wait_for_ready=True)


async def _load(plans: list[Plan], faults: Faults, scheduled: list[Any], outcome: Outcome) -> None:
    """Let the clients call, and commit the faults, each when so many calls have been made."""
    progress = _Progress()
    total = sum(plan.calls for plan in plans)

    async def commit_all() -> None:
        for n, fault in enumerate(scheduled, start=1):
            await progress.beyond(total * n // (len(scheduled) + 1))
            await faults.commit(fault)

    async def generate(plan: Plan) -> None:
        async with _generator(plan) as process:
            assert process.stdout is not None
            async for line in process.stdout:
                if line.startswith(b"calls "):
                    await progress.told(plan.process, int(line.split()[1]))
                elif line.startswith(b"{"):
                    told = json.loads(line)
                    outcome.endings.update(told.pop("endings"))
                    outcome.figures.update(told)
            if code := await process.wait():
                raise RuntimeError(f"a process of clients ended with {code}")
            # The last faults are due when nobody calls any more, if it comes to that.
            await progress.told(plan.process, plan.calls)

    async with asyncio.TaskGroup() as group:
        for plan in plans:
            group.create_task(generate(plan))
        group.create_task(commit_all())


@asynccontextmanager
async def _generator(plan: Plan) -> AsyncIterator[asyncio.subprocess.Process]:
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "tests.robustness.generator", plan.to_json()),
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
        cwd=_ROOT,
    )
    try:
        yield process
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()


async def _read(plans: list[Plan], faults: Faults, outcome: Outcome) -> History:
    """Wait until all is quiet, and read what was recorded and what became history."""
    server = faults.server
    address = f"127.0.0.1:{server.port}"
    held: set[str] = set()
    delayed: set[str] = set()
    locks: set[str] = set()

    def is_quiet(message: v1.WatchEvents) -> bool:
        for event in message.events:
            if event.HasField("task"):
                one, gone = event.task, event.task.HasField("delete_time")
                # A claim in a parked state ends with nobody's silence.
                ends = one.HasField("lease_expire_time") or one.advisory_claims
                (held.add if ends and not gone else held.discard)(one.id)
                if event.type == v1.EVENT_TYPE_TASK_RENAMED:
                    held.discard(event.task_id)
                    delayed.discard(event.task_id)
                waits = one.HasField("not_before") and not gone
                (delayed.add if waits else delayed.discard)(one.id)
            elif event.HasField("file_mark") and is_lock(event.file_mark.path):
                taken = event.type == v1.EVENT_TYPE_FILE_MARKED
                (locks.add if taken else locks.discard)(event.file_mark.path)
        return not held and not delayed and not locks

    truth = Truth()
    try:
        await read_until_quiet(address, truth, is_quiet, _QUIET_SECONDS)
    except TimeoutError:
        outcome.violations.append(
            Violation(
                "leases",
                f"{_QUIET_SECONDS:g} s after the last call there are claims still, on "
                f"{sorted(held)[:5]}, or tasks that wait, {sorted(delayed)[:5]}, or locks, "
                f"{sorted(locks)}",
            )
        )
    calls: list[Call] = []
    streams: list[Stream] = []
    talks: list[Talk] = []
    for plan in plans:
        for record in read_records(Path(plan.records)):
            match record:
                case Call():
                    calls.append(record)
                case Stream():
                    streams.append(record)
                case Talk():
                    talks.append(record)
    filters = sorted({stream.filter for stream in streams} - {b""})
    found = await asyncio.gather(*(read_filtered(address, truth.revision, f) for f in filters))
    truth.filtered = dict(zip(filters, found, strict=True))
    truth.contents = await read_contents(address, few=100)
    return History(truth, calls, streams, talks, server.idle, faults.times)


async def _take_down(server: ServerProcess, seed: str, outcome: Outcome) -> None:
    """End the server one way or the other; what was answered must be in the file either way."""
    if random.Random(f"{seed}/end").random() < 0.5:
        await server.kill()
    else:
        try:
            await server.terminate()
        except ServerFailed as error:
            outcome.violations.append(Violation("server", str(error)))


def _first(violations: list[Violation]) -> list[Violation]:
    """The first of each promise: the others often follow from it."""
    return list({one.promise: one for one in reversed(violations)}.values())[::-1]


def _events(truth: Truth) -> Counter[str]:
    """How often what happened, so that it is seen whether a promise was put to the test."""
    counts = Counter(
        event.type
        for _, contents in truth.messages
        for event in v1.WatchTasksResponse.FromString(contents).events.events
    )
    return Counter(
        {f"event {v1.EventType.Name(type_).lower()[11:]}": n for type_, n in counts.items()}
    )


def _judge_log(server: ServerProcess, outcome: Outcome) -> None:
    lines = server.log.read_text(encoding="utf-8", errors="replace").splitlines()
    for line in lines:
        if any(words in line for words in _NEVER_LOGGED):
            outcome.violations.append(Violation("log", line[:2000]))
            return
