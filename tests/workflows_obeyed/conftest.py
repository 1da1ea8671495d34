"""A server whose default workflow is the test's own."""

from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from typing import TYPE_CHECKING, Any, TypeAlias

import pytest
from taskloom_client import Client
from taskloom_server import server as server_module
from taskloom_server.graph.workflows import Workflow, Workflows

from tests.workflows_obeyed.boards import SWARM

if TYPE_CHECKING:
    from tests.conftest import Server, TestClock

Serving: TypeAlias = Callable[..., AbstractAsyncContextManager[Client]]


@pytest.fixture
def serve(
    start_server: Callable[..., Any], clock: "TestClock", monkeypatch: pytest.MonkeyPatch
) -> Serving:
    """``async with serve(workflow, …) as client``: the first is the default one.

    A server by the test's clock, on the test's file.
    """

    @asynccontextmanager
    async def start(*workflows: Workflow) -> AsyncIterator[Client]:
        by_name = {workflow.name: workflow for workflow in (*workflows, SWARM)}
        loaded = Workflows(by_name, workflows[0].name)
        monkeypatch.setattr(server_module, "load_workflows", lambda *_: loaded)
        running: Server
        async with start_server(clock=clock) as running, Client(running.address) as client:
            yield client

    return start
