"""The agent in situations that a service in good health seldom puts it in.

The server here says what a test wrote down; agents on the real service are in test_agent.
"""

import asyncio
from collections.abc import Callable
from datetime import timedelta
from typing import TYPE_CHECKING, Any

import grpc
import pytest
from google.protobuf.duration_pb2 import Duration
from google.protobuf.timestamp_pb2 import Timestamp
from grpc import aio
from taskloom import v1
from taskloom_client import Agent, Client, HeldTask, Pulled, TaskloomError

if TYPE_CHECKING:
    from tests.client.conftest import Refuse, ScriptedServer

Context = aio.ServicerContext[Any, Any]
Code = grpc.StatusCode


class Service:
    """The least that an agent needs: tasks given out in order, and a word for each call."""

    def __init__(self, server: "ScriptedServer", refuse: "Refuse") -> None:
        self.server = server
        self.refuse = refuse
        self.to_give: list[v1.Task | v1.ClaimNextTaskResponse] = []
        self.held: list[v1.Task] = []
        self.lease_ms = 900_000
        self.status = v1.GetStatusResponse()
        for method in ("Connect", "Disconnect", "Heartbeat", "GetStatus", "ClaimNextTask"):
            server.answers[method] = getattr(self, method)
        for method in ("CompleteTask", "FailTask", "ReleaseTask"):
            server.answers[method] = self._ending(method)

    async def Connect(self, request: v1.ConnectRequest, context: Context) -> v1.ConnectResponse:
        """Register anybody, as ``w`` where no name is given."""
        lease = Duration()
        lease.FromMilliseconds(self.lease_ms)
        worker = v1.Worker(id=request.worker_id or "w", lease=lease)
        return v1.ConnectResponse(worker=worker, held_tasks=self.held, incarnation="one")

    async def Disconnect(
        self, request: v1.DisconnectRequest, context: Context
    ) -> v1.DisconnectResponse:
        """Say goodbye."""
        return v1.DisconnectResponse()

    async def Heartbeat(
        self, request: v1.HeartbeatRequest, context: Context
    ) -> v1.HeartbeatResponse:
        """Say that the worker holds nothing."""
        lease = Duration()
        lease.FromMilliseconds(self.lease_ms)
        return v1.HeartbeatResponse(worker=v1.Worker(id=request.worker_id, lease=lease))

    async def GetStatus(
        self, request: v1.GetStatusRequest, context: Context
    ) -> v1.GetStatusResponse:
        """Tell what the test says."""
        return self.status

    async def ClaimNextTask(
        self, request: v1.ClaimNextTaskRequest, context: Context
    ) -> v1.ClaimNextTaskResponse:
        """Give the next task, or answer; when there are no more, say that all is done."""
        if not self.to_give:
            return v1.ClaimNextTaskResponse(outcome=v1.CLAIM_OUTCOME_ALL_DONE)
        given = self.to_give.pop(0)
        if isinstance(given, v1.ClaimNextTaskResponse):
            return given
        return v1.ClaimNextTaskResponse(tasks=[given], outcome=v1.CLAIM_OUTCOME_CLAIMED)

    def _ending(self, method: str) -> Callable[[Any, Context], Any]:
        async def answer(request: Any, context: Context) -> Any:
            response: Any = getattr(v1, f"{method}Response")
            return response(task=v1.Task(id=request.task_id))

        return answer

    def asked(self, kind: type[Any]) -> list[Any]:
        """The requests of one kind so far."""
        return [each for each in self.server.requests if isinstance(each, kind)]

    def kinds(self) -> list[str]:
        """What was asked so far, in order."""
        return [type(each).__name__.removesuffix("Request") for each in self.server.requests]


@pytest.fixture
def service(scripted: "ScriptedServer", refuse: "Refuse") -> Service:
    """The scripted server as a service for agents."""
    return Service(scripted, refuse)


