"""Images in events: what the table has is what was told, though blanks are left out."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from taskloom_server.coordinator import claims, files, system
from taskloom_server.graph.events import Event
from taskloom_server.graph.tasks import Task
from taskloom_server.graph.workers import Pause
from taskloom_server.store.transaction import Transaction

from tests.lone_writer import LoneWriter, lone_writer

# Columns that no event shows, and no image has.
_UNSHOWN: dict[str, Any] = {"activity": 0.0, "breakthrough": 0.0, "progressed_at": 0, "budgets": 0}
_BLANK = {"metric_0": 0, "cost_usd": 0.0, "tags": [], "description": "", "attempts": 0}


@pytest.fixture
def writer(tmp_path: Path) -> Iterator[LoneWriter]:
    """A writer that has told of each kind of image."""
    with lone_writer(tmp_path / "tasks.db") as writer:
        writer.create("plain")
        writer.create("rich", description="Much to do.", priority=0, points=0, tags=("x",))
        writer.connect("ann")
        writer.claim("ann", "plain")
        writer.run(files.mark_files, files.Mark("ann", ("a.py",), "plain", 0, ""))
        writer.run(system.pause, Pause("eve", "", 0))
        writer.end(claims.complete, "ann", "plain")
        yield writer


def _kept(tx: Transaction, _: None) -> list[Event]:
    return [_shown(event) for revision in tx.events.since(1, 1_000) for event in revision.events]


def _shown(event: Event) -> Event:
    after = event.after
    return event._replace(after=after._replace(**_UNSHOWN)) if isinstance(after, Task) else event


def test_images_are_read_as_they_were_told(writer: LoneWriter) -> None:
    """Who reads the table is told what those were told who were there."""
    assert writer.run(_kept, None) == [_shown(event) for event in writer.told]


def test_an_image_has_no_blanks(writer: LoneWriter) -> None:
    """What is blank takes no room; nor is an image any other one that has it, as once all had."""

    def fill(tx: Transaction, _: None) -> None:
        rows = tx.connection.execute("SELECT rowid, after FROM events").fetchall()
        images = {rowid: json.loads(str(after)) for rowid, after in rows}
        images = {rowid: image for rowid, image in images.items() if "task" in image}
        assert len(images) >= 4
        for rowid, image in images.items():
            if image["task"]["id"] == "plain":
                assert not image["task"].keys() & _BLANK.keys()
            text = json.dumps({"task": _BLANK | image["task"]})
            tx.connection.execute("UPDATE events SET after = ? WHERE rowid = ?", (text, rowid))

    kept = writer.run(_kept, None)
    writer.run(fill, None)
    assert writer.run(_kept, None) == kept
