"""The server: everything wired together, started in order and taken down in order."""

import asyncio
import contextlib
import random
import socket
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import structlog
from grpc import aio
from grpc_health.v1 import health_pb2, health_pb2_grpc
from grpc_health.v1._async import HealthServicer
from taskloom.v1 import (
    admin_service_pb2,
    admin_service_pb2_grpc,
    attachment_service_pb2,
    attachment_service_pb2_grpc,
    claim_service_pb2,
    claim_service_pb2_grpc,
    file_service_pb2,
    file_service_pb2_grpc,
    task_service_pb2,
    task_service_pb2_grpc,
    watch_service_pb2,
    watch_service_pb2_grpc,
    worker_service_pb2,
    worker_service_pb2_grpc,
)

from taskloom_server.alarm import Alarm
from taskloom_server.clock import Clock, WallClock
from taskloom_server.coordinator import attachments
from taskloom_server.coordinator.deadlines import end_leases, forget_answers, meet_due
from taskloom_server.coordinator.history import Kept, compact
from taskloom_server.coordinator.reloading import left_behind
from taskloom_server.coordinator.watches import keys_of
from taskloom_server.feed import Feed
from taskloom_server.graph.workflows import InForce, Workflows
from taskloom_server.reloading import reload_workflows
from taskloom_server.service.admin import AdminServicer
from taskloom_server.service.attachments import AttachmentServicer
from taskloom_server.service.calls import Calls
from taskloom_server.service.claims import ClaimServicer
from taskloom_server.service.files import FileServicer
from taskloom_server.service.guard import Guard, beside
from taskloom_server.service.reflection import enable_reflection
from taskloom_server.service.snapshots import Snapshots
from taskloom_server.service.tasks import TaskServicer
from taskloom_server.service.unread import Unread
from taskloom_server.service.watches import WatchServicer
from taskloom_server.service.work import OpenStreams
from taskloom_server.service.workers import WorkerServicer
from taskloom_server.settings import Settings
from taskloom_server.store.connections import exclusive
from taskloom_server.store.inline import InlineReaders, InlineWriter
from taskloom_server.store.ledger import Committed, WriterStopped
from taskloom_server.store.life import Lock, begin_life, end_life, renew
from taskloom_server.store.media import Media, media_folder
from taskloom_server.store.queries import Queries
from taskloom_server.store.readers import Readers
from taskloom_server.store.schema import prepare
from taskloom_server.store.tail import Tail
from taskloom_server.store.writer import Writer
from taskloom_server.workflow_files import load_workflows

_SERVICES = [
    module.DESCRIPTOR.services_by_name[name].full_name
    for module, name in (
        (worker_service_pb2, "WorkerService"),
        (task_service_pb2, "TaskService"),
        (claim_service_pb2, "ClaimService"),
        (watch_service_pb2, "WatchService"),
        (file_service_pb2, "FileService"),
        (attachment_service_pb2, "AttachmentService"),
        (admin_service_pb2, "AdminService"),
    )
]
_HEALTH = health_pb2.DESCRIPTOR.services_by_name["Health"].full_name
_NO_LIMIT = 2**31 - 1
_OPTIONS = [
    ("grpc.so_reuseport", 0),  # a second server on the port must fail, not share it
    ("grpc.max_receive_message_length", 8 << 20),
    ("grpc.max_send_message_length", 64 << 20),
    # The Guard turns away, with a reason: of more than 1,000 that come in an instant gRPC itself
    # would cut off some at random, as CANCELLED, which says neither why nor whether it was done.
    ("grpc.server.max_pending_requests", _NO_LIMIT),
    ("grpc.server.max_pending_requests_hard_limit", _NO_LIMIT),
    # Clients may ping every 30 s, also without a call under way.
    ("grpc.http2.min_ping_interval_without_data_ms", 25_000),
    ("grpc.keepalive_permit_without_calls", 1),
    # And who is gone without a word is noticed.
    ("grpc.keepalive_time_ms", 60_000),
    # So long, too, a reader that stands still can hold up a stop, whatever the grace.
    ("grpc.keepalive_timeout_ms", 5_000),
]
_FORGET_EVERY_MS = 60_000
_RENEW_EVERY_MS = 60_000
_TRY_AGAIN_MS = 10_000
_LAST_WORD_SECONDS = 0.5

_log = structlog.get_logger("server")


class CannotListen(Exception):
    """The address cannot be listened on; ``str()`` is the sentence for the person."""


@dataclass(frozen=True, slots=True)
class Running:
    """A server that serves: where, and how it is known that it cannot go on."""

    address: str  # host:port, with the port that was given for port 0
    failed: "asyncio.Future[Exception]"  # done when nothing can be written any more
    # Reads the workflow files anew; False: one of them is wrong, and all stays as it was.
    reload: Callable[[], Awaitable[bool]]


class Kinds(NamedTuple):
    """Of writer and readers: on threads of their own, or on the one that asks."""

    writer: type[Writer] | type[InlineWriter]
    readers: type[Readers] | type[InlineReaders]


