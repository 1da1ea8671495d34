"""The runs of a definition, checked: who takes part in each, how they work, who coordinates them.

All times are simulated seconds, which a run divides by its speed as it does with estimates.
"""

from collections.abc import Mapping
from typing import Annotated, Any

from pydantic import Field, model_validator

from taskloom_experiments import decomposing
from taskloom_experiments.behaviour import Behaviour
from taskloom_experiments.coordinating import Costs
from taskloom_experiments.definition_parts import Part
from taskloom_experiments.modes import COORDINATED, COORDINATING_TAGS, Mode
from taskloom_experiments.pulls import ASSIGNED, DEFAULT_SERVER_PULL, PULLS, Pull

_Name = Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]{0,99}$")]
_Seconds = Annotated[float, Field(ge=0, allow_inf_nan=False)]
_Count = Annotated[int, Field(ge=1)]
_MaxClaims = Annotated[int, Field(ge=1, le=1_000)]  # as of Connect

MOST_AGENTS = 10_000
"""In a run: each is a process, or a small part of a simulation."""

_Agents = Annotated[int, Field(ge=1, le=MOST_AGENTS)]
_Tags = Annotated[tuple[str, ...], Field(strict=False)]

COORDINATOR = "coordinator"
"""The id of the worker that hands out tasks, in push and in hybrid."""


class AgentConfig(Part):
    """How agents connect, and how they work; an absent workflow is the definition's.

    ``tags`` are what they are skilled in. ``max_claims`` absent: 1, and in hybrid what
    the coordinator gives at once and a part. ``lease_s``: how long a task stays with an agent that
    crashed, never less than a real second; absent: 30 real seconds. The others are those of
    ``Behaviour``.
    """

    workflow: str | None = None
    tags: _Tags = ()
    max_claims: _MaxClaims | None = None
    lease_s: Annotated[float, Field(gt=0, allow_inf_nan=False)] | None = None
    speed: Annotated[float, Field(gt=0, allow_inf_nan=False)] = 1.0
    failure_rate: Annotated[float, Field(ge=0, le=1)] = 0.0
    crash_at: _Seconds | None = None
    crash_rate: _Seconds = 0.0
    restart_after: _Seconds | None = None
    slow_response_s: _Seconds = 0.0

    @property
    def behaviour(self) -> Behaviour:
        """How they work."""
        return Behaviour(
            speed=self.speed,
            failure_rate=self.failure_rate,
            crash_at=self.crash_at,
            crash_rate=self.crash_rate,
            restart_after=self.restart_after,
            slow_response_s=self.slow_response_s,
        )

    @model_validator(mode="after")
    def _restarts_after_something(self) -> "AgentConfig":
        if self.restart_after is not None and self.crash_at is None and not self.crash_rate:
            raise ValueError(
                "has restart_after and never crashes; give it crash_at or crash_rate, too"
            )
        return self


class AgentGroup(AgentConfig):
    """So many agents that are alike; their ids are the group's name and a number."""

    name: _Name
    count: _Agents = 1


class Coordinator(Part):
    """Who hands out the tasks, and what that costs.

    It works in rounds. It looks at what is ready and who is free, which takes ``notice_s``; it
    decides about up to ``batch`` tasks, at ``decision_s`` each; then it hands these out. Whatever
    happens meanwhile it sees in the next round. A decision costs ``tokens_in`` and ``tokens_out``.
    ``max_backlog`` is how many tasks an agent may have before it at once, the one that it works
    among them: with 1 an agent that is done waits for the coordinator, with 2 there is one in
    store.
    """

    workflow: str | None = None
    tags: _Tags = tuple(sorted(COORDINATING_TAGS))
    decision_s: _Seconds = 0.0
    notice_s: _Seconds = 0.0
    batch: _Count = 1
    tokens_in: Annotated[int, Field(ge=0)] = 0
    tokens_out: Annotated[int, Field(ge=0)] = 0
    max_backlog: _Count = 1

    @property
    def costs(self) -> Costs:
        """What its decisions cost."""
        return Costs(**self.model_dump(exclude={"workflow", "tags"}))


class Decomposition(Part):
    """How an agent of a hybrid run decomposes what it was assigned, and what that costs.

    Into ``parts`` that are independent and as long as the task all together; deciding on them takes
    ``decision_s``, ``tokens_in`` and ``tokens_out``. With 1 nothing is decomposed. Without ``help``
    nobody works parts but those of the task that is assigned to it.
    """

    parts: Annotated[int, Field(ge=1, le=1_000)] = 3
    decision_s: _Seconds = 0.0
    tokens_in: Annotated[int, Field(ge=0)] = 0
    tokens_out: Annotated[int, Field(ge=0)] = 0
    help: bool = True


