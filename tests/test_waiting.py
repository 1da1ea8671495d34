"""Claims that wait: who is given what has become ready, and who is not woken."""

import asyncio
from datetime import timedelta
from typing import TYPE_CHECKING, Any

import pytest
from grpc import aio
from taskloom import v1
from taskloom_client import Client, TaskloomError

from tests.calls import claim, complete, connect, duration, heartbeat, show_worker, update

if TYPE_CHECKING:
    from tests.conftest import Server


async def _connect(client: Client, worker_id: str, *tags: str, max_claims: int = 1) -> None:
    await client.workers.Connect(
        v1.ConnectRequest(worker_id=worker_id, tags=tags, max_claims=max_claims)
    )


def _next(client: Client, worker_id: str, wait: float = 20, **fields: Any) -> asyncio.Task[Any]:
    """A call of ClaimNextTask that waits."""
    request = v1.ClaimNextTaskRequest(worker_id=worker_id, **fields)
    request.wait.FromTimedelta(timedelta(seconds=wait))

    async def call() -> v1.ClaimNextTaskResponse:
        return await client.claims.ClaimNextTask(request)

    return asyncio.create_task(call())


async def _create(client: Client, task_id: str, **fields: Any) -> v1.Task:
    request = v1.CreateTaskRequest(id=task_id, title=task_id, **fields)
    return (await client.tasks.CreateTask(request)).task


async def _in_line(client: Client, worker_id: str) -> None:
    """Return once the worker's call has reached the server: its sign of life tells."""
    while True:
        workers = await client.workers.ListWorkers(v1.ListWorkersRequest(page_size=1000))
        worker = next(w for w in workers.workers if w.id == worker_id)
        if worker.heartbeat_time.ToMilliseconds() > worker.register_time.ToMilliseconds():
            return


async def _stand_in_line(client: Client, worker_id: str, **fields: Any) -> asyncio.Task[Any]:
    await asyncio.sleep(0.002)  # so that a sign of life is later than the registration, in ms
    call = _next(client, worker_id, **fields)
    await _in_line(client, worker_id)
    return call


@pytest.fixture
async def graph(client: Client) -> Client:
    """A graph with one open task that nobody who waits may take, so that it is never done."""
    await _create(client, "open", needed_tags=["nobody-has-this"])
    return client


async def test_created_task_goes_to_who_waits(graph: Client) -> None:
    """A task that is created ready is given to a waiting worker, as claimed."""
    await _connect(graph, "ada")
    call = await _stand_in_line(graph, "ada")
    await _create(graph, "new")
    answer = await call
    assert answer.outcome == v1.CLAIM_OUTCOME_CLAIMED
    assert [task.id for task in answer.tasks] == ["new"]
    shown = (await graph.tasks.GetTask(v1.GetTaskRequest(task_id="new"))).task
    assert (shown.worker_id, shown.claim_revision) == ("ada", answer.tasks[0].claim_revision)


async def test_end_of_a_blocker_wakes_one(graph: Client) -> None:
    """Completing the last blocker hands its dependent to the one who waits longest."""
    await _create(graph, "first")
    await _create(graph, "second", blocked_by=["first"])
    for worker in ("busy", "ada", "bob"):
        await _connect(graph, worker)
    await graph.claims.ClaimTask(v1.ClaimTaskRequest(worker_id="busy", task_id="first"))
    ada = await _stand_in_line(graph, "ada")
    bob = await _stand_in_line(graph, "bob")
    await graph.claims.CompleteTask(v1.CompleteTaskRequest(worker_id="busy", task_id="first"))
    assert [task.id for task in (await ada).tasks] == ["second"]
    assert not bob.done()
    await _create(graph, "third")
    assert [task.id for task in (await bob).tasks] == ["third"]


