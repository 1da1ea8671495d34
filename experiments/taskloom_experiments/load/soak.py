"""Soak: whether anything grows in a server on which all sorts of clients come and go for long.

While ``commotion`` is made, the server's process and files are looked at every few seconds. What
it needs at the end is set against what it needed after five minutes, when caches, the events in
memory and the history that is kept have their full size; of a shorter run, after half of it. Each
is the median of the samples of a minute, since some moments have more open calls than others.

The database grows by the answers that it keeps for a day, by request_id: they are counted, and not
meant. The bars are no matter of the machine's speed, so a missed one is a fault.
"""

import asyncio
import statistics
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import apsw
from taskloom_client import Client
from taskloom_server.store.connections import WAL_LIMIT, open_reader
from taskloom_server.store.media import media_folder

from taskloom_experiments.load.commotion_process import Commotion, commotion
from taskloom_experiments.load.measured import Curve, Figure, Measured
from taskloom_experiments.load.serving import DATABASE, Served, serving

MEMORY_BAR = 1.15
MEMORY_MARGIN = 4 << 20  # bytes, so that what is small may be uneven
DATABASE_BAR = 1.2
DATABASE_MARGIN = 1 << 20
# More than at the mark: of connections that happen to be open, threads that a pool starts when all
# others are busy, and contents that happen to be there.
MOST_DESCRIPTORS = 25
MOST_THREADS = 6
MOST_MEDIA_FILES = 4
_MIB = 1 << 20
_ANSWERS = (
    "SELECT coalesce(sum(pgsize), 0) FROM dbstat WHERE aggregate = 1"
    " AND name IN (SELECT name FROM sqlite_schema WHERE tbl_name = 'requests')"
)


@dataclass(frozen=True, slots=True)
class SoakSettings:
    """How long, in seconds, how often it is looked at, and how much history the server keeps.

    ``rest_s``: of each player, on the average, between two rounds.
    """

    seconds: float = 3_600
    every_s: float = 10
    rest_s: float = 1.0
    history_revisions: int = 5_000
    mark_s: float = 300
    window_s: float = 60

    @property
    def mark(self) -> float:
        """From when on samples are what the end is compared with, in seconds."""
        return min(self.mark_s, self.seconds / 2)

    @property
    def window(self) -> float:
        """For how long samples count, at the mark and at the end, in seconds."""
        return min(self.window_s, self.seconds / 4)


@dataclass(frozen=True, slots=True)
class Sample:
    """The server at a moment; sizes in bytes.

    ``memory`` is resident after the process gave back what it does not need, ``untrimmed`` before.
    ``database`` is the file without ``answers``, those that are kept for a day.
    """

    at_s: float
    memory: int
    untrimmed: int
    descriptors: int
    threads: int
    database: int
    answers: int
    wal: int
    media_files: int
    rounds: int


async def measure_soak(
    settings: SoakSettings, folder: Path, tell: Callable[[Measured], None]
) -> Measured:
    """Measure it; ``tell`` is called after each sample with what has come out so far.

    Raises CommotionFailed and ServerFailed.
    """
    samples: list[Sample] = []
    history = settings.history_revisions
    async with (
        serving(folder, history_revisions=history) as server,
        Client(server.target) as client,
        commotion(server, folder, rest_s=settings.rest_s) as made,
    ):
        began = time.monotonic()
        while not samples or samples[-1].at_s < settings.seconds:
            due = began + (len(samples) + 1) * settings.every_s
            await asyncio.sleep(max(0.0, due - time.monotonic()))
            samples.append(await _look(server, client, made, folder, began))
            tell(_measured(settings, samples))
    return _measured(settings, samples)


async def _look(
    server: Served, client: Client, made: Commotion, folder: Path, began: float
) -> Sample:
    database = folder / DATABASE
    untrimmed = server.resident_bytes()
    rounds = await made.rounds()
    size, answers = await asyncio.to_thread(_database_bytes, database)
    wal, media_files = await asyncio.to_thread(_other_files, database)
    return Sample(
        at_s=time.monotonic() - began,
        memory=await server.settled_bytes(client),
        untrimmed=untrimmed,
        descriptors=server.descriptors(),
        threads=server.threads(),
        database=size - answers,
        answers=answers,
        wal=wal,
        media_files=media_files,
        rounds=sum(rounds.values()),
    )


