"""``pauses``: the subtrees that somebody has paused."""

import apsw

from taskloom_server.graph.workers import Pause
from taskloom_server.store.statements import Row, Statement, arg
from taskloom_server.store.tables import Pauses

_FIELDS = (Pauses.by, Pauses.reason, Pauses.paused_at, Pauses.task_id)
_GET = Statement(Pauses.select(*_FIELDS).where(Pauses.task_id == arg("task_id")), "task_id")
_PUT = Statement(
    Pauses.insert({f: arg(f.name) for f in _FIELDS}).on_conflict(
        conflict_target=[Pauses.task_id],
        update={f: arg(f.name) for f in _FIELDS if f.name != "task_id"},
    ),
    *(f.name for f in _FIELDS),
)
_DELETE = Statement(Pauses.delete().where(Pauses.task_id == arg("task_id")), "task_id")
_ALL = Statement(Pauses.select(*_FIELDS).order_by(Pauses.task_id))


def _pause_of(row: Row) -> Pause:
    return Pause(*row)


class PauseTable:
    """``pauses`` on one connection."""

    def __init__(self, connection: apsw.Connection) -> None:
        self._connection = connection

    def get(self, task_id: str) -> Pause | None:
        """The pause of this very task."""
        row = _GET.one(self._connection, task_id)
        return _pause_of(row) if row else None

    def put(self, pause: Pause) -> None:
        """Note a pause, in place of one of the same task."""
        _PUT.run(self._connection, *pause)

    def delete(self, task_id: str) -> None:
        """Note that it is over."""
        _DELETE.run(self._connection, task_id)

    def all(self) -> list[Pause]:
        """Every one, by task."""
        return [_pause_of(row) for row in _ALL.each(self._connection)]
