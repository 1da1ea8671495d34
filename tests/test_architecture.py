"""The layering of the server is a promise: imports go downward only."""

import ast
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

SERVER = Path(__file__).parents[1] / "server" / "taskloom_server"
FLOORS = ("service", "coordinator", "store", "feed", "graph")  # from the top; above is main
FILES = sorted(path.relative_to(SERVER).as_posix() for path in SERVER.rglob("*.py"))
DRIVERS = {"peewee", "playhouse", "apsw", "sqlite3"}


def _imports(file: str) -> Iterator[str]:
    for node in ast.walk(ast.parse((SERVER / file).read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{file}: imports are absolute"
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


def _floor(path: str) -> int:
    """How far down a file or module is: 0 is main and what stands beside it."""
    name = path.removeprefix("taskloom_server.").replace("/", ".").split(".")[0]
    return FLOORS.index(name) + 1 if name in FLOORS else 0


@pytest.mark.parametrize("file", FILES)
def test_imports_go_downward(file: str) -> None:
    """No module imports from a floor above its own."""
    # The version of the package is nobody's secret.
    ours = {n for n in _imports(file) if n.startswith("taskloom_server.")} - {
        "taskloom_server.__version__"
    }
    assert [name for name in ours if _floor(name) < _floor(file)] == []


@pytest.mark.parametrize("file", FILES)
def test_only_the_store_knows_the_database(file: str) -> None:
    """Peewee and drivers are imported in store and nowhere else."""
    used = {name.partition(".")[0] for name in _imports(file)} & DRIVERS
    assert not used or file.startswith("store/")


@pytest.mark.parametrize("file", [file for file in FILES if file.startswith("graph/")])
def test_graph_needs_the_standard_library_only(file: str) -> None:
    """The rules can be tried without anything installed."""
    used = {name.partition(".")[0] for name in _imports(file)}
    assert used <= set(sys.stdlib_module_names) | {"taskloom_server"}


@pytest.mark.parametrize("file", [f for f in FILES if _floor(f) in {2, 3, 5}])
def test_protos_stay_in_the_service(file: str) -> None:
    """Neither the verbs, nor the store, nor the rules know a proto or gRPC."""
    used = {name.partition(".")[0] for name in _imports(file)}
    assert used.isdisjoint({"taskloom", "grpc", "google"})
