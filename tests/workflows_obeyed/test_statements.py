"""What obeying a workflow costs: nothing where it does not ask for it, and little where it does."""

from collections.abc import Callable
from contextlib import AbstractAsyncContextManager
from typing import Any

import pytest
from taskloom import v1
from taskloom_client import Client
from taskloom_server.graph.workflows import (
    AttachmentType,
    Enforcement,
    Gate,
    Parents,
    Role,
    Unknown,
    Workflow,
)

from tests.calls import claim, claim_next, complete, connect, create, release, update
from tests.test_hot_statements import Statements, statements
from tests.workflows_obeyed.boards import board, limited, phases, prompt, states

__all__ = ["statements"]  # the fixture

Serving = Callable[..., AbstractAsyncContextManager[Client]]

_TALK = prompt("{{ task.title }} {{ valid_exits }} {{ worker.role }}")
RICH = board(
    **states({"working": {"enter_prompt": _TALK, "exit_prompt": _TALK}}),
    **phases({"implement": {"enter_prompt": _TALK}}),
    combination_prompts={("working", "implement"): _TALK},
    gates={"status:waiting": (Gate("asked", "answer", Enforcement.REJECT),)},
    roles=(Role("anybody", frozenset(), max_claims=50),),
    attachment_types={"note": AttachmentType("note")},
    unknown_attachment_type=Unknown.REJECT,
    unknown_phase=Unknown.WARN,
    connect_prompt=_TALK,
    parents=Parents.ROLLUP,
)


async def _life(client: Client) -> None:
    """Tasks taken in each way, and ended in each."""
    await connect(client, "w", max_claims=9)
    for id in ("a", "b", "c", "d"):
        await create(client, id, phase="implement")
    await claim_next(client, "w", max_tasks=2)
    await claim(client, "w", "c")
    await update(client, "d", worker_id="w", assignee="w")
    await client.attachments.Attach(v1.AttachRequest(task_id="a", type="note"))
    await complete(client, "w", "a")
    await release(client, "w", "b")
    await update(client, "c", worker_id="w", phase="test")
    await update(client, "c", worker_id="w", status="failed")


async def _run(
    serve: Serving, statements: Statements, workflow: Workflow, act: Callable[[Client], Any]
) -> list[str]:
    async with serve(workflow) as client:
        with statements.watched() as run:
            await act(client)
        await client.admin.Reset(v1.ResetRequest(confirm="reset"))
    return [sql for sql, _ in run]


async def test_prompts_roles_and_gates_elsewhere_add_no_statement(
    statements: Statements, serve: Serving
) -> None:
    """A workflow with prompts, roles, types, and gates elsewhere runs what a bare one runs."""
    bare = await _run(serve, statements, board(), _life)
    assert await _run(serve, statements, RICH, _life) == bare


async def test_a_limit_costs_one_count(statements: Statements, serve: Serving) -> None:
    """A claim counts what is in the state, once a task, and so does the end."""

    async def claim_and_end(client: Client) -> None:
        await connect(client, "w", max_claims=9)
        for id in ("a", "b"):
            await create(client, id)
        await claim_next(client, "w")
        await claim(client, "w", "b")
        await complete(client, "w", "a")

    bare = await _run(serve, statements, board(), claim_and_end)
    ruled = await _run(serve, statements, limited(5), claim_and_end)
    counts = [sql for sql in ruled if sql not in bare]
    assert len(counts) == 3
    assert len(ruled) == len(bare) + 3
    assert len(set(counts)) == 1
    assert counts[0].startswith('SELECT COUNT("t1"."number") FROM "tasks"')


async def test_a_full_workflow_costs_the_same_however_much_is_ready(
    statements: Statements, serve: Serving
) -> None:
    """With 10 or with 1,000 ready tasks that there is no room for, others are found by the same."""

    async def others(client: Client, count: int) -> list[tuple[str, int]]:
        leaf = v1.TaskNode(title="leaf", priority=9)
        root = v1.TaskNode(title="root", children=[leaf] * count)
        await client.tasks.CreateTaskTree(v1.CreateTaskTreeRequest(root=root))
        await create(client, f"other{count}", workflow="open")
        with statements.watched() as run:
            [task] = (await claim_next(client, "v")).tasks
        assert task.id == f"other{count}"
        await complete(client, "v", task.id)
        return run

    async with serve(limited(1), board(name="open")) as client:
        await connect(client, "w", "v", max_claims=99)
        await create(client, "first", priority=10)
        await claim(client, "w", "first")
        await others(client, 5)
        among_few = await others(client, 10)
        assert await others(client, 1_000) == among_few


@pytest.mark.parametrize("satisfied", [False, True])
async def test_a_gate_costs_one_look(
    statements: Statements, serve: Serving, satisfied: bool
) -> None:
    """A completion looks once for each gate that it has to pass."""
    allowing = Gate("tested", "gate/tests", Enforcement.ALLOW)
    runs = []
    for workflow in (board(), board(gates={"status:working": (allowing,)})):
        async with serve(workflow) as client:
            await connect(client, "w")
            await create(client, "t")
            await claim(client, "w", "t")
            if satisfied:
                await client.attachments.Attach(v1.AttachRequest(task_id="t", type="gate/tests"))
            with statements.watched() as run:
                await complete(client, "w", "t")
            runs.append([sql for sql, _ in run])
            await client.admin.Reset(v1.ResetRequest(confirm="reset"))
    assert len(runs[1]) == len(runs[0]) + 1
