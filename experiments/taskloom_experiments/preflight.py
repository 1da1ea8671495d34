"""What a definition asks of the server that is to run it: its tables, its workflows.

Asked of the installed server's own code before anything is started, because a fleet's run is a high
price for learning of a slip. Comparing needs none of it: the databases are there, and each says
which query it could not answer.
"""

import tempfile
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

from taskloom_server.settings import SettingsError, read_settings
from taskloom_server.store.schema import prepare
from taskloom_server.workflow_files import WorkflowFileError, load_workflows

from taskloom_experiments.database import check_query, open_database
from taskloom_experiments.definition import Definition, DefinitionError
from taskloom_experiments.results import DATABASE_FILE


def check(definition: Definition) -> None:
    """Raise DefinitionError for a workflow that is not there, or a query that cannot be answered.

    Nothing is run: queries are only prepared, on an empty database of this taskloom.
    """
    _check_workflows(definition)
    _check_queries(definition)


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
