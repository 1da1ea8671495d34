"""The generated code that is committed is what the protos generate."""

import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[1]


def test_stubs_are_fresh(tmp_path: Path) -> None:
    """`make proto` would change nothing."""
    # With the tools of this very environment, and without installing anything into it.
    tools = Path(sys.executable).parent
    subprocess.run(
        ["make", "-o", "v/installed", "VENV=v", f"BIN={tools}", f"STUBS={tmp_path}", "proto"],
        cwd=ROOT,
        check=True,
        capture_output=True,
    )
    fresh = {p.relative_to(tmp_path): p.read_text() for p in tmp_path.rglob("*_pb2*")}
    committed = {
        p.relative_to(ROOT / "protos"): p.read_text()
        for p in (ROOT / "protos").rglob("*_pb2*")
        if p.suffix in {".py", ".pyi"}
    }
    assert fresh.keys() == committed.keys()
    assert [str(name) for name in fresh if fresh[name] != committed[name]] == []
