"""Exit codes, and how a command that cannot go on ends: the one table, the one exception.

``taskloom --help`` shows the table; scripts rely on it.
"""

from enum import IntEnum


class ExitCode(IntEnum):
    """What the command says to the shell."""

    OK = 0
    REFUSED = 1
    USAGE = 2
    NOT_FOUND = 3
    UNREACHABLE = 4
    NOTHING_TO_CLAIM = 5
    ENDED_OTHERWISE = 6
    NOT_IN_TIME = 7
    INTERRUPTED = 130
    PIPE_CLOSED = 141


MEANINGS: dict[ExitCode, str] = {
    ExitCode.OK: "done",
    ExitCode.REFUSED: "refused by the server (a precondition, a conflict), or failed otherwise",
    ExitCode.USAGE: "wrong usage, or a value that is not valid",
    ExitCode.NOT_FOUND: "a task, worker or workflow that is named does not exist",
    ExitCode.UNREACHABLE: "no server answered, or not in time",
    ExitCode.NOTHING_TO_CLAIM: "claim: there is nothing to claim now",
    ExitCode.ENDED_OTHERWISE: "watch --until: a task ended otherwise than it was to",
    ExitCode.NOT_IN_TIME: "watch --until: not all tasks were there within --timeout",
    ExitCode.INTERRUPTED: "ended by Ctrl-C, which is also how a watch ends",
    ExitCode.PIPE_CLOSED: "the reader of the output went away, as `head` does",
}

# By the name of the gRPC status, so that this module needs no gRPC; all others are REFUSED.
_BY_STATUS = {
    "INVALID_ARGUMENT": ExitCode.USAGE,
    "NOT_FOUND": ExitCode.NOT_FOUND,
    "UNAVAILABLE": ExitCode.UNREACHABLE,
    "DEADLINE_EXCEEDED": ExitCode.UNREACHABLE,
}


def for_status(name: str) -> ExitCode:
    """The exit code for a call that ended with the gRPC status of that name."""
    return _BY_STATUS.get(name, ExitCode.REFUSED)


class Failure(Exception):
    """A command cannot go on; the message is the sentence that the user is told."""

    def __init__(self, sentence: str, code: ExitCode = ExitCode.REFUSED) -> None:
        super().__init__(sentence)
        self.code = code


def missing_extra(extra: str, missing: str | None) -> Failure:
    """The failure of a command that needs more than ``pip install taskloom`` brings."""
    lacking = f" ({missing} is missing)" if missing else ""
    return Failure(
        f"this command needs the extra '{extra}'{lacking}: pip install 'taskloom[{extra}]'"
    )
