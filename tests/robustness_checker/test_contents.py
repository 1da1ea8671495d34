"""Contents: what was attached, byte for byte, and its files."""

import hashlib
from pathlib import Path

from taskloom import v1

from tests.robustness.checker import check
from tests.robustness.history import History
from tests.robustness.model import Model
from tests.robustness.promises.contents import Contents
from tests.robustness.recording import content_of
from tests.robustness.rules import read_rules
from tests.robustness.story import Story

PLACES = ("t1", "log", 0), ("t2", "note", 0)


def _history(story: Story) -> History:
    """Something large was uploaded and something small attached; both were downloaded whole."""
    history = story.history()
    for place, call in zip(PLACES, story.calls[-2:], strict=True):
        content = content_of(call.number, call.answer.attachment.size)
        history.truth.contents[place] = hashlib.sha256(content).hexdigest()
    return history


def _broken(history: History) -> list[str]:
    return [v.text for v in check(history, read_rules()).violations if v.promise == "contents"]


def test_contents(story: Story) -> None:
    """Contents that are brought as they were attached; others; or none at all."""
    story.attach("t1", "log", 1_200_000, large=True)
    story.attach("t2", "note")
    assert story.judge() == []
    history = _history(story)
    assert _broken(history) == []
    for place in PLACES:
        history = _history(story)
        history.truth.contents[place] = hashlib.sha256(b"something else").hexdigest()
        [told] = _broken(history)
        assert place[0] in told
    history = _history(story)
    history.truth.contents[PLACES[0]] = "DATA_LOSS: the file is missing"
    assert "DATA_LOSS" in _broken(history)[0]
    history = _history(story)
    del history.truth.contents[PLACES[0]]
    assert len(_broken(history)) == 1
    history = _history(story)
    history.truth.contents["t2", "log", 7] = ""
    assert len(_broken(history)) == 1


def test_files(story: Story, tmp_path: Path) -> None:
    """The media folder has the file of what is large; not one less, more or other."""
    call = story.attach("t1", "log", 1_200_000, large=True)
    story.attach("t2", "note")
    content = content_of(call.number, 1_200_000)
    folder = tmp_path / "tasks.db-media"
    folder.mkdir()
    history = _history(story)
    history.truth.db = tmp_path / "tasks.db"

    def broken() -> list[str]:
        """What is said of the files alone: there is no database in this story."""
        found: list[str] = []
        Contents(history, lambda violation: found.append(violation.text)).finish(model)
        return found

    model = Model(read_rules())
    for _, contents in story.messages:
        message = v1.WatchTasksResponse.FromString(contents)
        for event in message.events.events:
            model.apply(event, message.revision)
    assert "missing" in broken()[0]
    file = folder / hashlib.sha256(content).hexdigest()
    file.write_bytes(content)
    assert broken() == []
    file.write_bytes(content[:-1])
    assert "has a content of" in broken()[0]
    file.write_bytes(content)
    (folder / "tmp1.part").write_bytes(b"")
    assert "tmp1.part" in broken()[0]