def _task(id: str, claim_revision: int = 1) -> v1.Task:
    soon = Timestamp(seconds=1)
    return v1.Task(id=id, worker_id="w", claim_revision=claim_revision, lease_expire_time=soon)


def _none(
    outcome: "v1.ClaimOutcome.ValueType", retry_after_ms: int | None = None
) -> v1.ClaimNextTaskResponse:
    answer = v1.ClaimNextTaskResponse(outcome=outcome)
    if retry_after_ms is not None:
        answer.retry_after.FromMilliseconds(retry_after_ms)
    return answer


async def test_a_body_that_comes_back_has_completed(
    service: Service, scripted_client: Client
) -> None:
    """A task that nobody ended is completed by its claim; one that was failed is left alone."""
    service.to_give = [_task("a", 3), _task("b", 4)]
    async with Agent(scripted_client) as agent:
        async for task in agent.tasks():
            if task.id == "b":
                assert await task.fail("too hard", retry_delay=timedelta(seconds=2))
    (completed,) = service.asked(v1.CompleteTaskRequest)
    assert (completed.worker_id, completed.task_id, completed.claim_revision) == ("w", "a", 3)
    (failed,) = service.asked(v1.FailTaskRequest)
    assert (failed.reason, failed.retry, failed.retry_delay.seconds) == ("too hard", True, 2)
    assert service.kinds()[-1] == "Disconnect"
    counters = agent.counters
    assert (counters.claims_tried, counters.claims_granted, counters.claims_refused) == (2, 2, 0)
    assert (counters.tasks_completed, counters.tasks_failed, counters.empty_polls) == (1, 1, 1)
    assert counters.calls == len(service.kinds())


async def test_patience_keeps_the_request_id(service: Service, scripted_client: Client) -> None:
    """A call that the server puts off is repeated until it succeeds, always by one request_id."""
    service.to_give = [_task("a")]
    complete = service.server.answers["CompleteTask"]

    async def busy(request: v1.CompleteTaskRequest, context: Context) -> Any:
        if len(service.asked(v1.CompleteTaskRequest)) < 4:
            soon = timedelta(milliseconds=1)
            await service.refuse(
                context, Code.RESOURCE_EXHAUSTED, "TOO_MANY_CALLS", retry_delay=soon
            )
        return await complete(request, context)

    service.server.answers["CompleteTask"] = busy
    async with Agent(scripted_client) as agent:
        async for task in agent.tasks():
            assert await task.complete()
    asked = service.asked(v1.CompleteTaskRequest)
    assert len(asked) == 4
    assert len({each.request_id for each in asked}) == 1


async def test_patience_ends(service: Service, scripted_client: Client) -> None:
    """An agent out of patience raises what kept it waiting."""

    async def busy(request: v1.ClaimNextTaskRequest, context: Context) -> None:
        soon = timedelta(milliseconds=1)
        await service.refuse(context, Code.RESOURCE_EXHAUSTED, "TOO_MANY_CALLS", retry_delay=soon)

    service.server.answers["ClaimNextTask"] = busy
    with pytest.raises(TaskloomError, match="TOO_MANY_CALLS"):
        async with Agent(scripted_client, patience=0.3) as agent:
            await anext(agent.tasks())
    assert len(service.asked(v1.ClaimNextTaskRequest)) > 1


async def test_a_forgotten_worker_connects_again(service: Service, scripted_client: Client) -> None:
    """WORKER_NOT_FOUND is answered by connecting, under the same id, and by the call once more."""
    service.to_give = [_task("a")]
    claim = service.server.answers["ClaimNextTask"]

    async def forgetful(request: v1.ClaimNextTaskRequest, context: Context) -> Any:
        if len(service.asked(v1.ConnectRequest)) < 2:
            await service.refuse(context, Code.NOT_FOUND, "WORKER_NOT_FOUND")
        return await claim(request, context)

    service.server.answers["ClaimNextTask"] = forgetful
    async with Agent(scripted_client, tags=["python"], max_claims=3) as agent:
        seen = [task.id async for task in agent.tasks()]
    assert seen == ["a"]
    first, second = service.asked(v1.ConnectRequest)
    assert (first.worker_id, second.worker_id) == ("", "w")
    assert (second.tags, second.max_claims) == (["python"], 3)
    assert first.request_id != second.request_id, "a repeated id would only bring the old answer"


