"""Snapshots coming and going, for AdminService: chunks into a file, and out of one.

Neither what comes nor what goes is ever in memory as a whole.
"""

import hashlib
from collections.abc import AsyncIterator, Iterator
from contextlib import ExitStack
from typing import IO

from taskloom.v1 import admin_service_pb2 as pb

from taskloom_server.coordinator import snapshots
from taskloom_server.graph.errors import InvalidField, SnapshotTooLarge
from taskloom_server.graph.snapshots import ATTACHMENTS, MEDIA, chosen_tables
from taskloom_server.service import read, snapshot_files, snapshot_writing
from taskloom_server.service.calls import Calls
from taskloom_server.store.collector import collector_at_rest
from taskloom_server.store.media import Arriving, Media

_MAX_CHUNK = 1 << 20
_MODES = {
    pb.IMPORT_MODE_UNSPECIFIED: snapshots.Mode.TEMPLATE,
    pb.IMPORT_MODE_TEMPLATE: snapshots.Mode.TEMPLATE,
    pb.IMPORT_MODE_RESTORE: snapshots.Mode.RESTORE,
    pb.IMPORT_MODE_MERGE: snapshots.Mode.MERGE,
    pb.IMPORT_MODE_REPLACE: snapshots.Mode.REPLACE,
}
_CLASH_POLICIES = {
    pb.CLASH_POLICY_UNSPECIFIED: snapshots.OnClash.FAIL,
    pb.CLASH_POLICY_FAIL: snapshots.OnClash.FAIL,
    pb.CLASH_POLICY_SKIP: snapshots.OnClash.SKIP,
    pb.CLASH_POLICY_OVERWRITE: snapshots.OnClash.OVERWRITE,
}
_CLASHES_SHOWN = 1_000


class Snapshots:
    """Imports and exports. ``limit``: of a file that comes, also unpacked, in bytes."""

    def __init__(self, calls: Calls, media: Media, limit: int) -> None:
        self._calls = calls
        self._media = media
        self._limit = limit

    async def bring_in(
        self, requests: AsyncIterator[pb.ImportSnapshotRequest]
    ) -> pb.ImportSnapshotResponse:
        """See ImportSnapshot."""
        with ExitStack() as stack:
            file = stack.enter_context(self._media.scratch())
            options, digest = await self._receive(requests, file)
            # Once all has come a caller that gives up cancels its waiting alone.
            return await self._media.see_through(
                self._import(options, file, digest, stack.pop_all())
            )

    async def _receive(
        self, requests: AsyncIterator[pb.ImportSnapshotRequest], file: IO[bytes]
    ) -> tuple[pb.ImportOptions, bytes]:
        """Put the bytes that come into a file; the options, and a digest of the bytes."""
        options: pb.ImportOptions | None = None
        digest = hashlib.blake2b(digest_size=16)
        size = 0
        async for request in requests:
            if request.HasField("options"):
                if options is not None:
                    raise InvalidField("options", "came twice; only the first message has them")
                options = request.options
                continue
            if options is None:
                raise InvalidField("options", "must come in the first message")
            if len(request.chunk) > _MAX_CHUNK:
                raise InvalidField("chunk", f"is larger than {_MAX_CHUNK:,} bytes")
            size += len(request.chunk)
            if size > self._limit:
                raise SnapshotTooLarge(f"the snapshot is larger than {self._limit:,} bytes")
            if options.request_id:
                digest.update(request.chunk)
            await self._media.run(file.write, request.chunk)
        if options is None:
            raise InvalidField("options", "must come in the first message")
        return options, digest.digest()

    async def _import(
        self,
        options: pb.ImportOptions,
        file: IO[bytes],
        digest: bytes,
        files: ExitStack,
    ) -> pb.ImportSnapshotResponse:
        """Import what is in a file; ``files`` are closed in the end."""
        arriving = Arriving(self._media)
        try:

            def scratch() -> IO[bytes]:
                return files.enter_context(self._media.scratch())

            ask, parsed = await self._media.run(
                _import, options, file, self._limit, scratch, arriving
            )
            return await self._write(options, ask, parsed, arriving, digest)
        finally:
            await self._media.run(arriving.begin_anew)
            files.close()

    async def _write(
        self,
        options: pb.ImportOptions,
        ask: snapshots.Import,
        parsed: snapshot_files.Parsed,
        arriving: Arriving,
        digest: bytes,
    ) -> pb.ImportSnapshotResponse:
        files = {name: size for name, (_, size) in parsed.files.items()}

        def answer(imported: snapshots.Imported) -> pb.ImportSnapshotResponse:
            told = _imported(imported, verified=parsed.verified, dry_run=ask.dry_run)
            if arriving.parts:
                told.rows[MEDIA] = len(arriving.parts)
            return told

        async def write() -> pb.ImportSnapshotResponse:
            for name in await self._media.missing(files):
                ask.warnings.append(
                    f"{parsed.files[name][0]}: its content is not in the snapshot but in file "
                    f"{name} of the media folder, which is not there; copy it, or export with_media"
                )
            try:
                return await self._calls.write(
                    options,
                    snapshots.import_snapshot,
                    ask,
                    pb.ImportSnapshotResponse,
                    answer,
                    body=digest,
                )
            except snapshots.DryRun as tried:
                return answer(tried.imported)

        return await self._media.keep(arriving.parts.values(), write, files)

    async def take_out(
        self, request: pb.ExportSnapshotRequest
    ) -> AsyncIterator[pb.ExportSnapshotResponse]:
        """See ExportSnapshot."""
        tables = chosen_tables("tables", request.tables, without_history=request.without_history)
        if request.with_media and tables is not None and ATTACHMENTS not in tables:
            raise InvalidField("with_media", f"goes with {ATTACHMENTS}, which are left out")
        with self._media.scratch() as file:
            writer = snapshot_writing.SnapshotWriter(file)
            # Into a file of its own, so that a slow reader does not hold up checkpoints.
            with self._media.storing():
                exported = await self._calls.read(
                    snapshots.export_snapshot, snapshots.Export(tables, writer.table)
                )
            if request.with_media:
                await self._media.run(writer.media, self._media.pieces)
            header = writer.finish(exported.exported_at)
            parts = snapshot_writing.chunks(header, file, gzipped=request.gzip)
            revision = exported.revision
            while chunk := await self._media.run(_next, parts):
                yield pb.ExportSnapshotResponse(chunk=chunk, revision=revision)
                revision = 0


