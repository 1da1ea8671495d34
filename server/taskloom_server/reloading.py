"""Reading the workflow files anew while the server runs: all of them, or none."""

import asyncio

import structlog

from taskloom_server.clock import Clock
from taskloom_server.coordinator.reloading import put_in_force
from taskloom_server.graph.workflows import InForce
from taskloom_server.settings import Settings
from taskloom_server.store.inline import InlineReaders, InlineWriter
from taskloom_server.store.ledger import WriterStopped
from taskloom_server.store.readers import Readers
from taskloom_server.store.writer import Writer
from taskloom_server.workflow_files import WorkflowFileError, load_workflows

_log = structlog.get_logger("workflows")


async def reload_workflows(
    settings: Settings,
    clock: Clock,
    in_force: InForce,
    writer: Writer | InlineWriter,
    readers: Readers | InlineReaders,
) -> bool:
    """Put what the files say now in force; False: one is wrong, and what was in force stays.

    The writer takes the new ones over between two verbs, so that each verb goes by the one set or
    by the other, and is answered in the order of its commit.
    """
    try:
        workflows = await asyncio.to_thread(
            load_workflows, settings.default_workflow, settings.workflow_dir
        )
    except WorkflowFileError as error:
        in_force.error, in_force.failed_at = str(error), clock.now()
        _log.error(
            "workflows not reloaded, the old ones stay in force",
            error=str(error),
            file=str(error.path),
            line=error.line,
            field=error.field,
        )
        return False
    try:
        odd = await writer.run(put_in_force, workflows)
    except WriterStopped:
        return False
    readers.use(workflows)
    in_force.workflows, in_force.loaded_at = workflows, clock.now()
    in_force.error, in_force.failed_at = "", None
    for sentence in odd:
        _log.warning(sentence)
    _log.info(
        "workflows reloaded",
        workflows=sorted(workflows.by_name),
        overlays=sorted(workflows.overlays),
    )
    return True