async def test_a_worker_that_stays_forgotten_gives_up(
    service: Service, scripted_client: Client
) -> None:
    """Connecting again is tried once a call, not for ever."""

    async def forgetful(request: v1.ClaimNextTaskRequest, context: Context) -> None:
        await service.refuse(context, Code.NOT_FOUND, "WORKER_NOT_FOUND")

    service.server.answers["ClaimNextTask"] = forgetful
    with pytest.raises(TaskloomError, match="WORKER_NOT_FOUND"):
        async with Agent(scripted_client) as agent:
            await anext(agent.tasks())
    assert len(service.asked(v1.ConnectRequest)) == 2


async def test_what_is_held_comes_first(service: Service, scripted_client: Client) -> None:
    """Tasks of an earlier connection are begun again and handed out before any other."""
    service.held = [_task("gone"), _task("old", 2)]
    service.to_give = [_task("new", 9)]

    async def claim(request: v1.ClaimTaskRequest, context: Context) -> v1.ClaimTaskResponse:
        if request.task_id == "gone":
            await service.refuse(context, Code.FAILED_PRECONDITION, "TASK_CLAIMED")
        return v1.ClaimTaskResponse(task=_task("old", 2))

    service.server.answers["ClaimTask"] = claim
    async with Agent(scripted_client) as agent:
        seen = [(task.id, task.claim_revision) async for task in agent.tasks()]
    assert seen == [("old", 2), ("new", 9)]


async def test_an_assigned_task_is_taken_up(service: Service, scripted_client: Client) -> None:
    """At its limit by a task that somebody assigned to it, the worker begins that one."""
    service.to_give = [_none(v1.CLAIM_OUTCOME_LIMIT_REACHED)]

    async def listing(request: v1.ListTasksRequest, context: Context) -> v1.ListTasksResponse:
        assert (request.owner, request.claimed) == ("w", True)
        return v1.ListTasksResponse(tasks=[_task("pushed", 5)])

    async def claim(request: v1.ClaimTaskRequest, context: Context) -> v1.ClaimTaskResponse:
        return v1.ClaimTaskResponse(task=_task(request.task_id, 5))

    service.server.answers |= {"ListTasks": listing, "ClaimTask": claim}
    async with Agent(scripted_client) as agent:
        seen = [task.id async for task in agent.tasks()]
    assert seen == ["pushed"]


async def _mark(task: HeldTask) -> None:
    assert await task.mark(["a.py"]) == ()


async def _attach(task: HeldTask) -> None:
    assert await task.attach("note", "text") is None


async def _log(task: HeldTask) -> None:
    assert await task.log_metrics(tokens_in=1) is None


async def _update(task: HeldTask) -> None:
    assert await task.update(phase="test") is False


async def _signal(task: HeldTask) -> None:
    assert await task.signal("nearly") is False


async def _think(task: HeldTask) -> None:
    assert await task.think("hm") is False


async def _fail(task: HeldTask) -> None:
    assert await task.fail("no") is False