async def test_claim_follows_in_the_next_revision(graph: Client) -> None:
    """The claim of a waiting worker is the very next change after what made the task ready."""
    await _connect(graph, "ada")
    call = await _stand_in_line(graph, "ada")
    created = await graph.tasks.CreateTask(v1.CreateTaskRequest(id="new", title="new"))
    assert (await call).revision == created.revision + 1


async def test_only_who_may_take_it_is_woken(graph: Client) -> None:
    """A task goes past those who lack its tags, to the first who has them."""
    await _connect(graph, "ada")
    await _connect(graph, "gus", "gpu")
    ada = await _stand_in_line(graph, "ada")
    gus = await _stand_in_line(graph, "gus")
    await _create(graph, "train", needed_tags=["gpu"])
    assert [task.id for task in (await gus).tasks] == ["train"]
    assert not ada.done()
    ada.cancel()


async def test_released_task_goes_to_who_waits(graph: Client) -> None:
    """A task that is given back, or whose worker leaves, goes to a waiting worker."""
    await _create(graph, "only")
    for worker in ("busy", "ada", "bob"):
        await _connect(graph, worker)
    await graph.claims.ClaimTask(v1.ClaimTaskRequest(worker_id="busy", task_id="only"))
    ada = await _stand_in_line(graph, "ada")
    bob = await _stand_in_line(graph, "bob")
    await graph.claims.ReleaseTask(v1.ReleaseTaskRequest(worker_id="busy", task_id="only"))
    assert [task.id for task in (await ada).tasks] == ["only"]
    await graph.workers.Disconnect(v1.DisconnectRequest(worker_id="ada"))
    assert [task.id for task in (await bob).tasks] == ["only"]


async def test_wait_ends_with_an_answer(timed_client: Client, clock: Any) -> None:
    """When the wait is over the answer is NONE_READY, by the server's clock."""
    await _create(timed_client, "open", needed_tags=["nobody-has-this"])
    await _connect(timed_client, "ada")
    clock.advance(10)
    call = _next(timed_client, "ada", wait=20)
    await _in_line(timed_client, "ada")
    clock.advance(20_000)
    assert (await call).outcome == v1.CLAIM_OUTCOME_NONE_READY


async def test_lease_end_and_not_before_wake(timed_client: Client, clock: Any) -> None:
    """A task whose lease ends, or whose not_before passes, goes to a waiting worker by itself."""
    await _create(timed_client, "open", needed_tags=["nobody-has-this"])
    await _create(timed_client, "held")
    for worker in ("dead", "ada", "bob"):
        await _connect(timed_client, worker)
    request = v1.ClaimTaskRequest(worker_id="dead", task_id="held")
    request.lease.FromSeconds(5)
    await timed_client.claims.ClaimTask(request)
    later = v1.CreateTaskRequest(id="later", title="later")
    later.not_before.FromMilliseconds(clock.now() + 8_000)
    await timed_client.tasks.CreateTask(later)
    clock.advance(10)
    ada = _next(timed_client, "ada", wait=20)
    await _in_line(timed_client, "ada")
    clock.advance(10)
    bob = _next(timed_client, "bob", wait=20)
    await _in_line(timed_client, "bob")
    clock.advance(5_000)
    assert [task.id for task in (await ada).tasks] == ["held"]
    assert not bob.done()
    clock.advance(3_000)
    assert [task.id for task in (await bob).tasks] == ["later"]


async def test_resume_wakes(client: Client) -> None:
    """Who waits while claims are paused is given a task by the resume."""
    await _create(client, "ready")
    await _connect(client, "ada")
    await client.admin.Pause(v1.PauseRequest(by="eve"))
    call = await _stand_in_line(client, "ada")
    assert not call.done()
    await client.admin.Resume(v1.ResumeRequest(by="eve"))
    assert [task.id for task in (await call).tasks] == ["ready"]


