"""Roles: what a worker may do, by its tags."""

import asyncio
from dataclasses import replace
from typing import Any

import pytest
from taskloom import v1
from taskloom_client import Agent, Client
from taskloom_server.graph.workflows import Role

from tests.calls import (
    claim,
    claim_next,
    complete,
    connect,
    create,
    duration,
    heartbeat,
    refusal,
    release,
    show,
    show_worker,
    update,
)
from tests.workflows_obeyed.boards import board
from tests.workflows_obeyed.conftest import Serving

LEAD = Role("lead", frozenset({"lead"}))
CODER = Role(
    "coder",
    frozenset({"code"}),
    max_claims=2,
    can_assign=False,
    can_create_subtasks=False,
    can_force=False,
)
ROLES = board(roles=(LEAD, CODER))
ANYBODY = board(roles=(LEAD, Role("anybody", frozenset(), can_assign=False)))


async def _role(client: Client, *tags: str) -> str:
    answer = await client.workers.Connect(v1.ConnectRequest(worker_id="w", tags=tags))
    return answer.worker.role


async def test_a_worker_has_the_first_role_whose_tags_it_has(serve: Serving) -> None:
    """All the tags of the role, whatever else the worker has; of several roles the first one."""
    async with serve(ROLES) as client:
        assert await _role(client, "code", "python") == "coder"
        assert await _role(client, "code", "lead") == "lead"
        assert await _role(client, "python") == ""
        assert (await show_worker(client, "w")).role == ""
    async with serve(ANYBODY) as client:
        assert await _role(client, "python") == "anybody"
        assert (await heartbeat(client, "w")).worker.role == "anybody"
        assert (await show_worker(client, "w")).role == "anybody"


async def test_the_role_caps_what_a_worker_holds(serve: Serving) -> None:
    """The fewer of what the worker asks for and its role allows holds, and the answer says so."""
    async with serve(ROLES) as client:
        request = v1.ConnectRequest(worker_id="w", tags=["code"], max_claims=5)
        answer = await client.workers.Connect(request)
        assert answer.worker.max_claims == 2
        assert list(answer.warnings) == [
            "max_claims: role 'coder' may hold 2 at once, not 5",
        ]
        for id in ("a", "b", "c"):
            await create(client, id)
        await claim(client, "w", "a")
        await claim(client, "w", "b")
        assert (await refusal(claim(client, "w", "c"))).reason == "CLAIM_LIMIT"
        answer = await client.workers.Connect(v1.ConnectRequest(worker_id="w", tags=["code"]))
        assert (answer.worker.max_claims, list(answer.warnings)) == (1, [])


async def _assign(client: Client, worker: str) -> Any:
    await update(client, "t", worker_id=worker, assignee=worker)


async def _subtask(client: Client, worker: str) -> Any:
    await create(client, "child", parent_id="t", worker_id=worker)


async def _subtree(client: Client, worker: str) -> Any:
    root = v1.TaskNode(title="child")
    request = v1.CreateTaskTreeRequest(root=root, parent_id="t", worker_id=worker)
    await client.tasks.CreateTaskTree(request)


async def _link(client: Client, worker: str) -> Any:
    contains = v1.DEPENDENCY_TYPE_CONTAINS
    request = v1.LinkTasksRequest(from_task_id="t", to_task_id="u", type=contains, worker_id=worker)
    await client.tasks.LinkTasks(request)


async def _force(client: Client, worker: str) -> Any:
    await client.tasks.DeleteTask(v1.DeleteTaskRequest(task_id="t", worker_id=worker, force=True))


@pytest.mark.parametrize(
    ("does", "right", "words"),
    [
        (_assign, "assign", "assign tasks"),
        (_subtask, "create_subtasks", "create subtasks"),
        (_subtree, "create_subtasks", "create subtasks"),
        (_link, "create_subtasks", "create subtasks"),
        (_force, "force", "force anything"),
    ],
    ids=["assign", "subtask", "subtree", "link", "force"],
)
async def test_who_may_and_who_may_not(serve: Serving, does: Any, right: str, words: str) -> None:
    """A right is refused with the role, the right and who has it; others and persons have it."""
    async with serve(ROLES) as client:
        await connect(client, "coder", tags=["code"])
        await connect(client, "nobody", tags=["python"])
        await connect(client, "lead", tags=["lead"])
        for id in ("t", "u"):
            await create(client, id)
        error = await refusal(does(client, "coder"))
        assert (error.reason, error.code.name) == ("ROLE_FORBIDS", "PERMISSION_DENIED")
        told = {"right": right, "roles": "lead", "workflow": "board"}
        assert error.metadata == {"role": "coder"} | told
        assert error.message == (
            f"role 'coder' of worker 'coder' in workflow 'board' may not {words}; "
            "what may: 'lead' (tags: lead)"
        )
        error = await refusal(does(client, "nobody"))
        assert error.metadata == {"role": ""} | told
        assert "which has no role in workflow 'board'" in error.message
        await does(client, "lead")


