"""The life of a file: whether it is the one that was served last, or a copy that came back.

A token stands in the file's header (``user_version``) and in the lock file beside it. It is another
one from each start, each stop and each minute of work on, so a file whose token the lock file does
not know is another one: its revisions may since have been told with other contents.
"""

import contextlib
import os
import secrets
from pathlib import Path

import apsw

from taskloom_server.store.connections import writing
from taskloom_server.store.system import SystemTable
from taskloom_server.store.transaction import Transaction

_LONGEST = 64  # bytes that a lock file of ours has at the most


class Lock:
    """The lock file of a database, held open; what it holds is on the disk when it is noted."""

    def __init__(self, descriptor: int) -> None:
        self._descriptor = descriptor

    def tokens(self) -> frozenset[int]:
        """The tokens that the file may have; none: nothing is known of it."""
        words = os.pread(self._descriptor, _LONGEST, 0).split()
        return frozenset(int(word) for word in words if word.isdigit())

    def note(self, *tokens: int) -> None:
        """Note the tokens that the file may have. Raises OSError."""
        line = " ".join(map(str, tokens)).encode() + b"\n"
        os.pwrite(self._descriptor, line, 0)
        os.ftruncate(self._descriptor, len(line))
        os.fsync(self._descriptor)


def renew(tx: Transaction, lock: Lock) -> int:
    """Give the file another token, which is to be noted alone once this is committed.

    Until then both may be right, for a crash may come between.
    """
    return _renew(tx.system, lock)


def _renew(system: SystemTable, lock: Lock) -> int:
    token = secrets.randbelow(2**31 - 1) + 1
    lock.note(*{system.token(), token})
    system.put_token(token)
    return token


def begin_life(path: Path, lock: Lock) -> bool:
    """Renew the token of a file that nobody has open; whether it is another than before.

    Then a new incarnation has begun in it.
    """
    database = writing(path)
    database.connect()
    try:
        connection: apsw.Connection = database.connection()
        system = SystemTable(connection)
        with connection:
            known, mine = lock.tokens(), system.token()
            # Where there is nothing to compare, a file that had a token has been moved here.
            is_other = mine not in known if known else mine != 0
            began = is_other and system.begin_incarnation()
            token = _renew(system, lock)
        lock.note(token)
        return began
    finally:
        database.close()


def end_life(path: Path, lock: Lock) -> None:
    """Tell copies of a file that were made while it was served from what it is now."""
    # What is noted stays true where the disk is full, for which the server may have stopped.
    with contextlib.suppress(apsw.Error, OSError):
        begin_life(path, lock)