async def test_all_done_ends_the_wait(client: Client) -> None:
    """With the end of the last task all who wait are told ALL_DONE, but who waits for more."""
    await _create(client, "last")
    for worker in ("busy", "ada", "bob", "eve"):
        await _connect(client, worker)
    await client.claims.ClaimTask(v1.ClaimTaskRequest(worker_id="busy", task_id="last"))
    calls = [await _stand_in_line(client, worker) for worker in ("ada", "bob")]
    patient = await _stand_in_line(client, "eve", wait_when_done=True)
    await client.claims.CompleteTask(v1.CompleteTaskRequest(worker_id="busy", task_id="last"))
    assert {(await call).outcome for call in calls} == {v1.CLAIM_OUTCOME_ALL_DONE}
    assert not patient.done()
    await _create(client, "more")
    assert [task.id for task in (await patient).tasks] == ["more"]


async def test_cancelled_call_leaves_the_line(graph: Client) -> None:
    """A task does not go to a call that was cancelled; the next in line has it."""
    await _connect(graph, "ada")
    await _connect(graph, "bob")
    ada = await _stand_in_line(graph, "ada")
    bob = await _stand_in_line(graph, "bob")
    ada.cancel()
    with pytest.raises(asyncio.CancelledError):
        await ada
    await _create(graph, "new")
    # Also where the task overtakes the cancellation: then it is given back, and bob's.
    assert [task.id for task in (await bob).tasks] == ["new"]


async def test_scope_is_waited_for(graph: Client) -> None:
    """Who waits below a task is given tasks from there, and told when all there have ended."""
    await graph.tasks.CreateTaskTree(
        v1.CreateTaskTreeRequest(
            root=v1.TaskNode(
                id="tree",
                title="tree",
                children=[
                    v1.TaskNode(id="a", title="a"),
                    v1.TaskNode(id="b", title="b", blocked_by=["a"]),
                ],
            )
        )
    )
    for worker in ("busy", "ada", "bob"):
        await _connect(graph, worker)
    await graph.claims.ClaimTask(v1.ClaimTaskRequest(worker_id="busy", task_id="a"))
    ada = await _stand_in_line(graph, "ada", parent_id="tree")
    bob = await _stand_in_line(graph, "bob", parent_id="tree")
    await _create(graph, "elsewhere")
    assert not ada.done()
    await graph.claims.CompleteTask(v1.CompleteTaskRequest(worker_id="busy", task_id="a"))
    assert [task.id for task in (await ada).tasks] == ["b"]
    await graph.claims.CompleteTask(v1.CompleteTaskRequest(worker_id="ada", task_id="b"))
    assert (await bob).outcome == v1.CLAIM_OUTCOME_ALL_DONE


async def test_same_request_again_takes_the_place(graph: Client) -> None:
    """A retried call takes over the place of the one that waits; one task is given, once."""
    await _connect(graph, "ada", max_claims=5)
    first = await _stand_in_line(graph, "ada", request_id="r1")
    second = _next(graph, "ada", request_id="r1")
    with pytest.raises(TaskloomError) as refused:
        await first
    assert refused.value.reason == "SUPERSEDED"
    await _create(graph, "one")
    await _create(graph, "two")
    answer = await second
    assert [task.id for task in answer.tasks] == ["one"]
    again = await _next(graph, "ada", request_id="r1")
    assert again == answer


async def test_same_id_of_another_request_is_refused_while_one_waits(graph: Client) -> None:
    """A request_id under which a call waits is not to be had for other contents, at once."""
    await _connect(graph, "ada")
    await _connect(graph, "bob")
    ada = await _stand_in_line(graph, "ada", request_id="r1")
    with pytest.raises(TaskloomError) as refused:
        await _next(graph, "bob", request_id="r1")
    assert (refused.value.code.name, refused.value.reason) == (
        "INVALID_ARGUMENT",
        "REQUEST_ID_REUSED",
    )
    await _create(graph, "new")
    assert [task.id for task in (await ada).tasks] == ["new"]