@pytest.mark.parametrize(
    "does",
    [_assign, _subtask, _subtree, _link, _force],
    ids=["assign", "subtask", "subtree", "link", "force"],
)
async def test_the_tasks_workflow_decides(serve: Serving, does: Any) -> None:
    """Whoever connects to a workflow without roles has, for a task of one with roles, those."""
    async with serve(ROLES) as client:
        await connect(client, "ada", tags=["code"], workflow="swarm")
        await connect(client, "lead", tags=["lead"], workflow="swarm")
        for id in ("t", "u"):
            await create(client, id)
        error = await refusal(does(client, "ada"))
        assert (error.reason, error.metadata["role"]) == ("ROLE_FORBIDS", "coder")
        await does(client, "lead")


async def test_another_workflows_tasks_are_free(serve: Serving) -> None:
    """A role restricts in its own workflow: with tasks of one without roles all may do all."""
    async with serve(ROLES) as client:
        await connect(client, "ada", tags=["code"])
        for id in ("t", "u"):
            await create(client, id, workflow="swarm")
        for does in (_assign, _subtask, _subtree, _link):
            await does(client, "ada")


async def test_a_subtask_is_one_in_both_workflows(serve: Serving) -> None:
    """The right to make subtasks is asked for in the parent's workflow, and in the child's."""
    async with serve(ROLES) as client:
        await connect(client, "ada", tags=["code"], workflow="swarm")
        await create(client, "board")
        await create(client, "swarm", workflow="swarm")
        for parent, workflow in (("board", "swarm"), ("swarm", "board")):
            made = create(client, "t", parent_id=parent, workflow=workflow, worker_id="ada")
            error = await refusal(made)
            assert (error.reason, error.metadata["workflow"]) == ("ROLE_FORBIDS", "board")
            contains = v1.DEPENDENCY_TYPE_CONTAINS
            link = v1.Dependency(from_task_id=parent, to_task_id=workflow, type=contains)
            relink = v1.RelinkTasksRequest(add=[link], worker_id="ada")
            assert (await refusal(client.tasks.RelinkTasks(relink))).reason == "ROLE_FORBIDS"


async def test_what_is_below_a_new_root_is_a_subtask(serve: Serving) -> None:
    """A tree with children takes the right to make subtasks; a root alone does not."""
    async with serve(ROLES) as client:
        await connect(client, "coder", tags=["code"])
        root = v1.TaskNode(title="root", children=[v1.TaskNode(title="child")])
        request = v1.CreateTaskTreeRequest(root=root, worker_id="coder")
        assert (await refusal(client.tasks.CreateTaskTree(request))).reason == "ROLE_FORBIDS"
        request.root.ClearField("children")
        assert len((await client.tasks.CreateTaskTree(request)).tasks) == 1


async def test_a_task_leaves_its_workflow_by_force_only(serve: Serving) -> None:
    """Another workflow for a task takes the right to force, in the one that it leaves or joins."""
    async with serve(ROLES) as client:
        await connect(client, "ada", tags=["code"], workflow="swarm")
        await connect(client, "lead", tags=["lead"], workflow="swarm")
        await create(client, "t")
        for to in ("swarm", "board"):
            error = await refusal(update(client, "t", worker_id="ada", workflow=to))
            assert (error.reason, error.metadata["right"]) == ("ROLE_FORBIDS", "force")
            assert (await update(client, "t", worker_id="lead", workflow=to)).workflow == to
            await update(client, "t", worker_id="ada", workflow=to)  # where it is already
        assert (await update(client, "t", workflow="swarm")).workflow == "swarm"


