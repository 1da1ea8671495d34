"""Claim revisions: the fencing tokens that keep a worker out that has lost its task."""

from collections.abc import Awaitable, Callable

import grpc
import pytest
from google.protobuf.duration_pb2 import Duration
from taskloom import v1
from taskloom_client import ClaimLost, Client

Verb = Callable[[Client, str, int], Awaitable[object]]
"""Something done to "task" by a worker that shows a claim revision."""


def _release(client: Client, worker: str, token: int) -> Awaitable[object]:
    request = v1.ReleaseTaskRequest(worker_id=worker, task_id="task", claim_revision=token)
    return client.claims.ReleaseTask(request)


def _complete(client: Client, worker: str, token: int) -> Awaitable[object]:
    request = v1.CompleteTaskRequest(worker_id=worker, task_id="task", claim_revision=token)
    return client.claims.CompleteTask(request)


def _fail(client: Client, worker: str, token: int) -> Awaitable[object]:
    request = v1.FailTaskRequest(worker_id=worker, task_id="task", claim_revision=token, retry=True)
    return client.claims.FailTask(request)


def _mark(client: Client, worker: str, token: int) -> Awaitable[object]:
    request = v1.MarkFilesRequest(
        worker_id=worker, task_id="task", claim_revision=token, paths=["new.py"]
    )
    return client.files.MarkFiles(request)


def _attach(client: Client, worker: str, token: int) -> Awaitable[object]:
    request = v1.AttachRequest(
        worker_id=worker, task_id="task", claim_revision=token, type="note", content=b"new"
    )
    return client.attachments.Attach(request)


def _detach(client: Client, worker: str, token: int) -> Awaitable[object]:
    request = v1.DetachRequest(
        worker_id=worker, task_id="task", claim_revision=token, type="note", sequence=0
    )
    return client.attachments.Detach(request)


def _log(client: Client, worker: str, token: int) -> Awaitable[object]:
    request = v1.LogMetricsRequest(
        worker_id=worker, task_id="task", claim_revision=token, metrics=v1.Metrics(tokens_in=1)
    )
    return client.tasks.LogMetrics(request)


def _retitle(client: Client, worker: str, token: int) -> Awaitable[object]:
    request = v1.UpdateTaskRequest(
        worker_id=worker, task_id="task", claim_revision=token, title="new"
    )
    return client.tasks.UpdateTask(request)


def _move(client: Client, worker: str, token: int) -> Awaitable[object]:
    request = v1.UpdateTaskRequest(
        worker_id=worker, task_id="task", claim_revision=token, status="completed"
    )
    return client.tasks.UpdateTask(request)


def _unassign(client: Client, worker: str, token: int) -> Awaitable[object]:
    request = v1.UpdateTaskRequest(
        worker_id=worker, task_id="task", claim_revision=token, assignee=""
    )
    return client.tasks.UpdateTask(request)


def _unmark(client: Client, worker: str, token: int) -> Awaitable[object]:
    request = v1.UnmarkFilesRequest(worker_id=worker, task_id="task", claim_revision=token)
    return client.files.UnmarkFiles(request)


def _signal(client: Client, worker: str, token: int) -> Awaitable[object]:
    request = v1.SignalTaskRequest(worker_id=worker, task_id="task", claim_revision=token)
    return client.tasks.SignalTask(request)


def _think(client: Client, worker: str, token: int) -> Awaitable[object]:
    request = v1.SetThoughtRequest(
        worker_id=worker, task_id="task", claim_revision=token, thought="new"
    )
    return client.workers.SetThought(request)


MOVES = {
    "ReleaseTask": _release,
    "CompleteTask": _complete,
    "FailTask": _fail,
    "UpdateTask-status": _move,
    "UpdateTask-assignee": _unassign,
}
VERBS = MOVES | {
    "MarkFiles": _mark,
    "Attach": _attach,
    "Detach": _detach,
    "LogMetrics": _log,
    "UpdateTask-title": _retitle,
    "UnmarkFiles": _unmark,
    "SignalTask": _signal,
    "SetThought": _think,
}
every_verb = pytest.mark.parametrize("verb", VERBS.values(), ids=list(VERBS))
every_move = pytest.mark.parametrize("verb", MOVES.values(), ids=list(MOVES))


@pytest.fixture
async def token(client: Client) -> int:
    """The claim revision by which "holder" works on "task"; "other" is connected as well."""
    for worker in ("holder", "other"):
        await client.workers.Connect(
            v1.ConnectRequest(worker_id=worker, lease=Duration(seconds=3_600))
        )
    await client.tasks.CreateTask(v1.CreateTaskRequest(id="task", title="old"))
    note = v1.AttachRequest(task_id="task", type="note", content=b"old")
    await client.attachments.Attach(note)
    token = await _claim(client, "holder")
    mark = v1.MarkFilesRequest(worker_id="holder", task_id="task", paths=["old.py"])
    await client.files.MarkFiles(mark)
    return token


async def _claim(client: Client, worker: str) -> int:
    request = v1.ClaimTaskRequest(worker_id=worker, task_id="task")
    return (await client.claims.ClaimTask(request)).task.claim_revision