async def test_same_request_need_not_wait_as_long(graph: Client) -> None:
    """How long a call waits is no part of the request: again without, it is answered at once."""
    await _connect(graph, "ada")
    first = await _stand_in_line(graph, "ada", request_id="r1")
    answer = await graph.claims.ClaimNextTask(
        v1.ClaimNextTaskRequest(worker_id="ada", request_id="r1")
    )
    assert answer.outcome == v1.CLAIM_OUTCOME_NONE_READY
    with pytest.raises(TaskloomError) as refused:
        await first
    assert refused.value.reason == "SUPERSEDED"
    await _create(graph, "new")
    given = await _next(graph, "ada", request_id="r1")
    again = v1.ClaimNextTaskRequest(worker_id="ada", request_id="r1")
    assert await graph.claims.ClaimNextTask(again) == given


@pytest.mark.parametrize("after", range(12))
async def test_what_a_cancelled_call_was_given_is_given_back(
    server: "Server", graph: Client, after: int
) -> None:
    """Cancelled in whatever instant of the assignment, a call leaves nothing claimed for nobody."""
    await _connect(graph, "ada", max_claims=5)
    async with Client(server.address) as client:
        call = await _stand_in_line(client, "ada")
        created = asyncio.create_task(_create(graph, "new"))
        for _ in range(after * after):
            await asyncio.sleep(0)
        call.cancel()
        await created
        given = (await asyncio.gather(call, return_exceptions=True))[0]
    shown = (await graph.tasks.GetTask(v1.GetTaskRequest(task_id="new"))).task
    if isinstance(given, asyncio.CancelledError):
        # Who is known to have gone is undone by the server, in its own time.
        while shown.status != "pending":
            shown = (await graph.tasks.GetTask(v1.GetTaskRequest(task_id="new"))).task
    else:
        assert isinstance(given, v1.ClaimNextTaskResponse)
        assert [task.id for task in given.tasks] == ["new"]


async def test_thousand_tasks_to_sixty_four_who_wait(graph: Client) -> None:
    """Tasks that come in one by one go each to one of many waiting workers, none twice."""
    taken: list[str] = []
    workers = [f"w{n}" for n in range(64)]
    for worker in workers:
        await _connect(graph, worker)

    async def work(worker: str) -> None:
        while len(taken) < 300:
            answer = await _next(graph, worker, wait=10)
            for task in answer.tasks:
                taken.append(task.id)
                await graph.claims.CompleteTask(
                    v1.CompleteTaskRequest(worker_id=worker, task_id=task.id)
                )

    crew = [asyncio.create_task(work(worker)) for worker in workers]
    for n in range(300 + 64):
        await _create(graph, f"t{n}")
    await asyncio.gather(*crew)
    assert len(taken) == len(set(taken)) >= 300
    listed = await graph.workers.ListWorkers(v1.ListWorkersRequest(page_size=100))
    assert sum(worker.claims_lost for worker in listed.workers) == 0


async def test_server_that_stops_tells_who_waits(start_server: Any) -> None:
    """A waiting call is told that the server is going, at once."""
    async with start_server() as server, Client(server.address) as client:
        await _create(client, "open", needed_tags=["nobody-has-this"])
        await _connect(client, "ada")
        call = await _stand_in_line(client, "ada")
    with pytest.raises((TaskloomError, asyncio.CancelledError)):
        await call


# The order of those who wait, by the test's clock


async def _joins(client: Client, clock: Any, worker: str, **fields: Any) -> asyncio.Task[Any]:
    """A call that has taken its place in the line before this returns."""
    clock.advance(1)
    call = _next(client, worker, **fields)
    while (await show_worker(client, worker)).heartbeat_time.ToMilliseconds() < clock.now():
        pass
    return call


async def _given(call: asyncio.Task[Any]) -> list[str]:
    """The tasks that a waiting call is given."""
    async with asyncio.timeout(5):
        return [task.id for task in (await call).tasks]


