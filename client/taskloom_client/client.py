"""The client: one connection to a server, and the generated stubs on it.

The stubs are used as they are generated, so that every call is typed and nothing is written per
RPC. What makes them a client (deadlines, request ids, retries, exceptions) is in the channel that
they share: its interceptors, and the options below.
"""

import asyncio
import contextlib
import json
import re
from datetime import timedelta
from typing import Self
from weakref import WeakSet

import grpc
from grpc import aio
from taskloom import v1

from taskloom_client.durations import proto_duration
from taskloom_client.errors import TaskloomError, Unavailable
from taskloom_client.interceptors import interceptors
from taskloom_client.transfers import Content, Download, Progress, upload
from taskloom_client.watch import Watch
from taskloom_client.work import Listener, Work

DEFAULT_TARGET = "127.0.0.1:50051"
"""Where a server listens unless told otherwise."""

_MIB = 1024 * 1024
_LAST_WORD_S = 2.0  # for what is still to be said by a caller who has gone

_SERVICE_CONFIG = {
    "methodConfig": [
        # Every method (the empty name) but those below, which a more specific name takes out. A
        # watch resumes by itself from where it was, which a mere repetition would not, and so does
        # work. gRPC 1.85 aborts the whole process now and then where it repeats a stream of
        # requests ("buffered_call.cc: Check failed: pending == nullptr"): uploads are repeated by
        # this client itself.
        {
            "name": [{}],
            "retryPolicy": {
                "maxAttempts": 5,
                "initialBackoff": "0.1s",
                "maxBackoff": "2s",
                "backoffMultiplier": 2,
                "retryableStatusCodes": ["UNAVAILABLE"],
            },
        },
        {
            "name": [
                {"service": "taskloom.v1.WatchService", "method": "WatchTasks"},
                {"service": "taskloom.v1.ClaimService", "method": "Work"},
                {"service": "taskloom.v1.AttachmentService", "method": "UploadAttachment"},
                {"service": "taskloom.v1.AdminService", "method": "ImportSnapshot"},
            ]
        },
    ]
}

_OPTIONS: list[tuple[str, int | str]] = [
    ("grpc.service_config", json.dumps(_SERVICE_CONFIG)),
    ("grpc.enable_retries", 1),
    # A dead peer is noticed within 40 s. The server allows pings somewhat closer than these are
    # (25 s), for gRPC sends some early (grpc/grpc#28830) and too many of those end a connection.
    ("grpc.keepalive_time_ms", 30_000),
    ("grpc.keepalive_timeout_ms", 10_000),
    ("grpc.keepalive_permit_without_calls", 1),
    ("grpc.http2.max_pings_without_data", 0),
    # A server that restarts is found again soon; gRPC's own pace grows to two minutes.
    ("grpc.initial_reconnect_backoff_ms", 100),
    ("grpc.max_reconnect_backoff_ms", 2_000),
    # A page of 1,000 tasks with descriptions of 64 KiB is what can come at most.
    ("grpc.max_receive_message_length", 64 * _MIB),
    ("grpc.max_send_message_length", 64 * _MIB),
    # Refusals travel as metadata, and one that lists many blockers passes the usual 8 KiB.
    ("grpc.max_metadata_size", 64 * 1024),
    # A connection of its own: channels of one process to one server would share one otherwise.
    ("grpc.use_local_subchannel_pool", 1),
]

_LOOPBACK = re.compile(r"(unix|((dns|ipv[46]):/*)?(localhost|127\.|\[::1\]))")


