"""A command that asks, run on a terminal."""

import contextlib
import os
import pty
import signal
import subprocess
import sys
from collections.abc import Mapping, Sequence


def asked_on_a_terminal(
    arguments: Sequence[str], told: str, answer: bytes | None, environment: Mapping[str, str]
) -> tuple[int, str]:
    """Type the answer to a command's question, or interrupt it for None.

    ``told`` must stand in the question. The exit code, and what is said after it.
    """
    ours, its = pty.openpty()
    with os.fdopen(ours, "r+b", buffering=0) as terminal:
        process = subprocess.Popen(
            [sys.executable, "-m", "taskloom_client", *arguments],
            stdin=its,
            stdout=its,
            stderr=subprocess.PIPE,
            env=environment,
        )
        os.close(its)
        assert process.stderr is not None
        with process.stderr:
            asked = b""
            while b"[y/N]" not in asked:
                asked += os.read(process.stderr.fileno(), 1000)
            assert told.encode() in asked
            if answer is None:
                # CPython misses one that comes just before it begins to read.
                for _ in range(6):
                    process.send_signal(signal.SIGINT)
                    with contextlib.suppress(subprocess.TimeoutExpired):
                        process.wait(5)
                        break
            else:
                terminal.write(answer)
            return process.wait(30), process.stderr.read().decode().strip(" :\n")
