"""Merges: a snapshot beside what is there, of which nothing is lost by it."""

import asyncio
import json
from typing import TYPE_CHECKING, Any

import grpc
import pytest
from taskloom import v1
from taskloom_client import Client, TaskloomError

from tests.snapshot_calls import (
    MERGE,
    OVERWRITE,
    RESTORE,
    SKIP,
    TEMPLATE,
    bring_in,
    document,
    headless,
    ids_of,
    link,
    note,
    tables_of,
    take_out,
    task,
    task_of,
)

if TYPE_CHECKING:
    from tests.conftest import Server


async def told(client: Client, revision: int) -> list[tuple[str, str]]:
    """The events of a revision: type and task."""
    async with client.watch(start_revision=revision) as watch, asyncio.timeout(10):
        await anext(watch)
        message = await anext(watch)
    assert message.revision == revision
    return [
        (v1.EventType.Name(event.type).removeprefix("EVENT_TYPE_"), event.task_id)
        for event in message.events.events
    ]


async def test_a_merge_goes_on_where_it_left(server: "Server", client: Client) -> None:
    """Merged tasks come as they were, beside what is there, with their history, in one revision."""
    await bring_in(client, document(tasks=[task("mine")]))
    step = {"task_id": "done", "status": "completed", "timestamp": 5}
    answer = await bring_in(
        client,
        document(
            tasks=[task("done", status="completed", completed_at=5), task("next")],
            dependencies=[link("done", "next")],
            attachments=[note("done")],
            task_sequence=[step],
        ),
    )
    assert answer.revision == 2
    assert dict(answer.rows) == {
        "tasks": 2,
        "dependencies": 1,
        "attachments": 1,
        "task_sequence": 1,
    }
    assert await ids_of(client, ready=True) == {"mine", "next"}
    assert (await task_of(client, "done")).complete_time.ToMilliseconds() == 5
    assert await told(client, 2) == [
        ("TASK_CREATED", "done"),
        ("TASK_CREATED", "next"),
        ("DEPENDENCY_ADDED", "next"),
        ("ATTACHMENT_ADDED", "done"),
    ]


async def test_dependencies_on_what_is_there(server: "Server", client: Client) -> None:
    """A dependency on a task of the graph counts at once, in either direction, and is told."""
    await bring_in(
        client, document(tasks=[task("open"), task("ended", status="completed"), task("free")])
    )
    answer = await bring_in(
        client,
        document(
            tasks=[task("a"), task("b"), task("c")],
            dependencies=[link("open", "a"), link("ended", "b"), link("c", "free")],
        ),
    )
    assert await ids_of(client, ready=True) == {"open", "b", "c"}
    assert ("TASK_BLOCKED", "free") in await told(client, answer.revision)
    await client.workers.Connect(v1.ConnectRequest(worker_id="w", max_claims=9))
    for id in ("open", "c"):
        await client.claims.ClaimTask(v1.ClaimTaskRequest(worker_id="w", task_id=id))
        await client.claims.CompleteTask(v1.CompleteTaskRequest(worker_id="w", task_id=id))
    assert await ids_of(client, ready=True) == {"a", "b", "free"}


async def test_children_of_what_is_there(server: "Server", client: Client) -> None:
    """New children hold a parent of the graph open, and share its pause; it ends with them."""
    await bring_in(client, document(tasks=[task("parent")]))
    await client.admin.Pause(v1.PauseRequest(task_id="parent"))
    rows = [task("child"), task("grandchild")]
    links = [link("parent", "child", "contains"), link("child", "grandchild", "contains")]
    await bring_in(client, document(tasks=rows, dependencies=links))
    assert (await task_of(client, "child")).parent_id == "parent"
    assert await ids_of(client, ready=True) == set()
    await client.admin.Resume(v1.ResumeRequest(task_id="parent"))
    assert await ids_of(client, ready=True) == {"grandchild"}
    await client.workers.Connect(v1.ConnectRequest(worker_id="w"))
    await client.claims.ClaimTask(v1.ClaimTaskRequest(worker_id="w", task_id="grandchild"))
    await client.claims.CompleteTask(v1.CompleteTaskRequest(worker_id="w", task_id="grandchild"))
    assert (await task_of(client, "parent")).status == "completed"


