"""The index of words over tasks and their attachments, and the triggers that keep it.

The database keeps the index, so that no verb can forget to. None of the triggers is fired by a
claim or a completion, which name neither texts nor attachments.
"""

from typing import ClassVar

from peewee import AutoField, Context, IntegerField, Model, TextField
from playhouse.sqlite_ext import FTS5Model, SearchField

from taskloom_server.store.tables import DIALECT

TOKENIZER = "unicode61", "remove_diacritics", "2"
SEARCHED_BYTES = 256 << 10
"""So much of an attachment is searched: to index it takes 18 ms, while nothing else is written."""


class SearchedAttachments(Model):
    """The attachments that are searched; ``-id`` is the row of one in ``task_search``."""

    id = AutoField()
    task_id = TextField()
    attachment_type = TextField()
    sequence = IntegerField()

    class Meta:
        database = DIALECT
        legacy_table_names = False
        table_name = "searched_attachments"
        indexes = ((("task_id", "attachment_type", "sequence"), True),)


class TaskSearch(FTS5Model):  # type: ignore[misc]
    """The index. A task's row is its number; an attachment has one of its own.

    It has no copy of the texts, which would double the file. A row that is deleted is marked so,
    which needs no text either, and so cannot be done wrongly.
    """

    title = SearchField()
    description = SearchField()
    attachment = SearchField()

    class Meta:
        database = DIALECT
        legacy_table_names = False
        table_name = "task_search"
        options: ClassVar = {
            "content": "",
            "contentless_delete": 1,
            "tokenize": " ".join(TOKENIZER),
        }


_IS_TEXT = (
    "new.content IS NOT NULL AND (new.mime_type LIKE 'text/%' OR new.mime_type LIKE '%json%' "
    "OR new.mime_type LIKE 'application/xml%' OR new.mime_type LIKE '%+xml%' "
    "OR new.mime_type LIKE '%yaml%' OR new.mime_type LIKE '%toml%' "
    "OR new.mime_type LIKE 'application/%javascript%' OR new.mime_type LIKE 'application/sql%' "
    "OR new.mime_type LIKE 'application/x-sh')"
)


def _forget_attachment(row: str) -> str:
    """Statements that take an attachment out of the index, if it is there."""
    key = " AND ".join(f"{c} = {row}.{c}" for c in ("task_id", "attachment_type", "sequence"))
    return (
        "DELETE FROM task_search "
        f"WHERE rowid = (SELECT -id FROM searched_attachments WHERE {key}); "
        f"DELETE FROM searched_attachments WHERE {key};"
    )


def _add_attachment() -> str:
    """Statements that put an attachment into the index, if it is text."""
    return (
        "INSERT INTO searched_attachments (task_id, attachment_type, sequence) "
        f"SELECT new.task_id, new.attachment_type, new.sequence WHERE {_IS_TEXT}; "
        "INSERT INTO task_search (rowid, attachment) "
        f"SELECT -id, CAST(substr(new.content, 1, {SEARCHED_BYTES}) AS TEXT) "
        "FROM searched_attachments WHERE task_id = new.task_id "
        "AND attachment_type = new.attachment_type AND sequence = new.sequence;"
    )


# Peewee has no words for triggers.
TRIGGERS = (
    "CREATE TRIGGER tasks_searched AFTER INSERT ON tasks BEGIN "
    "INSERT INTO task_search (rowid, title, description) "
    "VALUES (new.number, new.title, new.description); END",
    "CREATE TRIGGER tasks_searched_anew AFTER UPDATE OF title, description ON tasks BEGIN "
    "DELETE FROM task_search WHERE rowid = old.number; "
    "INSERT INTO task_search (rowid, title, description) "
    "VALUES (new.number, new.title, new.description); END",
    "CREATE TRIGGER tasks_not_searched AFTER DELETE ON tasks BEGIN "
    "DELETE FROM task_search WHERE rowid = old.number; END",
    # What stood there before is forgotten first: a REPLACE fires no trigger of a deletion.
    "CREATE TRIGGER attachments_searched AFTER INSERT ON attachments BEGIN "
    f"{_forget_attachment('new')} {_add_attachment()} END",
    "CREATE TRIGGER attachments_searched_anew AFTER UPDATE OF task_id, attachment_type, sequence, "
    "mime_type, content ON attachments BEGIN "
    f"{_forget_attachment('old')} {_forget_attachment('new')} {_add_attachment()} END",
    "CREATE TRIGGER attachments_not_searched AFTER DELETE ON attachments BEGIN "
    f"{_forget_attachment('old')} END",
)
SEARCH_TABLES = (SearchedAttachments, TaskSearch)
EMPTY_INDEX: tuple[str, list[str]] = (
    Context(**DIALECT.get_context_options())
    .sql(TaskSearch._fts_cmd_sql("delete-all"))  # type: ignore[no-untyped-call]
    .query()
)