def _next(parts: Iterator[bytes]) -> bytes:
    return next(parts, b"")


def _import(
    options: pb.ImportOptions,
    file: IO[bytes],
    limit: int,
    scratch: snapshot_files.Scratch,
    arriving: Arriving,
) -> tuple[snapshots.Import, snapshot_files.Parsed]:
    """What is asked for, and what is in the file."""
    if options.mode not in _MODES:
        raise InvalidField("options.mode", f"is {options.mode}, which is no mode")
    if options.on_clash not in _CLASH_POLICIES:
        raise InvalidField("options.on_clash", f"is {options.on_clash}, which is no policy")
    mode = _MODES[options.mode]
    if options.on_clash and mode is not snapshots.Mode.MERGE:
        raise InvalidField("options.on_clash", "goes with a merge only")
    if options.force and mode is not snapshots.Mode.REPLACE:
        raise InvalidField("options.force", "goes with a replacement only")
    workflow = read.identifier("options.workflow", options.workflow, optional=True)
    tables = chosen_tables(
        "options.tables", options.tables, without_history=options.without_history
    )
    with collector_at_rest():
        parsed = snapshot_files.parse(file, tables, limit=limit, scratch=scratch, arriving=arriving)
    ask = snapshots.Import(
        parsed.snapshot,
        mode,
        workflow,
        parsed.warnings,
        _CLASH_POLICIES[options.on_clash],
        dry_run=options.dry_run,
        force=options.force,
    )
    return ask, parsed


def _imported(
    answer: snapshots.Imported, *, verified: bool, dry_run: bool
) -> pb.ImportSnapshotResponse:
    return pb.ImportSnapshotResponse(
        rows=answer.rows,
        warnings=answer.warnings,
        skipped_rows=answer.skipped,
        removed_rows=answer.removed,
        clashing_tasks=len(answer.clashing),
        clashing_task_ids=answer.clashing[:_CLASHES_SHOWN],
        dry_run=dry_run,
        verified=verified,
        incarnation=answer.incarnation,
        revision=answer.revision,
    )
