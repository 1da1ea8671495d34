"""What the process has imported from which ``forked`` forks commands; imported by it alone.

Nothing of pytest is here, and nothing that starts gRPC, which could not be forked then.
"""

import contextlib
import gc
import io

import taskloom_experiments.agents
import taskloom_experiments.commands
import taskloom_experiments.load.commotion_process
import taskloom_experiments.load.generator
import taskloom_experiments.load.server
import taskloom_experiments.load.store_process
import taskloom_experiments.load.waiting_agents
import taskloom_experiments.step_commands  # noqa: F401 - for scripts
import taskloom_server.main  # noqa: F401 - for the commands that need it
from taskloom_client.cli import app

from tests import forked  # noqa: F401 - what a child runs first

# Typer imports half of what it needs when there is a command line to be read.
with contextlib.redirect_stdout(io.StringIO()):
    app(["status", "--help"], standalone_mode=False)
gc.collect()
gc.freeze()  # so that no child looks at, and so copies, what was there before it