async def test_what_is_there_gets_a_new_parent(server: "Server", client: Client) -> None:
    """A task of the graph that has no parent may get a new one, which waits for it."""
    await bring_in(client, document(tasks=[task("mine")]))
    answer = await bring_in(
        client, document(tasks=[task("top")], dependencies=[link("top", "mine", "contains")])
    )
    assert (await task_of(client, "mine")).parent_id == "top"
    assert await ids_of(client, ready=True) == {"mine"}
    assert ("TASK_UPDATED", "mine") in await told(client, answer.revision)


async def test_dependencies_alone(server: "Server", client: Client) -> None:
    """A snapshot without tasks may bring dependencies between those that are there, once."""
    await bring_in(client, document(tasks=[task("a"), task("b")]))
    links = document(tasks=[], dependencies=[link("a", "b")])
    assert (await bring_in(client, links)).rows["dependencies"] == 1
    assert await ids_of(client, ready=True) == {"a"}
    again = await bring_in(client, links)
    assert (again.rows["dependencies"], again.skipped_rows["dependencies"]) == (0, 1)


async def test_clashes_fail(server: "Server", client: Client) -> None:
    """By default tasks that are there already refuse the merge, and all of them are named."""
    await bring_in(client, document(tasks=[task("a"), task("b"), task("c")]))
    await client.tasks.DeleteTask(v1.DeleteTaskRequest(task_id="c"))
    before = await take_out(client)
    for options in ({}, {"on_clash": v1.CLASH_POLICY_FAIL}, {"dry_run": True}):
        with pytest.raises(TaskloomError, match=r"tables\.tasks\[1\]\.id") as caught:
            await bring_in(
                client, document(tasks=[task("new"), task("a"), task("c"), task("b")]), **options
            )
        assert caught.value.code is grpc.StatusCode.ALREADY_EXISTS
        assert caught.value.reason == "TASK_EXISTS"
        assert "2 more of the snapshot: 'c', 'b'" in caught.value.message
    assert headless(await take_out(client)) == headless(before)


async def test_clashes_skipped(server: "Server", client: Client) -> None:
    """Skipped tasks stay as they are with all that hangs on them; new ones are linked to them."""
    await bring_in(client, document(tasks=[task("a"), task("b")], attachments=[note("a", "mine")]))
    step = {"task_id": "a", "status": "completed", "timestamp": 5}
    answer = await bring_in(
        client,
        document(
            tasks=[task("a", title="other", status="completed"), task("b"), task("new")],
            dependencies=[link("a", "b"), link("a", "new")],
            attachments=[note("a", "theirs"), note("new")],
            task_sequence=[step],
        ),
        on_clash=SKIP,
    )
    assert dict(answer.rows) == {
        "tasks": 1,
        "dependencies": 1,
        "attachments": 1,
        "task_sequence": 0,
    }
    assert dict(answer.skipped_rows) == {
        "tasks": 2,
        "dependencies": 1,
        "attachments": 1,
        "task_sequence": 1,
    }
    assert (answer.clashing_tasks, list(answer.clashing_task_ids)) == (2, ["a", "b"])
    assert (await task_of(client, "a")).title == "A"
    assert await ids_of(client, ready=True) == {"a", "b"}
    contents = [row["content"] for row in tables_of(await take_out(client))["attachments"]]
    assert contents == ["mine", "x"]


