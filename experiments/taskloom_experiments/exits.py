"""How the commands about experiments end: the one table of exit codes, the one place for errors.

0    every required criterion holds; where there are runs by ``next`` or ``stream``, in which
     the server chooses, theirs decide
1    a required criterion does not hold; of a single step: it could not be done
2    wrong input
3    partial results: a run was cut short, an agent or the server crashed
130  interrupted by SIGINT, 143 by SIGTERM; what was done until then is kept and reported
141  the reader of the output went away, as `head` does; the report is written all the same
"""

import os
import sys
from collections.abc import Callable
from functools import wraps
from typing import ParamSpec

from taskloom_client import TaskloomError

from taskloom_experiments.errors import ExperimentError
from taskloom_experiments.serving import ServerFailed

OK = 0
FAILED = 1
WRONG_INPUT = 2
PARTIAL = 3
INTERRUPTED = 130
PIPE_CLOSED = 141

P = ParamSpec("P")


def ending(command: Callable[P, int]) -> Callable[P, int]:
    """Make a command end in order, whatever happens in it: errors are one sentence on stderr."""

    @wraps(command)
    def ended(*args: P.args, **kwargs: P.kwargs) -> int:
        try:
            code = command(*args, **kwargs)
            sys.stdout.flush()  # a reader that went away is noticed here, not after the last line
        except ExperimentError as error:
            return refuse(error)
        except (ServerFailed, TaskloomError) as error:
            tell(error)
            return FAILED
        except KeyboardInterrupt:
            return INTERRUPTED
        except BrokenPipeError:
            # Python flushes both once more as it ends, and would complain, and end with 120.
            nowhere = os.open(os.devnull, os.O_WRONLY)
            for stream in (sys.stdout, sys.stderr):
                os.dup2(nowhere, stream.fileno())
            return PIPE_CLOSED
        return code

    return ended


def refuse(error: object) -> int:
    """Say what is wrong with the input; the exit code for that."""
    tell(error)
    return WRONG_INPUT


def tell(error: object) -> None:
    """Say what went wrong."""
    print(f"error: {error}", file=sys.stderr)