@pytest.mark.parametrize(
    ("code", "reason"),
    [(Code.ABORTED, "CLAIM_LOST"), (Code.NOT_FOUND, "TASK_NOT_FOUND")],
)
@pytest.mark.parametrize(
    ("method", "verb"),
    [
        ("MarkFiles", _mark),
        ("Attach", _attach),
        ("LogMetrics", _log),
        ("UpdateTask", _update),
        ("SignalTask", _signal),
        ("FailTask", _fail),
    ],
)
async def test_a_lost_claim_raises_nothing(
    service: Service,
    scripted_client: Client,
    *,
    method: str,
    verb: Callable[[HeldTask], Any],
    code: Code,
    reason: str,
) -> None:
    """Whatever tells that the claim is lost sets `lost`, and the loop goes on with the next."""
    service.to_give = [_task("a"), _task("b")]

    async def lost(request: Any, context: Context) -> Any:
        if request.task_id == "a":
            await service.refuse(context, code, reason)
        return getattr(v1, f"{method}Response")()

    service.server.answers[method] = lost
    seen = []
    async with Agent(scripted_client) as agent:
        async for task in agent.tasks():
            seen.append(task.id)
            if task.id == "a":
                await verb(task)
                assert task.lost
                await task.lost_event.wait()
    assert seen == ["a", "b"]


async def test_late_work_is_offered(service: Service, scripted_client: Client) -> None:
    """A claim known to be lost is completed all the same: the server decides whether it counts."""
    service.to_give = [_task("a"), _task("b")]

    async def lost(request: v1.MarkFilesRequest, context: Context) -> None:
        await service.refuse(context, Code.ABORTED, "CLAIM_LOST")

    async def complete(request: v1.CompleteTaskRequest, context: Context) -> Any:
        if request.task_id == "b":
            await service.refuse(context, Code.ABORTED, "CLAIM_LOST")
        return v1.CompleteTaskResponse()

    service.server.answers |= {"MarkFiles": lost, "CompleteTask": complete}
    async with Agent(scripted_client) as agent:
        async for task in agent.tasks():
            await task.mark(["a.py"])
    assert len(service.asked(v1.CompleteTaskRequest)) == 2
    assert agent.counters.tasks_completed == 1


async def test_heartbeats_notice_a_loss(service: Service, scripted_client: Client) -> None:
    """A claim that ended in the midst of long work is noticed by the next heartbeat."""
    service.lease_ms = 60
    service.to_give = [_task("a")]

    async def get(request: v1.GetTaskRequest, context: Context) -> v1.GetTaskResponse:
        return v1.GetTaskResponse(task=v1.Task(id="a", worker_id="other", claim_revision=8))

    service.server.answers["GetTask"] = get
    async with Agent(scripted_client) as agent:
        async for task in agent.tasks():
            assert not task.lost
            await task.lost_event.wait()
    assert service.asked(v1.HeartbeatRequest)


async def test_reconnecting_notices_a_loss(service: Service, scripted_client: Client) -> None:
    """A task that a new connection no longer holds is lost."""
    service.to_give = [_task("a")]

    async def get(request: v1.MarkFilesRequest, context: Context) -> v1.MarkFilesResponse:
        if len(service.asked(v1.ConnectRequest)) < 2:
            await service.refuse(context, Code.NOT_FOUND, "WORKER_NOT_FOUND")
        return v1.MarkFilesResponse()

    service.server.answers["MarkFiles"] = get
    async with Agent(scripted_client) as agent:
        async for task in agent.tasks():
            await task.mark(["a.py"])
            assert task.lost


async def test_the_end_is_when_nothing_can_come(service: Service, scripted_client: Client) -> None:
    """With nothing ready the agent looks again as long as something may become so by itself."""
    service.to_give = [_none(v1.CLAIM_OUTCOME_NONE_READY)] * 3 + [_task("a")]
    service.status = v1.GetStatusResponse(claimed_tasks=1, open_tasks=9)
    async with Agent(scripted_client, idle_interval=0.001) as agent:
        seen = []
        async for task in agent.tasks():
            seen.append(task.id)
            service.to_give = [_none(v1.CLAIM_OUTCOME_NONE_READY)] * 99
            service.status = v1.GetStatusResponse(open_tasks=9)
    assert seen == ["a"]
    assert len(service.asked(v1.GetStatusRequest)) == 4
    assert agent.counters.empty_polls == 4


