"""The generated code that is committed is what the protos generate."""

import os
import subprocess
from pathlib import Path

ROOT = Path(__file__).parents[1]


def test_stubs_are_fresh(tmp_path: Path) -> None:
    """`make proto` would change nothing."""
    subprocess.run(
        ["make", "proto", f"STUBS={tmp_path}"],
        cwd=ROOT,
        check=True,
        capture_output=True,
        env=os.environ,
    )
    fresh = {p.relative_to(tmp_path): p.read_text() for p in tmp_path.rglob("*_pb2*")}
    committed = {
        p.relative_to(ROOT / "protos"): p.read_text()
        for p in (ROOT / "protos").rglob("*_pb2*")
        if p.suffix in {".py", ".pyi"}
    }
    assert fresh.keys() == committed.keys()
    assert [str(name) for name in fresh if fresh[name] != committed[name]] == []