async def _everything(client: Client) -> tuple[object, ...]:
    """All that a verb could change, signs of life included."""
    shown = await client.tasks.GetTask(v1.GetTaskRequest(task_id="task"))
    marks = await client.files.ListFileMarks(v1.ListFileMarksRequest())
    notes = await client.attachments.ListAttachments(v1.ListAttachmentsRequest(task_id="task"))
    workers = await client.workers.ListWorkers(v1.ListWorkersRequest())
    workers.ClearField("time")
    history = await client.tasks.ListTransitions(v1.ListTransitionsRequest(task_id="task"))
    return shown, marks, notes, workers, history


async def _lost(client: Client, call: Callable[[], Awaitable[object]]) -> ClaimLost:
    """The refusal of a claim that is lost, after which nothing is different."""
    before = await _everything(client)
    with pytest.raises(ClaimLost) as caught:
        await call()
    assert caught.value.code is grpc.StatusCode.ABORTED
    assert await _everything(client) == before
    return caught.value


@every_verb
async def test_current_claim_is_let_in(client: Client, token: int, verb: Verb) -> None:
    """Every verb of a holder is done for the claim that holds the task."""
    before = (await client.admin.GetStatus(v1.GetStatusRequest())).revision
    await verb(client, "holder", token)
    assert (await client.admin.GetStatus(v1.GetStatusRequest())).revision == before + 1


@every_verb
async def test_claim_of_a_task_that_another_has(client: Client, token: int, verb: Verb) -> None:
    """Once another worker has the task, a verb of the old claim is refused and told who has it."""
    await _release(client, "holder", token)
    await _claim(client, "other")
    error = await _lost(client, lambda: verb(client, "holder", token))
    assert error.metadata["holder"] == "other"
    assert error.metadata["status"] == "working"


@every_verb
async def test_earlier_claim_of_the_same_worker(client: Client, token: int, verb: Verb) -> None:
    """A worker that took the task anew is not let in by its claim from before."""
    await _release(client, "holder", token)
    assert await _claim(client, "holder") > token
    error = await _lost(client, lambda: verb(client, "holder", token))
    assert error.metadata["holder"] == "holder"


@every_verb
async def test_claim_of_a_task_that_nobody_has(client: Client, token: int, verb: Verb) -> None:
    """A claim that was given back is lost, though nobody took the task since."""
    await _release(client, "holder", token)
    error = await _lost(client, lambda: verb(client, "holder", token))
    assert (error.metadata["holder"], error.metadata["status"]) == ("", "pending")


@every_verb
async def test_claim_of_a_task_that_ended(client: Client, token: int, verb: Verb) -> None:
    """The claim ends with the task: nothing is done by it afterwards."""
    await _complete(client, "holder", token)
    error = await _lost(client, lambda: verb(client, "holder", token))
    assert error.metadata["status"] == "completed"


@every_verb
async def test_claim_of_somebody_else(client: Client, token: int, verb: Verb) -> None:
    """A current claim revision is of no use to a worker that is not its holder."""
    error = await _lost(client, lambda: verb(client, "other", token))
    assert error.metadata["holder"] == "holder"


@every_move
async def test_only_the_holder_moves_a_task(client: Client, token: int, verb: Verb) -> None:
    """Without a claim revision the worker is still checked: only the holder ends its work."""
    error = await _lost(client, lambda: verb(client, "other", 0))
    assert error.metadata["holder"] == "holder"


@every_move
async def test_holder_need_not_show_its_claim(client: Client, token: int, verb: Verb) -> None:
    """Without a claim revision the holder is let in."""
    await verb(client, "holder", 0)
    task = (await client.tasks.GetTask(v1.GetTaskRequest(task_id="task"))).task
    assert task.claim_revision == 0


@pytest.mark.parametrize(
    ("verb", "status"), [(_move, "completed"), (_unassign, "pending")], ids=["status", "assignee"]
)
async def test_a_person_may_move_a_claimed_task(
    client: Client, token: int, verb: Verb, status: str
) -> None:
    """A call without worker_id is a person's, and may end a worker's claim; that is lost then."""
    await verb(client, "", 0)
    task = (await client.tasks.GetTask(v1.GetTaskRequest(task_id="task"))).task
    assert (task.status, task.claim_revision) == (status, 0)
    await _lost(client, lambda: _complete(client, "holder", token))


async def test_claim_revisions_grow(client: Client, token: int) -> None:
    """Each claim of a task has a greater claim revision than all before."""
    tokens = [token]
    for worker in ("other", "holder", "other"):
        await client.tasks.UpdateTask(v1.UpdateTaskRequest(task_id="task", status="pending"))
        tokens.append(await _claim(client, worker))
    assert tokens == sorted(set(tokens))


async def test_metrics_after_the_end(client: Client, token: int) -> None:
    """Costs may be reported after a task has ended, by a call that shows no claim."""
    await _complete(client, "holder", token)
    await _log(client, "holder", 0)
    task = (await client.tasks.GetTask(v1.GetTaskRequest(task_id="task"))).task
    assert task.metrics.tokens_in == 1


async def test_lost_claim_comes_before_other_refusals(client: Client, token: int) -> None:
    """Who lost the task is told so, and not what else would have stood in the way."""
    await client.tasks.CreateTask(v1.CreateTaskRequest(id="child", title="c", parent_id="task"))
    await _release(client, "holder", token)
    await client.tasks.UpdateTask(v1.UpdateTaskRequest(task_id="task", assignee="other"))
    await _lost(client, lambda: _complete(client, "holder", token))
    await _lost(client, lambda: _fail(client, "holder", token))
