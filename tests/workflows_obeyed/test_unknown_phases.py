"""Phases that a workflow does not list: taken, taken with a warning, or refused."""

from taskloom import v1
from taskloom_server.graph.workflows import Unknown

from tests.calls import create, refusal, update
from tests.workflows_obeyed.boards import board
from tests.workflows_obeyed.conftest import Serving

_SAYS = "workflow 'board' has no phase 'dance'; it has explore, design, implement, test, review, "


async def test_an_unknown_phase_is_taken_with_a_warning(serve: Serving) -> None:
    """Creating, creating a tree and updating take it; the answer says where it stood first."""
    async with serve(board(unknown_phase=Unknown.WARN)) as client:
        request = v1.CreateTaskRequest(id="t", title="t", phase="dance")
        created = await client.tasks.CreateTask(request)
        assert created.task.phase == "dance"
        assert list(created.warnings) == [f"phase: {_SAYS}integrate"]
        root = v1.TaskNode(title="top", children=[v1.TaskNode(title="leaf", phase="dance")] * 9)
        tree = await client.tasks.CreateTaskTree(v1.CreateTaskTreeRequest(root=root))
        assert list(tree.warnings) == [f"root.children[0].phase: {_SAYS}integrate"]
        for phase, warned in (("design", False), ("dance", True)):
            change = v1.UpdateTaskRequest(task_id="t", phase=phase)
            updated = await client.tasks.UpdateTask(change)
            assert updated.task.phase == phase
            assert bool(updated.warnings) is warned


async def test_a_warning_is_told_again(serve: Serving) -> None:
    """The same request_id brings the same warning."""
    async with serve(board(unknown_phase=Unknown.WARN)) as client:
        request = v1.CreateTaskRequest(id="t", title="t", phase="dance", request_id="once")
        assert await client.tasks.CreateTask(request) == await client.tasks.CreateTask(request)


async def test_an_unknown_phase_is_refused_or_taken(serve: Serving) -> None:
    """Where the workflow says reject, it is refused; where it says allow, nothing is said."""
    async with serve(board()) as client:
        await create(client, "t")
        assert (await refusal(update(client, "t", phase="dance"))).reason == "INVALID_FIELD"
    async with serve(board(unknown_phase=Unknown.ALLOW)) as client:
        answer = await client.tasks.UpdateTask(v1.UpdateTaskRequest(task_id="t", phase="dance"))
        assert (answer.task.phase, list(answer.warnings)) == ("dance", [])
