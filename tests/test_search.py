"""SearchTasks: what is found, in which order, and what is shown of it."""

import asyncio
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import apsw
import pytest
from taskloom import v1
from taskloom_client import Client
from taskloom_server.store import search as store_search

from tests.calls import claim, complete, connect, create, refusal, update

if TYPE_CHECKING:
    from tests.conftest import Server


async def add(client: Client, id: str, title: str, description: str = "", **fields: Any) -> None:
    """A task with these texts."""
    await client.tasks.CreateTask(
        v1.CreateTaskRequest(id=id, title=title, description=description, **fields)
    )


async def attach(client: Client, task: str, text: str | bytes, **fields: Any) -> int:
    """The sequence of a new attachment, a note unless said otherwise."""
    content = text.encode() if isinstance(text, str) else text
    fields = {"type": "note"} | fields
    answer = await client.attachments.Attach(
        v1.AttachRequest(task_id=task, content=content, **fields)
    )
    return answer.attachment.sequence


async def search(client: Client, query: str, **fields: Any) -> v1.SearchTasksResponse:
    """What SearchTasks answers."""
    return await client.tasks.SearchTasks(v1.SearchTasksRequest(query=query, **fields))


async def found(client: Client, query: str, **fields: Any) -> list[str]:
    """The ids of what is found, the best first."""
    return [result.task.id for result in (await search(client, query, **fields)).results]


def shown(snippet: v1.Snippet) -> str:
    """A snippet with what was found in brackets."""
    return "".join(f"[{part.text}]" if part.found else part.text for part in snippet.parts)


# What is found

QUERIES = {
    "parser": {"parse", "lex"},
    "PARSER": {"parse", "lex"},
    "pars*": {"parse", "lex", "sparse"},
    "pars": set(),
    "write parser": {"parse"},
    "parser AND write": {"parse"},
    "tokens OR docs": {"lex", "docs"},
    "parser NOT tokens": {"parse"},
    "parser AND NOT tokens": {"parse"},
    "(write OR tokens) parser": {"parse", "lex"},
    "write OR tokens parser": {"parse", "docs", "lex"},
    '"the parser"': {"parse"},
    '"parser the"': set(),
    '"the pars"*': {"parse", "sparse"},
    "write NOT (parser OR nothing)": {"docs"},
    "resume": {"docs"},
    "résumé": {"docs"},
    "utf_8": {"lex"},
    "utf-8": {"lex"},
    "🙂": {"docs"},
    "and": {"lex"},
    # read kindly
    '"the parser': {"parse"},
    "(write parser": {"parse"},
    "write) parser": {"parse"},
    "parser AND": {"parse", "lex"},
    "OR parser OR": {"parse", "lex"},
    "parser NOT": {"parse", "lex"},
    "parser & *": {"parse", "lex"},
    "NOT NOT parser write": {"docs"},
    "title:parser": set(),
    "NEAR(write parser)": set(),
    "^parser": {"parse", "lex"},
    "-parser": {"parse", "lex"},
    "par\0ser": set(),
    "parser\0write": {"parse"},
    '""parser""': {"parse", "lex"},
    "'; DROP TABLE tasks; --": set(),
}


async def test_queries_find_what_they_ask_for(client: Client) -> None:
    """Words, phrases, beginnings, AND, OR, NOT and parentheses; odd spellings are read kindly."""
    await add(client, "parse", "Write the parser")
    await add(client, "lex", "Lexer", "tokens for utf-8 and a parser")
    await add(client, "docs", "Write docs 🙂", "Résumé of all")
    await add(client, "sparse", "The parse tree")
    wrong = {}
    for query, ids in QUERIES.items():
        answer = set(await found(client, query))
        if answer != ids:
            wrong[query] = answer
    assert not wrong


