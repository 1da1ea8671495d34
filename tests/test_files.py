"""FileService: advisory marks, so that agents see who is at work on which file."""

from collections.abc import Awaitable
from typing import TYPE_CHECKING, Any

import grpc
import pytest
from google.protobuf.timestamp_pb2 import Timestamp
from taskloom import v1
from taskloom_client import Client, TaskloomError

if TYPE_CHECKING:
    from tests.conftest import TestClock


async def connect(client: Client, *ids: str) -> None:
    """New workers."""
    for id in ids:
        await client.workers.Connect(v1.ConnectRequest(worker_id=id, max_claims=9))


async def create(client: Client, *ids: str) -> None:
    """New tasks."""
    for id in ids:
        await client.tasks.CreateTask(v1.CreateTaskRequest(id=id, title=id))


async def claim(client: Client, worker: str, task: str) -> v1.Task:
    """A task that is claimed by name."""
    request = v1.ClaimTaskRequest(worker_id=worker, task_id=task)
    return (await client.claims.ClaimTask(request)).task


async def mark(client: Client, worker: str, *paths: str, **fields: Any) -> v1.MarkFilesResponse:
    """What MarkFiles answers."""
    request = v1.MarkFilesRequest(worker_id=worker, paths=paths, **fields)
    return await client.files.MarkFiles(request)


async def unmark(client: Client, worker: str, *paths: str, **fields: Any) -> list[str]:
    """The paths that UnmarkFiles freed."""
    request = v1.UnmarkFilesRequest(worker_id=worker, paths=paths, **fields)
    return list((await client.files.UnmarkFiles(request)).unmarked_paths)


async def marked(client: Client, **filters: Any) -> list[tuple[str, str]]:
    """Path and worker of each mark."""
    answer = await client.files.ListFileMarks(v1.ListFileMarksRequest(**filters))
    return [(each.path, each.worker_id) for each in answer.marks]


async def refusal(call: Awaitable[object]) -> TaskloomError:
    """The refusal with which a call ends."""
    with pytest.raises(TaskloomError) as caught:
        await call
    return caught.value


async def events_since(client: Client, revision: int) -> list[v1.Event]:
    """The events of the first message after a revision."""
    async with client.watch(start_revision=revision + 1) as watch:
        async for message in watch:
            if message.events.events:
                return list(message.events.events)
    raise AssertionError("the watch ended")


