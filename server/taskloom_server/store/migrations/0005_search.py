"""The index of words over titles, descriptions and text attachments, with what is there in it.

Copies of the tables and triggers, on purpose: migrations do not change.
"""

from typing import Any, ClassVar

from peewee import AutoField, IntegerField, Model, TextField
from playhouse.sqlite_ext import FTS5Model, SearchField


class SearchedAttachments(Model):
    id = AutoField()
    task_id = TextField()
    attachment_type = TextField()
    sequence = IntegerField()

    class Meta:
        legacy_table_names = False
        table_name = "searched_attachments"
        indexes = ((("task_id", "attachment_type", "sequence"), True),)


class TaskSearch(FTS5Model):  # type: ignore[misc]
    title = SearchField()
    description = SearchField()
    attachment = SearchField()

    class Meta:
        legacy_table_names = False
        table_name = "task_search"
        options: ClassVar = {
            "content": "",
            "contentless_delete": 1,
            "tokenize": "unicode61 remove_diacritics 2",
        }


_SEARCHED_BYTES = 262144
_IS_TEXT = (
    "new.content IS NOT NULL AND (new.mime_type LIKE 'text/%' OR new.mime_type LIKE '%json%' "
    "OR new.mime_type LIKE 'application/xml%' OR new.mime_type LIKE '%+xml%' "
    "OR new.mime_type LIKE '%yaml%' OR new.mime_type LIKE '%toml%' "
    "OR new.mime_type LIKE 'application/%javascript%' OR new.mime_type LIKE 'application/sql%' "
    "OR new.mime_type LIKE 'application/x-sh')"
)


def _forget_attachment(row: str) -> str:
    key = " AND ".join(f"{c} = {row}.{c}" for c in ("task_id", "attachment_type", "sequence"))
    return (
        "DELETE FROM task_search "
        f"WHERE rowid = (SELECT -id FROM searched_attachments WHERE {key}); "
        f"DELETE FROM searched_attachments WHERE {key};"
    )


def _add_attachment() -> str:
    return (
        "INSERT INTO searched_attachments (task_id, attachment_type, sequence) "
        f"SELECT new.task_id, new.attachment_type, new.sequence WHERE {_IS_TEXT}; "
        "INSERT INTO task_search (rowid, attachment) "
        f"SELECT -id, CAST(substr(new.content, 1, {_SEARCHED_BYTES}) AS TEXT) "
        "FROM searched_attachments WHERE task_id = new.task_id "
        "AND attachment_type = new.attachment_type AND sequence = new.sequence;"
    )


_TRIGGERS = (
    "CREATE TRIGGER tasks_searched AFTER INSERT ON tasks BEGIN "
    "INSERT INTO task_search (rowid, title, description) "
    "VALUES (new.number, new.title, new.description); END",
    "CREATE TRIGGER tasks_searched_anew AFTER UPDATE OF title, description ON tasks BEGIN "
    "DELETE FROM task_search WHERE rowid = old.number; "
    "INSERT INTO task_search (rowid, title, description) "
    "VALUES (new.number, new.title, new.description); END",
    "CREATE TRIGGER tasks_not_searched AFTER DELETE ON tasks BEGIN "
    "DELETE FROM task_search WHERE rowid = old.number; END",
    "CREATE TRIGGER attachments_searched AFTER INSERT ON attachments BEGIN "
    f"{_forget_attachment('new')} {_add_attachment()} END",
    "CREATE TRIGGER attachments_searched_anew AFTER UPDATE OF task_id, attachment_type, sequence, "
    "mime_type, content ON attachments BEGIN "
    f"{_forget_attachment('old')} {_forget_attachment('new')} {_add_attachment()} END",
    "CREATE TRIGGER attachments_not_searched AFTER DELETE ON attachments BEGIN "
    f"{_forget_attachment('old')} END",
)
# What is there already; the rows of attachments fire the trigger of an update.
_INDEX_TASKS = (
    "INSERT INTO task_search (rowid, title, description) "
    "SELECT number, title, description FROM tasks ORDER BY number"
)
_INDEX_ATTACHMENTS = "UPDATE attachments SET mime_type = mime_type"


def up(migrator: Any, db: Any) -> None:
    """Make the index, fill it, and let the database keep it from now on."""
    tables = (SearchedAttachments, TaskSearch)
    with db.bind_ctx(tables):
        db.create_tables(tables, safe=False)
    db.execute_sql(_INDEX_TASKS)
    for trigger in _TRIGGERS:
        db.execute_sql(trigger)
    db.execute_sql(_INDEX_ATTACHMENTS)