async def test_clashes_overwritten(server: "Server", client: Client) -> None:
    """An overwritten task is what the snapshot says, its number and other links stay."""
    await bring_in(
        client,
        document(
            tasks=[task("a", tags=["old"]), task("b"), task("after"), task("top")],
            dependencies=[link("a", "b"), link("a", "after"), link("top", "a", "contains")],
            attachments=[note("a", "gone"), note("a", "stays", sequence=1)],
        ),
    )
    step = {"id": 77, "task_id": "a", "status": "completed", "timestamp": 5}
    answer = await bring_in(
        client,
        document(
            tasks=[task("a", title="new", status="completed", tags=["new"]), task("b")],
            attachments=[note("a", "stays", sequence=1), note("a", "came", sequence=2)],
            dependencies=[],
            task_sequence=[step],
        ),
        on_clash=OVERWRITE,
    )
    a = await task_of(client, "a")
    assert (a.title, a.status, list(a.tags), a.parent_id) == ("new", "completed", ["new"], "top")
    # Its end frees what waits for it, and ends its parent, as if it had come by a verb.
    assert await ids_of(client, ready=True) == {"after", "b"}
    assert (await task_of(client, "top")).status == "completed"
    assert dict(answer.removed_rows) == {"tasks": 2, "dependencies": 1, "attachments": 1}
    events = await told(client, answer.revision)
    assert events[:2] == [("TASK_UPDATED", "a"), ("TASK_UPDATED", "b")]
    for event in [
        ("DEPENDENCY_REMOVED", "b"),
        ("ATTACHMENT_REMOVED", "a"),
        ("ATTACHMENT_ADDED", "a"),
        ("TASK_READY", "after"),
        ("TASK_COMPLETED", "top"),
    ]:
        assert event in events
    tables = tables_of(await take_out(client))
    assert [row["content"] for row in tables["attachments"]] == ["stays", "came"]
    assert [row["timestamp"] for row in tables["task_sequence"] if row["task_id"] == "a"] == [5]
    listed = await client.tasks.ListTasks(v1.ListTasksRequest(tags_any=["new"]))
    assert [one.id for one in listed.tasks] == ["a"]


async def test_overwritten_by_itself(server: "Server", client: Client) -> None:
    """A graph that is overwritten by its own export is the same, and nothing is told of it."""
    await bring_in(
        client,
        document(
            tasks=[task("a", status="completed"), task("b"), task("c", priority=9)],
            dependencies=[link("a", "b"), link("c", "b", "contains")],
            attachments=[note("a")],
            task_sequence=[{"id": 3, "task_id": "a", "status": "completed", "timestamp": 5}],
        ),
    )
    before = await take_out(client)
    answer = await bring_in(client, before, on_clash=OVERWRITE)
    assert headless(await take_out(client)) == headless(before)
    assert (answer.revision, dict(answer.removed_rows)) == (1, {"task_sequence": 1})


async def test_what_is_not_overwritten(server: "Server", client: Client) -> None:
    """A task that somebody works on is not overwritten, nor is one deleted or brought back."""
    await bring_in(client, document(tasks=[task(id) for id in ("held", "soft", "gone", "live")]))
    await client.workers.Connect(v1.ConnectRequest(worker_id="w", max_claims=9))
    await client.claims.ClaimTask(v1.ClaimTaskRequest(worker_id="w", task_id="held"))
    await client.claims.ClaimTask(
        v1.ClaimTaskRequest(worker_id="w", task_id="soft", mode=v1.CLAIM_MODE_ADVISORY)
    )
    await client.tasks.DeleteTask(v1.DeleteTaskRequest(task_id="gone"))
    before = await take_out(client)
    for row, reason in (
        (task("held"), "TASK_CLAIMED"),
        (task("soft"), "TASK_CLAIMED"),
        (task("gone"), "TASK_DELETED"),
        (task("live", deleted_at=5), "INVALID_SNAPSHOT"),
    ):
        with pytest.raises(TaskloomError, match=r"tables\.tasks\[1\]") as caught:
            await bring_in(client, document(tasks=[task("new"), row]), on_clash=OVERWRITE)
        assert caught.value.reason == reason
    assert headless(await take_out(client)) == headless(before)


REFUSED: list[tuple[str, dict[str, Any], str, str]] = [
    (
        "dangling",
        {"dependencies": [link("a", "new"), link("new", "nowhere")]},
        "INVALID_SNAPSHOT",
        "tables.dependencies[1].to_task_id: there is no task 'nowhere', neither in the snapshot",
    ),
    (
        "cycle through the graph",
        {"dependencies": [link("b", "new"), link("new", "a")]},
        "CYCLE",
        "tables.dependencies[1]: closes a cycle",
    ),
    (
        "second parent",
        {"dependencies": [link("new", "child", "contains")]},
        "PARENT_EXISTS",
        "tables.dependencies[0]: task 'child' has a parent already, 'a'",
    ),
    (
        "attachment of another task",
        {"attachments": [note("a")]},
        "INVALID_SNAPSHOT",
        "tables.attachments[0].task_id",
    ),
]


