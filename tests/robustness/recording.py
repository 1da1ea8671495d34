"""What clients record: every call with every attempt, and every stream of a watch or of work.

Records go to a file as they are complete, so that neither a long round nor a client that dies takes
memory or evidence. Requests and answers are kept as the bytes that were sent.
"""

import pickle
import random
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

from google.protobuf.message import Message
from taskloom.v1 import (
    admin_service_pb2,
    attachment_service_pb2,
    claim_service_pb2,
    file_service_pb2,
    task_service_pb2,
    watch_service_pb2,
    worker_service_pb2,
)

OK = "OK"


@dataclass(frozen=True)
class Verb:
    """An RPC: its way on the wire, and the messages that it takes and gives."""

    path: str
    request: type[Message]
    response: type[Message]
    is_streamed: bool = False  # whether the request is: what it asks, and then a content


def _verbs() -> dict[str, Verb]:
    modules = (
        admin_service_pb2,
        attachment_service_pb2,
        claim_service_pb2,
        file_service_pb2,
        task_service_pb2,
        watch_service_pb2,
        worker_service_pb2,
    )
    return {
        method.name: Verb(
            f"/{service.full_name}/{method.name}",
            _class_of(method.input_type),
            _class_of(method.output_type),
            is_streamed=method.client_streaming,
        )
        for module in modules
        for service in module.DESCRIPTOR.services_by_name.values()
        for method in service.methods
    }


def _class_of(descriptor: Any) -> type[Message]:
    return descriptor._concrete_class  # type: ignore[no-any-return]


VERBS = _verbs()


def now_ms() -> float:
    """The time in Unix ms, by the clock that the server uses."""
    return time.time_ns() / 1e6


@dataclass(frozen=True, slots=True)
class Attempt:
    """One time that a call was sent, and what came of it."""

    start: float  # Unix ms
    end: float
    code: str  # OK, or the name of a gRPC status code
    reason: str  # of the ErrorInfo; empty where there was none
    text: str  # what the status said
    answer: bytes
    holder: str = ""  # of a refused claim, as the refusal's metadata has it

    @property
    def answered(self) -> bool:
        """Whether the server did it."""
        return self.code == OK

    @property
    def refused(self) -> bool:
        """Whether the server said that it did not do it."""
        return bool(self.reason)

    @property
    def unknown(self) -> bool:
        """Whether nobody knows if the server did it."""
        return not self.answered and not self.refused


@dataclass
class Call:
    """A call and its repetitions, all with the same request."""

    number: int  # unique within the round
    agent: str  # who called
    verb: str
    request: bytes
    attempts: list[Attempt] = field(default_factory=list)
    content: bytes = b""  # what follows the request where that is a stream; not recorded
    in_stream: bool = False  # an assignment that nobody called for: told by a Work stream

    @property
    def tag(self) -> str:
        """By which the call's effect is known in the history: in a reason, a title, a name."""
        return tag_of(self.number)

    @cached_property
    def ask(self) -> Any:
        """The request; of one that is a stream the options with which it begins."""
        ask: Any = VERBS[self.verb].request.FromString(self.request)
        return ask.options if VERBS[self.verb].is_streamed else ask

    @cached_property
    def answers(self) -> list[tuple[Attempt, Any]]:
        """The attempts that were answered, each with its answer."""
        read = VERBS[self.verb].response.FromString
        return [(attempt, read(attempt.answer)) for attempt in self.attempts if attempt.answered]

    @property
    def remembered(self) -> list[tuple[Attempt, Any]]:
        """Those answers that are given again under one request_id.

        Not that there is no task, and not what came of a trial.
        """
        if self.verb == "ImportSnapshot":
            return []
        is_claim = self.verb == "ClaimNextTask"
        return [(attempt, one) for attempt, one in self.answers if not is_claim or one.tasks]

    @property
    def answer(self) -> Any:
        """The answer, and of several the first that is remembered; None where there was none."""
        answers = self.remembered or self.answers
        return answers[0][1] if answers else None

    @property
    def unknown(self) -> bool:
        """Whether it may have been done without an answer that says so.

        Also after an answer that is not remembered: that there was no task, and asked again.
        """
        return not self.remembered and any(attempt.unknown for attempt in self.attempts)

    @property
    def start(self) -> float:
        """When it was sent first."""
        return self.attempts[0].start

    @property
    def end(self) -> float:
        """When the last attempt was over."""
        return self.attempts[-1].end

    @property
    def worker_id(self) -> str:
        """The worker that it names; empty when it names none."""
        if self.verb == "UpdateTasks":
            return str(self.ask.updates[0].worker_id)
        return getattr(self.ask, "worker_id", "") or ""


