"""``advisory_claims``: which tasks a worker works on by its word alone."""

import apsw

from taskloom_server.store.statements import Statement, arg
from taskloom_server.store.tables import AdvisoryClaims

_ONE = (AdvisoryClaims.worker_id == arg("worker_id")) & (AdvisoryClaims.task_id == arg("task_id"))
_INSERT = Statement(
    AdvisoryClaims.insert(
        {AdvisoryClaims.worker_id: arg("worker_id"), AdvisoryClaims.task_id: arg("task_id")}
    ),
    "worker_id",
    "task_id",
)
_DELETE = Statement(AdvisoryClaims.delete().where(_ONE), "worker_id", "task_id")
_OF_WORKER = Statement(
    AdvisoryClaims.select(AdvisoryClaims.task_id)
    .where(AdvisoryClaims.worker_id == arg("worker_id"))
    .order_by(AdvisoryClaims.task_id),
    "worker_id",
)
_WORKERS = Statement(
    AdvisoryClaims.select(AdvisoryClaims.worker_id).distinct().order_by(AdvisoryClaims.worker_id)
)


class AdvisoryClaimTable:
    """``advisory_claims`` on one connection. What a claim is stands with its task."""

    def __init__(self, connection: apsw.Connection) -> None:
        self._connection = connection

    def insert(self, worker_id: str, task_id: str) -> None:
        """Note a claim."""
        _INSERT.run(self._connection, worker_id, task_id)

    def delete(self, worker_id: str, task_id: str) -> None:
        """Note that it has ended."""
        _DELETE.run(self._connection, worker_id, task_id)

    def of(self, worker_id: str) -> list[str]:
        """The tasks that the worker works on."""
        return [row[0] for row in _OF_WORKER.all(self._connection, worker_id)]

    def workers(self) -> list[str]:
        """Everybody who has such a claim."""
        return [row[0] for row in _WORKERS.all(self._connection)]
