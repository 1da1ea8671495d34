"""AdminService.Query: what it answers, what it refuses, and what cannot be done with it."""

import asyncio
import os
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import grpc
import pytest
from taskloom import v1
from taskloom_client import Client, TaskloomError

from tests.calls import claim_next, complete, connect, create, duration, refusal, status

if TYPE_CHECKING:
    from tests.conftest import Server

FOR_EVER = "WITH RECURSIVE n(x) AS (SELECT 1 UNION ALL SELECT x + 1 FROM n) "
INVALID = ("INVALID_ARGUMENT", "INVALID_QUERY")
EXPENSIVE = ("RESOURCE_EXHAUSTED", "QUERY_TOO_EXPENSIVE")


def plain(value: v1.QueryValue) -> Any:
    """A value as Python has it."""
    kind = value.WhichOneof("value")
    return getattr(value, kind) if kind else None


def to_value(value: Any) -> v1.QueryValue:
    """The message for a value."""
    kinds = {int: "integer", float: "real", str: "text", bytes: "blob"}
    return v1.QueryValue(**({} if value is None else {kinds[type(value)]: value}))


async def query(client: Client, sql: str, **fields: Any) -> v1.QueryResponse:
    """What Query answers."""
    return await client.admin.Query(v1.QueryRequest(sql=sql, **fields))


async def rows(client: Client, sql: str, **fields: Any) -> list[tuple[Any, ...]]:
    """The rows of a query."""
    answer = await query(client, sql, **fields)
    return [tuple(map(plain, row.values)) for row in answer.rows]


async def rows_soon(client: Client, sql: str) -> list[tuple[Any, ...]]:
    """Likewise, once the server has noticed that others have ended."""
    async with asyncio.timeout(20):
        while True:
            try:
                return await rows(client, sql)
            except TaskloomError as error:
                if error.reason != "TOO_MANY_QUERIES":
                    raise


def processes(server: int | None = None) -> set[str]:
    """The processes of queries that a server, else this process, started and that are there."""
    found = set()
    for stat in Path("/proc").glob("[0-9]*/stat"):
        try:
            fields = stat.read_text(encoding="utf-8").rpartition(")")[2].split()
            line = stat.with_name("cmdline").read_text(encoding="utf-8")
        except OSError:
            continue
        if fields[1] == str(server or os.getpid()) and "query_process" in line:
            found.add(stat.parent.name)
    return found


async def until(client: Client, count: int) -> None:
    """Return once so many of them are there, asking the server something meanwhile."""
    while len(processes()) != count:
        await status(client)


# What is answered


async def test_values_come_with_their_types(client: Client) -> None:
    """NULL, whole and other numbers, texts and bytes come as such, in rows under column names."""
    sql = "SELECT NULL AS n, -9223372036854775808 AS i, 1.0 AS r, 9e999, 'ü\n🙂' AS t, x'00ff' AS b"
    answer = await query(client, sql)
    assert list(answer.columns) == ["n", "i", "r", "9e999", "t", "b"]
    [row] = answer.rows
    assert [plain(value) for value in row.values] == [
        None,
        -(2**63),
        1.0,
        float("inf"),
        "ü\n🙂",
        b"\0\xff",
    ]
    kinds = [value.WhichOneof("value") for value in row.values]
    assert kinds == [None, "integer", "real", "real", "text", "blob"]


async def test_parameters_stand_for_values(client: Client) -> None:
    """By place or by name, with every type, and with no text taken for SQL."""
    values = [None, 2**63 - 1, 0.5, "'; DROP TABLE tasks; --", b"\0'"]
    given = [to_value(value) for value in values]
    assert await rows(client, "SELECT ?, ?, ?, ?, ?", parameters=given) == [tuple(values)]
    named = {"a": to_value("x"), "blob": to_value(b"y"), "unused": to_value(1)}
    assert await rows(client, "SELECT :a, @blob, $a", named_parameters=named) == [("x", b"y", "x")]
    for sql, fields in (
        ("SELECT ?", {}),
        ("SELECT 1", {"parameters": given}),
        ("SELECT :a", {"named_parameters": {"b": to_value(1)}}),
    ):
        error = await refusal(query(client, sql, **fields))
        assert (error.code.name, error.reason) == INVALID
        assert "parameter" in str(error)