class Client:
    """A connection to a taskloom server; use it as an async context manager, or close it.

        async with Client("127.0.0.1:50051") as client:
            answer = await client.tasks.CreateTask(v1.CreateTaskRequest(title="Write the parser"))

    Each attribute is a stub as generated, one a service. Calls on them
      * have a deadline, of ``timeout`` seconds unless given their own; streams have none;
      * carry a fresh request_id, where the request has that field and the caller left it empty;
      * are repeated a few times, within their deadline and with the same request_id, while the
        server is UNAVAILABLE;
      * raise TaskloomError.
    What a ClaimNextTask was given that was cancelled in that very instant is given back.

    Nothing is sent before the first call, so making a client never fails for want of a server. It
    belongs to the event loop in which it is made: outside of one it raises RuntimeError.

    A ``channel`` of one's own stands in the place of that connection, options and interceptors.
    """

    def __init__(
        self,
        target: str = DEFAULT_TARGET,
        *,
        timeout: float | None = 30.0,
        channel: aio.Channel | None = None,
    ) -> None:
        asyncio.get_running_loop()
        self.target = target
        self.timeout = timeout
        options = list(_OPTIONS)
        if _LOOPBACK.match(target):
            # Else a proxy named in the environment is asked to connect to its own loopback.
            options.append(("grpc.enable_http_proxy", 0))
        self.channel = channel or aio.insecure_channel(
            target, options=options, interceptors=interceptors(target, timeout, self._give_up)
        )
        """For services that are not taskloom's, such as health."""
        self.workers = v1.WorkerServiceStub(self.channel)
        self.tasks = v1.TaskServiceStub(self.channel)
        self.claims = v1.ClaimServiceStub(self.channel)
        self.watches = v1.WatchServiceStub(self.channel)
        self.files = v1.FileServiceStub(self.channel)
        self.attachments = v1.AttachmentServiceStub(self.channel)
        self.admin = v1.AdminServiceStub(self.channel)
        self._streams: WeakSet[Watch | Work] = WeakSet()
        self._giving_back: set[asyncio.Task[None]] = set()

    async def ready(
        self,
        timeout: float | None = None,  # noqa: ASYNC109 - the error says how long it waited
    ) -> None:
        """Wait until there is a connection to the server.

        ``timeout`` is in seconds; None waits for ever. Raises Unavailable when it has passed.
        """
        try:
            async with asyncio.timeout(timeout):
                await self.channel.channel_ready()
        except TimeoutError:
            raise Unavailable(
                f"no server answered at {self.target} within {timeout:g} s",
                code=grpc.StatusCode.UNAVAILABLE,
            ) from None

    def watch(
        self,
        filter: v1.WatchFilter | None = None,
        *,
        start_revision: int = 0,
        include_state: bool = False,
        incarnation: str = "",
        progress_interval: timedelta | None = None,
    ) -> Watch:
        """Follow what changes, across disconnects; see Watch. The parameters are the request's.

        Nothing is sent before the watch is entered or its first message asked for.
        """
        request = v1.WatchTasksRequest(
            start_revision=start_revision,
            include_state=include_state,
            filter=filter,
            incarnation=incarnation,
            progress_interval=proto_duration(progress_interval),
        )
        watch = Watch(self.watches, request)
        self._streams.add(watch)
        return watch

    def work(
        self,
        worker_id: str,
        *,
        lease: timedelta | None = None,
        order_by: "v1.OrderBy.ValueType" = v1.ORDER_BY_UNSPECIFIED,
        parent_id: str = "",
        grace: timedelta | None = None,
        listener: Listener | None = None,
    ) -> Work:
        """Take part in the work, across disconnects; see Work. The parameters are WorkStart's.

        Nothing is sent before it is entered or opened.
        """
        start = v1.WorkStart(
            worker_id=worker_id,
            lease=proto_duration(lease),
            order_by=order_by,
            parent_id=parent_id,
            grace=proto_duration(grace),
        )
        work = Work(self.claims, start, target=self.target, timeout=self.timeout, listener=listener)
        self._streams.add(work)
        return work

    async def upload(
        self,
        task_id: str,
        type: str,
        content: Content,
        *,
        name: str = "",
        mime_type: str = "",
        worker_id: str = "",
        claim_revision: int = 0,
        request_id: str = "",
        progress: Progress | None = None,
        timeout: float | None = None,  # noqa: ASYNC109 - it is the call's
    ) -> v1.Attachment:
        """Attach a content of up to 100 MB: bytes, a file, or an async iterator of bytes.

        ``timeout`` is in seconds; None: as long as it takes. The others are UploadOptions'.
        """
        options = v1.UploadOptions(
            worker_id=worker_id,
            task_id=task_id,
            claim_revision=claim_revision,
            type=type,
            name=name,
            mime_type=mime_type,
            request_id=request_id,
        )
        return await upload(self.attachments, options, content, progress=progress, timeout=timeout)

    def download(
        self, task_id: str, type: str, sequence: int | None = None, *, timeout: float | None = None
    ) -> Download:
        """The content of an attachment as an async iterator of bytes; see Download.

        ``sequence``: None: the latest of the type.
        """
        request = v1.DownloadAttachmentRequest(task_id=task_id, type=type, sequence=sequence)
        return Download(self.attachments, request, timeout=timeout)

    async def close(self) -> None:
        """End the streams and close the connection; calls under way are cancelled."""
        for stream in list(self._streams):
            await stream.aclose()
        if self._giving_back:
            await asyncio.wait(self._giving_back, timeout=_LAST_WORD_S)
        await self.channel.close()

    def _give_up(self, request: v1.ClaimNextTaskRequest) -> None:
        """A claim was given up under a request_id that nobody but this client knows."""
        task = asyncio.create_task(self._give_back(request))
        self._giving_back.add(task)
        task.add_done_callback(self._giving_back.discard)

    async def _give_back(self, request: v1.ClaimNextTaskRequest) -> None:
        """Give back what it was given, if it was given anything, in the instant of its end."""
        again = v1.ClaimNextTaskRequest()
        again.CopyFrom(request)
        again.ClearField("wait")
        with contextlib.suppress(TaskloomError, aio.UsageError):  # the latter: it is closed
            answer = await self.claims.ClaimNextTask(again, timeout=_LAST_WORD_S)
            for task in answer.tasks:
                release = v1.ReleaseTaskRequest(
                    worker_id=request.worker_id,
                    task_id=task.id,
                    claim_revision=task.claim_revision,
                    reason="the caller had gone before it was told",
                )
                await self.claims.ReleaseTask(release, timeout=_LAST_WORD_S)

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.close()