@pytest.mark.parametrize(
    ("tables", "reason", "words"), [row[1:] for row in REFUSED], ids=[row[0] for row in REFUSED]
)
@pytest.mark.parametrize("dry_run", [False, True])
async def test_refused_merges(  # noqa: PLR0917 - a case, and how
    server: "Server",
    client: Client,
    tables: dict[str, Any],
    reason: str,
    words: str,
    dry_run: bool,
) -> None:
    """A merge that does not fit to what is there is refused with its row, and changes nothing."""
    await bring_in(
        client,
        document(
            tasks=[task("a"), task("b"), task("child")],
            dependencies=[link("a", "b"), link("a", "child", "contains")],
        ),
    )
    before = await take_out(client)
    with pytest.raises(TaskloomError) as caught:
        await bring_in(client, document(tasks=[task("new")], **tables), dry_run=dry_run)
    assert caught.value.reason == reason
    assert words in caught.value.message
    assert headless(await take_out(client)) == headless(before)


async def test_history_is_numbered_anew(server: "Server", client: Client) -> None:
    """Where the number of a transition is taken, those of the snapshot go on after it."""
    await client.tasks.CreateTask(v1.CreateTaskRequest(id="mine", title="mine"))
    steps = [
        {"id": 2, "task_id": "t", "status": "working", "timestamp": 6},
        {"id": 1, "task_id": "t", "status": "pending", "timestamp": 5, "end_timestamp": 6},
    ]
    await bring_in(client, document(tasks=[task("t", status="working")], task_sequence=steps))
    rows = tables_of(await take_out(client))["task_sequence"]
    assert [(row["task_id"], row["status"]) for row in rows] == [
        ("mine", "pending"),
        ("t", "pending"),
        ("t", "working"),
    ]
    await client.tasks.UpdateTask(v1.UpdateTaskRequest(task_id="t", status="completed"))
    rows = tables_of(await take_out(client))["task_sequence"]
    assert [row["end_timestamp"] is None for row in rows] == [True, False, False, True]


async def test_waiting_workers_get_what_a_merge_brings(server: "Server", client: Client) -> None:
    """A worker that waits for a task is given one that a merge brings ready."""
    await bring_in(client, document(tasks=[task("for-others", needed_tags=["x"])]))
    await client.workers.Connect(v1.ConnectRequest(worker_id="w"))
    request = v1.ClaimNextTaskRequest(worker_id="w")
    request.wait.seconds = 20
    waiting = asyncio.ensure_future(client.claims.ClaimNextTask(request))
    await task_of(client, "for-others")
    await bring_in(client, document(tasks=[task("t")]))
    assert [one.id for one in (await waiting).tasks] == ["t"]


@pytest.mark.parametrize(
    ("mode", "options"),
    [
        (TEMPLATE, {}),
        (MERGE, {}),
        (MERGE, {"on_clash": SKIP}),
        (MERGE, {"on_clash": OVERWRITE}),
        (v1.IMPORT_MODE_REPLACE, {}),
    ],
)
async def test_a_dry_run(
    server: "Server", client: Client, mode: v1.ImportMode.ValueType, options: dict[str, Any]
) -> None:
    """A dry run changes nothing, and its answer is the one that the real run gets then."""
    await bring_in(
        client,
        document(
            tasks=[task("a"), task("b")], dependencies=[link("a", "b")], attachments=[note("a")]
        ),
    )
    clash = [task("a", title="other")] if options else []
    snapshot = document(
        tasks=[*clash, task("new", needed_tags=["x"], priority=99, colour="red")],
        dependencies=[link("a", "new")] if clash else [],
        attachments=[note("new")],
    )
    before = await take_out(client)
    status = await client.admin.GetStatus(v1.GetStatusRequest())
    tried = await bring_in(client, snapshot, mode, dry_run=True, **options)
    assert headless(await take_out(client)) == headless(before)
    after = await client.admin.GetStatus(v1.GetStatusRequest())
    assert (after.revision, after.incarnation) == (status.revision, status.incarnation)
    assert (tried.dry_run, tried.revision) == (True, status.revision)
    assert tried.incarnation == status.incarnation
    assert len(tried.warnings) == 2
    done = await bring_in(client, snapshot, mode, **options)
    assert not done.dry_run
    for field in ("rows", "warnings", "skipped_rows", "removed_rows", "clashing_task_ids"):
        assert getattr(done, field) == getattr(tried, field), field