@pytest.fixture
async def timed_graph(timed_client: Client) -> Client:
    """As ``graph``, by the test's clock."""
    await _create(timed_client, "open", needed_tags=["nobody-has-this"])
    return timed_client


async def _tire(client: Client, worker: str, seconds: int) -> None:
    """Let a worker rest for so long from now."""
    await connect(client, worker, max_claims=2, cool_down=duration(seconds * 1_000))
    await _create(client, f"{worker}'s")
    await claim(client, worker, f"{worker}'s")
    await complete(client, worker, f"{worker}'s")


async def test_one_who_rests_holds_nobody_up(timed_graph: Client, clock: Any) -> None:
    """A task goes past those at the head who rest, to the first behind them with the same tags."""
    for worker in ("ada", "eve"):
        await _tire(timed_graph, worker, 10)
    await connect(timed_graph, "bob")
    resting = [await _joins(timed_graph, clock, worker) for worker in ("ada", "eve")]
    bob = await _joins(timed_graph, clock, "bob")
    await _create(timed_graph, "task")
    assert await _given(bob) == ["task"]
    assert not any(call.done() for call in resting)
    for call in resting:
        call.cancel()


async def test_one_who_begins_to_rest_while_waiting_holds_nobody_up(
    timed_graph: Client, clock: Any
) -> None:
    """Who ends a task while another call of its waits does not keep the line from those behind."""
    await connect(timed_graph, "ada", max_claims=2, cool_down=duration(10_000))
    await connect(timed_graph, "bob")
    await _create(timed_graph, "first")
    await claim(timed_graph, "ada", "first")
    ada = await _joins(timed_graph, clock, "ada")
    bob = await _joins(timed_graph, clock, "bob")
    await complete(timed_graph, "ada", "first")
    await _create(timed_graph, "task")
    assert await _given(bob) == ["task"]
    assert not ada.done()
    ada.cancel()


async def test_a_rest_costs_nobody_his_place(timed_graph: Client, clock: Any) -> None:
    """Once its rest is over a worker stands where it stood: before those who came after it."""
    await _tire(timed_graph, "ada", 5)
    await connect(timed_graph, "bob")
    ada = await _joins(timed_graph, clock, "ada")
    bob = await _joins(timed_graph, clock, "bob")
    clock.advance(5_000)
    await heartbeat(timed_graph, "bob")  # a change, with which what is due is seen to
    await _create(timed_graph, "one")
    assert await _given(ada) == ["one"]
    assert not bob.done()
    await _create(timed_graph, "two")
    assert await _given(bob) == ["two"]


async def test_two_calls_that_come_due_together_are_given_a_task_each(
    timed_server: "Server", timed_graph: Client, clock: Any
) -> None:
    """Of a worker whose rest is over each waiting call is answered once, with what it then has.

    It had worked on the tasks beside others: taking one of them over leaves it room for more, by
    which the second call is asked while it is about to be.
    """
    tasks = ("one", "two", "three")
    await connect(timed_graph, "ada", max_claims=9, cool_down=duration(5_000))
    await connect(timed_graph, "bob")
    for task in ("first", *tasks):
        await _create(timed_graph, task)
    for task in tasks:
        await claim(timed_graph, "ada", task, mode=v1.CLAIM_MODE_ADVISORY)
    await claim(timed_graph, "ada", "first")
    await complete(timed_graph, "ada", "first")
    async with aio.insecure_channel(timed_server.address) as channel:
        stub: Any = v1.ClaimServiceStub(channel)  # which names no requests
        request = v1.ClaimNextTaskRequest(worker_id="ada", wait=duration(60_000))
        calls = []
        for _ in range(2):
            clock.advance(1)
            calls.append(asyncio.ensure_future(stub.ClaimNextTask(request)))
            while (
                await show_worker(timed_graph, "ada")
            ).heartbeat_time.ToMilliseconds() < clock.now():
                pass
        clock.advance(5_000)
        await heartbeat(timed_graph, "bob")  # a change, with which what is due is seen to
        given = [task.id for call in calls for task in (await call).tasks]
    listed = (await timed_graph.tasks.ListTasks(v1.ListTasksRequest(owner="ada"))).tasks
    assert sorted(given) == sorted(task.id for task in listed if task.claim_revision)