def tag_of(number: int) -> str:
    """The tag of the call of this number."""
    return f"call-{number}"


def number_of(tag: str) -> int | None:
    """The number of the call with this tag, whatever was noted behind it; None: it is no tag."""
    head, _, number = tag.partition(";")[0].partition("-")
    return int(number) if head == "call" and number.isdigit() else None


def content_of(number: int, size: int) -> bytes:
    """What the call of this number attaches: bytes that need not be recorded to be known."""
    return random.Random(number).randbytes(size)


@dataclass
class Stream:
    """One stream of a watch, from its request to its end."""

    watcher: str
    request: bytes
    start: float = 0.0
    end: float = 0.0
    created: int | None = None  # the revision that `created` told
    incarnation: str = ""
    listed: list[bytes] = field(default_factory=list)  # the messages of the state
    synced: int | None = None
    told: list[tuple[int, bytes]] = field(default_factory=list)  # revision, digest of the message
    reached: int | None = None  # how far the stream said it was when it ended
    code: str = ""  # how it ended
    reason: str = ""
    disorder: str = ""  # what was seen to be wrong while it was read

    @property
    def filter(self) -> bytes:
        """What it asked for, as bytes; empty: everything."""
        contents: bytes = self.ask.filter.SerializeToString(deterministic=True)
        return contents

    @cached_property
    def ask(self) -> Any:
        """The request."""
        return VERBS["WatchTasks"].request.FromString(self.request)


@dataclass
class Talk:
    """One Work stream, from its start to its end. What is called on it is recorded as calls."""

    worker_id: str
    start_message: bytes  # the WorkStart
    start: float = 0.0
    end: float = 0.0
    told: list[tuple[float, bytes]] = field(default_factory=list)  # what is no answer, and when
    drain_sent: float = 0.0
    ended_well: bool = False  # drained, closed by the worker, and then ended with OK
    code: str = ""
    reason: str = ""
    text: str = ""
    disorder: str = ""

    @cached_property
    def ask(self) -> Any:
        """The message that began it."""
        return claim_service_pb2.WorkStart.FromString(self.start_message)

    @cached_property
    def messages(self) -> list[tuple[float, Any]]:
        """What it was told, read."""
        return [(t, claim_service_pb2.WorkResponse.FromString(c)) for t, c in self.told]


Record = Call | Stream | Talk


class Recorder:
    """Writes records to a file."""

    def __init__(self, path: Path) -> None:
        self._file = path.open("wb")

    def add(self, record: Record) -> None:
        """Write one."""
        if isinstance(record, Call):
            attempts = [
                (a.start, a.end, a.code, a.reason, a.text, a.answer, a.holder)
                for a in record.attempts
            ]
            kept: Any = (record.number, record.agent, record.verb, record.request, attempts)
        else:
            unread = {k: v for k, v in record.__dict__.items() if k not in ("ask", "messages")}
            kept = (type(record).__name__, unread)
        pickle.dump(kept, self._file, protocol=5)

    def close(self) -> None:
        """Write what is left."""
        self._file.close()


def read_records(path: Path) -> Iterator[Record]:
    """The records of a file, in the order in which they were written."""
    with path.open("rb") as file:
        while True:
            try:
                kept = pickle.load(file)
            except EOFError:
                return
            if kept[0] == "Stream":
                yield Stream(**kept[1])
            elif kept[0] == "Talk":
                yield Talk(**kept[1])
            else:
                number, agent, verb, request, attempts = kept
                yield Call(number, agent, verb, request, [Attempt(*one) for one in attempts])
