"""What a definition asks of the server that is to run it, and its template of its agents.

Asked of the installed server's own code before anything is started, because a fleet's run is a high
price for learning of a slip. Comparing needs none of it: the databases are there, and each says
which query it could not answer.
"""

import tempfile
from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path

from taskloom_server.settings import SettingsError, read_settings
from taskloom_server.store.schema import prepare
from taskloom_server.workflow_files import WorkflowFileError, load_workflows

from taskloom_experiments.database import check_query, open_database
from taskloom_experiments.definition import Definition, DefinitionError
from taskloom_experiments.results import DATABASE_FILE
from taskloom_experiments.templates import Template, lacking_tags


def check(definition: Definition) -> None:
    """Raise DefinitionError for a workflow that is not there, or a query that cannot be answered.

    Nothing is run: queries are only prepared, on an empty database of this taskloom.
    """
    _check_workflows(definition)
    _check_queries(definition)


def check_tags(definition: Definition, template: Template, only: Sequence[str] = ()) -> None:
    """Raise DefinitionError for a run of whose agents none may take some task of the template.

    ``only`` as in ``plan_runs``. Of a run without a definition agents have all the tags there are.
    """
    if definition.source is None:
        return
    for number, run in enumerate(definition.runs):
        if only and run.name not in only:
            continue
        skills = [group.tags for group in run.fleet]
        for (needs, wants), task_id in template.asked.items():
            if (lacking := lacking_tags(needs, wants, skills)) is None:
                continue
            needed, wanted = (", ".join(sorted(tags)) for tags in lacking)
            what = (
                f"the tags that it needs, {needed}" if needed else f"a tag that it wants: {wanted}"
            )
            where = "groups" if run.groups else "agent_config.tags"
            raise DefinitionError(
                f"{definition.source}: runs[{number}].{where}: no agent of {run.name} may take "
                f"task '{task_id}' of {template.file.name}; give one {what}"
            )


def _check_workflows(definition: Definition) -> None:
    try:
        settings = read_settings()  # as the server will: from its environment
        known = load_workflows(settings.default_workflow, settings.workflow_dir).by_name
    except (SettingsError, WorkflowFileError) as error:
        raise DefinitionError(f"no server can be started: {error}") from error
    for field, name in _workflows(definition):
        if name not in known:
            raise DefinitionError(
                f"{field}: there is no workflow '{name}'; there {_listed(sorted(known))}, and what "
                "TASKLOOM_WORKFLOW_DIR adds"
            )


def _workflows(definition: Definition) -> Iterator[tuple[str, str]]:
    """Where a workflow is named, and which."""
    if definition.source is None:
        yield "--workflow", definition.workflow
        return
    yield f"{definition.source}: workflow", definition.workflow
    for number, run in enumerate(definition.runs):
        of_run = f"{definition.source}: runs[{number}]"
        if run.agent_config.workflow:
            yield f"{of_run}.agent_config.workflow", run.agent_config.workflow
        for place, group in enumerate(run.groups):
            if group.workflow:
                yield f"{of_run}.groups[{place}].workflow", group.workflow
        if run.coordinator and run.coordinator.workflow:
            yield f"{of_run}.coordinator.workflow", run.coordinator.workflow


def _listed(names: list[str]) -> str:
    return f"is {names[0]}" if len(names) == 1 else f"are {', '.join(names)}"


def _check_queries(definition: Definition) -> None:
    place: Counter[str] = Counter()
    with tempfile.TemporaryDirectory(prefix="taskloom-") as folder:
        file = Path(folder) / DATABASE_FILE
        prepare(file)
        with open_database(file) as connection:
            for one in definition.measurements:
                number, place[one.group] = place[one.group], place[one.group] + 1
                if one.query and (fault := check_query(connection, one.query)):
                    raise DefinitionError(
                        f"{definition.source}: metrics.{one.group}.measurements[{number}].query: "
                        f"{one.name} cannot be measured: {fault.reason.partition(': ')[2]}"
                    )
