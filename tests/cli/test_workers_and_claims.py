"""taskloom worker …, claim, complete, release, fail: a worker's day at a shell."""

import asyncio
from typing import TYPE_CHECKING

from taskloom import v1
from taskloom_client import Client
from taskloom_client.cli.values import show_moment

if TYPE_CHECKING:
    from tests.cli.conftest import Cli


async def add(client: Client, *ids: str) -> None:
    """Add tasks of these ids, a later one behind those before it."""
    for number, id in enumerate(ids):
        await client.tasks.CreateTask(
            v1.CreateTaskRequest(id=id, title=f"The task {id}", blocked_by=ids[:number])
        )


async def test_workers_come_and_go(cli: "Cli", client: Client) -> None:
    """A worker that connects is listed until it disconnects, and with --all after that."""
    await add(client, "t")
    connected = await cli(
        *("worker", "connect", "ann", "--tag", "rust", "--tag", "go", "--max-claims", "2"),
        *("--lease", "5m", "--cool-down", "1s"),
    )
    assert connected.code == 0
    assert connected.out.startswith(
        "connected ann: holds up to 2 tasks, each for 5m without a sign of life\n\n[connect]\n"
    )
    await client.claims.ClaimTask(v1.ClaimTaskRequest(worker_id="ann", task_id="t"))
    listed = await cli("worker", "list")
    heading, row = listed.out.splitlines()
    assert heading.split() == ["WORKER", "HOLDS", "CLAIMED", "LOST", "LAST", "HEARD", "OF", "TAGS"]
    assert row.split()[:6] == ["ann", "1", "of", "2", "1", "0"]
    assert {"rust,", "go"} == set(row.split()[-2:]) or {"go,", "rust"} == set(row.split()[-2:])

    gone = await cli("worker", "disconnect", "ann", "--reason", "lunch")
    assert (gone.code, gone.out) == (0, "disconnected ann; gave back t\n")
    none = await cli("worker", "list")
    assert (none.code, none.out, none.err) == (0, "", "no connected workers\n")
    (ann,) = (await cli("worker", "list", "--all", "--json")).json
    assert (ann["id"], ann["max_claims"], ann["lease"]) == ("ann", 2, "300s")
    unknown = await cli("worker", "disconnect", "bob")
    assert (unknown.code, unknown.out) == (3, "")
    assert "(WORKER_NOT_FOUND)" in unknown.err


async def test_a_worker_whose_stream_broke_is_told_apart(cli: "Cli", client: Client) -> None:
    """The list says how long such a worker has to come back, and has no such column otherwise."""
    await client.workers.Connect(v1.ConnectRequest(worker_id="ann"))
    assert "GRACE" not in (await cli("worker", "list")).out
    async with client.work("ann"):
        pass
    while True:
        (ann,) = (await client.workers.ListWorkers(v1.ListWorkersRequest())).workers
        if ann.HasField("grace_expire_time"):
            break
    heading, row = (await cli("worker", "list")).out.splitlines()
    assert "GRACE UNTIL" in heading
    assert show_moment(ann.grace_expire_time) in row


async def test_worker_without_a_name_is_given_one(cli: "Cli") -> None:
    """The server makes up a name, and the answer says which."""
    worker = (await cli("worker", "connect", "--json")).json["worker"]
    assert worker["id"]


async def test_claim_and_complete(cli: "Cli", client: Client, environment: dict[str, str]) -> None:
    """Without an id the best task is taken; completing it says what it freed."""
    environment["TASKLOOM_WORKER"] = "ann"
    await add(client, "first", "second")
    assert (await cli("worker", "connect", "ann")).code == 0
    claimed = await cli("claim", "--lease", "1h")
    assert (claimed.code, claimed.err) == (0, "")
    assert claimed.out.startswith("claimed first (claim revision ")
    assert "\n  The task first\n\n[enter:working]\n" in claimed.out
    task = (await client.tasks.GetTask(v1.GetTaskRequest(task_id="first"))).task
    completed = await cli("complete", "first", "--claim-revision", str(task.claim_revision))
    assert completed.code == 0
    assert completed.out.startswith("completed first; now ready: second\n\n[enter:completed]\n")


