"""Contents of attachments in files: their size, and which attachments refer to a file."""

from typing import Any


def up(migrator: Any, db: Any) -> None:
    """Add a column behind the others, and an index. No row changes, however many there are."""
    db.execute_sql('ALTER TABLE "attachments" ADD COLUMN "size" INTEGER')
    db.execute_sql(
        'CREATE INDEX "attachments_file" ON "attachments" ("file_path") '
        'WHERE ("file_path" IS NOT NULL)'
    )