@pytest.mark.parametrize(
    ("query", "why"),
    [
        ("", "is required"),
        (" \t", "is required"),
        ('"', "no word"),
        ("***", "no word"),
        ("AND", "no word"),
        ("( ) OR", "no word"),
        ("NOT parser", "only what is not to be found"),
        ("a OR NOT b", "only what is not to be found"),
        ("a " * 101, "100 terms"),
        ("word " * 10_000, "4,000"),
        ("(" * 51 + "a", "50 open"),
    ],
)
async def test_what_cannot_be_answered_is_refused_by_name(
    client: Client, query: str, why: str
) -> None:
    """A query without a word to find, or beyond a limit, is INVALID_FIELD and says which."""
    error = await refusal(search(client, query))
    assert (error.code.name, error.reason) == ("INVALID_ARGUMENT", "INVALID_FIELD")
    assert why in str(error)


async def test_a_task_may_have_its_words_in_several_texts(client: Client) -> None:
    """AND and NOT look at title, description and attachments together."""
    await add(client, "one", "alpha", "beta")
    await attach(client, "one", "gamma")
    await attach(client, "one", "delta")
    await add(client, "two", "alpha")
    assert await found(client, "alpha beta gamma delta") == ["one"]
    assert await found(client, "alpha NOT delta") == ["two"]
    assert await found(client, '"alpha beta"') == []


async def test_titles_come_before_descriptions_before_attachments(client: Client) -> None:
    """The same word ranks by where it stands, whatever the lengths of the texts."""
    filler = "something else altogether, which goes on for a while " * 20
    await add(client, "attached", "Short")
    await attach(client, "attached", "zebra zebra zebra")
    await add(client, "described", "Short", "a zebra")
    await add(client, "titled", "A title of some length with a zebra in it", filler)
    await add(client, "other", "Other", filler)
    answer = await search(client, "zebra")
    assert [result.task.id for result in answer.results] == ["titled", "described", "attached"]
    scores = [result.score for result in answer.results]
    assert scores == sorted(scores, reverse=True)
    assert all(score > 0 for score in scores)


async def test_snippets_show_what_was_found(client: Client) -> None:
    """Each text that has a term shows a piece of it, with the terms marked."""
    await add(
        client,
        "one",
        "Fix the <b>exit code</b>",
        " ".join(f"w{n}" for n in range(60)) + "\n\nthe exit\tcode is 141 " + "x " * 60,
    )
    await attach(client, "one", "nothing here")
    number = await attach(client, "one", b"exit codes: 1\n2", type="log", mime_type="text/x-log")
    [result] = (await search(client, '"exit cod"*')).results
    title, description, attachment = result.snippets
    assert shown(title) == "Fix the <b>[exit code]</b>"
    assert title.source == v1.SNIPPET_SOURCE_TITLE
    assert shown(description).startswith("…w57 w58 w59 the [exit code] is 141 x x")
    assert shown(description).endswith(" x…")
    assert shown(attachment) == "[exit codes]: 1 2"
    assert (attachment.attachment_type, attachment.sequence) == ("log", number)


async def test_the_snippet_is_the_piece_with_most_of_the_terms(client: Client) -> None:
    """Far down in a long attachment, too."""
    text = "alpha " + "filler " * 300 + "beta and alpha together " + "filler " * 5_000
    await add(client, "one", "One")
    await attach(client, "one", text)
    [result] = (await search(client, "alpha beta")).results
    assert "[beta] and [alpha] together" in shown(result.snippets[0])
    await add(client, "two", "Two")
    await attach(client, "two", "filler " * 20_000 + "omega")
    [result] = (await search(client, "omega")).results
    assert shown(result.snippets[0]) == "…filler filler filler filler [omega]"


# Which tasks