async def test_a_second_call_beyond_the_limit_holds_nobody_up(
    timed_graph: Client, clock: Any
) -> None:
    """A worker with room for one task that waits twice is told so; the task goes to the next."""
    for worker in ("ada", "bob"):
        await connect(timed_graph, worker)
    first = await _joins(timed_graph, clock, "ada")
    second = await _joins(timed_graph, clock, "ada")
    bob = await _joins(timed_graph, clock, "bob")
    await _create(timed_graph, "one")
    assert await _given(first) == ["one"]
    await _create(timed_graph, "two")
    assert await _given(bob) == ["two"]
    assert (await second).outcome == v1.CLAIM_OUTCOME_LIMIT_REACHED


async def test_a_retry_keeps_the_place_of_the_call_before(timed_graph: Client, clock: Any) -> None:
    """The same request again stands where the first stood, not behind those who came meanwhile."""
    for worker in ("ada", "bob"):
        await connect(timed_graph, worker)
    first = await _joins(timed_graph, clock, "ada", request_id="r1")
    bob = await _joins(timed_graph, clock, "bob")
    second = await _joins(timed_graph, clock, "ada", request_id="r1")
    with pytest.raises(TaskloomError) as refused:
        await first
    assert refused.value.reason == "SUPERSEDED"
    await _create(timed_graph, "task")
    assert await _given(second) == ["task"]
    assert not bob.done()
    bob.cancel()


@pytest.mark.parametrize("first", ["full", "shares"])
async def test_first_come_first_served_whatever_their_tags(
    timed_graph: Client, clock: Any, first: str
) -> None:
    """Past one who cannot take a task alone it goes to the next in line, not to one like him."""
    await connect(timed_graph, "plain", "last")
    await connect(timed_graph, "gpu", tags=["gpu"])
    mode = v1.CLAIM_MODE_ADVISORY if first == "shares" else v1.CLAIM_MODE_EXCLUSIVE
    head = await _joins(timed_graph, clock, "plain", mode=mode)
    gpu = await _joins(timed_graph, clock, "gpu")
    last = await _joins(timed_graph, clock, "last")
    if first == "full":
        await _create(timed_graph, "assigned", blocked_by=["open"])
        await update(timed_graph, "assigned", assignee="plain")
    await _create(timed_graph, "task")
    try:
        assert await _given(gpu) == ["task"]
        assert not last.done()
    finally:
        for call in (head, gpu, last):
            call.cancel()


CONTAINS = v1.DEPENDENCY_TYPE_CONTAINS