async def test_rests_as_told(service: Service, scripted_client: Client) -> None:
    """Paused and cooling down are waited out, the latter for as long as the server says."""
    service.to_give = [
        _none(v1.CLAIM_OUTCOME_PAUSED),
        _none(v1.CLAIM_OUTCOME_COOLING_DOWN, retry_after_ms=300),
        _task("a"),
    ]
    async with Agent(scripted_client, idle_interval=0.001) as agent:
        async for _ in agent.tasks():
            assert 0.3 <= agent.counters.seconds_idle < 5
    assert not service.asked(v1.GetStatusRequest)


async def test_an_exception_fails_the_task(service: Service, scripted_client: Client) -> None:
    """A body that raises leaves its task failed, with the exception's words, to be retried."""
    service.to_give = [_task("a", 3)]

    async def work() -> None:
        async with Agent(scripted_client) as agent:
            async for _ in agent.tasks():
                raise ZeroDivisionError("division by zero")

    with pytest.raises(ZeroDivisionError):
        await work()
    (failed,) = service.asked(v1.FailTaskRequest)
    assert failed.reason == "ZeroDivisionError: division by zero"
    assert (failed.task_id, failed.claim_revision, failed.retry) == ("a", 3, True)
    assert service.kinds()[-1] == "Disconnect"


async def test_cancelling_releases_the_task(service: Service, scripted_client: Client) -> None:
    """An agent that is cancelled gives its task back, and leaves."""
    service.to_give = [_task("a", 3)]
    working = asyncio.Event()

    async def work() -> None:
        async with Agent(scripted_client) as agent:
            async for _ in agent.tasks():
                working.set()
                await asyncio.Event().wait()

    worker = asyncio.create_task(work())
    await working.wait()
    worker.cancel()
    with pytest.raises(asyncio.CancelledError):
        await worker
    assert service.kinds()[-2:] == ["ReleaseTask", "Disconnect"]


async def test_leaving_the_loop_completes_nothing(
    service: Service, scripted_client: Client
) -> None:
    """A body that leaves the loop early has not done its task; disconnecting gives it back."""
    service.to_give = [_task("a")]
    async with Agent(scripted_client) as agent:
        async for _ in agent.tasks():
            break
    assert service.kinds() == ["Connect", "ClaimNextTask", "Disconnect"]


async def test_a_claim_told_of_twice_is_one_task(service: Service, scripted_client: Client) -> None:
    """However often, and by whatever way, an agent hears of a claim, it is handed over once."""
    left = 2

    async def twice(agent: Agent) -> Pulled:
        nonlocal left
        left -= 1
        if left < 0:
            return Pulled(None, v1.CLAIM_OUTCOME_ALL_DONE)
        return Pulled(agent.hold(_task("a", 3)), v1.CLAIM_OUTCOME_CLAIMED)

    async with Agent(scripted_client, pull=twice) as agent:
        task = await anext(agent.tasks())
        assert [task.id async for task in agent.tasks()] == []
        assert left < 0
        task.lost_event.set()
        again = agent.hold(_task("a", 3))
        assert again is not task, "what was taken for lost is held after all"
        agent.let_go(task)
        assert agent.hold(_task("a", 3)) is again