async def test_claim_by_id(cli: "Cli", client: Client) -> None:
    """A named task is taken, or it is said why not: exit code 1."""
    await client.workers.Connect(v1.ConnectRequest(worker_id="ann"))
    await client.workers.Connect(v1.ConnectRequest(worker_id="bob"))
    await add(client, "a", "b")
    answer = (await cli("claim", "a", "--worker", "ann", "--json")).json
    assert (answer["task"]["worker_id"], answer["task"]["status"]) == ("ann", "working")
    taken = await cli("claim", "a", "--worker", "bob")
    assert (taken.code, taken.out) == (1, "")
    assert "(TASK_CLAIMED)" in taken.err
    blocked = await cli("claim", "b", "--worker", "bob")
    assert (blocked.code, blocked.out) == (1, "")
    assert "(DEPENDENCIES_UNMET)" in blocked.err


async def test_claim_by_a_stranger_says_what_to_do(cli: "Cli", client: Client) -> None:
    """A worker has to connect; --connect does it on the way."""
    await add(client, "t")
    refused = await cli("claim", "--worker", "new")
    assert (refused.code, refused.out) == (3, "")
    assert refused.err == (
        "error: worker new is not connected: "
        "'taskloom worker connect new' does it, or --connect here\n"
    )
    assert (await cli("claim", "t", "--worker", "new", "--connect")).code == 0


async def test_nothing_to_claim_is_exit_code_5(cli: "Cli", client: Client) -> None:
    """Want of work is told from failure, and the sentence says why there is none."""
    await client.workers.Connect(v1.ConnectRequest(worker_id="ann"))
    await client.workers.Connect(v1.ConnectRequest(worker_id="bob"))

    async def nothing(worker: str) -> str:
        ran = await cli("claim", "--worker", worker)
        assert (ran.code, ran.out) == (5, "")
        return ran.err

    assert await nothing("ann") == "nothing to claim: every task has ended\n"
    await add(client, "a", "b")
    await client.claims.ClaimNextTask(v1.ClaimNextTaskRequest(worker_id="ann"))
    assert await nothing("ann") == "nothing to claim: ann holds as many tasks as it may\n"
    assert await nothing("bob") == "nothing to claim: no task that bob may take is ready\n"
    await client.admin.Pause(v1.PauseRequest())
    assert await nothing("bob") == "nothing to claim: paused, until 'taskloom resume'\n"
    ran = await cli("claim", "--worker", "bob", "--json")
    assert (ran.code, ran.json["tasks"]) == (5, [])
    assert ran.json["outcome"] == "CLAIM_OUTCOME_PAUSED"


async def test_an_advisory_claim_keeps_nobody_away(cli: "Cli", client: Client) -> None:
    """With --advisory a task is worked on beside others; show says by whom, by which claim."""
    for worker in ("ann", "bob"):
        await client.workers.Connect(v1.ConnectRequest(worker_id=worker))
    await add(client, "t")
    by_ann = await cli("claim", "t", "--advisory", "-w", "ann")
    by_bob = await cli("claim", "--advisory", "-w", "bob")
    task = (await client.tasks.GetTask(v1.GetTaskRequest(task_id="t"))).task
    ann, bob = (each.claim_revision for each in task.advisory_claims)
    assert by_ann.out.splitlines()[0] == f"claimed t (advisory, claim revision {ann})"
    assert by_bob.out.splitlines()[0] == f"claimed t (advisory, claim revision {bob})"
    shown = (await cli("task", "show", "t")).out
    assert f"claim revision {ann})" in shown
    assert "also on it   ann (since " in shown
    done = await cli("complete", "t", "-w", "ann", "--claim-revision", str(ann))
    assert (done.code, done.out.splitlines()[0]) == (0, "completed t")
    late = await cli("complete", "t", "-w", "bob", "--claim-revision", str(bob))
    assert (late.code, "(CLAIM_LOST)" in late.err) == (1, True)