async def test_the_tables_are_seen_at_one_revision(client: Client) -> None:
    """What was written before is seen, and the revision of the answer is that of the tables."""
    await create(client, "one")
    answer = await query(client, "SELECT id FROM tasks")
    assert [plain(row.values[0]) for row in answer.rows] == ["one"]
    assert answer.revision == (await status(client)).revision
    assert await rows(client, "SELECT revision FROM system") == [(answer.revision,)]
    assert await rows(client, "SELECT rowid FROM task_search WHERE task_search MATCH 'one'") == [
        (1,)
    ]


@pytest.mark.parametrize(
    "sql",
    [
        "SELECT 1 -- so\n ; /* and\nso */ ;; -- on",
        "-- first\nSELECT 1",
        "VALUES (1)",
        "WITH x AS (SELECT 1) SELECT * FROM x;",
        "EXPLAIN QUERY PLAN SELECT * FROM tasks",
        "PRAGMA table_info(tasks)",
        "SELECT name FROM pragma_table_xinfo('tasks')",
        "SELECT sql FROM sqlite_schema",
        "PRAGMA user_version",
    ],
)
async def test_whatever_reads_is_run(client: Client, sql: str) -> None:
    """Comments, WITH, VALUES, EXPLAIN and what shows the schema are let pass."""
    assert (await query(client, sql)).rows


async def test_rows_beyond_the_limit_are_left_out_and_told(client: Client) -> None:
    """Of a billion rows come max_rows, 1,000 unless said otherwise, and it is said why no more."""
    answer = await query(client, FOR_EVER + "SELECT x FROM n LIMIT 1000000000")
    assert (len(answer.rows), answer.truncation) == (1_000, v1.QUERY_TRUNCATION_ROWS)
    answer = await query(client, FOR_EVER + "SELECT x FROM n", max_rows=10_000)
    assert (len(answer.rows), answer.truncation) == (10_000, v1.QUERY_TRUNCATION_ROWS)
    answer = await query(client, FOR_EVER + "SELECT x FROM n LIMIT 3", max_rows=3)
    assert (len(answer.rows), answer.truncation) == (3, v1.QUERY_TRUNCATION_UNSPECIFIED)
    answer = await query(client, FOR_EVER + "SELECT zeroblob(6000000) FROM n")
    assert (len(answer.rows), answer.truncation) == (2, v1.QUERY_TRUNCATION_BYTES)


# What is refused

WRITES = (
    "INSERT INTO tasks (id) VALUES ('x')",
    "UPDATE tasks SET title = 'x'",
    "DELETE FROM tasks",
    "DROP TABLE tasks",
    "CREATE TABLE x (a)",
    "CREATE TEMP TABLE x (a)",
    "CREATE TEMP VIEW x AS SELECT 1",
    "CREATE VIRTUAL TABLE temp.x USING fts5 (a)",
    "WITH x AS (SELECT 1) INSERT INTO tasks (id) SELECT * FROM x",
    "UPDATE tasks SET title = 'x' RETURNING id",
    "REPLACE INTO tasks (id) VALUES ('x')",
    "ALTER TABLE tasks ADD COLUMN x",
    "INSERT INTO task_search (task_search) VALUES ('delete-all')",
    "PRAGMA journal_mode = delete",
    "PRAGMA query_only = 0",
    "PRAGMA hard_heap_limit = 0",
    "PRAGMA temp_store_directory = '/tmp'",
    "PRAGMA user_version = 9",
    "PRAGMA writable_schema = 1",
    "PRAGMA wal_checkpoint",
    "VACUUM",
    "VACUUM INTO '{file}'",
    "ATTACH '{file}' AS x",
    "ATTACH ':memory:' AS x",
    "DETACH main",
    "BEGIN IMMEDIATE",
    "COMMIT",
    "ROLLBACK",
    "SAVEPOINT x",
    "ANALYZE",
    "REINDEX",
    "SELECT load_extension('{file}')",
    "SELECT writefile('{file}', 'x')",
    "SELECT readfile('/etc/passwd')",
    "SELECT fts3_tokenizer('simple')",
    "EXPLAIN DELETE FROM tasks",
    "SELECT 1; DELETE FROM tasks",
    "SELECT 1; SELECT 2",
    "SELECT 1 /* ; */ ; /* */ SELECT 2 /* */",
    "COMMIT; DROP TABLE tasks",
)


