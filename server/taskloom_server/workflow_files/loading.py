"""All workflows and overlays together: the shipped ones, and those of a user's folder."""

from pathlib import Path

from taskloom_server.graph.overlays import Overlay
from taskloom_server.graph.workflows import Workflow, Workflows
from taskloom_server.workflow_files.marked_yaml import Marked, WorkflowFileError, read_yaml
from taskloom_server.workflow_files.overlay_file import check_fits, overlay_in
from taskloom_server.workflow_files.workflow_file import workflow_in

SHIPPED = Path(__file__).parents[1] / "workflows"
OVERLAYS = "overlays"  # the folder of overlays in a folder of workflows


def load_workflows(default_name: str, folder: Path | None = None) -> Workflows:
    """The shipped workflows and overlays, and those of a folder.

    What stands in the folder may take the name, and so the place, of what is shipped. Raises
    WorkflowFileError.
    """
    workflows: dict[str, Workflow] = {}
    overlays: dict[str, tuple[Marked, Overlay]] = {}
    for place in (SHIPPED, folder):
        if place is None:
            continue
        if not place.is_dir():
            raise WorkflowFileError(place, "is not a folder of workflow files")
        workflows |= _workflows_of(place)
        overlays |= _overlays_of(place / OVERLAYS)
    for marked, overlay in overlays.values():
        check_fits(marked, overlay, workflows)
    if default_name not in workflows:
        raise WorkflowFileError(
            folder or SHIPPED,
            f"there is no workflow {default_name!r} to be the default; "
            f"there are {', '.join(sorted(workflows))}",
        )
    return Workflows(
        workflows, default_name, {name: overlay for name, (_, overlay) in overlays.items()}
    )


def check_file(path: Path) -> Workflow | Overlay:
    """What a file holds, a workflow, or an overlay of a folder of that name.

    An overlay is tried on the workflows beside its folder, and on the shipped ones. Raises
    WorkflowFileError.
    """
    marked = read_yaml(path)
    if path.resolve().parent.name != OVERLAYS:
        return workflow_in(marked)
    overlay = overlay_in(marked)
    check_fits(marked, overlay, _workflows_of(SHIPPED) | _workflows_of(path.resolve().parents[1]))
    return overlay


def _files(folder: Path) -> list[Path]:
    return sorted(path for path in folder.glob("*.y*ml") if path.suffix in (".yaml", ".yml"))


def _workflows_of(folder: Path) -> dict[str, Workflow]:
    found: dict[str, Workflow] = {}
    where: dict[str, Path] = {}
    for path in _files(folder):
        marked = read_yaml(path)
        workflow = workflow_in(marked)
        _check_new(marked, workflow.name, where)
        found[workflow.name] = workflow
    return found


def _overlays_of(folder: Path) -> dict[str, tuple[Marked, Overlay]]:
    found: dict[str, tuple[Marked, Overlay]] = {}
    where: dict[str, Path] = {}
    for path in _files(folder):
        marked = read_yaml(path)
        overlay = overlay_in(marked)
        _check_new(marked, overlay.name, where)
        found[overlay.name] = (marked, overlay)
    return found


def _check_new(marked: Marked, name: str, where: dict[str, Path]) -> None:
    """Two files of one folder may not give one name."""
    if name in where:
        raise marked.error(
            ("name",), f"{name!r} is the name in {where[name].name}, too; rename one of both"
        )
    where[name] = marked.path
