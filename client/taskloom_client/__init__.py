"""The Python client of taskloom: typed calls, streams that resume, agents.

    from taskloom import v1
    from taskloom_client import Agent, Client

Needs grpcio, grpcio-status and protobuf, and nothing else but the command line's ``cli``.
"""

from taskloom_client.agent import PULLS, Agent
from taskloom_client.client import DEFAULT_TARGET, Client
from taskloom_client.counters import Counters
from taskloom_client.errors import (
    ClaimLost,
    FieldViolation,
    HistoryLost,
    NotFound,
    PreconditionViolation,
    Resource,
    TaskClaimed,
    TaskloomError,
    Unavailable,
    WorkerNotFound,
)
from taskloom_client.held_task import HeldTask
from taskloom_client.pull import Pull, Pulled, pull_next, pull_poll
from taskloom_client.pull_stream import PullStream
from taskloom_client.pull_watch import PullWatch
from taskloom_client.transfers import Download
from taskloom_client.watch import Watch
from taskloom_client.work import Work

__all__ = [
    "DEFAULT_TARGET",
    "PULLS",
    "Agent",
    "ClaimLost",
    "Client",
    "Counters",
    "Download",
    "FieldViolation",
    "HeldTask",
    "HistoryLost",
    "NotFound",
    "PreconditionViolation",
    "Pull",
    "PullStream",
    "PullWatch",
    "Pulled",
    "Resource",
    "TaskClaimed",
    "TaskloomError",
    "Unavailable",
    "Watch",
    "Work",
    "WorkerNotFound",
    "pull_next",
    "pull_poll",
]