@pytest.mark.parametrize(
    ("how", "scope"),
    [
        ("unlinked", "middle"),
        ("unlinked with its parent", "top"),
        ("relinked with its parent", "top"),
        ("deleted", "middle"),
        ("cancelled", "middle"),
    ],
)
async def test_the_end_of_a_scope(timed_graph: Client, clock: Any, how: str, scope: str) -> None:
    """Who waits below a task is told ALL_DONE when its last open one is taken out of it or ends."""
    tasks = timed_graph.tasks
    for id, parent in (("top", ""), ("middle", "top"), ("child", "middle"), ("elsewhere", "")):
        await _create(timed_graph, id, needed_tags=["x"], parent_id=parent)
    await connect(timed_graph, "ada")
    call = await _joins(timed_graph, clock, "ada", parent_id=scope)
    out = v1.Dependency(from_task_id="top", to_task_id="middle", type=CONTAINS)
    into = v1.Dependency(from_task_id="elsewhere", to_task_id="middle", type=CONTAINS)
    match how:
        case "unlinked":
            await tasks.UnlinkTasks(
                v1.UnlinkTasksRequest(from_task_id="middle", to_task_id="child", type=CONTAINS)
            )
        case "unlinked with its parent":
            await tasks.UnlinkTasks(
                v1.UnlinkTasksRequest(from_task_id="top", to_task_id="middle", type=CONTAINS)
            )
        case "relinked with its parent":
            await tasks.RelinkTasks(v1.RelinkTasksRequest(remove=[out], add=[into]))
        case "deleted":
            await tasks.DeleteTask(v1.DeleteTaskRequest(task_id="child"))
        case "cancelled":
            await update(timed_graph, "child", status="cancelled")
    try:
        async with asyncio.timeout(5):
            assert (await asyncio.shield(call)).outcome == v1.CLAIM_OUTCOME_ALL_DONE
    finally:
        call.cancel()


async def test_what_is_moved_below_a_task_goes_to_who_waits_there(
    timed_graph: Client, clock: Any
) -> None:
    """Who waits below a task is given a ready task that is linked into it, with its children."""
    await connect(timed_graph, "ada", "bob")
    await _create(timed_graph, "top", needed_tags=["x"])
    await _create(timed_graph, "hold", parent_id="top", needed_tags=["x"])
    for id, parent in (("moved", ""), ("below", "moved")):
        await _create(timed_graph, id, parent_id=parent)
    call = await _joins(timed_graph, clock, "ada", parent_id="top")
    link = v1.LinkTasksRequest(
        from_task_id="top", to_task_id="moved", type=v1.DEPENDENCY_TYPE_CONTAINS
    )
    await timed_graph.tasks.LinkTasks(link)
    try:
        assert await _given(call) == ["below"]
    finally:
        call.cancel()


async def test_who_waits_longest_is_served_first_when_tasks_of_many_kinds_become_ready(
    timed_graph: Client, clock: Any
) -> None:
    """One verb that frees tasks asking different tags: the first in line takes the best of all."""
    await connect(timed_graph, "both", tags=["cpu", "gpu"])
    await connect(timed_graph, "cpu", tags=["cpu"])
    await connect(timed_graph, "busy")
    await _create(timed_graph, "first")
    await claim(timed_graph, "busy", "first")
    for tag, priority in (("cpu", 5), ("gpu", 9)):
        await _create(timed_graph, tag, blocked_by=["first"], needed_tags=[tag], priority=priority)
    both = await _joins(timed_graph, clock, "both")
    cpu = await _joins(timed_graph, clock, "cpu")
    await complete(timed_graph, "busy", "first")
    try:
        assert await _given(both) == ["gpu"]
        assert await _given(cpu) == ["cpu"]
    finally:
        both.cancel()
        cpu.cancel()


async def test_two_who_may_take_only_one_kind_do_not_pass_by_the_first(
    timed_graph: Client, clock: Any
) -> None:
    """The one task that a later one could take as well goes to who came first."""
    await connect(timed_graph, "late", tags=["cpu"])
    await connect(timed_graph, "early", tags=["cpu", "gpu"])
    await connect(timed_graph, "busy")
    await _create(timed_graph, "first")
    await claim(timed_graph, "busy", "first")
    await _create(timed_graph, "gpu", blocked_by=["first"], needed_tags=["gpu"], priority=1)
    await _create(timed_graph, "cpu", blocked_by=["first"], needed_tags=["cpu"], priority=9)
    early = await _joins(timed_graph, clock, "early")
    late = await _joins(timed_graph, clock, "late")
    await complete(timed_graph, "busy", "first")
    try:
        assert await _given(early) == ["cpu"], "the best of what he may take"
        assert not late.done()
    finally:
        early.cancel()
        late.cancel()