THREADS = Kinds(Writer, Readers)
INLINE = Kinds(InlineWriter, InlineReaders)


@dataclass(frozen=True, slots=True)
class House:
    """All that answers calls, wired together, before any way in: ``furnish`` gives it one."""

    calls: Calls
    in_force: InForce
    feed: Feed
    tail: Tail
    streams: OpenStreams
    media: Media
    queries: Queries
    max_snapshot: int  # bytes
    max_unread: int  # bytes
    writer: Writer | InlineWriter
    failed: "asyncio.Future[Exception]"  # done when nothing can be written any more
    reload: Callable[[], Awaitable[bool]]  # as of Running

    def furnish(self, server: aio.Server) -> None:
        """Add all services to a server, or to what takes their handlers as one does."""
        calls, feed = self.calls, self.feed
        worker_service_pb2_grpc.add_WorkerServiceServicer_to_server(WorkerServicer(calls), server)
        task_service_pb2_grpc.add_TaskServiceServicer_to_server(TaskServicer(calls), server)
        claim_service_pb2_grpc.add_ClaimServiceServicer_to_server(
            ClaimServicer(calls, self.streams), server
        )
        watch_service_pb2_grpc.add_WatchServiceServicer_to_server(
            WatchServicer(calls, feed, self.tail, Unread(self.max_unread)), server
        )
        file_service_pb2_grpc.add_FileServiceServicer_to_server(FileServicer(calls), server)
        attachment_service_pb2_grpc.add_AttachmentServiceServicer_to_server(
            AttachmentServicer(calls, self.media), server
        )
        admin_service_pb2_grpc.add_AdminServiceServicer_to_server(
            AdminServicer(
                calls,
                in_force=self.in_force,
                revision=lambda: feed.revision,
                started_at=calls.now(),
                queries=self.queries,
                snapshots=Snapshots(calls, self.media, self.max_snapshot),
            ),
            server,
        )

    def send_away(self) -> None:
        """End all watches and streams, each told why, and what waits for a task."""
        self.feed.close()
        self.streams.close()
        self.writer.dismiss()


@contextlib.asynccontextmanager
async def housed(
    settings: Settings, workflows: Workflows, clock: Clock, rng: random.Random, kinds: Kinds
) -> AsyncIterator[House]:
    """Everything behind the transport, on a database that is migrated; see House.

    ``kinds`` are those of writer and readers. Leaving it commits what is left, checkpoints, and
    closes the file.
    """
    async with contextlib.AsyncExitStack() as stack:
        failed: asyncio.Future[Exception] = asyncio.get_running_loop().create_future()

        def on_commit(committed: Committed) -> None:
            if committed.incarnation != feed.incarnation:
                tail.forget(committed.revision - len(committed.revisions))
            for revision in committed.revisions:
                tail.append(revision)
            streams.notice(committed)
            feed.announce(committed.revision, committed.incarnation, committed.revisions)
            alarm.set(committed.deadline)
            for worker_id, deadline in committed.leases:
                alarm.set(deadline, worker_id)
            if committed.dropped:
                media.forget(committed.dropped)

        def on_failure(error: Exception) -> None:
            if not failed.done():
                failed.set_result(error)

        writer = kinds.writer(
            settings.db,
            workflows,
            clock=clock.now,
            rng=rng,
            weights=settings.weights,
            on_commit=on_commit,
            on_failure=on_failure,
        )
        begun = await writer.start()
        stack.push_async_callback(writer.stop)
        tail = Tail(begun.revision)
        feed = Feed(begun.revision, begun.incarnation, keys_of)
        streams = OpenStreams(begun.incarnation)
        readers = kinds.readers(settings.db, workflows, clock=clock.now)
        stack.push_async_callback(asyncio.to_thread, readers.close)

        async def used_files(names: Sequence[str]) -> frozenset[str]:
            return await readers.run(attachments.used_files, names)

        media = Media(media_folder(settings.db), used_files)
        stack.push_async_callback(media.close)
        if swept := await media.sweep():
            _log.info("removed what a crash had left in the media folder", files=swept)

        async def meet(worker_id: str) -> int | None:
            try:
                if worker_id:
                    return await writer.run(end_leases, worker_id)
                return await writer.run(meet_due, None)
            except WriterStopped:
                return None
            except Exception as error:
                # What cannot be done for one must not stop the clock for all others.
                _log.error("cannot see to what is due", worker_id=worker_id, exc_info=error)
                return clock.now() + _TRY_AGAIN_MS

        kept = Kept(int(settings.history_hours * 3_600_000), settings.history_revisions)
        alarm = Alarm(clock, meet)
        alarm.set(begun.deadline)
        for worker_id, deadline in begun.leases:
            alarm.set(deadline, worker_id)
        stack.push_async_callback(_cancel, asyncio.create_task(alarm.run()))
        stack.push_async_callback(_cancel, asyncio.create_task(_forget(writer, clock, kept)))

        in_force = InForce(workflows, clock.now())
        one_at_a_time = asyncio.Lock()

        async def reload() -> bool:
            async with one_at_a_time:
                return await reload_workflows(settings, clock, in_force, writer, readers)

        for sentence in await readers.run(left_behind, None):
            _log.warning(sentence)
        calls = Calls(writer, readers, clock.now)
        queries = Queries(settings.db, settings.max_queries)
        yield House(
            calls,
            in_force,
            feed,
            tail,
            streams,
            media,
            queries,
            settings.max_snapshot_mib << 20,
            settings.max_unread_mib << 20,
            writer,
            failed,
            reload,
        )