async def test_claim_the_hottest(cli: "Cli", client: Client) -> None:
    """--order temperature takes the hottest task instead of the most urgent; it goes without ID."""
    await client.workers.Connect(v1.ConnectRequest(worker_id="ann"))
    await client.tasks.CreateTask(v1.CreateTaskRequest(id="urgent", title="u", priority=6))
    await client.tasks.CreateTask(v1.CreateTaskRequest(id="hot", title="h", priority=5))
    await client.tasks.BoostTask(v1.BoostTaskRequest(task_id="hot", boost=1))
    named = await cli("claim", "urgent", "--order", "temperature", "-w", "ann")
    assert (named.code, named.out) == (2, "")
    claimed = await cli("claim", "--order", "temperature", "-w", "ann")
    assert claimed.out.startswith("claimed hot ")


async def test_claim_waits_for_a_task(cli: "Cli", client: Client) -> None:
    """With --wait a claim stands in line, and takes the task that becomes ready."""
    await add(client, "first", "second")
    for worker in ("ann", "bob"):
        await client.workers.Connect(v1.ConnectRequest(worker_id=worker))
    await client.claims.ClaimTask(v1.ClaimTaskRequest(worker_id="bob", task_id="first"))

    async def end_the_blocker() -> None:
        before = (await client.workers.ListWorkers(v1.ListWorkersRequest())).workers[0]
        while True:  # until the claim has reached the server, of which the sign of life tells
            now = (await client.workers.ListWorkers(v1.ListWorkersRequest())).workers[0]
            if now.heartbeat_time != before.heartbeat_time:
                break
        await client.claims.CompleteTask(v1.CompleteTaskRequest(worker_id="bob", task_id="first"))

    claimed, _ = await asyncio.gather(
        cli("claim", "--worker", "ann", "--wait", "1m"), end_the_blocker()
    )
    assert claimed.code == 0
    assert claimed.out.startswith("claimed second ")


async def test_release_and_fail(cli: "Cli", client: Client) -> None:
    """A task goes back, or fails for good, or fails to be tried again later."""
    await client.workers.Connect(v1.ConnectRequest(worker_id="ann"))
    await add(client, "t")
    await cli("claim", "t", "-w", "ann")
    released = await cli("release", "t", "-w", "ann", "--reason", "lunch")
    assert (released.code, released.out) == (0, "released t (pending)\n")
    await cli("claim", "t", "-w", "ann")
    again = await cli("fail", "t", "-w", "ann", "--retry", "--retry-delay", "1h", "--reason", "r")
    assert (again.code, again.out.split(",")[0]) == (0, "failed t (pending")
    task = (await client.tasks.GetTask(v1.GetTaskRequest(task_id="t"))).task
    assert task.HasField("not_before")
    await cli("task", "update", "t", "--not-before", "now")
    await cli("claim", "t", "-w", "ann")
    failed = await cli("fail", "t", "-w", "ann", "--reason", "cannot be done")
    assert (failed.code, failed.out.split(",")[0]) == (0, "failed t (failed")


async def test_lost_claim_is_refused(cli: "Cli", client: Client) -> None:
    """Neither another worker nor an old claim completes a task: exit code 1."""
    for worker in ("ann", "bob"):
        await client.workers.Connect(v1.ConnectRequest(worker_id=worker))
    await add(client, "t")
    await client.claims.ClaimTask(v1.ClaimTaskRequest(worker_id="ann", task_id="t"))
    for verb in ("complete", "release", "fail"):
        refused = await cli(verb, "t", "--worker", "bob")
        assert (refused.code, refused.out) == (1, "")
        assert refused.err.startswith("error: ")
        assert "(CLAIM_LOST)" in refused.err
    stale = await cli("complete", "t", "--worker", "ann", "--claim-revision", "1")
    assert (stale.code, "(CLAIM_LOST)" in stale.err) == (1, True)