async def test_filters_narrow_a_search(client: Client) -> None:
    """Statuses, a subtree, tags and deletion narrow what is found, each and together."""
    await add(client, "top", "zebra")
    await add(client, "child", "zebra", parent_id="top", tags=["a", "b"])
    await add(client, "grandchild", "zebra", parent_id="child", tags=["a"])
    await add(client, "gone", "zebra", parent_id="top")
    await client.tasks.DeleteTask(v1.DeleteTaskRequest(task_id="gone"))
    await connect(client, "w")
    await claim(client, "w", "grandchild")
    for ids, fields in (
        ({"top", "child", "grandchild"}, {}),
        ({"grandchild"}, {"statuses": ["working"]}),
        ({"top", "child", "grandchild"}, {"statuses": ["working", "pending"]}),
        (set(), {"statuses": ["no-such-status"]}),
        ({"child", "grandchild"}, {"parent_id": "top"}),
        ({"child", "grandchild", "gone"}, {"parent_id": "top", "include_deleted": True}),
        ({"top", "child", "grandchild", "gone"}, {"include_deleted": True}),
        ({"child", "grandchild"}, {"tags_any": ["a", "b"]}),
        ({"child"}, {"tags_all": ["a", "b"]}),
        ({"child"}, {"tags_any": ["a"], "parent_id": "top", "statuses": ["pending"]}),
    ):
        answer = await search(client, "zebra", **fields)
        assert {result.task.id for result in answer.results} == ids, fields
        assert answer.total == len(ids)
    error = await refusal(search(client, "zebra", parent_id="nowhere"))
    assert error.reason == "TASK_NOT_FOUND"


async def test_pages_go_through_all_in_order(client: Client) -> None:
    """Pages put together are the whole, each says how many there are, and tokens fit one query."""
    for n in range(7):
        await add(client, f"t{n}", "zebra " * (n + 1))
    whole = await found(client, "zebra")
    ids, token = [], ""
    while True:
        page = await search(client, "zebra", page_size=3, page_token=token)
        assert page.total == 7
        ids += [result.task.id for result in page.results]
        if not (token := page.next_page_token):
            break
    assert ids == whole
    assert len(set(ids)) == 7
    token = (await search(client, "zebra", page_size=3)).next_page_token
    error = await refusal(search(client, "zebras", page_size=3, page_token=token))
    assert error.reason == "INVALID_FIELD"


# Keeping up


async def test_what_is_changed_is_found_as_it_is_now(client: Client) -> None:
    """A new title or description is found, the old one is not; other changes change nothing."""
    await add(client, "one", "alpha", "beta")
    await update(client, "one", title="gamma")
    assert await found(client, "alpha") == []
    assert await found(client, "gamma beta") == ["one"]
    await update(client, "one", description="delta", priority=9)
    assert await found(client, "beta") == []
    assert await found(client, "gamma delta") == ["one"]
    await connect(client, "w")
    await claim(client, "w", "one")
    await complete(client, "w", "one")
    assert await found(client, "gamma delta", statuses=["completed"]) == ["one"]


TEXT_TYPES = (
    "",
    "text/plain; charset=utf-8",
    "TEXT/Markdown",
    "application/json",
    "application/ld+json",
    "application/xml",
    "application/yaml",
    "application/toml",
    "application/sql",
)
OTHER_TYPES = ("application/octet-stream", "image/png", "application/vnd.openxmlformats-x")


async def test_text_attachments_are_found_until_they_are_removed(client: Client) -> None:
    """Attachments of text types are searched, others are not, and removed ones no longer."""
    await add(client, "one", "One")
    for n, mime_type in enumerate(TEXT_TYPES):
        await attach(client, "one", f"text{n}", mime_type=mime_type)
        assert await found(client, f"text{n}") == ["one"], mime_type
    for mime_type in OTHER_TYPES:
        await attach(client, "one", "binary", mime_type=mime_type)
    assert await found(client, "binary") == []
    await client.attachments.Detach(v1.DetachRequest(task_id="one", type="note", sequence=1))
    assert await found(client, "text1") == []
    assert await found(client, "text2") == ["one"]
    last = await attach(client, "one", "again")
    await client.attachments.Detach(v1.DetachRequest(task_id="one", type="note", sequence=last))
    assert await attach(client, "one", "other") == last
    assert await found(client, "again") == []
    assert await found(client, "other") == ["one"]


