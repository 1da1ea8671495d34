"""Workflow files and overlay files: reading them, and saying what is wrong with one, and where."""

from taskloom_server.workflow_files.loading import (
    SHIPPED,
    check_file,
    load_workflows,
)
from taskloom_server.workflow_files.marked_yaml import WorkflowFileError
from taskloom_server.workflow_files.overlay_file import read_overlay
from taskloom_server.workflow_files.workflow_file import read_workflow

__all__ = [
    "SHIPPED",
    "WorkflowFileError",
    "check_file",
    "load_workflows",
    "read_overlay",
    "read_workflow",
]
