"""Keeps a child process from outliving its parent, however the parent ends.

On Linux the kernel does it: a process asks once to be killed when its parent ends, and the wish
survives exec. Elsewhere a small process stays between the two and watches a pipe that breaks when
the parent ends. Either way the child is killed, not asked: nobody would be left to insist.

    python -m taskloom_experiments.tether PARENT_PID COMMAND [ARGUMENT...]

runs a command that way; its standard input must be a pipe from the parent, which writes nothing.
"""

import ctypes
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Sequence

_PR_SET_PDEATHSIG = 1
_PARENT_IS_GONE = 1


def die_with_parent(parent_pid: int) -> bool:
    """Have the kernel kill this process when the parent ends; False where no kernel can.

    Where the parent has ended already this does not return. The kernel watches the parent's
    thread that started this process, so start children from a thread that lasts: the main one.
    """
    if sys.platform != "linux":
        return False
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.prctl(_PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0) != 0:
        return False
    if os.getppid() != parent_pid:  # it ended before it could be watched
        os._exit(_PARENT_IS_GONE)
    return True


def when_input_ends(then: Callable[[], object]) -> None:
    """Call ``then``, on a thread of its own, when the pipe at standard input breaks."""

    def watch() -> None:
        while os.read(0, 4096):
            pass
        then()

    threading.Thread(target=watch, name="parent-watch", daemon=True).start()


def supervise(command: Sequence[str]) -> int:
    """Run a command until it ends or standard input does; return its exit code."""
    child = subprocess.Popen(command, stdin=subprocess.DEVNULL)
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda number, _frame: child.send_signal(number))
    when_input_ends(child.kill)
    return child.wait()


def main(arguments: Sequence[str]) -> int:
    """Become the command, or where the kernel cannot watch, stay and watch over it."""
    parent_pid, *command = arguments
    if die_with_parent(int(parent_pid)):
        os.execvp(command[0], command)
    return supervise(command)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
