"""Searching: what the text asks for, the tasks that have it, and the pieces that show it."""

from dataclasses import dataclass

from taskloom_server.coordinator.lookup import require_task
from taskloom_server.graph.search import parse, wanted
from taskloom_server.graph.snippets import Part, Sought, snippet
from taskloom_server.graph.tasks import Task
from taskloom_server.store.search import Hit, SearchFilters
from taskloom_server.store.transaction import Transaction


@dataclass(frozen=True, slots=True)
class SearchTasks:
    """A search; the first ``offset`` of what it finds were shown before."""

    query: str
    filters: SearchFilters
    offset: int
    limit: int


@dataclass(frozen=True, slots=True)
class Snippet:
    """A piece of a text of a task: of its title, its description, or one of its attachments."""

    field: str
    attachment: tuple[str, int] | None  # type and sequence
    parts: list[Part]


@dataclass(frozen=True, slots=True)
class Found:
    """A task that was found."""

    task: Task
    score: float
    snippets: list[Snippet]


@dataclass(frozen=True, slots=True)
class FoundPage:
    """Tasks, the best first; how many there are in all; and from where the next page goes on."""

    found: list[Found]
    total: int
    next_offset: int | None
    revision: int


def search_tasks(tx: Transaction, ask: SearchTasks) -> FoundPage:
    """The tasks that have what the text asks for. Raises InvalidField and TaskNotFound."""
    if ask.filters.parent_id:
        require_task(tx, ask.filters.parent_id, "parent")
    expression = parse(ask.query, tx.search.words)
    hits, total = tx.search.find(expression, ask.filters, ask.offset, ask.limit)
    terms = [Sought(tx.search.words(t.text), t.prefix) for t in wanted(expression)]
    shown = ask.offset + len(hits)
    return FoundPage(
        [Found(hit.task, hit.score, _snippets(tx, hit, terms)) for hit in hits],
        total,
        shown if hits and shown < total else None,
        tx.seen,
    )


def _snippets(tx: Transaction, hit: Hit, terms: list[Sought]) -> list[Snippet]:
    texts = (
        ("title", None, hit.task.title.encode()),
        ("description", None, hit.task.description.encode()),
        ("attachment", hit.attachment, hit.content),
    )
    snippets = (Snippet(f, a, snippet(text, terms, tx.search.tokens)) for f, a, text in texts)
    return [each for each in snippets if each.parts]