async def test_nothing_can_be_written(client: Client, server: "Server", tmp_path: Path) -> None:
    """Whatever does more than read, in whatever way, is INVALID_QUERY, and nothing is changed."""
    await create(client, "one")
    before = await rows(client, "SELECT * FROM tasks")
    there = sorted(tmp_path.iterdir())

    async def refused(sql: str) -> str:
        error = await refusal(query(client, sql.format(file=tmp_path / "new")))
        return f"{error.code.name} {error.reason}"

    for first in range(0, len(WRITES), 4):
        some = WRITES[first : first + 4]
        answers = await asyncio.gather(*map(refused, some))
        assert set(answers) == {" ".join(INVALID)}, some
    assert await rows(client, "SELECT * FROM tasks") == before
    assert sorted(tmp_path.iterdir()) == there


@pytest.mark.parametrize(
    ("sql", "why"),
    [
        ("SELEC 1", 'near "SELEC": syntax error'),
        ("SELECT nope FROM tasks", "no such column: nope"),
        ("SELECT * FROM nope", "no such table: nope"),
        ("-- nothing", "no statement"),
        (" ; ;", "no statement"),
        ("SELECT CAST(x'ff' AS TEXT)", "CAST(... AS BLOB)"),
        (f"SELECT {'(' * 3_000}1{')' * 3_000}", "Recursion limit"),
    ],
)
async def test_what_is_no_query_is_told_in_sqlite_s_words(
    client: Client, sql: str, why: str
) -> None:
    """What SQLite cannot make sense of is INVALID_QUERY, with what it says."""
    error = await refusal(query(client, sql))
    assert (error.code.name, error.reason) == INVALID
    assert why in str(error)


@pytest.mark.parametrize(
    ("fields", "field"),
    [
        ({"sql": ""}, "sql"),
        ({"sql": "SELECT '" + "x" * (64 << 10) + "'"}, "sql"),
        ({"sql": "SELECT 1\0; DROP TABLE tasks"}, "sql"),
        ({"max_rows": -1}, "max_rows"),
        ({"max_rows": 10_001}, "max_rows"),
        ({"max_time": duration(60_001)}, "max_time"),
        ({"max_time": duration(-1)}, "max_time"),
        ({"parameters": [v1.QueryValue()] * 1_001}, "parameters"),
        (
            {"parameters": [v1.QueryValue()], "named_parameters": {"a": v1.QueryValue()}},
            "named_parameters",
        ),
    ],
)
async def test_fields_have_bounds(client: Client, fields: dict[str, Any], field: str) -> None:
    """Limits beyond what may be asked for, and what is no SQL at all, are refused by name."""
    error = await refusal(client.admin.Query(v1.QueryRequest(**({"sql": "SELECT 1"} | fields))))
    assert error.reason == "INVALID_FIELD"
    assert [violation.field for violation in error.field_violations] == [field]


# What is too expensive

HOSTILE = {
    "loops for ever": (FOR_EVER + "SELECT count(*) FROM n", "time"),
    "finds nothing for ever": (FOR_EVER + "SELECT x FROM n WHERE x < 0", "time"),
    "one step takes minutes": (
        "SELECT instr(hex(zeroblob(4000000)), hex(zeroblob(2000000)) || '1')",
        "time",
    ),
    "joins without an end": (
        FOR_EVER + ", m AS (SELECT x FROM n LIMIT 9000) "
        "SELECT count(*) FROM m a, m b, m c, m d WHERE a.x + b.x + c.x + d.x = 0",
        "time",
    ),
    "sorts a gigabyte": (
        "WITH RECURSIVE n(x) AS (SELECT randomblob(9999) UNION ALL SELECT randomblob(9999) FROM n) "
        "SELECT x FROM n ORDER BY x",
        "memory",
    ),
    "groups a gigabyte": (
        "WITH RECURSIVE n(x) AS (SELECT randomblob(9999) UNION ALL SELECT randomblob(9999) FROM n) "
        "SELECT count(DISTINCT x) FROM n",
        "memory",
    ),
    "rows of a gigabyte": ("SELECT " + ", ".join(["zeroblob(8000000)"] * 120), "memory"),
    "a value of a gigabyte": ("SELECT zeroblob(1000000000)", "value"),
    "a text of a gigabyte": ("SELECT printf('%1000000000d', 1)", "value"),
    "a text that doubles": (
        "SELECT replace(hex(zeroblob(2000000)), '0', 'aaaaaaaaaaaa')",
        "value",
    ),
    "a text that grows for ever": (
        FOR_EVER + "SELECT group_concat(hex(zeroblob(1000))) FROM n",
        "time",
    ),
    "a text that grows too long": (
        FOR_EVER + "SELECT group_concat(hex(zeroblob(1000))) FROM (SELECT x FROM n LIMIT 9999)",
        "value",
    ),
}


