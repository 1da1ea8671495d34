"""Finding tasks by their words: the expression as a query, best first, and what was found where."""

import time
from dataclasses import dataclass
from typing import Any, NamedTuple

import apsw
from peewee import JOIN, Case, Select, fn

from taskloom_server.graph.errors import QueryTooExpensive
from taskloom_server.graph.search import All, Either, Expression, Term, wanted
from taskloom_server.graph.snippets import Token
from taskloom_server.graph.tasks import Task
from taskloom_server.store.search_tables import (
    SEARCHED_BYTES,
    TOKENIZER,
    SearchedAttachments,
    TaskSearch,
)
from taskloom_server.store.statements import Row
from taskloom_server.store.subtrees import subtree
from taskloom_server.store.tables import Attachments, Tasks, TaskTags
from taskloom_server.store.tasks import select_tasks, task_of

# What a word counts for, by where it stands. A title wins over any description of usual length;
# of a task's attachments the best one counts, and counts half.
_TITLE, _DESCRIPTION, _ATTACHMENT = 100.0, 2.0, 1.0
_SHARE_OF_ATTACHMENTS = 0.5
_SECONDS = 5
_STEPS = 10_000  # of the database between two looks at the clock


@dataclass(frozen=True, slots=True)
class SearchFilters:
    """Among which tasks to search; what is empty lets all pass."""

    statuses: tuple[str, ...] = ()
    parent_id: str = ""  # everything below it
    tags_any: tuple[str, ...] = ()
    tags_all: tuple[str, ...] = ()
    include_deleted: bool = False


class Hit(NamedTuple):
    """A task that was found."""

    task: Task
    score: float  # higher is better
    attachment: tuple[str, int] | None  # type and sequence of the best of those that were found
    content: bytes  # of that attachment, as much of it as is searched


class SearchIndex:
    """The index of words on one connection."""

    def __init__(self, connection: apsw.Connection) -> None:
        self._connection = connection
        self._tokenizer: apsw.FTS5Tokenizer | None = None

    def tokens(self, text: bytes) -> list[Token]:
        """The words of a UTF-8 text, just as the index has them."""
        if self._tokenizer is None:
            name, *options = TOKENIZER
            self._tokenizer = self._connection.fts5_tokenizer(name, options)
        found: Any = self._tokenizer(
            text, apsw.FTS5_TOKENIZE_DOCUMENT, None, include_colocated=False
        )
        return list(found)

    def words(self, text: str) -> tuple[str, ...]:
        """Likewise, without their places."""
        return tuple(word for _, _, word in self.tokens(text.encode()))

    def find(
        self, expression: Expression, filters: SearchFilters, offset: int, limit: int
    ) -> tuple[list[Hit], int]:
        """The best tasks after the first ``offset``, and how many there are in all.

        Raises QueryTooExpensive.
        """
        rows = self._bounded(_best(expression, filters, offset, limit))
        if not rows:
            return [], 0
        tasks = self._tasks([row[0] for row in rows])
        contents = self._contents([-row[3] for row in rows if row[3] is not None])
        hits = []
        for number, score, _, document in rows:
            attachment, content = contents.get(-(document or 0), (None, b""))
            hits.append(Hit(tasks[number], -score, attachment, content))
        return hits, rows[0][2]

    def _bounded(self, query: Any) -> list[Row]:
        """The rows of a query, which may have been made up to keep a reader busy.

        Built for each call: searches come in all shapes, and are rare beside claims.
        """
        sql, params = query.sql()
        deadline = time.monotonic() + _SECONDS
        self._connection.set_progress_handler(lambda: time.monotonic() > deadline, _STEPS)
        try:
            return self._connection.execute(sql, params).fetchall()
        except apsw.InterruptError:
            raise QueryTooExpensive(
                f"the search was stopped after {_SECONDS} s; ask for fewer words, or longer ones",
                metadata={"limit": "time"},
            ) from None
        finally:
            self._connection.set_progress_handler(None)

    def _tasks(self, numbers: list[int]) -> dict[int, Task]:
        sql, params = select_tasks().where(Tasks.number.in_(numbers)).sql()
        found = map(task_of, self._connection.execute(sql, params))
        return {task.number: task for task in found}

    def _contents(self, ids: list[int]) -> dict[int, tuple[tuple[str, int], bytes]]:
        query = (
            SearchedAttachments.select(
                SearchedAttachments.id,
                Attachments.attachment_type,
                Attachments.sequence,
                fn.SUBSTR(Attachments.content, 1, SEARCHED_BYTES),
            )
            .join(
                Attachments,
                on=(
                    (Attachments.task_id == SearchedAttachments.task_id)
                    & (Attachments.attachment_type == SearchedAttachments.attachment_type)
                    & (Attachments.sequence == SearchedAttachments.sequence)
                ),
            )
            .where(SearchedAttachments.id.in_(ids))
        )
        sql, params = query.sql()
        rows = self._connection.execute(sql, params)
        return {id_: ((type_, sequence), content) for id_, type_, sequence, content in rows}


