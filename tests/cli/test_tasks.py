"""taskloom task …: what is done to tasks, and what is asked about them."""

import asyncio
from typing import TYPE_CHECKING

import pytest
from taskloom import v1
from taskloom_client import Client

if TYPE_CHECKING:
    from tests.cli.conftest import Cli, Start


async def add(client: Client, *ids: str, **fields: object) -> None:
    """Add tasks of these ids, titled alike."""
    for id in ids:
        request = v1.CreateTaskRequest(id=id, title=f"The task {id}")
        request.MergeFrom(v1.CreateTaskRequest(**fields))  # type: ignore[arg-type]
        await client.tasks.CreateTask(request)


async def test_added_task_has_all_that_was_said(cli: "Cli", client: Client) -> None:
    """Every option of `task add` ends up in its field."""
    await add(client, "root", "before")
    added = await cli(
        *("task", "add", "Write the parser", "--id", "parser", "--description", "Of HTML"),
        *("--parent", "root", "--blocked-by", "before", "--priority", "7", "--points", "3"),
        *("--estimate", "90m", "--tag", "a", "--tag", "b", "--needs", "rust", "--wants", "css"),
        *("--wants", "html", "--not-before", "2h", "--max-attempts", "2"),
        *("--retry-delay", "5m"),
    )
    assert (added.code, added.out, added.err) == (0, "added parser (pending)\n", "")

    answer = await client.tasks.GetTask(v1.GetTaskRequest(task_id="parser"))
    task = answer.task
    assert (task.title, task.description) == ("Write the parser", "Of HTML")
    assert (task.parent_id, task.priority, task.points) == ("root", 7, 3)
    assert task.time_estimate.ToSeconds() == 5400
    assert set(task.tags) == {"a", "b"}
    assert (list(task.needed_tags), set(task.wanted_tags)) == (["rust"], {"css", "html"})
    assert task.HasField("not_before")
    assert task.max_attempts == 2
    assert task.retry_delay.ToSeconds() == 300
    assert ("before", "parser", v1.DEPENDENCY_TYPE_BLOCKS) in {
        (d.from_task_id, d.to_task_id, d.type) for d in answer.dependencies
    }


async def test_json_is_the_answer_in_the_names_of_the_contract(cli: "Cli") -> None:
    """--json prints the response, fields without a value included, and nothing else."""
    added = await cli("task", "add", "Ünïcode", "--json")
    assert (added.code, added.err) == (0, "")
    task = added.json["task"]
    assert (task["title"], task["status"], task["ready"]) == ("Ünïcode", "pending", True)
    assert (task["tags"], task["worker_id"], task["claim_revision"]) == ([], "", "0")
    assert int(added.json["revision"]) > 0


async def test_list_shows_a_line_a_task_under_headings(cli: "Cli", client: Client) -> None:
    """In a pipe a list has no colours, no boxes, no cut titles, and no empty columns."""
    title = "A title that is longer than any terminal is wide " * 4
    await add(client, "first", priority=9)
    await add(client, "second", title=title)
    await client.tasks.LinkTasks(v1.LinkTasksRequest(from_task_id="first", to_task_id="second"))
    listed = await cli("task", "list")
    assert (listed.code, listed.err) == (0, "")
    heading, *rows = [line.split() for line in listed.out.splitlines()]
    assert heading == ["ID", "STATUS", "READY", "PRI", "TITLE"]
    assert rows[0] == ["first", "pending", "yes", "9", "The", "task", "first"]
    assert rows[1][:3] == ["second", "pending", "5"]
    assert title.strip() in listed.out
    assert "\x1b" not in listed.out


async def test_list_on_a_narrow_terminal_never_cuts_ids(
    cli: "Cli", client: Client, environment: dict[str, str]
) -> None:
    """Titles are shortened to make a row fit; an id is shown whole even where it cannot."""
    await add(client, "short", "x" * 128, title="A rather long title, " * 10)
    environment["COLUMNS"] = "80"
    listed, drawn = await asyncio.gather(cli("task", "list"), cli("task", "tree"))
    assert "x" * 128 in listed.out.split()
    assert "x" * 128 in drawn.out.replace("…", " ").split()
    await client.tasks.DeleteTask(v1.DeleteTaskRequest(task_id="x" * 128))
    for printed in await asyncio.gather(cli("task", "list"), cli("task", "tree")):
        assert "short" in printed.out.split()
        assert max(map(len, printed.out.splitlines())) <= 80


