"""What overlays need: which ones a worker has."""

from typing import Any


def up(migrator: Any, db: Any) -> None:
    """Workers that are there have none."""
    db.execute_sql('ALTER TABLE "workers" ADD COLUMN "overlays" TEXT NOT NULL DEFAULT \'[]\'')