async def test_a_mark_says_who_why_and_since_when(timed_client: Client, clock: "TestClock") -> None:
    """A mark carries its path as written, worker, task, reason and time; each path has one."""
    await connect(timed_client, "w")
    await create(timed_client, "a")
    paths = ["src/ä b.py", "./src/ä b.py", "src/ä b.py"]
    answer = await mark(timed_client, "w", *paths, task_id="a", reason="rework")
    now = Timestamp(seconds=clock.now() // 1000)
    expected = [
        v1.FileMark(path=path, worker_id="w", task_id="a", reason="rework", mark_time=now)
        for path in paths[:2]
    ]
    assert list(answer.marks) == expected
    assert not answer.conflicts
    listed = await timed_client.files.ListFileMarks(v1.ListFileMarksRequest())
    assert list(listed.marks) == [expected[1], expected[0]]
    assert listed.revision == answer.revision


async def test_marks_of_others_are_conflicts(client: Client) -> None:
    """A mark keeps nobody out: it is made, and the answer lists who else marked the file."""
    await connect(client, "v", "w", "x")
    await mark(client, "w", "a.py", "b.py", reason="mine")
    await mark(client, "x", "a.py")
    answer = await mark(client, "v", "a.py", "c.py")
    assert [each.path for each in answer.marks] == ["a.py", "c.py"]
    assert [(each.path, each.worker_id, each.reason) for each in answer.conflicts] == [
        ("a.py", "w", "mine"),
        ("a.py", "x", ""),
    ]
    assert await marked(client, paths=["a.py"]) == [("a.py", "v"), ("a.py", "w"), ("a.py", "x")]


async def test_marking_again_keeps_the_time(timed_client: Client, clock: "TestClock") -> None:
    """A mark made again takes the new task and reason and keeps its time."""
    await connect(timed_client, "w")
    await create(timed_client, "a")
    first = (await mark(timed_client, "w", "a.py", reason="first")).marks[0]
    clock.advance(5_000)
    again = (await mark(timed_client, "w", "a.py", task_id="a")).marks[0]
    assert again.mark_time == first.mark_time
    assert (again.task_id, again.reason) == ("a", "")
    listed = await timed_client.files.ListFileMarks(v1.ListFileMarksRequest())
    assert list(listed.marks) == [again]


async def test_the_same_mark_again_changes_nothing(client: Client) -> None:
    """A mark that stands as it is asked for makes no revision."""
    await connect(client, "w")
    first = await mark(client, "w", "a.py", reason="why")
    again = await mark(client, "w", "a.py", reason="why")
    assert again == first


async def test_marks_are_told_in_the_stream(client: Client) -> None:
    """Marking and unmarking are events with the mark, one each, in one revision."""
    await connect(client, "w")
    await create(client, "a")
    made = await mark(client, "w", "a.py", "b.py", task_id="a", reason="why")
    events = await events_since(client, made.revision - 1)
    assert [each.type for each in events] == [v1.EVENT_TYPE_FILE_MARKED] * 2
    assert [each.file_mark for each in events] == list(made.marks)
    assert {(each.worker_id, each.task_id, each.reason) for each in events} == {("w", "a", "why")}

    await unmark(client, "w", "a.py", reason="done")
    [event] = await events_since(client, made.revision)
    assert event.type == v1.EVENT_TYPE_FILE_UNMARKED
    assert (event.file_mark.path, event.worker_id, event.reason) == ("a.py", "w", "done")


async def test_unmarking_takes_only_ones_own(client: Client) -> None:
    """The paths that are given are freed of one's own marks; what is not marked is passed over."""
    await connect(client, "v", "w")
    await mark(client, "w", "a.py", "b.py")
    await mark(client, "v", "a.py", "c.py")
    assert await unmark(client, "w", "a.py", "c.py", "d.py") == ["a.py"]
    assert await marked(client) == [("a.py", "v"), ("b.py", "w"), ("c.py", "v")]


async def test_unmarking_without_paths_takes_all(client: Client) -> None:
    """Without paths all of a worker's marks go, or with a task all that are for it."""
    await connect(client, "v", "w")
    await create(client, "a")
    await mark(client, "w", "a.py", "b.py", task_id="a")
    await mark(client, "w", "c.py")
    await mark(client, "v", "d.py", task_id="a")
    assert await unmark(client, "w", task_id="a") == ["a.py", "b.py"]
    assert await marked(client) == [("c.py", "w"), ("d.py", "v")]
    assert await unmark(client, "w") == ["c.py"]
    assert await unmark(client, "w") == []


async def test_unmarking_a_path_for_another_task_is_passed_over(client: Client) -> None:
    """With paths and a task, a mark goes only if it is on one of them and for that task."""
    await connect(client, "w")
    await create(client, "a")
    await mark(client, "w", "a.py", task_id="a")
    await mark(client, "w", "b.py")
    assert await unmark(client, "w", "a.py", "b.py", task_id="a") == ["a.py"]


@pytest.mark.parametrize("ending", ["complete", "fail", "release", "cancel", "delete"])
async def test_marks_go_with_their_task(client: Client, ending: str) -> None:
    """When a task ends or is given back, the marks made for it are removed, and no others."""
    await connect(client, "v", "w")
    await create(client, "a", "b")
    await claim(client, "w", "b")
    if ending != "cancel":
        await claim(client, "w", "a")
    await mark(client, "w", "a.py", task_id="a")
    await mark(client, "v", "a.py", task_id="a")
    await mark(client, "w", "b.py", task_id="b")
    await mark(client, "w", "c.py")
    held: dict[str, Any] = {"worker_id": "w", "task_id": "a"}
    if ending == "complete":
        await client.claims.CompleteTask(v1.CompleteTaskRequest(**held))
    elif ending == "fail":
        await client.claims.FailTask(v1.FailTaskRequest(**held))
    elif ending == "release":
        await client.claims.ReleaseTask(v1.ReleaseTaskRequest(**held))
    elif ending == "cancel":
        await client.tasks.UpdateTask(v1.UpdateTaskRequest(task_id="a", status="cancelled"))
    else:
        await client.tasks.DeleteTask(v1.DeleteTaskRequest(task_id="a", force=True))
    assert await marked(client) == [("b.py", "w"), ("c.py", "w")]


async def test_marks_go_with_their_worker(client: Client) -> None:
    """A worker that disconnects leaves no mark behind."""
    await connect(client, "v", "w")
    await mark(client, "w", "a.py", "b.py")
    await mark(client, "v", "a.py")
    await client.workers.Disconnect(v1.DisconnectRequest(worker_id="w"))
    assert await marked(client) == [("a.py", "v")]


async def test_marks_are_listed_by_path_and_worker(client: Client) -> None:
    """Filters by worker, task and paths, alone and together; unknown ones find nothing."""
    await connect(client, "v", "w")
    await create(client, "a")
    await mark(client, "w", "b.py", "a.py", task_id="a")
    await mark(client, "w", "c.py")
    await mark(client, "v", "a.py", "Z.py")
    everything = [("Z.py", "v"), ("a.py", "v"), ("a.py", "w"), ("b.py", "w"), ("c.py", "w")]
    assert await marked(client) == everything
    assert await marked(client, worker_id="v") == everything[:2]
    assert await marked(client, task_id="a") == everything[2:4]
    assert await marked(client, paths=["c.py", "a.py", "a.py"]) == [*everything[1:3], everything[4]]
    assert await marked(client, worker_id="w", paths=["a.py", "Z.py"]) == [("a.py", "w")]
    assert await marked(client, worker_id="nobody") == []
    assert await marked(client, task_id="nothing") == []


@pytest.mark.parametrize("size", [1, 2, 5, 6])
async def test_marks_page(client: Client, size: int) -> None:
    """The pages of marks hold each once, also where several are on one path."""
    await connect(client, "u", "v", "w")
    for worker in ("w", "v", "u"):
        await mark(client, worker, "a.py", "b.py")
    request = v1.ListFileMarksRequest(page_size=size)
    found: list[tuple[str, str]] = []
    while True:
        page = await client.files.ListFileMarks(request)
        assert len(page.marks) <= size
        found += [(each.path, each.worker_id) for each in page.marks]
        if not page.next_page_token:
            break
        request.page_token = page.next_page_token
    assert found == await marked(client)
    assert len(found) == 6


async def test_a_token_of_another_query(client: Client) -> None:
    """A page token goes with the filters that it came from."""
    await connect(client, "w")
    await mark(client, "w", "a.py", "b.py")
    page = await client.files.ListFileMarks(v1.ListFileMarksRequest(page_size=1))
    request = v1.ListFileMarksRequest(worker_id="w", page_token=page.next_page_token)
    error = await refusal(client.files.ListFileMarks(request))
    assert error.field_violations[0].field == "page_token"


async def test_who_marks_must_be_connected(client: Client) -> None:
    """A worker that is unknown or has disconnected neither marks nor unmarks."""
    await connect(client, "gone")
    await client.workers.Disconnect(v1.DisconnectRequest(worker_id="gone"))
    for worker in ("nobody", "gone"):
        for call in (mark(client, worker, "a.py"), unmark(client, worker)):
            assert (await refusal(call)).reason == "WORKER_NOT_FOUND"
    assert await marked(client) == []


async def test_a_mark_is_for_a_task_that_is_there(client: Client) -> None:
    """A mark for an unknown or a deleted task is refused, and none of its paths is marked."""
    await connect(client, "w")
    await create(client, "gone")
    await client.tasks.DeleteTask(v1.DeleteTaskRequest(task_id="gone"))
    for task, reason in (("nothing", "TASK_NOT_FOUND"), ("gone", "TASK_DELETED")):
        error = await refusal(mark(client, "w", "a.py", "b.py", task_id=task))
        assert error.reason == reason
    assert await marked(client) == []


async def test_a_lost_claim_marks_nothing(client: Client) -> None:
    """With a claim revision that is not the claim's nothing is marked; with the right one it is."""
    await connect(client, "v", "w")
    await create(client, "a")
    token = (await claim(client, "w", "a")).claim_revision
    for worker, revision in (("w", token + 1), ("v", token)):
        error = await refusal(mark(client, worker, "a.py", task_id="a", claim_revision=revision))
        assert (error.code, error.reason) == (grpc.StatusCode.ABORTED, "CLAIM_LOST")
    assert await marked(client) == []
    await mark(client, "w", "a.py", task_id="a", claim_revision=token)
    assert await marked(client) == [("a.py", "w")]


async def test_marking_is_a_sign_of_life(timed_client: Client, clock: "TestClock") -> None:
    """A worker that marks files renews the lease of what it holds."""
    await connect(timed_client, "w")
    await create(timed_client, "a")
    before = await claim(timed_client, "w", "a")
    clock.advance(60_000)
    await mark(timed_client, "w", "a.py")
    shown = await timed_client.tasks.GetTask(v1.GetTaskRequest(task_id="a"))
    renewed = shown.task.lease_expire_time.ToMilliseconds()
    assert renewed == before.lease_expire_time.ToMilliseconds() + 60_000