async def test_polling_takes_the_first_and_lists_again(
    service: Service, scripted_client: Client
) -> None:
    """Polling claims the best of its list; beaten to it, it lists again, and rests after three."""

    async def listing(request: v1.ListTasksRequest, context: Context) -> v1.ListTasksResponse:
        assert request.ready
        assert request.qualified_for_worker_id == "w"
        best = f"task-{len(service.asked(v1.ListTasksRequest))}"
        return v1.ListTasksResponse(tasks=[_task(best), _task("second-best")])

    async def claim(request: v1.ClaimTaskRequest, context: Context) -> v1.ClaimTaskResponse:
        if request.task_id != "task-5":
            await service.refuse(context, Code.FAILED_PRECONDITION, "TASK_CLAIMED")
        return v1.ClaimTaskResponse(task=_task(request.task_id))

    service.server.answers |= {"ListTasks": listing, "ClaimTask": claim}
    async with Agent(scripted_client, pull="poll", idle_interval=0.001) as agent:
        async for task in agent.tasks():
            assert task.id == "task-5"
            break
    assert [each.task_id for each in service.asked(v1.ClaimTaskRequest)] == [
        f"task-{n}" for n in range(1, 6)
    ]
    counters = agent.counters
    assert (counters.claims_tried, counters.claims_granted, counters.claims_refused) == (5, 1, 4)


@pytest.mark.parametrize("reason", ["PAUSED", "COOLING_DOWN"])
async def test_polling_rests_as_told(
    service: Service, scripted_client: Client, reason: str
) -> None:
    """A refusal that is not about the task is waited out, not taken for a lost race."""

    async def listing(request: v1.ListTasksRequest, context: Context) -> v1.ListTasksResponse:
        return v1.ListTasksResponse(tasks=[_task("a")])

    async def claim(request: v1.ClaimTaskRequest, context: Context) -> v1.ClaimTaskResponse:
        if len(service.asked(v1.ClaimTaskRequest)) == 1:
            soon = timedelta(milliseconds=1)
            await service.refuse(context, Code.FAILED_PRECONDITION, reason, retry_delay=soon)
        return v1.ClaimTaskResponse(task=_task(request.task_id))

    service.server.answers |= {"ListTasks": listing, "ClaimTask": claim}
    async with Agent(scripted_client, pull="poll", idle_interval=0.001) as agent:
        async for _ in agent.tasks():
            break
    assert agent.counters.claims_refused == 0


async def test_polling_passes_over_whole_workflows(
    service: Service, scripted_client: Client
) -> None:
    """One refusal tells of all tasks of a workflow, and pages are listed until there is another.

    A workflow that is not loaded any more is passed over like one that has no room.
    """
    pages = [["gone"] * 5 + ["full"] * 5, ["full", "gone"] * 50, ["full", "roomy", "gone"]]

    async def listing(request: v1.ListTasksRequest, context: Context) -> v1.ListTasksResponse:
        page = int(request.page_token or 0)
        tasks = [
            v1.Task(id=f"{workflow}-{page}-{n}", workflow=workflow, claim_revision=1)
            for n, workflow in enumerate(pages[page])
        ]
        more = str(page + 1) if page + 1 < len(pages) else ""
        return v1.ListTasksResponse(tasks=tasks, next_page_token=more)

    async def claim(request: v1.ClaimTaskRequest, context: Context) -> v1.ClaimTaskResponse:
        if request.task_id.startswith("full"):
            await service.refuse(context, Code.FAILED_PRECONDITION, "WIP_LIMIT")
        if request.task_id.startswith("gone"):
            await service.refuse(context, Code.NOT_FOUND, "WORKFLOW_NOT_FOUND")
        return v1.ClaimTaskResponse(task=_task(request.task_id))

    service.server.answers |= {"ListTasks": listing, "ClaimTask": claim}
    async with Agent(scripted_client, pull="poll") as agent:
        assert (await anext(agent.tasks())).id == "roomy-2-1"
    assert [each.task_id for each in service.asked(v1.ClaimTaskRequest)] == [
        "gone-0-0",
        "full-0-5",
        "roomy-2-1",
    ]
    assert len(service.asked(v1.ListTasksRequest)) == 3


async def test_ways_of_pulling_have_names(scripted_client: Client) -> None:
    """A way of pulling that nobody knows is refused where it is named."""
    with pytest.raises(ValueError, match="'shove'; there are next, stream, watch, poll"):
        Agent(scripted_client, pull="shove")