async def test_a_dry_run_is_not_remembered(server: "Server", client: Client) -> None:
    """A request_id of a dry run is free for the import that follows it."""
    snapshot = document(tasks=[task("t")])
    await bring_in(client, snapshot, RESTORE, dry_run=True, request_id="once")
    done = await bring_in(client, snapshot, RESTORE, request_id="once")
    assert await bring_in(client, snapshot, RESTORE, request_id="once") == done
    assert await ids_of(client) == {"t"}


async def test_bad_options(server: "Server", client: Client) -> None:
    """Options that are none, or do not go together, are named."""
    snapshot = document(tasks=[task("t")])
    for mode, options, field in (
        (TEMPLATE, {"on_clash": SKIP}, "options.on_clash"),
        (MERGE, {"on_clash": 9}, "options.on_clash"),
        (MERGE, {"force": True}, "options.force"),
        (MERGE, {"tables": ["tasks", "wrkers"]}, "options.tables"),
        (MERGE, {"tables": ["dependencies"]}, "options.tables"),
        (MERGE, {"tables": ["tasks", "task_sequence"], "without_history": True}, "options.tables"),
    ):
        with pytest.raises(TaskloomError) as caught:
            await bring_in(client, snapshot, mode, **options)
        assert caught.value.reason == "INVALID_FIELD"
        assert [violation.field for violation in caught.value.field_violations] == [field]
    with pytest.raises(TaskloomError, match="tables: attachments goes with tasks"):
        await take_out(client, tables=["attachments"])


async def test_chosen_tables(server: "Server", client: Client) -> None:
    """Of an export and of an import only the chosen tables come, with tags in the tasks' rows."""
    step = {"id": 1, "task_id": "a", "status": "pending", "timestamp": 5}
    await bring_in(
        client,
        document(
            tasks=[task("a", tags=["x"]), task("b")],
            dependencies=[link("a", "b")],
            attachments=[note("a")],
            task_sequence=[step],
        ),
    )
    whole = await take_out(client)
    two = await take_out(client, tables=["dependencies", "tasks"])
    assert list(json.loads(two)["tables"]) == ["tasks", "dependencies"]
    assert json.loads(two)["tables"]["tasks"] == json.loads(whole)["tables"]["tasks"]
    no_history = await take_out(client, without_history=True)
    assert json.loads(whole)["tables"].keys() - json.loads(no_history)["tables"].keys() == {
        "task_sequence"
    }
    replace = v1.IMPORT_MODE_REPLACE
    await bring_in(client, whole, replace, tables=["tasks", "dependencies"])
    assert headless(await take_out(client, tables=["tasks", "dependencies"])) == headless(two)
    after = json.loads(await take_out(client))["tables"]
    assert (after["attachments"], after["task_sequence"]) == ([], [])
    await bring_in(client, whole, replace, without_history=True)
    assert headless(await take_out(client, without_history=True)) == headless(no_history)
    answer = await bring_in(client, two, replace, tables=["tasks", "attachments"])
    assert list(answer.warnings) == ["tables.attachments: is chosen, and not in the file"]
    # Without its history, a task's goes on with what comes next.
    await client.tasks.UpdateTask(v1.UpdateTaskRequest(task_id="a", status="cancelled"))
    [row] = json.loads(await take_out(client))["tables"]["task_sequence"]
    assert row["status"] == "cancelled"
