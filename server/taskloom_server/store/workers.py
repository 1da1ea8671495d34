"""``workers``: registrations, signs of life and the counters of claims."""

import apsw
from peewee import Field, fn

from taskloom_server.graph.workers import Worker
from taskloom_server.store.json_text import read_tags, write, write_tags
from taskloom_server.store.statements import Row, Statement, arg
from taskloom_server.store.tables import Workers

_FIELDS: tuple[Field, ...] = tuple(getattr(Workers, name) for name in Worker._fields)

_GET = Statement(Workers.select(*_FIELDS).where(Workers.id == arg("id")), "id")
_PUT = Statement(
    Workers.insert({f: arg(f.name) for f in _FIELDS}).on_conflict(
        conflict_target=[Workers.id],
        update={f: arg(f.name) for f in _FIELDS if f.name != "id"},
    ),
    *Worker._fields,
)
# Whoever is back in time keeps what it held when its stream broke.
_SIGN_OF_LIFE = {Workers.last_heartbeat: arg("now"), Workers.grace_until: None}
_LIVES = Statement(
    Workers.update({**_SIGN_OF_LIFE}).where(Workers.id == arg("id")),
    "now",
    "id",
)
_STILL_LIVES = Statement(
    Workers.update({**_SIGN_OF_LIFE}).where(
        (Workers.id == arg("id")) & Workers.disconnected_at.is_null()
    ),
    "now",
    "id",
)
_TRIED = Statement(
    Workers.update(
        {
            **_SIGN_OF_LIFE,
            Workers.claim_attempts: Workers.claim_attempts + arg("tried"),
            Workers.claims_lost: Workers.claims_lost + arg("lost"),
        }
    ).where(Workers.id == arg("id")),
    "now",
    "tried",
    "lost",
    "id",
)
_GRANTS = {
    Workers.claim_attempts: Workers.claim_attempts + arg("granted"),
    Workers.claims_granted: Workers.claims_granted + arg("granted"),
    Workers.last_status: arg("status"),
    Workers.last_phase: arg("phase"),
}
_TOOK = Statement(
    Workers.update({**_SIGN_OF_LIFE, **_GRANTS}).where(Workers.id == arg("id")),
    "now",
    "granted",
    "status",
    "phase",
    "id",
)
_WAS_GIVEN = Statement(
    Workers.update({**_GRANTS}).where(Workers.id == arg("id")), "granted", "status", "phase", "id"
)
_MOVED = Statement(
    Workers.update(
        {
            **_SIGN_OF_LIFE,
            Workers.last_status: arg("status"),
            Workers.last_phase: arg("phase"),
            Workers.cooling_until: arg("cooling_until"),
        }
    ).where(Workers.id == arg("id")),
    "now",
    "status",
    "phase",
    "cooling_until",
    "id",
)
_THINK = Statement(
    Workers.update(
        {
            **_SIGN_OF_LIFE,
            Workers.current_thought: arg("thought"),
            Workers.thought_at: arg("now"),
        }
    ).where(Workers.id == arg("id")),
    "now",
    "thought",
    "id",
)
_GRACE = Statement(
    Workers.update({Workers.grace_until: arg("until")}).where(Workers.id == arg("id")),
    "until",
    "id",
)
_LIST = Statement(
    Workers.select(*_FIELDS)
    .where(
        (Workers.id > arg("after"))
        & (Workers.disconnected_at.is_null() | (arg("also_disconnected") == 1))
        & (Workers.last_heartbeat <= arg("heard_until"))
    )
    .order_by(Workers.id)
    .limit(arg("limit")),
    "after",
    "also_disconnected",
    "heard_until",
    "limit",
)
_CONNECTED = Statement(
    Workers.select(fn.COUNT(Workers.id)).where(Workers.disconnected_at.is_null())
)
_ALL_CONNECTED = Statement(Workers.select(*_FIELDS).where(Workers.disconnected_at.is_null()))
_CONNECTED_TAGS = Statement(
    Workers.select(Workers.tags).where(Workers.disconnected_at.is_null()).distinct()
)


def _worker_of(row: Row) -> Worker:
    return Worker(read_tags(row[0]), read_tags(row[1]), *row[2:])


class WorkerTable:
    """``workers`` on one connection."""

    def __init__(self, connection: apsw.Connection) -> None:
        self._connection = connection

    def get(self, worker_id: str) -> Worker | None:
        """The worker of this id, connected or not."""
        row = _GET.one(self._connection, worker_id)
        return _worker_of(row) if row else None

    def put(self, worker: Worker) -> None:
        """Write the whole row, new or not."""
        overlays = write(worker.overlays)  # their order counts
        _PUT.run(self._connection, write_tags(worker.tags), overlays, *worker[2:])

    def lives(self, worker: Worker, now: int) -> None:
        """Note a sign of life; it renews the worker's leases, which count from it."""
        _LIVES.run(self._connection, now, worker.id)

    def still_lives(self, worker_id: str, now: int) -> None:
        """Note a sign of life of a worker, if it is connected."""
        _STILL_LIVES.run(self._connection, now, worker_id)

    def give_grace(self, worker_id: str, until: int) -> None:
        """Let the worker's claims end then, unless it gives a sign of life before."""
        _GRACE.run(self._connection, until, worker_id)

    def tried(self, worker: Worker, now: int, *, lost: bool) -> None:
        """Count a claim that was refused; ``lost``: another worker had the task."""
        _TRIED.run(self._connection, now, 1, int(lost), worker.id)

    def took(
        self, worker: Worker, now: int | None, granted: int, status: str | None, phase: str | None
    ) -> None:
        """Count claims that were granted; ``now``: None where that is no sign of life."""
        if now is None:
            _WAS_GIVEN.run(self._connection, granted, status, phase, worker.id)
        else:
            _TOOK.run(self._connection, now, granted, status, phase, worker.id)

    def moved(
        self, worker: Worker, now: int, status: str, phase: str | None, cooling_until: int | None
    ) -> None:
        """Note what the worker did last, and until when it rests."""
        _MOVED.run(self._connection, now, status, phase, cooling_until, worker.id)

    def page(
        self,
        after: str,
        limit: int,
        *,
        also_disconnected: bool,
        heard_until: int,
        tags: frozenset[str] = frozenset(),
    ) -> list[Worker]:
        """Workers by id, from the one after ``after``: those that have all the tags.

        ``heard_until``: nor those that gave a sign of life later, in Unix ms.
        """
        found: list[Worker] = []
        while len(found) < limit:
            rows = _LIST.all(self._connection, after, int(also_disconnected), heard_until, limit)
            workers = [_worker_of(row) for row in rows]
            found += (worker for worker in workers if tags.issubset(worker.tags))
            if len(rows) < limit:
                break
            after = workers[-1].id
        return found[:limit]

    def think(self, worker: Worker, thought: str | None, now: int) -> None:
        """Note what a worker thinks, which is a sign of its life."""
        _THINK.run(self._connection, now, thought, worker.id)

    def connected(self) -> int:
        """How many workers are connected."""
        row = _CONNECTED.one(self._connection)
        assert row is not None
        count: int = row[0]
        return count

    def all_connected(self) -> list[Worker]:
        """The connected workers."""
        return [_worker_of(row) for row in _ALL_CONNECTED.each(self._connection)]

    def connected_tags(self) -> list[tuple[str, ...]]:
        """The tags of the connected workers, equal ones once."""
        return [read_tags(row[0]) for row in _CONNECTED_TAGS.each(self._connection)]
