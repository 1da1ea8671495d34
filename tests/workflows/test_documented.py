"""The examples in docs/workflows.md are files that load."""

import re
from pathlib import Path

from taskloom_server.graph.workflows import Enforcement, Keeping
from taskloom_server.workflow_files import SHIPPED, load_workflows

TEXT = (Path(__file__).parents[2] / "docs" / "workflows.md").read_text(encoding="utf-8")
WORKFLOW, OVERLAY = re.findall(r"^```yaml\n(.*?)^```$", TEXT, re.MULTILINE | re.DOTALL)


def test_the_examples_load(tmp_path: Path) -> None:
    """The documented workflow and overlay are read, and mean what their comments say."""
    (tmp_path / "overlays").mkdir()
    (tmp_path / "papers.yaml").write_text(WORKFLOW)
    (tmp_path / "overlays" / "alone.yaml").write_text(OVERLAY)
    workflows = load_workflows("papers", tmp_path)
    papers = workflows.get("")
    assert papers.states["dropped"].terminal
    assert papers.states["working"].wip_limit == 4
    assert papers.gates["phase:draft"][0].enforcement is Enforcement.WARN
    assert papers.gates["status:working"][0].name == "work-log"
    assert papers.attachment_types["text"].keeping is Keeping.REPLACE
    assert [role.name for role in papers.roles] == ["editor", "writer"]
    alone = workflows.get("solo", ["alone"])
    assert "waiting" not in alone.states
    assert "polish" in alone.phases


def test_every_shipped_workflow_is_in_the_table() -> None:
    """Which one to use when is said of each."""
    for path in SHIPPED.glob("*.yaml"):
        assert f"| `{path.stem}`" in TEXT
    for path in SHIPPED.glob("overlays/*.yaml"):
        assert f"`{path.stem}`" in TEXT
