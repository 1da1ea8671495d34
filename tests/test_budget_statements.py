"""What budgets cost those who have none: nothing, of what the hot path asks of the database."""

from taskloom import v1
from taskloom_client import Client

from tests.calls import claim, claim_next, complete, connect, create, fail, heartbeat, update
from tests.test_hot_statements import Statements, statements  # noqa: F401 - a fixture


def _of_budgets(run: list[tuple[str, int]]) -> list[str]:
    tables = ('FROM "budgets"', 'INTO "budgets"', 'UPDATE "budgets"')
    return [sql for sql, _ in run if any(table in sql for table in tables)]


async def _work(client: Client, worker: str, *tasks: str) -> None:
    for task in tasks:
        await claim(client, worker, task)
        await fail(client, worker, task, retry=True)
        await claim_next(client, worker)
        metrics = v1.Metrics(tokens_in=1, cost_usd=0.1)
        await client.tasks.LogMetrics(v1.LogMetricsRequest(task_id=task, metrics=metrics))
        await heartbeat(client, worker)
        await complete(client, worker, task)


async def test_without_a_budget_nothing_is_asked_of_budgets(
    statements: Statements,  # noqa: F811
    timed_client: Client,
) -> None:
    """Work on tasks without a budget over them runs no statement about budgets, though others have
    one; with one, a claim does neither.
    """
    client = timed_client
    await connect(client, "w")
    await create(client, "other", max_cost_usd=5.0, needed_tags=["nobody-has-this"])
    for id in ("a", "b"):
        await create(client, id)
    with statements.watched() as run:
        await _work(client, "w", "a", "b")
    assert not _of_budgets(run)
    await create(client, "c", max_cost_usd=5.0)
    with statements.watched() as run:
        await claim(client, "w", "c")
        await complete(client, "w", "c")
    assert not _of_budgets(run)


async def test_a_spent_budget_is_one_update(
    statements: Statements,  # noqa: F811
    timed_client: Client,
) -> None:
    """To hold back a hundred tasks takes as many updates as to hold back ten."""
    counts = []
    for size in (10, 100):
        node = v1.TaskNode(
            id=f"top{size}", title="x", max_cost_usd=1.0, children=[v1.TaskNode(title="y")] * size
        )
        await timed_client.tasks.CreateTaskTree(v1.CreateTaskTreeRequest(root=node))
        metrics = v1.Metrics(cost_usd=1.0)
        with statements.watched() as run:
            await timed_client.tasks.LogMetrics(
                v1.LogMetricsRequest(task_id=f"top{size}", metrics=metrics)
            )
            await update(timed_client, f"top{size}", max_cost_usd=2.0)
        counts.append(sum(sql.startswith(("UPDATE", "WITH")) for sql, _ in run))
    assert counts[0] == counts[1]
