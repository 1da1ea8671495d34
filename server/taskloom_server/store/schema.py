"""The schema on disk: is the file ours, is it ours to migrate, and bringing it up to date."""

from pathlib import Path

import apsw
from playhouse.migrations import Runner

from taskloom_server.store.connections import APPLICATION_ID, CannotOpen, Database, writing

MIGRATIONS = Path(__file__).parent / "migrations"


def _check_is_ours(path: Path) -> bool:
    """Whether the file holds our tables; False: there is nothing in it yet."""
    if not path.exists() or path.stat().st_size == 0:
        return False
    try:
        connection = apsw.Connection(str(path), flags=apsw.SQLITE_OPEN_READONLY)
        try:
            application_id = connection.pragma("application_id")
            tables = connection.execute("SELECT count(*) FROM sqlite_master").get
        finally:
            connection.close()
    except apsw.Error as error:
        raise CannotOpen(
            f"{path} is not a taskloom database ({error}); name another file with --db"
        ) from error
    if application_id == APPLICATION_ID:
        return True
    if tables == 0 and application_id == 0:
        return False
    raise CannotOpen(
        f"{path} is an SQLite file of another program, not a taskloom database; "
        "name another file with --db"
    )


def prepare(path: Path) -> list[str]:
    """Create the file, or bring it up to date; the names of the migrations applied.

    Raises CannotOpen for a file that is not ours, or that a newer taskloom wrote.
    """
    if path.is_dir():
        raise CannotOpen(f"{path} is a folder; name a file with --db")
    if not path.parent.is_dir():
        raise CannotOpen(f"the folder {path.parent} does not exist; make it, or name another --db")
    is_ours = _check_is_ours(path)
    database: Database = writing(path)
    try:
        database.connect()
        if not is_ours:
            database.pragma("application_id", APPLICATION_ID)
        runner = Runner(database, str(MIGRATIONS))
        unknown = [m.name for m in runner.status() if m.path is None]
        if unknown:
            raise CannotOpen(
                f"{path} was written by a newer taskloom (it has migration {unknown[-1]!r}); "
                "update this one"
            )
        applied: list[str] = runner.up()
    except apsw.Error as error:
        raise CannotOpen(f"cannot open {path}: {error}") from error
    finally:
        database.close()
    return applied