async def test_list_fetches_as_many_pages_as_it_takes(cli: "Cli", client: Client) -> None:
    """All tasks are listed, however many pages they are; --limit counts tasks."""
    nodes = [v1.TaskNode(id=f"n{i:04}", title="n") for i in range(1100)]
    root = v1.TaskNode(id="root", title="r", children=nodes)
    await client.tasks.CreateTaskTree(v1.CreateTaskTreeRequest(root=root))
    everything = await cli("task", "list", "--json", "--order", "id")
    assert [task["id"] for task in everything.json] == [node.id for node in nodes] + ["root"]
    some = await cli("task", "list", "--json", "--order", "id", "--limit", "1001")
    assert some.json == everything.json[:1001]
    few = await cli("task", "list", "--json", "--order", "id", "-n", "3")
    assert few.json == everything.json[:3]


async def test_list_filters(cli: "Cli", client: Client) -> None:
    """Each filter leaves the tasks that it should."""
    await client.workers.Connect(v1.ConnectRequest(worker_id="w", tags=["rust"]))
    await add(client, "top")
    await add(client, "a", parent_id="top", tags=["x", "y"])
    await add(client, "b", parent_id="a", tags=["x"], needed_tags=["go"])
    await add(client, "c", blocked_by=["a"])
    await add(client, "d")
    await client.claims.ClaimTask(v1.ClaimTaskRequest(worker_id="w", task_id="d"))

    async def check(filters: str, expected: str) -> None:
        listed = await cli("task", "list", "--json", *filters.split())
        assert listed.code == 0
        assert {task["id"] for task in listed.json} == set(expected.split())

    await asyncio.gather(
        check("", "top a b c d"),
        check("--status working", "d"),
        check("--status working --status pending", "top a b c d"),
        check("--ready", "b"),
        check("--blocked", "c"),
        check("--not-blocked --unclaimed", "top a b"),
        check("--claimed", "d"),
        check("--owner w", "d"),
        check("--parent top", "a"),
        check("--parent top --recursive", "a b"),
        check("--tag x --tag y", "a b"),
        check("--all-tags x --all-tags y", "a"),
        check("--qualified-for w", "top a c d"),
    )
    await client.tasks.DeleteTask(v1.DeleteTaskRequest(task_id="c"))
    await asyncio.gather(check("", "top a b d"), check("--deleted", "top a b c d"))


async def test_list_refuses_a_status_that_nothing_can_have(cli: "Cli", client: Client) -> None:
    """A misspelt status is told from one that no task is in just now."""
    await add(client, "a")
    none = await cli("task", "list", "--status", "failed")
    assert (none.code, none.out, none.err) == (0, "", "no tasks\n")
    unknown = await cli("task", "list", "--status", "pending", "--status", "bogus")
    assert (unknown.code, unknown.out) == (2, "")
    assert unknown.err.startswith("error: no workflow has a status 'bogus'; there are ")


async def test_hot_tasks_are_listed_and_come_first(cli: "Cli", client: Client) -> None:
    """Signals and boosts warm a task up; lists are filtered and ordered by that, and show it."""
    await add(client, "cold", priority=0)
    await add(client, "warm", priority=5)
    await add(client, "hot", priority=5)
    told = await cli("task", "signal", "hot", "--breakthrough", "--reason", "it compiles")
    assert (told.code, told.err) == (0, "")
    assert told.out.startswith("told of a breakthrough on hot (temperature 0.")
    assert told.out.endswith(", hot)\n")
    boosted = await cli("task", "boost", "warm", "0.1")
    assert boosted.out.startswith("boosted by 0.1: warm (temperature 0.6")
    assert (await client.tasks.GetTask(v1.GetTaskRequest(task_id="warm"))).task.boost == 0.1
    for heat in ("hot", "warm", "cold"):
        listed = await cli("task", "list", f"--{heat}", "--json")
        assert [task["id"] for task in listed.json] == [heat]
    assert (await cli("task", "list", "--hot", "--cold")).code == 2
    listed = await cli("task", "list", "--order", "temperature")
    heading, *rows = [line.split() for line in listed.out.splitlines()]
    assert heading == ["ID", "STATUS", "READY", "PRI", "TEMP", "TITLE"]
    assert [row[0] for row in rows] == ["hot", "warm", "cold"]
    assert float(rows[0][4]) >= 0.7
    assert "TEMP" not in (await cli("task", "list")).out

    shown = (await cli("task", "show", "warm")).out.splitlines()
    assert any(line.split() == ["boost", "0.1"] for line in shown)
    assert any(line.split()[::2] == ["temperature", "warm"] for line in shown)
    back = await cli("task", "boost", "warm", "0")
    assert back.out.startswith("took back the boost of warm (temperature 0.")
    assert (await cli("task", "boost", "warm", "1.5")).code == 2


