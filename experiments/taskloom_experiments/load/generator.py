"""A process that makes load; ``generators`` starts one or more of these.

    python -m taskloom_experiments.load.generator --parent PID --station JSON

It writes ``connected`` when its workers are registered; then it reads orders, a line each, carries
them out and writes for each a line of what came of it.
"""

import argparse
import asyncio
import contextlib
import random
import sys
import time
from asyncio import StreamReader, StreamReaderProtocol
from collections.abc import Coroutine, Iterable, Sequence
from datetime import timedelta

from grpc import aio
from taskloom import v1
from taskloom_client.durations import proto_duration

from taskloom_experiments.load.noop import noop
from taskloom_experiments.load.operations import (
    OPERATIONS,
    SESSIONS,
    Hand,
    Operation,
    OutOfTasks,
    Record,
    Stubs,
)
from taskloom_experiments.load.orders import Done, Order, Station
from taskloom_experiments.tether import die_with_parent

CONNECTED = "connected"
_MAX_CLAIMS = 1_000  # in open loop a worker begins a task whatever it holds
_LEASE = timedelta(hours=2)
_DRAIN_S = 5.0
IN_TIME_S = 0.1


class _Period:
    """The time for which an order lasts, and how many operations were done, of them in time."""

    def __init__(self, seconds: float) -> None:
        self.began = time.monotonic()
        self.until = self.began + seconds
        self.count = 0
        self.in_time = 0

    def done(self) -> bool:
        """Count one; whether there is time for another."""
        self.count += 1
        now = time.monotonic()
        self.in_time += now < self.until + IN_TIME_S
        return now < self.until


async def _carry_out(hands: Sequence[Hand], order: Order) -> Done:
    period, record = _Period(order.seconds), Record()
    unfinished, failure = 0, ""
    try:
        if order.operation in SESSIONS:
            await _hold_sessions(hands[: order.agents], order, period, record)
        elif order.rate:
            unfinished = await _keep_rate(hands, order, period, record)
        else:
            await _go_round(hands[: order.agents], OPERATIONS[order.operation], period, record)
    except (aio.AioRpcError, OutOfTasks, RuntimeError) as error:
        told = error.details() if isinstance(error, aio.AioRpcError) else error
        failure = f"{order.operation}: {told}"
    return Done(
        period.count,
        period.in_time,
        time.monotonic() - period.began,
        record.lost,
        unfinished,
        failure,
        {call: histogram.encode() for call, histogram in record.latencies.items()},
    )


async def _go_round(
    hands: Sequence[Hand], operation: Operation, period: _Period, record: Record
) -> None:
    async def again(hand: Hand) -> None:
        while True:
            await operation(hand, time.monotonic_ns(), record)
            if not period.done():
                return

    await _together(map(again, hands))


async def _hold_sessions(
    hands: Sequence[Hand], order: Order, period: _Period, record: Record
) -> None:
    session, until_ns = SESSIONS[order.operation], int(period.until * 1e9)

    async def hold(hand: Hand) -> None:
        done = await session(hand, until_ns, record)
        period.count += done  # read after the wait, in which others have added theirs

    await _together(map(hold, hands))
    period.in_time = period.count


async def _keep_rate(hands: Sequence[Hand], order: Order, period: _Period, record: Record) -> int:
    """Begin operations when they are due; how many were not done some seconds after the end."""
    luck, operation = random.Random(order.seed), OPERATIONS[order.operation]
    under_way: set[asyncio.Task[None]] = set()
    errors: list[BaseException] = []

    async def begin(number: int, due: float) -> None:
        await operation(hands[number % len(hands)], int(due * 1e9), record)
        period.done()

    def ended(one: "asyncio.Task[None]") -> None:
        under_way.discard(one)
        if not one.cancelled() and (error := one.exception()):
            errors.append(error)

    number, due = 0, period.began + luck.expovariate(order.rate)
    try:
        while due < period.until and not errors:
            await asyncio.sleep(due - time.monotonic())
            while due <= time.monotonic() and due < period.until:
                one = asyncio.create_task(begin(number, due))
                under_way.add(one)
                one.add_done_callback(ended)
                number, due = number + 1, due + luck.expovariate(order.rate)
        if under_way and not errors:
            await asyncio.wait(under_way, timeout=_DRAIN_S)
        left = len(under_way)
    finally:
        await _cancel(list(under_way))
    if errors:
        raise errors[0]
    return left


async def _together(coroutines: Iterable[Coroutine[None, None, None]]) -> None:
    """Run them all; the first error ends the others and is raised."""
    tasks = [asyncio.create_task(coroutine) for coroutine in coroutines]
    try:
        for one in asyncio.as_completed(tasks):
            await one
    finally:
        await _cancel(tasks)


async def _cancel(tasks: "Sequence[asyncio.Task[None]]") -> None:
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)


async def _connect(station: Station) -> list[Hand]:
    """The workers, registered, on connections of their own."""
    # Channels of one process to one server would share a connection otherwise.
    options = [("grpc.use_local_subchannel_pool", 1), ("grpc.enable_http_proxy", 0)]
    bare = noop(aio.insecure_channel(station.bare, options=options))
    stubs = [
        Stubs(aio.insecure_channel(station.target, options=options), bare)
        for _ in range(station.connections)
    ]
    numbers = range(station.first, station.first + station.workers)
    hands = [
        Hand(
            stubs[number % len(stubs)],
            f"worker-{number}",
            station.tags,
            station.tasks,
            station.ready,
            random.Random(number),
        )
        for number in numbers
    ]
    for hand in hands:
        await hand.stubs.workers.Connect(
            v1.ConnectRequest(
                worker_id=hand.worker_id,
                tags=hand.tags,
                max_claims=_MAX_CLAIMS,
                lease=proto_duration(_LEASE),
            )
        )
    return hands


async def _run(station: Station) -> None:
    hands = await _connect(station)
    print(CONNECTED, flush=True)
    orders = StreamReader()
    await asyncio.get_running_loop().connect_read_pipe(
        lambda: StreamReaderProtocol(orders), sys.stdin
    )
    while line := await orders.readline():  # ends when the parent does
        done = await _carry_out(hands, Order.from_json(line.decode()))
        print(done.to_json(), flush=True)


def main(arguments: Sequence[str] | None = None) -> None:
    """Carry out orders until killed, or until there are no more."""
    parser = argparse.ArgumentParser(prog="taskloom_experiments.load.generator")
    parser.add_argument("--station", required=True, metavar="JSON")
    parser.add_argument("--parent", type=int, required=True, metavar="PID")
    given = parser.parse_args(arguments)
    die_with_parent(given.parent)
    with contextlib.suppress(KeyboardInterrupt):
        asyncio.run(_run(Station.from_json(given.station)))


if __name__ == "__main__":
    main()