class PlannedRun(Part):
    """One run to make. Its name is also the name of its folder.

    Who works is said by ``agents`` and ``agent_config``, all alike, or by ``groups``; ``agents`` is
    how many there are, whichever way. The coordinator comes on top. ``pull`` fixes how agents get
    tasks that nobody assigns; absent, a run of the mode pull is made by every way that is asked
    for, and in the others agents let the server choose.
    """

    name: _Name
    description: str = ""
    mode: Mode = "pull"
    pull: Pull | None = None
    agents: _Agents
    agent_config: AgentConfig = AgentConfig()
    groups: Annotated[tuple[AgentGroup, ...], Field(strict=False)] = ()
    coordinator: Coordinator | None = None
    decomposition: Decomposition | None = None

    @property
    def fleet(self) -> tuple[AgentGroup, ...]:
        """Who works: the groups, or the one group of agents that are all alike."""
        if self.groups:
            return self.groups
        return (AgentGroup(name="agent", count=self.agents, **self.agent_config.model_dump()),)

    @property
    def fixed_pull(self) -> Pull | None:
        """How agents get their tasks, where there is no choice; None where there is."""
        if self.mode in COORDINATED:
            return ASSIGNED
        return self.pull or (None if self.mode == "pull" else DEFAULT_SERVER_PULL)

    @property
    def least_claims(self) -> int:
        """How many claims an agent needs, for without one for a part it would wait for ever."""
        if self.mode != "hybrid" or self.coordinator is None:
            return 1
        return self.coordinator.max_backlog + 1

    @property
    def parts(self) -> decomposing.Decomposition:
        """How its agents decompose their tasks; by default, where they do."""
        chosen = self.decomposition or Decomposition()
        return decomposing.Decomposition(**chosen.model_dump())

    @model_validator(mode="before")
    @classmethod
    def _has_agents(cls, content: Any) -> Any:
        if not isinstance(content, Mapping) or "agents" in content:
            return content
        groups = content.get("groups")
        if "groups" not in content and "coordinator" not in content:
            return content  # refused for want of agents, beside whatever stands in their place
        if not groups:
            whom = "a coordinator and " if content.get("coordinator") else ""
            raise ValueError(f"has {whom}nobody who works; give it agents or groups")
        if (agents := _counted(groups)) > MOST_AGENTS:
            raise ValueError(f"has {agents} agents in its groups; write {MOST_AGENTS} or less")
        return {**content, "agents": agents}

    @model_validator(mode="after")
    def _fits_its_mode(self) -> "PlannedRun":
        if self.groups:
            self._check_groups()
        if self.mode in COORDINATED and self.coordinator is None:
            raise ValueError(
                f"is {self.mode} and has nobody to hand out tasks; give it a coordinator"
            )
        if self.mode not in COORDINATED and self.coordinator is not None:
            raise ValueError(
                f"is {self.mode}, where nobody hands out tasks; leave the coordinator out, or "
                "write mode: push"
            )
        if self.mode != "hybrid" and self.decomposition is not None:
            raise ValueError(
                f"is {self.mode}, where nothing is decomposed; leave decomposition out, or write "
                "mode: hybrid"
            )
        if self.pull is not None and self.mode in COORDINATED:
            raise ValueError(
                f"is {self.mode}, where agents do not choose how to pull; leave it out"
            )
        if self.pull is not None and self.pull not in PULLS:
            known = ", ".join(PULLS)
            raise ValueError(f"has pull '{self.pull}', which there is not; there are {known}")
        least = self.least_claims
        for few in (group.max_claims for group in self.fleet if group.max_claims is not None):
            if self.mode == "hybrid" and few < least:
                raise ValueError(
                    f"is hybrid with a max_claims of {few}; write {least} or more, for the tasks "
                    "that an agent is given at once (max_backlog) and a part of one"
                )
        return self

    def _check_groups(self) -> None:
        if self.agent_config != AgentConfig():
            raise ValueError("has both groups and agent_config; say it in the groups")
        if self.agents != (together := sum(group.count for group in self.groups)):
            raise ValueError(
                f"has {self.agents} agents, and {together} in its groups; leave agents out"
            )
        names = [group.name.casefold() for group in self.groups]
        if twice := [name for index, name in enumerate(names) if name in names[:index]]:
            raise ValueError(f"has two groups named '{twice[0]}'; rename one of them")
        if COORDINATOR in names and self.coordinator:
            raise ValueError(f"has a group named '{COORDINATOR}', which is the coordinator's id")


def _counted(groups: Any) -> int:
    """How many agents are in groups that are yet to be checked; what is wrong counts as none."""
    try:
        counts = [group.get("count", 1) for group in groups]
        fit = (n for n in counts if isinstance(n, int) and 1 <= n <= MOST_AGENTS)
        return max(1, sum(fit))
    except (TypeError, AttributeError):
        return 1