async def test_why_names_what_is_in_the_way(cli: "Cli", client: Client) -> None:
    """Each obstacle is a sentence, with what would have to happen below it; or there is none."""
    await client.workers.Connect(v1.ConnectRequest(worker_id="ann"))
    await add(client, "before")
    await add(client, "t", blocked_by=["before"], needed_tags=["gpu"])
    explained = await client.tasks.ExplainTask(v1.ExplainTaskRequest(task_id="t"))
    why = await cli("task", "why", "t")
    assert (why.code, why.err) == (0, "")
    heading, *lines = why.out.splitlines()
    assert heading == "t cannot be taken:"
    assert lines == [
        line
        for obstacle in explained.obstacles
        for line in (f"  {obstacle.message}", f"    -> {obstacle.remedy}")
    ]
    assert "'before'" in lines[0]
    assert "gpu" in why.out
    assert (await cli("task", "why", "before")).out == "before can be taken\n"
    by_ann = await cli("task", "why", "before", "--worker", "ann")
    assert by_ann.out == "before can be taken by ann\n"
    assert (await cli("task", "why", "t", "-w", "ann")).out.startswith("t cannot be taken by ann:")
    answer = (await cli("task", "why", "t", "--json")).json
    assert answer["obstacles"][0]["task_ids"] == ["before"]
    unknown = await cli("task", "why", "nope")
    assert (unknown.code, "(TASK_NOT_FOUND)" in unknown.err) == (3, True)


async def test_no_tasks_is_no_output(cli: "Cli") -> None:
    """An empty list is said on standard error, so that a pipe gets nothing."""
    listed = await cli("task", "list")
    assert (listed.code, listed.out, listed.err) == (0, "", "no tasks\n")
    assert (await cli("task", "list", "--json")).json == []


async def test_control_characters_do_not_reach_the_terminal(cli: "Cli", client: Client) -> None:
    """A title that would clear the screen is shown harmlessly, and whole to programs."""
    await add(client, "evil", title="\x1b[2Jboo\nand more")
    commands = (["task", "list"], ["task", "show", "evil"], ["task", "tree"])
    for shown in await asyncio.gather(*(cli(*command) for command in commands)):
        assert "\x1b" not in shown.out
        assert "\N{REPLACEMENT CHARACTER}[2Jboo and more" in shown.out
    assert (await cli("task", "show", "evil", "--json")).json["task"]["title"][0] == "\x1b"


@pytest.mark.parametrize(
    ("options", "shown"), [([], b" Gr??e\n"), (["--json"], rb'"title": "Gr\u00f6\u00dfe"')]
)
async def test_terminal_of_another_encoding_gets_what_it_can_show(
    start: "Start",
    client: Client,
    environment: dict[str, str],
    options: list[str],
    shown: bytes,
) -> None:
    """Where a letter cannot be shown a question mark is, and JSON escapes it."""
    await add(client, "t", title="Größe")
    environment["PYTHONIOENCODING"] = "ascii"
    process = await start("--server", client.target, "task", "list", *options)
    out, err = await process.communicate()
    assert (process.returncode, err) == (0, b"")
    assert shown in out


async def test_show_tells_what_a_task_waits_for(cli: "Cli", client: Client) -> None:
    """The neighbours are named by what they are to the task, blockers with their status."""
    await add(client, "root")
    await add(client, "one", "two", parent_id="root")
    await add(client, "mid", parent_id="root", blocked_by=["one", "two"], description="Do\nthis")
    await add(client, "end", blocked_by=["mid"])
    shown = await cli("task", "show", "mid")
    assert shown.code == 0
    fields = dict(line.split("  ", 1) for line in shown.out.splitlines() if "  " in line)
    fields = {name: value.strip() for name, value in fields.items()}
    assert fields["status"] == "pending"
    assert fields["parent"] == "root"
    assert fields["blocked by"] == "one (pending), two (pending)"
    assert fields["blocks"] == "end"
    assert shown.out.endswith("\n\nDo\nthis\n")
    answer = (await cli("task", "show", "mid", "--json")).json
    assert answer["task"]["id"] == "mid"
    assert len(answer["dependencies"]) == 4