async def test_a_person_may_do_everything(serve: Serving) -> None:
    """Who names no worker has no role that could lack a right."""
    async with serve(board(roles=(CODER,))) as client:
        await connect(client, "w", tags=["code"])
        await create(client, "t")
        await create(client, "child", parent_id="t")
        await update(client, "child", assignee="w")
        request = v1.DeleteTaskRequest(task_id="t", cascade=True, force=True)
        assert len((await client.tasks.DeleteTask(request)).deleted_task_ids) == 2


async def test_a_workflow_without_roles_restricts_nobody(serve: Serving) -> None:
    """Where there are no roles, every worker may do everything."""
    async with serve(board()) as client:
        await connect(client, "w")
        await create(client, "t")
        await create(client, "child", parent_id="t", worker_id="w")
        await update(client, "child", worker_id="w", assignee="w")


async def test_what_is_no_subtask_needs_no_right(serve: Serving) -> None:
    """A worker that may not create subtasks may create roots, link blockers and update tasks."""
    async with serve(ROLES) as client:
        await connect(client, "coder", tags=["code"])
        for id in ("t", "u"):
            await create(client, id, worker_id="coder")
        link = v1.LinkTasksRequest(from_task_id="t", to_task_id="u", worker_id="coder")
        await client.tasks.LinkTasks(link)
        await claim(client, "coder", "t")
        await update(client, "t", worker_id="coder", priority=9)
        await update(client, "t", worker_id="coder", assignee="")


HAND = Role("hand", frozenset(), can_assign=False, can_claim=False)
PUSH = board(roles=(LEAD, HAND))


async def explained(client: Client, task: str, worker: str = "") -> list[v1.Obstacle]:
    """What is in the way of a task."""
    request = v1.ExplainTaskRequest(task_id=task, worker_id=worker)
    return list((await client.tasks.ExplainTask(request)).obstacles)


async def test_who_begins_only_what_is_assigned(serve: Serving) -> None:
    """No claim of either kind gets a task from the queue; what is assigned is begun as ever."""
    async with serve(PUSH) as client:
        await connect(client, "hand", max_claims=2)
        await connect(client, "lead", tags=["lead"])
        assert (await claim_next(client, "hand")).outcome == v1.CLAIM_OUTCOME_ALL_DONE
        for id in ("a", "b", "c"):
            await create(client, id)
        for mode in (v1.CLAIM_MODE_EXCLUSIVE, v1.CLAIM_MODE_ADVISORY):
            error = await refusal(claim(client, "hand", "a", mode=mode))
            assert (error.reason, error.code.name) == ("ROLE_FORBIDS", "PERMISSION_DENIED")
            assert error.metadata == {
                "role": "hand",
                "right": "claim",
                "workflow": "board",
                "roles": "lead",
            }
            answer = await claim_next(client, "hand", mode=mode)
            assert answer.outcome == v1.CLAIM_OUTCOME_ROLE_FORBIDS
        await update(client, "a", worker_id="lead", assignee="hand")
        assert (await claim_next(client, "hand")).outcome == v1.CLAIM_OUTCOME_ASSIGNED
        assert (await claim(client, "hand", "a")).status == "working"
        assert (await claim(client, "hand", "a")).status == "working"  # a renewal
        assert (await claim_next(client, "hand")).outcome == v1.CLAIM_OUTCOME_ROLE_FORBIDS
        await release(client, "hand", "a")
        assert (await refusal(claim(client, "hand", "a"))).reason == "ROLE_FORBIDS"
        assert (await claim_next(client, "lead")).tasks[0].id == "a"


async def test_a_role_that_all_lack_or_have(serve: Serving) -> None:
    """Who has no role lacks what one of them lacks, and nothing that all of them have."""
    async with serve(board(roles=(LEAD, replace(HAND, tags=frozenset({"hand"}))))) as client:
        await connect(client, "stranger")
        await create(client, "t")
        error = await refusal(claim(client, "stranger", "t"))
        assert error.metadata == {
            "role": "",
            "right": "claim",
            "workflow": "board",
            "roles": "lead",
        }
    async with serve(board(roles=(LEAD, CODER))) as client:
        await connect(client, "stranger")
        await create(client, "u")
        assert (await claim(client, "stranger", "u")).status == "working"


