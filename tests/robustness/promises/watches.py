"""Every watch was told each event of its history once, in order, whole revisions at a time."""

from bisect import bisect_right
from typing import Any

from tests.robustness.history import Promise
from tests.robustness.model import Model
from tests.robustness.recording import Stream
from tests.robustness.truth import Messages
from tests.robustness.watchers import digest_of

# A watch has no business to end so: nothing was compacted, reset or forbidden in a round.
_WRONG_ENDS = frozenset({"INTERNAL", "UNKNOWN", "OUT_OF_RANGE", "NOT_FOUND", "INVALID_ARGUMENT"})


class Watches(Promise):
    """A stream carries, byte for byte, what an undisturbed one carries between its revisions."""

    name = "watches"

    def __init__(self, *args: Any) -> None:
        super().__init__(*args)
        truth = self.history.truth
        self._expected = {
            filter_: ([revision for revision, _ in messages], _digests(messages))
            for filter_, messages in {b"": truth.messages, **truth.filtered}.items()
        }

    def finish(self, model: Model) -> None:  # noqa: D102
        for stream in self.history.streams:
            self.judged += 1
            if problem := self._problem(stream):
                self.violated(
                    f"a stream of {stream.watcher} {problem}",
                    revision=stream.reached or 0,
                    stream=stream,
                )

    def _problem(self, stream: Stream) -> str:
        if stream.disorder:
            return f"was out of order: {stream.disorder}"
        if stream.code in _WRONG_ENDS:
            return f"was ended with {stream.code} {stream.reason}"
        if stream.created is None:
            return ""
        if stream.incarnation != self.history.truth.incarnation:
            return f"was of incarnation {stream.incarnation}"
        asked = stream.ask.start_revision
        if asked and stream.created != asked - 1:
            return f"asked for revision {asked} on, and began after {stream.created}"
        after = stream.synced if stream.ask.include_state else stream.created
        if after is None or stream.reached is None:
            return ""
        revisions, digests = self._expected[stream.filter]
        first = bisect_right(revisions, after)
        last = bisect_right(revisions, stream.reached)
        return _compare(
            stream.told, list(zip(revisions[first:last], digests[first:last], strict=True))
        )


def _digests(messages: Messages) -> list[bytes]:
    return [digest_of(contents) for _, contents in messages]


def _compare(told: list[tuple[int, bytes]], expected: list[tuple[int, bytes]]) -> str:
    """What is wrong with what was told; empty where it is just what was expected."""
    if told == expected:
        return ""
    there, heard = {n for n, _ in expected}, [n for n, _ in told]
    if missing := sorted(there - set(heard)):
        return f"was not told of revision {_some(missing)}"
    if strange := sorted(set(heard) - there):
        return f"was told of revision {_some(strange)}, which is none for it"
    if heard != [n for n, _ in expected]:
        return "was told of revisions twice, or out of order"
    differing = [n for (n, a), (_, b) in zip(told, expected, strict=True) if a != b]
    return f"was told of revision {_some(differing)} in other bytes"


def _some(revisions: list[int]) -> str:
    more = f" and {len(revisions) - 3} more" if len(revisions) > 3 else ""
    return ", ".join(map(str, revisions[:3])) + more