def _other_files(database: Path) -> tuple[int, int]:
    """Bytes of the log, and the number of contents that are files."""
    media = media_folder(database)
    wal = database.with_name(f"{database.name}-wal")
    return wal.stat().st_size, len(list(media.iterdir())) if media.is_dir() else 0


def _database_bytes(path: Path) -> tuple[int, int]:
    """All pages, also those that are in the log still, and those of the answers."""
    connection = open_reader(path)
    try:
        size = connection.pragma("page_count") * connection.pragma("page_size")
        return size, _one(connection, _ANSWERS)
    finally:
        connection.close()


def _one(connection: apsw.Connection, sql: str) -> int:
    ((value,),) = connection.execute(sql)
    assert isinstance(value, int)
    return value


def _measured(settings: SoakSettings, samples: Sequence[Sample]) -> Measured:
    return Measured(
        f"soak, {samples[-1].at_s / 60:.0f} min",
        asdict(settings),
        figures(settings, samples),
        curves=_curves(samples),
    )


def figures(settings: SoakSettings, samples: Sequence[Sample]) -> tuple[Figure, ...]:
    """What the end comes to against the mark; the end alone, while the two are not apart."""
    end = samples[-1].at_s
    marked = [one for one in samples if 0 <= one.at_s - settings.mark < settings.window]
    last = [one for one in samples if end - one.at_s < settings.window]
    apart = marked and marked[-1].at_s < last[0].at_s

    def median(some: Sequence[Sample], field: str) -> float:
        return float(statistics.median(getattr(one, field) for one in some))

    def ratio(name: str, field: str, bar: float | None = None, margin: int = 0) -> Figure:
        then = median(marked, field)
        most = None if bar is None else bar + margin / then
        return Figure(f"{name} / at the mark", median(last, field) / then, "x", most)

    def more(name: str, field: str, bar: int) -> Figure:
        grown = median(last, field) - median(marked, field)
        return Figure(f"{name}, more than at the mark", grown, "", bar)

    def size(name: str, field: str) -> Figure:
        return Figure(f"{name} at the end", median(last, field) / _MIB, "MiB")

    compared = (
        (
            ratio("memory", "memory", MEMORY_BAR, MEMORY_MARGIN),
            ratio("memory, untrimmed", "untrimmed"),
            more("file descriptors", "descriptors", MOST_DESCRIPTORS),
            more("threads", "threads", MOST_THREADS),
            more("contents in files", "media_files", MOST_MEDIA_FILES),
            ratio("database without answers", "database", DATABASE_BAR, DATABASE_MARGIN),
        )
        if apart
        else ()
    )
    wal = max(one.wal for one in samples)
    return (
        *compared,
        Figure("WAL, the most", wal / _MIB, "MiB", WAL_LIMIT / _MIB),
        size("memory", "memory"),
        size("database without answers", "database"),
        size("answers kept for a day", "answers"),
        Figure("rounds", samples[-1].rounds, ""),
    )


def _curves(samples: Sequence[Sample]) -> tuple[Curve, ...]:
    def curve(chart: str, label: str, field: str, unit: int = 1) -> Curve:
        points = ((one.at_s / 60, getattr(one, field) / unit) for one in samples)
        return Curve(chart, label, tuple(points))

    return (
        curve("memory over time", "resident", "untrimmed", _MIB),
        curve("memory over time", "after giving back what is not needed", "memory", _MIB),
        curve("descriptors and threads over time", "file descriptors", "descriptors"),
        curve("descriptors and threads over time", "threads", "threads"),
        curve("files over time", "database without answers", "database", _MIB),
        curve("files over time", "answers kept for a day", "answers", _MIB),
        curve("files over time", "WAL", "wal", _MIB),
    )
