"""The media folder: contents of attachments that are too large for the database.

A file is named by the SHA-256 of its content and by nothing else, so equal contents are one file,
and no name that a caller makes up is ever a path. What refers to a file is the database's to say:
a file is there before the row that refers to it, and goes after the last such row has gone.
What a crash leaves in between is found at the next start.

All work on files is done in threads of this folder's own, never on the event loop.
"""

import asyncio
import hashlib
import os
import re
import tempfile
import threading
from collections.abc import (
    AsyncIterator,
    Awaitable,
    Callable,
    Coroutine,
    Iterable,
    Iterator,
    Mapping,
    Sequence,
)
from concurrent.futures import ThreadPoolExecutor
from contextlib import AsyncExitStack, contextmanager, suppress
from pathlib import Path
from typing import IO, Any, TypeVar, cast
from weakref import WeakValueDictionary

import structlog

from taskloom_server.graph.errors import ContentDamaged, InvalidSnapshot, StorageFull

CHUNK = 256 << 10  # bytes read at once
_NAME = re.compile(r"[0-9a-f]{64}")
_PART = ".part"  # what a file's name ends with until it is whole
_SCRATCH_IN_MEMORY = 4 << 20
_AT_ONCE = 500  # names looked up together

T = TypeVar("T")
Used = Callable[[Sequence[str]], Awaitable[frozenset[str]]]


def media_folder(db: Path) -> Path:
    """Where the contents belonging to a database file are: beside the file itself."""
    real = db.resolve()
    return real.with_name(real.name + "-media")


def _close(opening: "asyncio.Future[IO[bytes]]") -> None:
    """Close a file that was opened for nobody any more."""
    if not opening.cancelled() and opening.exception() is None:
        opening.result().close()


class Part:
    """A content that is being received: its bytes so far, in a file from a given size on."""

    def __init__(self, media: "Media", in_memory: int) -> None:
        """Up to ``in_memory`` bytes are kept in memory."""
        self._media = media
        self._in_memory = in_memory
        self._buffer = bytearray()
        self._hash = hashlib.sha256()
        self._file: IO[bytes] | None = None
        self._writing = threading.Lock()  # a caller that gives up does not stop the thread
        self._discarded = False
        self.size = 0

    async def append(self, chunk: bytes) -> None:
        """Take the next bytes. Raises StorageFull."""
        self.size += len(chunk)
        self._buffer += chunk
        if self._file is not None or self.size > self._in_memory:
            await self._media.run(self._write)

    def write(self, chunk: bytes) -> None:
        """Take the next bytes, at once. Raises OSError."""
        self.size += len(chunk)
        self._buffer += chunk
        self._write()

    def _write(self) -> None:
        with self._writing:
            if self._discarded:
                return
            if self._file is None:
                self._file = self._media.new_file()
            self._file.write(self._buffer)
            self._hash.update(self._buffer)
            self._buffer.clear()

    async def finish(self) -> None:
        """All has come: bring what is in a file to the disk. Raises StorageFull."""
        if self._file is not None:
            await self._media.run(self.sync)
        else:
            self._hash.update(self._buffer)

    def sync(self) -> None:
        """Bring what is in a file to the disk. Raises OSError."""
        assert self._file is not None
        with self._writing:
            if not self._discarded:
                self._file.flush()
                os.fsync(self._file.fileno())
                self._file.close()

    @property
    def sha256(self) -> str:
        """Of the content, once it is finished."""
        return self._hash.hexdigest()

    @property
    def content(self) -> bytes | None:
        """The content, if it was kept in memory."""
        return None if self._file is not None else bytes(self._buffer)

    def move_to(self, path: Path) -> None:
        """Give the file its name, in the folder and on the disk."""
        assert self._file is not None
        os.replace(self._file.name, path)
        _sync_folder(path.parent)

    def discard(self) -> None:
        """Remove the file unless it has got its name."""
        with self._writing:
            self._discarded = True
            if self._file is not None:
                with suppress(OSError):
                    self._file.close()
                with suppress(OSError):
                    Path(self._file.name).unlink()


class _Scratch(tempfile.SpooledTemporaryFile):  # type: ignore[type-arg]
    """A file without a name in the folder, in memory while it is small."""

    def __init__(self, folder: Path) -> None:
        super().__init__(max_size=_SCRATCH_IN_MEMORY, dir=str(folder))
        self._folder = folder

    def rollover(self) -> None:
        """It has become too large for the memory."""
        self._folder.mkdir(mode=0o755, exist_ok=True)
        super().rollover()