async def test_waiting_for_an_assignment(serve: Serving) -> None:
    """A call that waits is answered as something is assigned; a task that is ready ends no wait."""
    async with serve(PUSH) as client:
        await create(client, "held")
        await connect(client, "hand", "other", max_claims=2)
        await connect(client, "lead", tags=["lead"])
        waiting = asyncio.create_task(claim_next(client, "hand", wait=duration(60_000)))
        for _ in range(5):  # so that it stands in line by then
            await show(client, "held")
        await create(client, "t")
        await update(client, "held", assignee="other")
        assert not waiting.done()
        await update(client, "t", assignee="hand")
        assert (await waiting).outcome == v1.CLAIM_OUTCOME_ASSIGNED


async def test_a_stream_waits_for_an_assignment(serve: Serving) -> None:
    """It says once that the role forbids, and then that something is assigned."""
    async with serve(PUSH) as client:
        await create(client, "t")
        await connect(client, "hand", max_claims=2)
        heard: asyncio.Queue[int] = asyncio.Queue()

        class Listener:
            def received(self, message: v1.WorkResponse | None) -> None:
                if message is not None and message.HasField("waiting"):
                    heard.put_nowait(message.waiting.outcome)

            def sent(self, message: v1.WorkRequest) -> None: ...

        async with asyncio.timeout(30), client.work("hand", listener=Listener()) as work:
            work.grant(1)
            assert await heard.get() == v1.CLAIM_OUTCOME_ROLE_FORBIDS
            await update(client, "t", assignee="hand")
            assert await heard.get() == v1.CLAIM_OUTCOME_ASSIGNED
            assert (await claim(client, "hand", "t")).status == "working"
            await work.complete(v1.CompleteTaskRequest(task_id="t"))
            assert (await show(client, "t")).status == "completed"


async def test_why_says_so(serve: Serving) -> None:
    """For a worker with its role, for everybody where nobody may by himself."""
    async with serve(PUSH) as client:
        await create(client, "t", needed_tags=["x"])
        await connect(client, "hand", tags=["x"])
        (one,) = await explained(client, "t", "hand")
        assert (one.type, list(one.worker_ids)) == (v1.OBSTACLE_TYPE_ROLE, ["hand"])
        assert "role 'hand' of worker 'hand' in workflow 'board' may not claim" in one.message
        (everybody,) = await explained(client, "t")
        assert everybody.type == v1.OBSTACLE_TYPE_ROLE
        await connect(client, "lead", tags=["lead", "x"])
        assert await explained(client, "t") == []
        await update(client, "t", assignee="hand")
        assert await explained(client, "t", "hand") == []


@pytest.mark.parametrize("pull", ["next", "stream", "watch", "poll"])
@pytest.mark.parametrize("max_claims", [1, 3])
async def test_agents_wait_for_assignments(serve: Serving, pull: str, max_claims: int) -> None:
    """However it pulls, an agent of such a role begins what is assigned to it, and nothing else."""
    async with serve(PUSH) as client:
        await create(client, "theirs", priority=9)
        await create(client, "mine")
        options: dict[str, Any] = {"pull": pull, "idle_interval": 0.01, "max_claims": max_claims}
        async with asyncio.timeout(30), Agent(client, "hand", **options) as agent:
            waiting = asyncio.create_task(anext(agent.tasks()))
            while agent.looking == 0 or agent.counters.calls < 2:
                await show(client, "mine")
            await update(client, "mine", assignee="hand")
            task = await waiting
            assert (task.id, task.task.status) == ("mine", "working")
            assert (await show(client, "theirs")).status == "pending"


async def test_who_waits_for_an_assignment_is_told_that_all_is_done(serve: Serving) -> None:
    """With the last task ends the wait of those who begin only what is assigned to them, too."""
    async with serve(PUSH) as client:
        await create(client, "last")
        await connect(client, "hand")
        await connect(client, "lead", tags=["lead"])
        waiting = asyncio.create_task(claim_next(client, "hand", wait=duration(60_000)))
        for _ in range(5):  # so that it stands in line by then
            await show(client, "last")
        await claim(client, "lead", "last")
        assert not waiting.done()
        await complete(client, "lead", "last")
        assert (await waiting).outcome == v1.CLAIM_OUTCOME_ALL_DONE
