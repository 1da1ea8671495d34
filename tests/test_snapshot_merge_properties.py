"""Merges of graphs of every kind: two halves are the whole, and what holds back is counted."""

from typing import Any

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from taskloom import v1
from taskloom_client import Client, TaskloomError

from tests.snapshot_calls import (
    MERGE,
    OVERWRITE,
    REPLACE,
    SKIP,
    Row,
    bring_in,
    document,
    headless,
    link,
    note,
    tables_of,
    take_out,
    task,
)

# The server is the same for all examples: each begins by replacing what is there.
PROPERTY = settings(
    max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
STATUSES = ["pending", "assigned", "completed", "failed", "cancelled"]


@st.composite
def graphs(draw: st.DrawFn) -> dict[str, list[Row]]:
    """The tables of a graph without a cycle."""
    ids = [f"t{n}" for n in range(draw(st.integers(2, 7)))]
    tasks = [
        task(
            id,
            status=draw(st.sampled_from(STATUSES)),
            tags=draw(st.lists(st.sampled_from("xyz"), unique=True).map(sorted)),
            deleted_at=draw(st.sampled_from([None, None, None, 5])),
            priority=draw(st.integers(0, 10)),
        )
        for id in ids
    ]
    links: list[Row] = []
    children = set()
    for one, other, type_ in draw(
        st.lists(
            st.tuples(
                st.sampled_from(ids),
                st.sampled_from(ids),
                st.sampled_from(["blocks", "follows", "contains", "see-also"]),
            ),
            unique=True,
            max_size=12,
        )
    ):
        # What ends first comes first: a blocker before the blocked, a child before its parent.
        from_, to = sorted((one, other), reverse=type_ == "contains")
        if (
            from_ == to
            or (type_ == "contains" and to in children)
            or link(from_, to, type_) in links
        ):
            continue
        if type_ == "contains":
            children.add(to)
        links.append(link(from_, to, type_))
    steps = [
        {"id": n + 1, "task_id": draw(st.sampled_from(ids)), "status": "pending", "timestamp": n}
        for n in range(draw(st.integers(0, 4)))
    ]
    notes = [note(id, draw(st.text(max_size=5))) for id in ids if draw(st.booleans())]
    return {"tasks": tasks, "dependencies": links, "attachments": notes, "task_sequence": steps}


def half(tables: dict[str, list[Row]], ids: set[str], *, cross: bool) -> dict[str, Any]:
    """What of a graph hangs on these tasks; ``cross``: dependencies that lead out of them, too."""

    def comes(row: Row) -> bool:
        ends = {row["from_task_id"], row["to_task_id"]}
        return ends <= ids or (cross and not ends.isdisjoint(ids))

    return document(
        tasks=[row for row in tables["tasks"] if row["id"] in ids],
        dependencies=[row for row in tables["dependencies"] if comes(row)],
        attachments=[row for row in tables["attachments"] if row["task_id"] in ids],
        task_sequence=[row for row in tables["task_sequence"] if row["task_id"] in ids],
    )


async def seen(client: Client) -> dict[str, tuple[v1.Task, bool]]:
    """Each task as it is read, but for revisions, and whether it is blocked."""
    tasks = await client.tasks.ListTasks(v1.ListTasksRequest(include_deleted=True))
    blocked = await client.tasks.ListTasks(v1.ListTasksRequest(blocked=True))
    blocked_ids = {one.id for one in blocked.tasks}
    for one in tasks.tasks:
        one.revision = 0
        for field in ("ready_time", "update_time"):  # what turns a task by a link is a change of it
            if field in one.DESCRIPTOR.fields_by_name:
                one.ClearField(field)
    return {one.id: (one, one.id in blocked_ids) for one in tasks.tasks}


def timeless(tables: dict[str, list[Row]]) -> dict[str, list[Row]]:
    """The tables without the times that a turn of a task sets."""
    for row in tables["tasks"]:
        for column in ("updated_at", "ready_at"):
            row[column] = None
    return tables


@PROPERTY
@given(tables=graphs(), data=st.data())
async def test_halves_make_the_whole(
    client: Client, tables: dict[str, list[Row]], data: st.DataObject
) -> None:
    """Disjoint halves that are merged, the second with what links them, are the whole graph."""
    await bring_in(client, document(**tables), REPLACE)
    whole, wanted = await take_out(client), await seen(client)
    ids = {row["id"] for row in tables["tasks"]}
    first = data.draw(st.sets(st.sampled_from(sorted(ids))))
    await bring_in(client, document(tasks=[]), REPLACE)
    await bring_in(client, half(tables, first, cross=False), MERGE)
    await bring_in(client, half(tables, ids - first, cross=True), MERGE)
    assert await seen(client) == wanted
    assert timeless(tables_of(await take_out(client))) == timeless(tables_of(whole))


@PROPERTY
@given(mine=graphs(), theirs=graphs(), policy=st.sampled_from([SKIP, OVERWRITE]))
async def test_what_holds_back_is_counted(
    client: Client,
    mine: dict[str, list[Row]],
    theirs: dict[str, list[Row]],
    policy: v1.ClashPolicy.ValueType,
) -> None:
    """After any merge that is not refused the graph is as a restore of it, which counts anew; one
    that is refused has changed nothing.
    """
    await bring_in(client, document(**mine), REPLACE)
    before = await take_out(client)
    refusal = ""
    try:
        await bring_in(client, document(**theirs), MERGE, on_clash=policy)
    except TaskloomError as error:
        refusal = error.reason
    if refusal:
        assert refusal in {"CYCLE", "PARENT_EXISTS", "TASK_DELETED", "INVALID_SNAPSHOT"}
        assert headless(await take_out(client)) == headless(before)
        return
    merged, as_merged = await take_out(client), await seen(client)
    await bring_in(client, merged, REPLACE)
    assert headless(await take_out(client)) == headless(merged)
    assert await seen(client) == as_merged