@pytest.mark.parametrize("name", HOSTILE)
async def test_a_hostile_query_ends_at_a_limit(client: Client, name: str) -> None:
    """It is stopped and told at which limit; its process is gone, and the next one is answered."""
    sql, limit = HOSTILE[name]
    seconds = duration(300 if limit == "time" else 30_000)
    error = await refusal(query(client, sql, max_time=seconds))
    assert (error.code.name, error.reason) == EXPENSIVE
    assert error.metadata["limit"] == limit
    assert not processes()
    assert await rows(client, "SELECT 1") == [(1,)]


async def test_claims_go_on_beside_hostile_queries(server: "Server", client: Client) -> None:
    """While as many queries as may run loop for ever, claims and completions are answered."""
    await connect(client, "w")
    for n in range(20):
        await create(client, f"t{n}")
    endless = [
        asyncio.create_task(refusal(query(client, HOSTILE["loops for ever"][0]))) for _ in range(4)
    ]
    await until(client, 4)
    for _ in range(20):
        [task] = (await claim_next(client, "w")).tasks
        await complete(client, "w", task.id)
    assert not any(call.done() for call in endless)
    error = await refusal(query(client, "SELECT 1"))
    assert (error.code.name, error.reason) == ("RESOURCE_EXHAUSTED", "TOO_MANY_QUERIES")
    assert error.retry_delay is not None
    for call in endless:
        call.cancel()
    await asyncio.gather(*endless, return_exceptions=True)
    await until(client, 0)
    assert await rows_soon(client, "SELECT count(*) FROM tasks WHERE status = 'completed'") == [
        (20,)
    ]


async def test_a_caller_that_goes_takes_the_process_along(client: Client) -> None:
    """A query ends when its caller's time is over, or when the caller gives up."""
    call = asyncio.create_task(query(client, HOSTILE["loops for ever"][0]))
    await until(client, 1)
    call.cancel()
    await until(client, 0)
    sql = HOSTILE["loops for ever"][0]
    error = await refusal(client.admin.Query(v1.QueryRequest(sql=sql), timeout=1.0))
    assert error.code in (
        grpc.StatusCode.RESOURCE_EXHAUSTED,
        grpc.StatusCode.DEADLINE_EXCEEDED,
    )
    await until(client, 0)


async def test_a_server_that_stops_takes_its_queries_along(
    start_server: Callable[..., Any],
) -> None:
    """When the server has stopped, no process of a query is left."""
    async with start_server(shutdown_grace_seconds=0.1) as server, Client(server.address) as client:
        call = asyncio.create_task(query(client, HOSTILE["loops for ever"][0]))
        await until(client, 1)
    assert not processes()
    [ended] = await asyncio.gather(call, return_exceptions=True)
    assert isinstance(ended, BaseException)


async def test_a_server_that_is_killed_leaves_no_query_for_long(
    start_process: Callable[..., Any],
) -> None:
    """A query whose server is gone ends by itself when its time is over."""
    server = await start_process()
    async with Client(server.address) as client:
        sql = HOSTILE["loops for ever"][0]
        call = asyncio.create_task(query(client, sql, max_time=duration(1_500)))
        while not (there := processes(server.process.pid)):
            await status(client)
        server.process.kill()
        call.cancel()
        await asyncio.gather(call, return_exceptions=True)
    [number] = there
    while _runs(number):
        await asyncio.to_thread(os.sched_yield)


def _runs(number: str) -> bool:
    try:
        stat = Path(f"/proc/{number}/stat").read_text(encoding="utf-8")
    except OSError:
        return False
    return stat.rpartition(")")[2].split()[0] != "Z"  # ended, if nobody there has noticed


async def test_every_table_can_be_read_and_is_documented(client: Client) -> None:
    """The page on Query names all tables, those with what others were answered included."""
    page = (Path(__file__).parents[1] / "docs" / "search-and-query.md").read_text(encoding="utf-8")
    await create(client, "t", request_id="mine")
    names = await rows(
        client,
        "SELECT name FROM sqlite_schema WHERE type = 'table' AND name NOT LIKE 'sqlite%' "
        "AND name NOT LIKE 'task_search_%'",
    )
    for (table,) in names:
        assert f"`{table}`" in page, table
        assert len(await rows(client, f'SELECT count(*) FROM "{table}"')) == 1
    ((answered,),) = await rows(client, "SELECT response FROM requests WHERE id = 'mine'")
    assert v1.CreateTaskResponse.FromString(answered).task.id == "t"