async def test_any_bytes_may_be_attached_as_text(client: Client) -> None:
    """What is no UTF-8, or has zeros in it, is searched for the words that it has."""
    await add(client, "one", "One")
    await attach(client, "one", b"\xff\xfe\x00alpha\x00beta \xf0\x28 gamma\xc3")
    for word in ("alpha", "beta", "gamma*"):
        [result] = (await search(client, word)).results
        assert f"[{word.rstrip('*')}" in shown(result.snippets[0])


async def test_a_long_attachment_is_searched_as_far_as_promised(client: Client) -> None:
    """The first 256 KiB of an attachment are searched, what is beyond is not."""
    await add(client, "one", "One")
    await attach(client, "one", "early " + "x" * (256 << 10) + " late")
    assert await found(client, "early") == ["one"]
    assert await found(client, "late") == []
    await add(client, "two", "Two")
    await attach(client, "two", b"y" * (1 << 20))
    assert await found(client, "y*") == ["two"]


async def test_a_refused_verb_leaves_no_word_behind(client: Client) -> None:
    """What was rolled back within a group is not found, and its neighbours are."""
    await add(client, "taken", "Taken")
    root = v1.TaskNode(title="zebra", children=[v1.TaskNode(title="zebra", id="taken")])
    calls = [
        client.tasks.CreateTaskTree(v1.CreateTaskTreeRequest(root=root)),
        *(create(client, f"zebra-{n}") for n in range(5)),
    ]
    refused, *_ = await asyncio.gather(*map(_result, calls))
    assert isinstance(refused, Exception)
    assert sorted(await found(client, "zebra")) == [f"zebra-{n}" for n in range(5)]


async def _result(call: Any) -> object:
    try:
        return await call
    except Exception as error:
        return error


async def _exported(client: Client) -> bytes:
    messages = client.admin.ExportSnapshot(v1.ExportSnapshotRequest())
    return b"".join([message.chunk async for message in messages])


async def _import(client: Client, contents: bytes, mode: "v1.ImportMode.ValueType") -> None:
    async def messages() -> Any:
        yield v1.ImportSnapshotRequest(options=v1.ImportOptions(mode=mode))
        for start in range(0, len(contents), 1 << 20):
            yield v1.ImportSnapshotRequest(chunk=contents[start : start + (1 << 20)])

    await client.admin.ImportSnapshot(messages())


@pytest.mark.parametrize("mode", [v1.IMPORT_MODE_TEMPLATE, v1.IMPORT_MODE_RESTORE])
async def test_reset_and_import_leave_the_index_right(
    client: Client, server: "Server", mode: "v1.ImportMode.ValueType"
) -> None:
    """After Reset nothing is found; after an import all of it, with its attachments."""
    await add(client, "one", "alpha", "beta")
    await attach(client, "one", "gamma")
    await add(client, "gone", "alpha")
    await client.tasks.DeleteTask(v1.DeleteTaskRequest(task_id="gone"))
    contents = await _exported(client)
    await client.admin.Reset(v1.ResetRequest(confirm="reset"))
    for word in ("alpha", "beta", "gamma"):
        assert await found(client, word, include_deleted=True) == []
    await add(client, "before", "delta")
    await client.admin.Reset(v1.ResetRequest(confirm="reset"))
    await _import(client, contents, mode)
    assert await found(client, "alpha beta gamma") == ["one"]
    assert set(await found(client, "alpha", include_deleted=True)) == {"one", "gone"}
    assert await found(client, "delta", include_deleted=True) == []
    assert _index_is_sound(server.db)


def _index_is_sound(db: Any) -> bool:
    """Whether FTS5 finds its own structures in order, and a row there for each text."""
    connection = apsw.Connection(str(db))
    connection.execute("INSERT INTO task_search (task_search) VALUES ('integrity-check')")
    indexed = {row[0] for row in connection.execute("SELECT rowid FROM task_search")}
    tasks = {row[0] for row in connection.execute("SELECT number FROM tasks")}
    attached = {-row[0] for row in connection.execute("SELECT id FROM searched_attachments")}
    count = connection.execute("SELECT count(*) FROM attachments").get
    connection.close()
    return indexed == tasks | attached and len(attached) == count


