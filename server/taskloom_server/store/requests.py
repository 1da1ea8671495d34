"""``requests``: the answers that were given, so that a retried call changes nothing twice."""

from typing import NamedTuple

import apsw

from taskloom_server.store.statements import Statement, arg
from taskloom_server.store.tables import Requests

REMEMBERED_MS = 24 * 3600 * 1000

_GET = Statement(
    Requests.select(Requests.fingerprint, Requests.response, Requests.created_at).where(
        Requests.id == arg("id")
    ),
    "id",
)
_PUT = Statement(
    Requests.replace(  # type: ignore[no-untyped-call]
        {
            Requests.id: arg("id"),
            Requests.fingerprint: arg("fingerprint"),
            Requests.response: arg("response"),
            Requests.created_at: arg("now"),
        }
    ),
    "id",
    "fingerprint",
    "response",
    "now",
)
_OLDEST = Requests.select(Requests.number).order_by(Requests.number).limit(arg("limit"))
_FORGET = Statement(
    Requests.delete().where(Requests.number.in_(_OLDEST) & (Requests.created_at <= arg("before"))),
    "limit",
    "before",
)


class Answer(NamedTuple):
    """What was answered to a request, in the bytes that were sent."""

    fingerprint: bytes  # of the request
    response: bytes


class RequestTable:
    """``requests`` on one connection."""

    def __init__(self, connection: apsw.Connection) -> None:
        self._connection = connection

    def get(self, request_id: str, now: int) -> Answer | None:
        """What was answered within the time that answers are remembered."""
        row = _GET.one(self._connection, request_id)
        if row is None or row[2] <= now - REMEMBERED_MS:
            return None
        return Answer(row[0], row[1])

    def put(self, request_id: str, answer: Answer, now: int) -> None:
        """Remember an answer."""
        _PUT.run(self._connection, request_id, answer.fingerprint, answer.response, now)

    def forget(self, now: int, limit: int) -> int:
        """Drop up to ``limit`` of the answers that need not be remembered; how many went."""
        _FORGET.run(self._connection, limit, now - REMEMBERED_MS)
        return self._connection.changes()
