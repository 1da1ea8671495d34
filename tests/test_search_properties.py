"""SearchTasks under any text at all, and against a model that looks through the texts itself."""

import random
import shutil
from collections.abc import Iterator
from pathlib import Path

import apsw
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from taskloom_server.coordinator.search import FoundPage, SearchTasks, search_tasks
from taskloom_server.graph.errors import InvalidField
from taskloom_server.graph.search import All, Either, Expression, Term, parse
from taskloom_server.graph.snippets import Sought, snippet
from taskloom_server.graph.workflows import Workflows
from taskloom_server.store.connections import writing
from taskloom_server.store.search import SearchFilters
from taskloom_server.store.transaction import Transaction

WORDS = ("alpha", "beta", "gamma", "al", "alphabet", "not", "x")


@pytest.fixture(scope="module")
def tx(empty_db: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Transaction]:
    """Twenty tasks of a few words each, some with attachments, some of those very short."""
    path = tmp_path_factory.mktemp("search") / "tasks.db"
    shutil.copy(empty_db, path)
    database = writing(path)
    database.connect()
    connection = database.connection()
    tx = Transaction(connection, Workflows({}, ""), random.Random(5))
    tx.begin(0, 0)
    yield tx
    database.close()


@pytest.fixture(scope="module")
def texts(tx: Transaction) -> dict[str, list[str]]:
    """What each task's texts are."""
    rng = random.Random(6)
    made: dict[str, list[str]] = {}
    columns = [row[1:4] for row in tx.connection.execute("PRAGMA table_xinfo(tasks)")]
    needed = [name for name, _, not_null in columns if not_null and name != "number"]
    for n in range(20):
        each = [" ".join(rng.choices(WORDS, k=rng.randint(0, 4))) for _ in range(2 + n % 3)]
        made[f"t{n}"] = each
        values: dict[str, object] = dict.fromkeys(needed, 0) | {
            "id": f"t{n}",
            "title": each[0],
            "description": each[1],
            "needed_tags": "[]",
            "wanted_tags": "[]",
            "tags": "[]",
            "status": "pending",
            "workflow": "",
        }
        _insert(tx.connection, "tasks", values)
        for sequence, text in enumerate(each[2:]):
            _insert(
                tx.connection,
                "attachments",
                {
                    "task_id": f"t{n}",
                    "attachment_type": "note",
                    "sequence": sequence,
                    "name": "",
                    "mime_type": "text/plain",
                    "content": text.encode(),
                    "created_at": 0,
                },
            )
    return made


def _insert(connection: apsw.Connection, table: str, values: dict[str, object]) -> None:
    marks = ", ".join("?" * len(values))
    connection.execute(
        f"INSERT INTO {table} ({', '.join(values)}) VALUES ({marks})", tuple(values.values())
    )


def _search(tx: Transaction, query: str) -> FoundPage:
    return search_tasks(tx, SearchTasks(query, SearchFilters(), 0, 1_000))


ODD = st.sampled_from(
    ['"', "*", "(", ")", "AND", "OR", "NOT", "NEAR(", "title:", "^", "-", "+", "{", "}", "\0", " "]
)
ANY = st.one_of(
    st.text(max_size=60),
    st.lists(st.one_of(ODD, st.sampled_from(WORDS), st.text(max_size=3)), max_size=30).map(
        " ".join
    ),
    st.lists(st.one_of(ODD, st.sampled_from(WORDS)), max_size=30).map("".join),
)


@given(ANY)
@example('"')
@example('"""')
@example("NEAR(alpha beta, 5)")
@example("alpha * beta")
@example("\0")
@example("🙂 👩‍👩‍👧 é")
@example("a" * 4_000)
@example("a-" * 2_000)
@example("( " * 50 + "a")
@example("\ud7ff\ue000\U0010ffff")
@settings(deadline=None)
def test_any_text_is_answered_or_refused(
    tx: Transaction, texts: dict[str, list[str]], query: str
) -> None:
    """No text whatever breaks the query: there is an answer, or INVALID_FIELD."""
    try:
        page = _search(tx, query)
    except InvalidField:
        return
    assert page.total == len(page.found) <= len(texts)
    for found in page.found:
        assert all(any(part.found for part in each.parts) for each in found.snippets)


QUERY = st.recursive(
    st.one_of(
        st.sampled_from(WORDS),
        st.sampled_from(WORDS).map(lambda word: f"{word[:3]}*"),
        st.lists(st.sampled_from(WORDS), min_size=2, max_size=3).map(
            lambda words: '"' + " ".join(words) + '"'
        ),
    ),
    lambda inner: st.tuples(inner, st.sampled_from((" ", " AND ", " OR ", " NOT ")), inner).map(
        lambda parts: f"({parts[0]}){parts[1]}({parts[2]})"
    ),
    max_leaves=6,
)


def _has(texts: list[str], expression: Expression) -> bool:
    """Whether a task of these texts is to be found."""
    match expression:
        case Term(words, prefix):
            wanted = words.rstrip("*").split()
            return any(_in(text.split(), wanted, prefix) for text in texts)
        case Either(parts):
            return any(_has(texts, part) for part in parts)
        case All(parts, without):
            return all(_has(texts, part) for part in parts) and not any(
                _has(texts, part) for part in without
            )


def _in(words: list[str], wanted: list[str], prefix: bool) -> bool:
    *whole, last = wanted
    for first in range(len(words) - len(wanted) + 1):
        end = words[first + len(whole)]
        same = end.startswith(last) if prefix else end == last
        if same and words[first : first + len(whole)] == whole:
            return True
    return False


@given(QUERY)
@settings(deadline=None)
def test_found_is_what_a_look_at_the_texts_finds(
    tx: Transaction, texts: dict[str, list[str]], query: str
) -> None:
    """Just the tasks that have the words are found, each with a snippet for what it has."""
    expression = parse(query, str.split)
    page = _search(tx, query)
    assert {found.task.id for found in page.found} == {
        id for id, each in texts.items() if _has(each, expression)
    }
    for found in page.found:
        assert found.snippets
        for each in found.snippets:
            assert any(part.found for part in each.parts)
    scores = [found.score for found in page.found]
    assert scores == sorted(scores, reverse=True)


@given(st.binary(max_size=300), st.lists(st.sampled_from(WORDS), min_size=1, max_size=3))
@settings(deadline=None)
def test_a_snippet_of_any_bytes_has_what_is_there(
    tx: Transaction, around: bytes, words: list[str]
) -> None:
    """Whatever stands around the words, the snippet marks them."""
    text = around + b" " + " ".join(words).encode() + b" " + around
    parts = snippet(text, [Sought(tuple(words), False)], tx.search.tokens)
    assert " ".join(words) in [part.text for part in parts if part.found]