async def test_an_older_file_is_indexed_when_it_is_opened(
    start_server: Callable[..., Any], tmp_path: Any
) -> None:
    """The migration indexes the tasks and attachments that are there, deleted ones included."""
    db = tmp_path / "tasks.db"
    async with start_server(db=db) as server, Client(server.address) as client:
        await add(client, "one", "alpha")
        await attach(client, "one", "beta")
        await attach(client, "one", b"gamma", mime_type="image/png")
    connection = apsw.Connection(str(db))
    triggers = connection.execute(
        "SELECT name FROM sqlite_schema WHERE type = 'trigger'"
    ).fetchall()
    for (name,) in triggers:
        connection.execute(f"DROP TRIGGER {name}")
    connection.execute("DROP TABLE task_search")
    connection.execute("DROP TABLE searched_attachments")
    connection.execute("DELETE FROM schema_migration WHERE name = '0005_search'")
    connection.close()
    async with start_server(db=db) as server, Client(server.address) as client:
        assert await found(client, "alpha beta") == ["one"]
        assert await found(client, "gamma") == []
        await add(client, "two", "alpha")
        assert len(await found(client, "alpha")) == 2


async def test_claims_and_completions_leave_the_index_alone(
    client: Client, server: "Server"
) -> None:
    """Whatever an agent does to a task but for its texts, not a byte of the index is written."""
    for n in range(5):
        await add(client, f"t{n}", "zebra")
    before = _index(server.db)
    await connect(client, "w", max_claims=5)
    for n in range(5):
        await claim(client, "w", f"t{n}")
        await update(client, f"t{n}", worker_id="w", priority=n, tags=v1.Tags(values=["x"]))
        await client.tasks.LogMetrics(
            v1.LogMetricsRequest(task_id=f"t{n}", metrics=v1.Metrics(tokens_in=1))
        )
        await complete(client, "w", f"t{n}")
    await client.tasks.DeleteTask(v1.DeleteTaskRequest(task_id="t0"))
    assert _index(server.db) == before
    await update(client, "t1", title="horse")
    assert _index(server.db) != before


def _index(db: Any) -> list[Any]:
    connection = apsw.Connection(str(db), flags=apsw.SQLITE_OPEN_READONLY)
    tables = ("data", "idx", "docsize")
    rows = [connection.execute(f"SELECT * FROM task_search_{name}").fetchall() for name in tables]
    connection.close()
    return rows


async def test_a_search_that_takes_too_long_is_stopped(
    client: Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It ends with what to do, and whoever reads next on that connection reads as ever.

    The limit is made so small that any search is beyond it: a real one takes 5 s of a core.
    """
    for n in range(20):
        await add(client, f"t{n}", "write the parser", "of the parser")
    with monkeypatch.context() as small:
        small.setattr(store_search, "_SECONDS", 0)
        small.setattr(store_search, "_STEPS", 10)
        # More at once than there are connections.
        errors = await asyncio.gather(*(refusal(search(client, "pars*")) for _ in range(12)))
    for error in errors:
        assert (error.code.name, error.reason) == ("RESOURCE_EXHAUSTED", "QUERY_TOO_EXPENSIVE")
        assert error.message.endswith("ask for fewer words, or longer ones")
        assert error.metadata == {"limit": "time"}
        assert not error.transient
    answers = await asyncio.gather(*(search(client, "pars*") for _ in range(12)))
    assert {answer.total for answer in answers} == {20}
    assert len((await client.tasks.ListTasks(v1.ListTasksRequest())).tasks) == 20
    await add(client, "later", "another parser")
    assert (await search(client, "pars*")).total == 21