def _quoted(term: Term) -> str:
    """A term in the language of FTS5, in which nothing within quotes means anything."""
    return '"' + term.text.replace('"', '""') + '"' + ("*" if term.prefix else "")


def _number_of(document: Any) -> Any:
    """The task to which a row of the index belongs."""
    owner = Tasks.alias()
    searched = SearchedAttachments.alias()
    of_attachment = (
        searched.select(owner.number)
        .join(owner, on=(owner.id == searched.task_id))
        .where(searched.id == document * -1)  # a minus before it would be an order
    )
    # Never NULL, next to which NOT IN is true of nothing.
    return fn.COALESCE(Case(None, [(document > 0, document)], of_attachment), 0)


def _condition(expression: Expression) -> Any:
    """What must be true of a task's number, whichever of its texts has which of the terms."""
    if isinstance(expression, Term):
        found = TaskSearch.select(_number_of(TaskSearch.rowid))
        return Tasks.number.in_(found.where(TaskSearch.match(_quoted(expression))))
    conditions = [_condition(part) for part in expression.parts]
    whole = conditions[0]
    for condition in conditions[1:]:
        whole = (whole | condition) if isinstance(expression, Either) else (whole & condition)
    if isinstance(expression, All):
        for part in expression.without:
            whole = whole & ~_condition(part)
    return whole


def _filtered(query: Any, filters: SearchFilters) -> Any:
    if not filters.include_deleted:
        query = query.where(Tasks.deleted_at.is_null())
    if filters.statuses:
        query = query.where(Tasks.status.in_(filters.statuses))
    if filters.tags_any:
        tagged = TaskTags.select(TaskTags.task_id).where(TaskTags.tag.in_(filters.tags_any))
        query = query.where(Tasks.id.in_(tagged))
    if filters.tags_all:
        tagged = (
            TaskTags.select(TaskTags.task_id)
            .where(TaskTags.tag.in_(filters.tags_all))
            .group_by(TaskTags.task_id)
            .having(fn.COUNT(TaskTags.tag) == len(filters.tags_all))
        )
        query = query.where(Tasks.id.in_(tagged))
    return query


def _best(expression: Expression, filters: SearchFilters, offset: int, limit: int) -> Any:
    """A query for number, score, count of all, and the best document among the attachments.

    A score is that of the task's own texts and of its best attachment together, as bm25 has it:
    the less the better.
    """
    any_of_them = " OR ".join(map(_quoted, dict.fromkeys(wanted(expression))))
    hits = (
        TaskSearch.select(
            TaskSearch.rowid,
            _number_of(TaskSearch.rowid),
            TaskSearch.bm25(_TITLE, _DESCRIPTION, _ATTACHMENT),
        )
        .where(TaskSearch.match(any_of_them))
        .cte("hits", columns=("document", "number", "score"), materialized=True)
    )
    own = fn.MIN(Case(None, [(hits.c.document > 0, hits.c.score)]))
    attached = fn.MIN(Case(None, [(hits.c.document < 0, hits.c.score)]))
    score = fn.COALESCE(own, 0.0) + fn.COALESCE(attached, 0.0) * _SHARE_OF_ATTACHMENTS
    ranked = (
        Select([hits], [hits.c.number, score])
        .group_by(hits.c.number)
        .cte("ranked", columns=("number", "score"))
    )
    # A cross join, since it is kept in this order: with twenty terms the other one was chosen,
    # which looks through all that was ranked for each task, and took minutes.
    found: Any = (
        Select([ranked], [Tasks.number, ranked.c.score, fn.COUNT(Tasks.number).over()])
        .join(Tasks, JOIN.CROSS)
        .where(Tasks.number == ranked.c.number)
        .order_by(ranked.c.score, Tasks.number)
        .limit(limit)
        .offset(offset)
    )
    if not isinstance(expression, Term):
        found = found.where(_condition(expression))
    found = _filtered(found, filters)
    ctes = [hits, ranked]
    if filters.parent_id:
        below: Any = subtree(filters.parent_id, also_deleted=filters.include_deleted)
        found = found.where(Tasks.id.in_(below.select_from(below.c.id)))
    page = found.cte("page", columns=("number", "score", "total"), materialized=True)
    best_attachment = (
        Select([hits], [hits.c.document])
        .where((hits.c.number == page.c.number) & (hits.c.document < 0))
        .order_by(hits.c.score, hits.c.document.desc())
        .limit(1)
    )
    return (
        Select([page], [page.c.number, page.c.score, page.c.total, best_attachment])
        .order_by(page.c.score, page.c.number)
        .with_cte(*ctes, page)
    )
