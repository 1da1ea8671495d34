"""The ways of pulling: those of the client, in the order in which runs are made and shown.

Nothing else is imported here: agents, of which many start at once, need it.
"""

import taskloom_client

Pull = str
"""A way of pulling: a name in the client's ``PULLS``."""

_FROM_MOST_CALLS_TO_FEWEST = ("poll", "watch", "next", "stream")

PULLS: tuple[Pull, ...] = tuple(
    sorted(
        taskloom_client.PULLS,
        key=lambda pull: (*_FROM_MOST_CALLS_TO_FEWEST, pull).index(pull),
    )
)

DEFAULT_PULL: Pull = "poll"
"""Of a template from the plain command line: the protocol of the reference."""

DEFAULT_SERVER_PULL: Pull = "next"
"""Of agents that pull beside being assigned tasks, and of specialists."""

ASSIGNED: Pull = "assigned"
"""No way of pulling: waiting for what somebody assigns. Of agents in push and hybrid."""

SERVER_CHOOSES = frozenset({"next", "stream"})
"""By these no claim is refused for being late, and what they are measured by decides."""

AGENTS_CHOOSE = frozenset(PULLS) - SERVER_CHOOSES
"""By these agents get in each other's way; what they are measured by decides where nothing else is
measured."""