async def test_tree_draws_what_contains_what(cli: "Cli", client: Client) -> None:
    """Without an id all roots are drawn, with one that task and what is below it."""
    await add(client, "root", "alone")
    await add(client, "child", parent_id="root")
    await add(client, "leaf", parent_id="child")
    drawn = await cli("task", "tree")
    assert drawn.out.splitlines() == [
        "root  pending  The task root",
        "└── child  pending  The task child",
        "    └── leaf  pending, ready  The task leaf",
        "alone  pending, ready  The task alone",
    ]
    assert (await cli("task", "tree", "child")).out.splitlines()[0].startswith("child ")
    (nested,) = (await cli("task", "tree", "root", "--json")).json
    assert nested["task"]["id"] == "root"
    assert nested["children"][0]["children"][0]["task"]["id"] == "leaf"


async def test_update_changes_what_is_given(cli: "Cli", client: Client) -> None:
    """Options that are left out leave their fields alone; empty ones empty them."""
    await add(client, "t", tags=["x"], points=3, priority=2, description="d")
    updated = await cli("task", "update", "t", "--title", "New", "--tag", "", "--needs", "n")
    assert (updated.code, updated.out) == (0, "updated t (pending)\n")
    task = (await client.tasks.GetTask(v1.GetTaskRequest(task_id="t"))).task
    assert (task.title, list(task.tags), list(task.needed_tags)) == ("New", [], ["n"])
    assert (task.points, task.priority, task.description) == (3, 2, "d")


async def test_update_clears_what_is_named(cli: "Cli", client: Client) -> None:
    """Whatever a task can be without is cleared by the name of the option that sets it."""
    await add(client, "t")
    await client.workers.Connect(v1.ConnectRequest(worker_id="w", tags=["n", "o"]))
    given = {
        **{"description": "d", "phase": "design", "points": "3", "estimate": "5m"},
        **{"not-before": "2h", "retry-delay": "5m", "max-cost": "2", "max-subtree-attempts": "4"},
        **{"tag": "x", "needs": "n", "wants": "o", "assign": "w"},
    }
    fields = {
        *("description", "phase", "points", "time_estimate", "not_before", "retry_delay"),
        *("max_cost_usd", "max_subtree_attempts", "tags", "needed_tags", "wanted_tags"),
        "worker_id",
    }

    async def there() -> set[str]:
        task = (await client.tasks.GetTask(v1.GetTaskRequest(task_id="t"))).task
        return fields & {field.name for field, _ in task.ListFields()}

    options = [word for name, value in given.items() for word in (f"--{name}", value)]
    assert (await cli("task", "update", "t", *options)).code == 0
    assert await there() == fields
    clears = [word for name in given for word in ("--clear", name)]
    cleared = await cli("task", "update", "t", *clears)
    assert (cleared.code, cleared.out) == (0, "updated t (pending)\n")
    assert await there() == set()

    both = await cli("task", "update", "t", "--points", "3", "--clear", "points")
    assert (both.code, both.err) == (2, "error: --clear points goes without --points\n")


async def test_update_of_several_is_one_change(cli: "Cli", client: Client) -> None:
    """Several tasks are changed in one revision, each named once; or none of them is."""
    await add(client, "a", "b", "after")
    updated = await cli("task", "update", "a", "b", "a", "--priority", "8", "--reason", "rush")
    assert (updated.code, updated.out) == (0, "updated a (pending), b (pending)\n")
    tasks = [(await client.tasks.GetTask(v1.GetTaskRequest(task_id=id))).task for id in "ab"]
    assert [task.priority for task in tasks] == [8, 8]
    assert tasks[0].revision == tasks[1].revision

    shown = await cli("task", "update", "a", "b", "--priority", "3", "--json")
    assert [task["id"] for task in shown.json["tasks"]] == ["a", "b"]
    refused = await cli("task", "update", "a", "gone", "--priority", "1")
    assert (refused.code, refused.out) == (3, "")
    assert "updates[1]" in refused.err
    after = (await client.tasks.GetTask(v1.GetTaskRequest(task_id="a"))).task
    assert after.priority == 3


async def test_update_with_an_old_etag_is_refused(cli: "Cli", client: Client) -> None:
    """Somebody else was faster: exit code 1."""
    await add(client, "t")
    etag = (await client.tasks.GetTask(v1.GetTaskRequest(task_id="t"))).task.revision
    assert (await cli("task", "update", "t", "--priority", "1", "--etag", str(etag))).code == 0
    again = await cli("task", "update", "t", "--priority", "2", "--etag", str(etag))
    assert (again.code, again.out) == (1, "")
    assert "(ETAG_MISMATCH)" in again.err


