"""Claims that wait: who is given what has become ready, and who is not woken."""

import asyncio
from datetime import timedelta
from typing import TYPE_CHECKING, Any

import pytest
from taskloom import v1
from taskloom_client import Client, TaskloomError

from tests.calls import create

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
    await create(client, "open", needed_tags=["nobody-has-this"])
    return client


async def test_created_task_goes_to_who_waits(graph: Client) -> None:
    """A task that is created ready is given to a waiting worker, as claimed."""
    await _connect(graph, "ada")
    call = await _stand_in_line(graph, "ada")
    await create(graph, "new")
    answer = await call
    assert answer.outcome == v1.CLAIM_OUTCOME_CLAIMED
    assert [task.id for task in answer.tasks] == ["new"]
    shown = (await graph.tasks.GetTask(v1.GetTaskRequest(task_id="new"))).task
    assert (shown.worker_id, shown.claim_revision) == ("ada", answer.tasks[0].claim_revision)


async def test_end_of_a_blocker_wakes_one(graph: Client) -> None:
    """Completing the last blocker hands its dependent to the one who waits longest."""
    await create(graph, "first")
    await create(graph, "second", blocked_by=["first"])
    for worker in ("busy", "ada", "bob"):
        await _connect(graph, worker)
    await graph.claims.ClaimTask(v1.ClaimTaskRequest(worker_id="busy", task_id="first"))
    ada = await _stand_in_line(graph, "ada")
    bob = await _stand_in_line(graph, "bob")
    await graph.claims.CompleteTask(v1.CompleteTaskRequest(worker_id="busy", task_id="first"))
    assert [task.id for task in (await ada).tasks] == ["second"]
    assert not bob.done()
    await create(graph, "third")
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
    await create(graph, "train", needed_tags=["gpu"])
    assert [task.id for task in (await gus).tasks] == ["train"]
    assert not ada.done()
    ada.cancel()


async def test_released_task_goes_to_who_waits(graph: Client) -> None:
    """A task that is given back, or whose worker leaves, goes to a waiting worker."""
    await create(graph, "only")
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
    await create(timed_client, "open", needed_tags=["nobody-has-this"])
    await _connect(timed_client, "ada")
    clock.advance(10)
    call = _next(timed_client, "ada", wait=20)
    await _in_line(timed_client, "ada")
    clock.advance(20_000)
    assert (await call).outcome == v1.CLAIM_OUTCOME_NONE_READY


async def test_lease_end_and_not_before_wake(timed_client: Client, clock: Any) -> None:
    """A task whose lease ends, or whose not_before passes, goes to a waiting worker by itself."""
    await create(timed_client, "open", needed_tags=["nobody-has-this"])
    await create(timed_client, "held")
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
    await create(client, "ready")
    await _connect(client, "ada")
    await client.admin.Pause(v1.PauseRequest(by="eve"))
    call = await _stand_in_line(client, "ada")
    assert not call.done()
    await client.admin.Resume(v1.ResumeRequest(by="eve"))
    assert [task.id for task in (await call).tasks] == ["ready"]


async def test_all_done_ends_the_wait(client: Client) -> None:
    """With the end of the last task all who wait are told ALL_DONE, but who waits for more."""
    await create(client, "last")
    for worker in ("busy", "ada", "bob", "eve"):
        await _connect(client, worker)
    await client.claims.ClaimTask(v1.ClaimTaskRequest(worker_id="busy", task_id="last"))
    calls = [await _stand_in_line(client, worker) for worker in ("ada", "bob")]
    patient = await _stand_in_line(client, "eve", wait_when_done=True)
    await client.claims.CompleteTask(v1.CompleteTaskRequest(worker_id="busy", task_id="last"))
    assert {(await call).outcome for call in calls} == {v1.CLAIM_OUTCOME_ALL_DONE}
    assert not patient.done()
    await create(client, "more")
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
    await create(graph, "new")
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
    await create(graph, "elsewhere")
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
    await create(graph, "one")
    await create(graph, "two")
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
    await create(graph, "new")
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
    await create(graph, "new")
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
        created = asyncio.create_task(create(graph, "new"))
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
        await create(graph, f"t{n}")
    await asyncio.gather(*crew)
    assert len(taken) == len(set(taken)) >= 300
    listed = await graph.workers.ListWorkers(v1.ListWorkersRequest(page_size=100))
    assert sum(worker.claims_lost for worker in listed.workers) == 0


async def test_server_that_stops_tells_who_waits(start_server: Any) -> None:
    """A waiting call is told that the server is going, at once."""
    async with start_server() as server, Client(server.address) as client:
        await create(client, "open", needed_tags=["nobody-has-this"])
        await _connect(client, "ada")
        call = await _stand_in_line(client, "ada")
    with pytest.raises((TaskloomError, asyncio.CancelledError)):
        await call
