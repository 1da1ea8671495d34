"""``taskloom task search`` and ``taskloom query``."""

from tests.cli.conftest import Cli


async def test_search_shows_what_was_found(cli: Cli) -> None:
    """A line a task, the best first, below it where else the words are; JSON has all of it."""
    await cli("task", "add", "Fix the exit code", "--id", "fix")
    await cli("task", "add", "Docs", "--id", "docs", "-d", "says which exit code means what")
    await cli("task", "add", "Other", "--id", "other", "--parent", "docs")
    ran = await cli("task", "search", '"exit', 'code"')
    assert ran.code == 0
    assert ran.out.splitlines() == [
        "fix  pending  Fix the [exit code]",
        "docs  pending  Docs",
        "    description: says which [exit code] means what",
    ]
    ran = await cli("task", "search", "exit code", "--limit", "1", "--json")
    [result] = ran.json
    assert result["task"]["id"] == "fix"
    assert [part["text"] for part in result["snippets"][0]["parts"]] == [
        "Fix the ",
        "exit",
        " ",
        "code",
    ]
    ran = await cli("task", "search", "exit", "--limit", "1")
    assert "1 of 2 tasks" in ran.err
    ran = await cli("task", "search", "other", "--parent", "docs", "--status", "pending")
    assert ran.out.splitlines() == ["other  pending  [Other]"]
    ran = await cli("task", "search", "nothing")
    assert (ran.code, ran.out, ran.err) == (0, "", "no tasks\n")
    ran = await cli("task", "search", '"')
    assert ran.code == 2
    assert "no word to search for" in ran.err


async def test_query_prints_a_table_csv_or_json(cli: Cli) -> None:
    """The same rows for people, for spreadsheets and for programs, with types kept in JSON."""
    sql = "SELECT :n AS number, 1.5 AS real, :t AS text, NULL AS missing, x'00ff' AS bytes"
    ran = await cli("query", sql, "--param", "n=7", "--param", "t=a b")
    assert ran.out.splitlines() == [
        "number  real  text  missing  bytes",
        "     7   1.5  a b      NULL  <2 bytes>",
    ]
    ran = await cli("query", sql, "--param", 'n="7"', "--param", 't=a,"b"', "--csv")
    assert ran.out == 'number,real,text,missing,bytes\n7,1.5,"a,""b""",,00ff\n'
    ran = await cli("query", sql, "--param", "n=7", "--param", "t=null", "--json")
    assert ran.json["columns"] == ["number", "real", "text", "missing", "bytes"]
    assert ran.json["rows"] == [[7, 1.5, None, None, "00ff"]]


async def test_query_says_what_it_left_out_or_refused(cli: Cli, taskloom: Cli) -> None:
    """More rows than asked for are told on stderr; a write and a loop end with a sentence."""
    for_ever = "WITH RECURSIVE n(x) AS (SELECT 1 UNION ALL SELECT x + 1 FROM n) SELECT "
    ran = await cli("query", for_ever + "x FROM n", "--max-rows", "2")
    assert ran.out.split() == ["x", "1", "2"]
    assert "only the first 2 rows; --max-rows shows more" in ran.err
    ran = await cli("query", for_ever + "count(*) FROM n", "--max-time", "200ms")
    assert (ran.code, ran.out) == (1, "")
    assert "more than 0.2 s" in ran.err
    ran = await cli("query", "DELETE FROM tasks")
    assert (ran.code, ran.out) == (2, "")
    assert "does more than read" in ran.err
    ran = await cli("query", "SELECT 1 WHERE 0")
    assert (ran.code, ran.err) == (0, "no rows\n")
    ran = await cli("query", "-", "--csv", stdin=b"SELECT 'from stdin' AS x")
    assert ran.out == "x\nfrom stdin\n"
    for arguments in (("--param", "x"), ("--csv", "--json"), ("--param", f"x={2**64}")):
        assert (await taskloom("query", "SELECT 1", *arguments)).code == 2
