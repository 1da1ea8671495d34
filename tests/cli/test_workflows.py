"""Workflows and overlays on the command line."""

from pathlib import Path
from typing import TYPE_CHECKING

from taskloom_server.workflow_files import SHIPPED

if TYPE_CHECKING:
    from tests.cli.conftest import Cli


async def test_list_and_show(cli: "Cli") -> None:
    """The list names workflows and overlays; one is shown with states, roles, gates and prompts."""
    listed = await cli("workflow", "list")
    assert listed.code == 0
    assert {"kanban", "swarm", "careful", "tdd"} <= set(listed.out.split())
    shown = await cli("workflow", "show", "relay", "--overlay", "careful", "--prompts")
    assert shown.code == 0
    for part in ("reviewer", "phase:review", "status:working", "entering working:", "Carefully:"):
        assert part in shown.out
    as_json = (await cli("workflow", "show", "kanban", "--json")).json["workflow"]
    assert {state["name"]: state.get("wip_limit") for state in as_json["states"]}["review"] == 2
    unknown = await cli("workflow", "show", "swarm", "--overlay", "nothing")
    assert (unknown.code, "no overlay 'nothing'" in unknown.err) == (3, True)


async def test_check_needs_no_server(taskloom: "Cli", tmp_path: Path) -> None:
    """Files are checked as a server would: 0 and a line each, or 2 and the sentence."""
    good = await taskloom(
        "workflow", "check", str(SHIPPED / "solo.yaml"), str(SHIPPED / "overlays" / "tdd.yaml")
    )
    assert (good.code, good.err) == (0, "")
    assert "workflow 'solo' can be used" in good.out
    assert "overlay 'tdd' can be used" in good.out
    wrong = tmp_path / "wrong.yaml"
    wrong.write_text("name: wrong\nstaits: {}\n")
    refused = await taskloom("workflow", "check", str(wrong))
    assert refused.code == 2
    assert refused.err == (f"error: {wrong}:2: staits: is no key here; did you mean 'states'?\n")
    both = await taskloom("workflow", "check", str(SHIPPED / "solo.yaml"), str(wrong))
    assert both.code == 2
    assert "1 of 2 files cannot be used" in both.err
    assert (await taskloom("workflow", "check", str(tmp_path / "no.yaml"))).code == 2


async def test_overlays_of_a_worker(cli: "Cli") -> None:
    """Overlays are given with connect, added, and removed."""
    connected = await cli("worker", "connect", "ada", "--overlay", "careful", "--json")
    assert connected.json["worker"]["overlays"] == ["careful"]
    added = await cli("worker", "add-overlay", "ada", "tdd")
    assert (added.code, added.out) == (0, "ada goes by swarm with careful, tdd\n")
    removed = await cli("worker", "remove-overlay", "ada", "careful")
    assert removed.out == "ada goes by swarm with tdd\n"
    assert (await cli("worker", "add-overlay", "ada", "nothing")).code == 3