async def test_cancel_frees_what_waited(cli: "Cli", client: Client) -> None:
    """A cancelled blocker lets its dependents go, and the sentence says which."""
    await add(client, "t")
    await add(client, "after", blocked_by=["t"])
    cancelled = await cli("task", "cancel", "t", "--reason", "not needed")
    assert (cancelled.code, cancelled.out) == (0, "cancelled t; now ready: after\n")


async def test_delete_asks_for_cascade_and_force(cli: "Cli", client: Client) -> None:
    """Children need --cascade, claims need --force, and deleting twice is no error."""
    await client.workers.Connect(v1.ConnectRequest(worker_id="w"))
    await add(client, "top")
    await add(client, "sub", parent_id="top")
    await client.claims.ClaimTask(v1.ClaimTaskRequest(worker_id="w", task_id="sub"))
    assert (await cli("task", "delete", "top")).code == 1
    assert (await cli("task", "delete", "top", "--cascade")).code == 1
    deleted = await cli("task", "delete", "top", "--cascade", "--force", "--reason", "r")
    assert (deleted.code, deleted.out) == (0, "deleted top and 1 task below it\n")
    again = await cli("task", "delete", "top")
    assert (again.code, again.out) == (0, "top was deleted before\n")


async def test_link_and_unlink(cli: "Cli", client: Client) -> None:
    """Dependencies come and go; a cycle is refused as a wrong value: exit code 2."""
    await add(client, "a", "b")
    assert (await cli("task", "link", "a", "b")).out == "linked: a blocks b\n"
    assert (await cli("task", "link", "a", "b")).out == "linked already: a blocks b\n"
    cycle = await cli("task", "link", "b", "a", "--type", "follows")
    assert (cycle.code, cycle.out) == (2, "")
    assert "(CYCLE)" in cycle.err
    assert (await cli("task", "link", "a", "b", "--type", "see-also")).code == 0
    unlinked = await cli("task", "unlink", "a", "b", "--type", "blocks")
    assert unlinked.out == "unlinked: a blocks b; now ready: b\n"
    assert (await cli("task", "unlink", "a", "b")).out == "unlinked: a see-also b\n"
    assert (await cli("task", "unlink", "a", "b")).out == "a and b were not linked\n"


async def test_history_lists_the_transitions(cli: "Cli", client: Client) -> None:
    """Every status that a task had, since when, for how long, by whom and why."""
    await client.workers.Connect(v1.ConnectRequest(worker_id="w"))
    await add(client, "t")
    await client.claims.ClaimTask(v1.ClaimTaskRequest(worker_id="w", task_id="t"))
    await client.claims.ReleaseTask(
        v1.ReleaseTaskRequest(worker_id="w", task_id="t", reason="too hard")
    )
    listed = await cli("task", "history", "t")
    heading, *rows = listed.out.splitlines()
    assert heading.split() == ["SINCE", "FOR", "STATUS", "WORKER", "REASON"]
    assert [word for row in rows for word in row.split() if word in ("pending", "working")] == [
        "pending",
        "working",
        "pending",
    ]
    assert rows[-1].endswith("too hard")
    steps = (await cli("task", "history", "t", "--json")).json
    assert [step["status"] for step in steps] == ["pending", "working", "pending"]


async def test_unknown_task_is_exit_code_3(cli: "Cli") -> None:
    """A task that does not exist is its own exit code."""
    verbs = ("show", "tree", "history", "cancel", "delete")
    for ran in await asyncio.gather(*(cli("task", verb, "nobody") for verb in verbs)):
        assert (ran.code, ran.out) == (3, "")
        assert ran.err.startswith("error: ")
        assert "nobody" in ran.err
        assert "(TASK_NOT_FOUND)" in ran.err


async def test_options_stand_before_or_after_the_command(
    cli: "Cli", client: Client, environment: dict[str, str]
) -> None:
    """--server and --json work in both places, and what stands later counts."""
    await add(client, "t")
    address = environment.pop("TASKLOOM_SERVER")
    commands = (
        ["--server", address, "--json", "task", "show", "t"],
        ["task", "show", "t", "--json", "--server", address],
        ["--server", "127.0.0.1:1", "task", "show", "--server", address, "--json", "t"],
    )
    for shown in await asyncio.gather(*(cli(*command) for command in commands)):
        assert shown.json["task"]["id"] == "t"