@contextlib.asynccontextmanager
async def serving(
    settings: Settings,
    clock: Clock | None = None,
    *,
    also: Callable[[aio.Server], None] | None = None,
) -> AsyncIterator[Running]:
    """Serve within the context; ``also`` adds services of the caller's own, behind the guard.

    Raises CannotOpen, CannotListen, WorkflowFileError. Coming down: health says NOT_SERVING
    and new calls are turned away; watches end, each told where to resume; calls under way
    finish; then the writer commits what is left, checkpoints and closes.
    """
    clock = clock or WallClock()
    workflows = load_workflows(settings.default_workflow, settings.workflow_dir)
    async with contextlib.AsyncExitStack() as stack:
        guard = guard_of(settings)
        server = aio.server(options=_OPTIONS)
        stack.push_async_callback(server.stop, 0)
        # Before the file is touched: who cannot listen has no business with it.
        address = _listen(server, settings.listen)
        lock = Lock(stack.enter_context(exclusive(settings.db)))
        for migration in await asyncio.to_thread(prepare, settings.db):
            _log.info("migrated", migration=migration)
        if await asyncio.to_thread(begin_life, settings.db, lock):
            _log.warning("the file is not the one that was served last: a new incarnation begins")
        stack.push_async_callback(asyncio.to_thread, end_life, settings.db, lock)
        house = await stack.enter_async_context(
            housed(settings, workflows, clock, random.Random(), THREADS)
        )
        stack.push_async_callback(
            _cancel, asyncio.create_task(_renew_life(house, clock, lock), name="life")
        )
        house.furnish(guard.before(server))
        health = HealthServicer()
        unguarded = beside(server)
        health_pb2_grpc.add_HealthServicer_to_server(health, unguarded)
        enable_reflection((*_SERVICES, _HEALTH), unguarded)
        if also is not None:
            also(guard.before(server))
        await server.start()
        for service in ("", *_SERVICES):
            await health.set(service, health_pb2.HealthCheckResponse.SERVING)
        try:
            yield Running(address, house.failed, house.reload)
        finally:
            await health.enter_graceful_shutdown()
            guard.closed = True
            house.send_away()
            # A writer that has failed answers nobody: only the word of it needs time to be sent.
            grace = _LAST_WORD_SECONDS if house.failed.done() else settings.shutdown_grace_seconds
            await server.stop(min(grace, settings.shutdown_grace_seconds))


def guard_of(settings: Settings) -> Guard:
    """A guard that lets in as many calls as the settings say."""
    return Guard(
        max_calls=settings.max_calls,
        max_watches=settings.max_watches,
        max_waits=settings.max_waits,
        max_transfers=settings.max_transfers,
        max_unread=settings.max_unread_mib << 20,
    )


def _listen(server: aio.Server, listen: str) -> str:
    host, _, port = listen.rpartition(":")
    try:
        # Tried out first: gRPC would log lines of its own before it told that it cannot.
        for family, kind, _, _, address in socket.getaddrinfo(
            host.strip("[]"), int(port), type=socket.SOCK_STREAM
        ):
            with socket.socket(family, kind) as probe:
                probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
                probe.bind(address)
        return f"{host}:{server.add_insecure_port(listen)}"
    except (OSError, RuntimeError) as error:
        why = getattr(error, "strerror", None) or "gRPC could not bind it"
        raise CannotListen(
            f"cannot listen on {listen}: {why}; name another address with --listen"
        ) from error


async def _cancel(task: "asyncio.Task[Any]") -> None:
    task.cancel()
    with contextlib.suppress(asyncio.CancelledError):
        await task


async def _forget(writer: Writer | InlineWriter, clock: Clock, kept: Kept) -> None:
    """Drop answers and history that need not be kept any more, a little at a time."""
    while True:
        await clock.until(clock.now() + _FORGET_EVERY_MS)
        while await writer.run(forget_answers, None):
            pass
        while await writer.run(compact, kept):
            pass


async def _renew_life(house: House, clock: Clock, lock: Lock) -> None:
    """Give the file another token while it changes, so that a copy of before is told apart."""
    revision = house.feed.revision
    while True:
        await clock.until(clock.now() + _RENEW_EVERY_MS)
        if house.feed.revision == revision:
            continue
        revision = house.feed.revision
        try:
            await asyncio.to_thread(lock.note, await house.writer.run(renew, lock))
        except WriterStopped:
            return
