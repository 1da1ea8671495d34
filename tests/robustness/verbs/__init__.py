"""What agents do: an action for each verb of the contract, and how often it is done.

A new verb is entered in the module of its kind, its answer judged in ``promises.answers`` or
``promises.answers_of_change``, and what it promises beyond that in a promise of its own.
"""

from tests.robustness.agents import Agent
from tests.robustness.verbs import beside, changes, choice, claims, files, graph
from tests.robustness.verbs.choice import BASE, DRY, Action, side_action

__all__ = ["BASE", "DRY", "beside", "changes", "files", "graph", "main_action", "side_action"]


def main_action(agent: Agent) -> Action:
    """The next thing that an agent does: who is not connected, connects."""
    if not agent.connected:
        return claims.connect
    return choice.main_action(agent, instead=claims.claim_next)
