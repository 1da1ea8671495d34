"""What was attached: there byte for byte, after every kill, and no file is left of what is not."""

import hashlib
from pathlib import Path
from typing import Any

from tests.robustness.history import Promise
from tests.robustness.model import Model
from tests.robustness.recording import Call, content_of, number_of


class Contents(Promise):
    """An attachment is downloaded as it was attached, and its file is of the name that is told."""

    name = "contents"

    def finish(self, model: Model) -> None:  # noqa: D102
        calls = {call.number: call for call in self.history.calls}
        downloaded = self.history.truth.contents
        for place, one in model.attachments.items():
            if place not in downloaded:
                continue
            call = calls.get(number_of(one.name) or 0)
            if call is None:
                continue  # the promise that nothing happens unasked looks at that
            self.judged += 1
            attached = hashlib.sha256(_content(call, one)).hexdigest()
            if downloaded[place] != attached or one.sha256 not in ("", attached):
                self._wrong(place, f"was attached as {attached}, brought as {downloaded[place]}")
        if downloaded.keys() - model.attachments.keys():
            for place in sorted(downloaded.keys() - model.attachments.keys()):
                self._wrong(place, "is in no event")
        large = {one.sha256 for one in model.attachments.values() if one.in_file}
        for place, one in model.attachments.items():
            if one.in_file and downloaded and place not in downloaded:
                self._wrong(place, "is not among those that there are")
        if self.history.truth.db is not None:
            self._judge_files(self.history.truth.db, large)

    def _judge_files(self, db: Path, large: set[str]) -> None:
        """The media folder has the files of the attachments, whole, and no others."""
        folder = db.with_name(f"{db.name}-media")
        files = list(folder.iterdir()) if folder.exists() else []
        there = {file.name for file in files}
        if there != large:
            self.violated(
                f"of the files {sorted(large - there)} are missing, and {sorted(there - large)} "
                "are nobody's"
            )
        for file in files:
            with file.open("rb") as content:
                digest = hashlib.file_digest(content, "sha256").hexdigest()
            if digest != file.name:
                self.violated(f"the file {file.name} has a content of {digest}")

    def _wrong(self, place: tuple[str, str, int], problem: str) -> None:
        task_id, type_, sequence = place
        self.violated(f"{type_} {sequence} of {task_id} {problem}", tasks=[task_id])


def _content(call: Call, attachment: Any) -> bytes:
    """What a call attached."""
    if call.verb == "Attach":
        return bytes(call.ask.content)
    return content_of(call.number, attachment.size)
