"""taskloom task rename, restore, relink, move, scan, history, metrics; worker thought."""

import asyncio
from typing import TYPE_CHECKING

from taskloom import v1
from taskloom_client import Client

from tests.cli.terminal import asked_on_a_terminal
from tests.cli.test_tasks import add

if TYPE_CHECKING:
    from tests.cli.conftest import Cli


async def test_a_task_renamed_deleted_and_restored(cli: "Cli", client: Client) -> None:
    """Each says what became of the task."""
    await add(client, "a")
    assert (await cli("task", "rename", "a", "b")).out == "renamed a to b\n"
    missing = await cli("task", "show", "a")
    assert (missing.code, missing.err) == (
        3,
        "error: there is no task 'a'; it was renamed to 'b' (TASK_NOT_FOUND)\n",
    )
    await cli("task", "delete", "b")
    assert (await cli("task", "restore", "b")).out == "restored b (pending)\n"
    assert (await cli("task", "restore", "b")).out == "b was not deleted\n"
    assert (await cli("task", "obliterate", "b", "--yes")).out == "obliterated b\n"
    assert (await cli("task", "restore", "b")).code == 3


async def test_obliterate_asks_first(
    cli: "Cli", client: Client, environment: dict[str, str]
) -> None:
    """It takes anything but yes for a no; where nobody can be asked it does nothing."""
    await add(client, "a")
    unasked = await cli("task", "obliterate", "a")
    assert (unasked.code, unasked.err) == (
        2,
        "error: obliterate asks first, and there is nobody to ask: add --yes\n",
    )

    async def answered(answer: bytes | None) -> tuple[int, str]:
        words = ["task", "obliterate", "a"]
        told = "Remove a for good?"
        return await asyncio.to_thread(asked_on_a_terminal, words, told, answer, environment)

    assert await answered(b"n\n") == (1, "error: nothing was removed")
    assert await answered(None) == (130, "")
    assert (await cli("task", "show", "a")).code == 0
    assert (await answered(b"y\n"))[0] == 0
    assert (await cli("task", "restore", "a")).code == 3


async def test_relink_move_and_scan(cli: "Cli", client: Client) -> None:
    """Dependencies go and come by FROM:TO:TYPE; a scan shows what is around a task."""
    await add(client, "a", "b", "c", "top")
    linked = await cli("task", "relink", "--add", "a:b", "--add", "b:c:follows")
    assert linked.out == "added a blocks b, added b follows c\n"
    turned = await cli("task", "relink", "--remove", "a:b", "--add", "a:c")
    assert turned.out == "removed a blocks b, added a blocks c; now ready: b\n"
    assert (await cli("task", "relink", "--add", "a")).code == 2
    assert (await cli("task", "relink")).code == 2
    assert (await cli("task", "move", "c", "--parent", "top")).out.startswith("moved c below top")
    found = await cli("task", "scan", "c", "--json")
    assert [(one["task"]["id"], one["distance"]) for one in found.json] == [
        *[("a", 1), ("b", 1)],
        ("top", 1),
    ]
    shown = await cli("task", "scan", "a", "--direction", "after")
    assert shown.out.splitlines()[1].split()[:4] == ["after", "1", "c", "pending"]
    assert (await cli("task", "move", "c", "--parent", "")).out.startswith("moved c to the top")


async def test_history_of_all_and_metrics(cli: "Cli", client: Client) -> None:
    """Without an id the latest transitions of all tasks; sums with the budget."""
    await client.workers.Connect(v1.ConnectRequest(worker_id="w"))
    added = await cli("task", "add", "x", "--id", "a", "--max-cost", "1.5")
    assert added.code == 0
    await client.claims.ClaimTask(v1.ClaimTaskRequest(worker_id="w", task_id="a"))
    metrics = v1.Metrics(tokens_in=1_200, cost_usd=2)
    await client.tasks.LogMetrics(v1.LogMetricsRequest(task_id="a", worker_id="w", metrics=metrics))
    lines = (await cli("task", "history", "--since", "1h")).out.splitlines()
    assert [line.split()[-1] for line in lines] == ["WORKER", "pending", "w"]
    assert (await cli("task", "history", "--status", "failed")).err == "no transitions\n"
    told = (await cli("task", "metrics", "a")).out
    assert "1,200" in told
    assert "2 of 1.5 USD: spent, nothing is given out" in told
    assert (await cli("task", "metrics", "--of", "w", "--json")).json["metrics"]["cost_usd"] == 2.0
    assert "over budget" in (await cli("status")).out
    assert "1.5 USD" in (await cli("task", "show", "a")).out
    await cli("task", "update", "a", "--max-cost", "0")
    assert "budget" not in (await cli("task", "show", "a")).out


async def test_a_thought_and_stale_workers(cli: "Cli", client: Client) -> None:
    """What a worker thinks stands in the list of workers, which can be of the silent ones alone."""
    await cli("worker", "connect", "w", "--tag", "rust")
    said = await cli("worker", "thought", "w", "almost there")
    assert said.out == "w thinks: almost there\n"
    assert "almost there" in (await cli("worker", "list", "--tag", "rust")).out
    assert (await cli("worker", "list", "--stale-after", "1h")).err == "no connected workers\n"
    assert (await cli("worker", "thought", "w")).out == "w thinks no more\n"