class Arriving:
    """Contents that come with a snapshot, a piece after the other. For one thread."""

    def __init__(self, media: "Media") -> None:
        self._media = media
        self.parts: dict[str, Part] = {}
        self._last = ""

    def append(self, place: str, name: str, piece: bytes) -> None:
        """Take the next piece of a file of this name. Raises InvalidSnapshot, OSError."""
        if name != self._last:
            self.finish()
            if name in self.parts:
                raise InvalidSnapshot(f"{place}.file_path: has come already, and ended")
            self.parts[name] = self._media.part(in_memory=0)
            self._last, self._place = name, place
        self.parts[name].write(piece)

    def finish(self) -> None:
        """The last file is whole. Raises InvalidSnapshot where it is another than its name says."""
        if self._last:
            part = self.parts[self._last]
            part.sync()
            if part.sha256 != self._last:
                raise InvalidSnapshot(
                    f"{self._place}.content: is not the content of that file, its SHA-256 is "
                    f"{part.sha256}"
                )
            self._last = ""

    def begin_anew(self) -> None:
        """Forget what has come."""
        for part in self.parts.values():
            part.discard()
        self.parts.clear()
        self._last = ""


class Media:
    """The folder. ``used`` tells which of some names the database refers to."""

    def __init__(self, folder: Path, used: Used) -> None:
        self._folder = folder
        self._used = used
        self._threads = ThreadPoolExecutor(4, thread_name_prefix="media")
        # Of files whose rows are being written, or that are being removed: one after the other.
        self._settling: WeakValueDictionary[str, asyncio.Lock] = WeakValueDictionary()
        self._tasks: set[asyncio.Task[Any]] = set()
        self._log = structlog.get_logger("media")

    async def run(self, work: Callable[..., T], *args: Any) -> T:
        """Do work on files in a thread. Raises StorageFull where the folder cannot be written."""
        with self.storing():
            return await asyncio.get_running_loop().run_in_executor(self._threads, work, *args)

    @contextmanager
    def storing(self) -> Iterator[None]:
        """Raise StorageFull where what is done within cannot write to the folder."""
        try:
            yield
        except OSError as error:
            self._log.error("cannot write", folder=str(self._folder), error=str(error))
            raise StorageFull(
                f"the content cannot be kept: {error.strerror or error}; make room in the media "
                "folder beside the database"
            ) from error

    def new_file(self) -> IO[bytes]:
        """A file for a content that is coming."""
        self._folder.mkdir(mode=0o755, exist_ok=True)
        return tempfile.NamedTemporaryFile(dir=self._folder, suffix=_PART, delete=False)

    def part(self, in_memory: int) -> Part:
        """A content that is to come; to be discarded in the end, whatever came of it."""
        return Part(self, in_memory)

    async def discard(self, part: Part) -> None:
        """Remove what is left of a content that came, also when the call was cancelled."""
        await self.see_through(self.run(part.discard))

    async def keep(
        self, parts: Iterable[Part], write: Callable[[], Awaitable[T]], others: Iterable[str] = ()
    ) -> T:
        """Give finished files their names, and write what refers to them; the answer of that.

        ``others``: files that are there already, to which it refers as well. Once begun this goes
        on without its caller: a file stays exactly if a row refers to it.
        """
        return await self.see_through(self._keep(list(parts), write, others))

    async def _keep(
        self, parts: list[Part], write: Callable[[], Awaitable[T]], others: Iterable[str]
    ) -> T:
        named = {part.sha256: part for part in parts}
        async with AsyncExitStack() as stack:
            # In one order, so that two who want the same files do not wait for each other.
            for name in sorted({*named, *others}):
                await stack.enter_async_context(self._lock(name))
            try:
                for name, part in named.items():
                    await self.run(part.move_to, self._folder / name)
                return await write()
            finally:
                for name in named:
                    await self._remove_unused(name)

    def scratch(self) -> IO[bytes]:
        """A file for what is of use for a while, gone when it is closed; a small one is in memory.

        Raises OSError, not here but when it is written.
        """
        return cast(IO[bytes], _Scratch(self._folder))

    async def missing(self, files: Mapping[str, int]) -> list[str]:
        """Those of these files, given with their sizes, that are not in the folder as such."""
        return await self.run(self._missing, files)

    def _missing(self, files: Mapping[str, int]) -> list[str]:
        paths = {name: self._folder / name for name in files}
        return [
            name
            for name, path in paths.items()
            if not path.is_file() or path.stat().st_size != files[name]
        ]

    def pieces(self, name: str, size: int) -> Iterator[bytes]:
        """The content of a file, in pieces, read on the thread that asks. Raises ContentDamaged."""
        digest = hashlib.sha256()
        try:
            with self._open(name, size) as file:
                while chunk := self._read(file, digest):
                    yield chunk
        except FileNotFoundError as error:
            raise _damaged(name, "is missing") from error
        except OSError as error:
            raise _damaged(name, f"cannot be read: {error.strerror or error}") from error
        if digest.hexdigest() != name:
            raise _damaged(name, "is not what was attached")

    def forget(self, names: Iterable[str]) -> None:
        """Remove these files where nothing refers to them any more. Does not wait for it."""
        for name in set(names):
            self._begin(self._forget(name))

    async def _forget(self, name: str) -> None:
        async with self._lock(name):
            await self._remove_unused(name)

    async def _remove_unused(self, name: str) -> None:
        # Where this fails the file stays, and the next start sees to it.
        try:
            if name not in await self._used([name]):
                await self.run(self._unlink, name)
        except Exception as error:
            self._log.warning("a file may be left", name=name, error=str(error))

    def _unlink(self, name: str) -> None:
        if _NAME.fullmatch(name):
            (self._folder / name).unlink(missing_ok=True)

    async def sweep(self) -> int:
        """Remove what a crash left: unfinished files, and whole ones without a row; how many.

        To be called before anything is received. Where that cannot be done they stay.
        """
        try:
            left, names = await self.run(self._look)
            for start in range(0, len(names), _AT_ONCE):
                some = names[start : start + _AT_ONCE]
                used = await self._used(some)
                left += (name for name in some if name not in used)
            for name in left:
                await self.run((self._folder / name).unlink)
        except StorageFull:
            return 0  # which is in the log
        return len(left)

    def _look(self) -> tuple[list[str], list[str]]:
        """The unfinished files, and the whole ones. What is not ours is not looked at."""
        names = os.listdir(self._folder) if self._folder.is_dir() else []
        return (
            [name for name in names if name.startswith("tmp") and name.endswith(_PART)],
            [name for name in names if _NAME.fullmatch(name)],
        )

    async def read(self, name: str, size: int) -> AsyncIterator[bytes]:
        """The content of a file, in chunks, checked as it is read: what is not whole raises.

        Raises ContentDamaged, before the last chunk at the latest.
        """
        opening = asyncio.ensure_future(self._run_reading(name, self._open, name, size))
        try:
            file = await asyncio.shield(opening)
        except asyncio.CancelledError:
            opening.add_done_callback(_close)
            raise
        try:
            digest = hashlib.sha256()
            left = size
            while left > 0:
                chunk = await self._run_reading(name, self._read, file, digest)
                left -= len(chunk)
                if not chunk or left < 0 or (left == 0 and digest.hexdigest() != name):
                    raise _damaged(name, "is not what was attached")
                yield chunk
        finally:
            # Of generators that are not closed the collector does it; a thread is not needed.
            file.close()

    async def _run_reading(self, name: str, work: Callable[..., T], *args: Any) -> T:
        try:
            return await asyncio.get_running_loop().run_in_executor(self._threads, work, *args)
        except FileNotFoundError as error:
            raise _damaged(name, "is missing") from error
        except OSError as error:
            raise _damaged(name, f"cannot be read: {error.strerror or error}") from error

    def _open(self, name: str, size: int) -> IO[bytes]:
        if not _NAME.fullmatch(name):  # by other means than ours: never followed
            raise _damaged(name, "is none of the media folder")
        file = (self._folder / name).open("rb", buffering=0)
        there = os.fstat(file.fileno()).st_size
        if there != size:
            file.close()
            raise _damaged(name, f"has {there:,} bytes of {size:,}")
        return file

    @staticmethod
    def _read(file: IO[bytes], digest: Any) -> bytes:
        chunk = file.read(CHUNK)
        digest.update(chunk)
        return chunk

    async def close(self) -> None:
        """Let what was begun come to its end."""
        while self._tasks:
            await asyncio.wait(self._tasks)
        await asyncio.to_thread(self._threads.shutdown)

    def _lock(self, name: str) -> asyncio.Lock:
        return self._settling.setdefault(name, asyncio.Lock())

    def _begin(self, work: Coroutine[Any, Any, T]) -> "asyncio.Task[T]":
        task = asyncio.create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        return task

    async def see_through(self, work: Coroutine[Any, Any, T]) -> T:
        """Do it to its end, also when the caller is cancelled meanwhile."""
        task = self._begin(work)
        # Or an error of which nobody hears any more would be logged as never retrieved.
        task.add_done_callback(lambda done: done.cancelled() or done.exception())
        return await asyncio.shield(task)


def _damaged(name: str, what: str) -> ContentDamaged:
    return ContentDamaged(
        f"the file {name!r} {what}; bring it back from a copy of the media folder, or attach the "
        "content anew",
        subjects=(name,),
    )


def _sync_folder(folder: Path) -> None:
    """Bring the names of a folder's files to the disk."""
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
