"""Experiment definitions: what to run, what to measure, and what would be a success.

A definition is a YAML file. What taskloom uses of it is checked strictly when it is loaded, before
anything is started; what is written for people (topology, protocol, execution, expectations) may
say anything. Nothing here runs, measures or draws, and nothing is asked of a server or a database:
whether there is such a workflow and whether a query can be answered is in ``preflight``.
"""

import difflib
from collections.abc import Hashable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import yaml
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from taskloom_experiments.catalogue import is_known_name
from taskloom_experiments.definition_parts import (
    DEFAULT_COSTS,
    KNOWN_CHARTS,
    CallCosts,
    Chart,
    ChartKind,
    Criterion,
    Measurement,
    Part,
)
from taskloom_experiments.errors import ExperimentError
from taskloom_experiments.planned_runs import MOST_AGENTS, AgentConfig, PlannedRun


class DefinitionError(ExperimentError):
    """A definition cannot be used: one sentence with the file, the field, and what to do."""


class _Header(BaseModel):
    model_config = ConfigDict(extra="ignore", frozen=True, strict=True)
    name: Annotated[str, Field(min_length=1)]
    description: str = ""


class _Group(Part):
    description: str = ""
    measurements: list[Measurement]


class _Analysis(BaseModel):
    model_config = ConfigDict(extra="ignore", frozen=True, strict=True)
    key_charts: list[Chart] | None = None


class _Document(BaseModel):
    """The file's shape. Other keys at the top are for people, unless they look like a slip."""

    model_config = ConfigDict(extra="ignore", frozen=True, strict=True)
    experiment: _Header
    workflow: Annotated[str, Field(min_length=1)]
    runs: Annotated[list[PlannedRun], Field(min_length=1)]
    template: Annotated[str, Field(min_length=1)]
    metrics: dict[str, _Group] = {}
    success_criteria: list[Criterion] = []
    analysis: _Analysis = _Analysis()
    simulation: CallCosts = DEFAULT_COSTS


@dataclass(frozen=True)
class Definition:
    """An experiment, checked and ready to run.

    ``template`` is the file that was found; None where there is nothing to run, only to compare.
    ``source`` is the definition's own file, None for one made from the command line. ``warnings``
    are sentences about what loads but will have no result. ``simulation`` is what calls cost where
    the runs are simulated.
    """

    name: str
    description: str
    workflow: str
    runs: tuple[PlannedRun, ...]
    template: Path | None
    measurements: tuple[Measurement, ...]
    success_criteria: tuple[Criterion, ...]
    charts: tuple[ChartKind, ...]
    source: Path | None = None
    warnings: tuple[str, ...] = ()
    simulation: CallCosts = DEFAULT_COSTS


def load_definition(path: Path) -> Definition:
    """Read a definition. Raises DefinitionError, one sentence that says what to do."""
    document = _check(path, _read_yaml(path))
    measurements = tuple(
        measurement.model_copy(update={"group": group})
        for group, part in document.metrics.items()
        for measurement in part.measurements
    )
    charts = document.analysis.key_charts
    kinds = tuple(KNOWN_CHARTS) if charts is None else tuple(chart.kind for chart in charts)
    for field, names in (
        ("runs", [run.name.casefold() for run in document.runs]),
        ("metrics", [measurement.name for measurement in measurements]),
        ("success_criteria", [criterion.name for criterion in document.success_criteria]),
        ("analysis.key_charts", kinds),
    ):
        if twice := [name for index, name in enumerate(names) if name in names[:index]]:
            raise DefinitionError(f"{path}: {field}: '{twice[0]}' stands twice; rename one of them")
    return Definition(
        simulation=document.simulation,
        name=document.experiment.name,
        description=document.experiment.description.strip(),
        workflow=document.workflow,
        runs=tuple(document.runs),
        template=_find_template(document.template, path),
        measurements=measurements,
        success_criteria=tuple(document.success_criteria),
        charts=kinds,
        source=path,
        warnings=tuple(_warnings(path, measurements, document.success_criteria)),
    )


def plain_definition(template: Path, workflow: str, agents: int) -> Definition:
    """One run from the plain command line: ``--template``, ``--workflow`` and ``--agents``.

    It measures everything that taskloom computes, and asks for one thing only: that all tasks end.
    Raises DefinitionError.
    """
    if agents < 1:
        raise DefinitionError(f"--agents is {agents}; give the run one agent or more")
    if agents > MOST_AGENTS:
        raise DefinitionError(f"--agents is {agents}; give the run {MOST_AGENTS} agents at most")
    if not template.is_file():
        raise DefinitionError(f"--template {template}: there is no such file; name a template")
    return Definition(
        name=template.name.removesuffix(".gz").removesuffix(".json"),
        description="",
        workflow=workflow,
        runs=(PlannedRun(name=f"pull-{agents}", agents=agents, agent_config=AgentConfig()),),
        template=template.resolve(),
        measurements=_PLAIN_MEASUREMENTS,
        success_criteria=_PLAIN_CRITERIA,
        charts=tuple(KNOWN_CHARTS),
    )


def definition_for_comparison() -> Definition:
    """What ``compare`` measures where nobody gives it a definition: as ``plain_definition``."""
    return Definition(
        name="comparison",
        description="",
        workflow="",
        runs=(),
        template=None,
        measurements=_PLAIN_MEASUREMENTS,
        success_criteria=_PLAIN_CRITERIA,
        charts=tuple(KNOWN_CHARTS),
    )


_PLAIN_MEASUREMENTS = tuple(
    Measurement(name=name, group=group)
    for group, names in {
        "contention": "claim_success_rate claim_retry_count queue_wait_time",
        "distribution": "coefficient_of_variation gini_coefficient time_per_agent idle_time_ratio",
        "throughput": "tasks_per_hour throughput_per_agent scaling_efficiency",
        "coordination": "blocking_ratio file_contention rework_rate",
    }.items()
    for name in names.split()
)
_PLAIN_CRITERIA = (
    Criterion(
        name="all_tasks_complete",
        description="No task is left to do, and none failed",
        condition="pending_count == 0 AND assigned_count == 0 AND working_count == 0 "
        "AND failed_count == 0",
        required=True,
    ),
)


class _UniqueKeys(yaml.SafeLoader):
    """YAML that refuses a key given twice, of which the first would vanish silently."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Hashable, Any]:
        seen = set()
        for key_node, _ in node.value:
            key = self.construct_object(key_node, deep=True)
            if not isinstance(key, Hashable):
                continue  # refused below, with the line
            if key in seen:
                raise yaml.MarkedYAMLError(
                    problem=f"the key '{key}' stands twice", problem_mark=key_node.start_mark
                )
            seen.add(key)
        return super().construct_mapping(node, deep)


def _read_yaml(path: Path) -> Mapping[Any, Any]:
    try:
        content = yaml.load(path.read_text(encoding="utf-8"), Loader=_UniqueKeys)
    except OSError as error:
        raise DefinitionError(
            f"{path}: cannot be read ({error.strerror}); name an experiment definition"
        ) from error
    except (UnicodeDecodeError, yaml.reader.ReaderError) as error:
        raise DefinitionError(f"{path}: is not text; save it as YAML in UTF-8") from error
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        line = f"line {mark.line + 1}: " if mark else ""
        problem = getattr(error, "problem", None) or "it cannot be parsed"
        raise DefinitionError(f"{path}: {line}is not valid YAML: {problem}; correct it") from error
    except RecursionError as error:
        raise DefinitionError(f"{path}: is nested too deeply; make it flat") from error
    if not isinstance(content, Mapping):
        what = "is empty" if content is None else "holds no fields"
        raise DefinitionError(f"{path}: {what}; begin with 'experiment:', 'runs:', 'template:'")
    return content


def _check(path: Path, content: Mapping[Any, Any]) -> _Document:
    used = list(_Document.model_fields)
    for key in content:
        if key not in used and (close := difflib.get_close_matches(str(key), used, cutoff=0.8)):
            raise DefinitionError(f"{path}: {key}: is not known; did you mean '{close[0]}'?")
    try:
        return _Document.model_validate(content)
    except ValidationError as error:
        errors = error.errors(include_url=False)
        first = errors[0]
        others = f" (and {len(errors) - 1} more)" if len(errors) > 1 else ""
        field = _field(first["loc"])
        raise DefinitionError(f"{path}: {field}: {_what_to_do(first)}{others}") from error


def _field(location: tuple[int | str, ...]) -> str:
    path = ""
    for part in location:
        path += f"[{part}]" if isinstance(part, int) else f".{part}" if path else part
    return path


def _what_to_do(error: Mapping[str, Any]) -> str:
    given, context = error["input"], error.get("ctx", {})
    text = str(error["msg"])
    otherwise = f"{text[:1].lower()}{text[1:]}; it is {given!r:.60}"
    return {
        "missing": "is missing; add it",
        "extra_forbidden": "is not known here; correct its name or leave it out",
        "greater_than_equal": f"is {given}; write {_plain(context.get('ge'))} or more",
        "less_than_equal": f"is {given}; write {_plain(context.get('le'))} or less",
        "greater_than": f"is {given}; write more than {_plain(context.get('gt'))}",
        "finite_number": f"is {given}; write a number",
        "literal_error": f"is '{given}'; write {context.get('expected')}",
        "too_short": "is empty; fill it in",
        "string_too_short": "is empty; fill it in",
        "string_pattern_mismatch": (
            f"'{given}' cannot be a folder's name; use letters, digits, '.', '_' and '-'"
        ),
        "value_error": str(context.get("error")),
    }.get(error["type"], otherwise)


def _plain(bound: object) -> object:
    return f"{bound:g}" if isinstance(bound, float) else bound


def _find_template(template: str, path: Path) -> Path:
    """The template against the definition's folder, the folders above it, the current one."""
    folder = path.resolve().parent
    for place in (folder, *folder.parents, Path.cwd()):
        if (place / template).is_file():
            return (place / template).resolve()
    raise DefinitionError(
        f"{path}: template: there is no {template} in {folder}, in a folder above it, or in "
        f"{Path.cwd()}; correct the path or start where it leads"
    )


def _warnings(
    path: Path, measurements: tuple[Measurement, ...], criteria: list[Criterion]
) -> list[str]:
    queried = {measurement.name for measurement in measurements if measurement.query}
    unknown = [
        f"{path}: metrics.{one.group}: taskloom knows no derivation named {one.name}; the report "
        "will show it as not measured."
        for one in measurements
        if not (one.query or one.metric or one.is_series)
    ]
    # A query's columns are figures, too, and are known only when it has been run.
    unknown += [
        f"{path}: success_criteria: {criterion.name} names {name}, which taskloom does not compute;"
        " unless a query returns it, the report will say 'cannot tell'."
        for criterion in criteria
        for name in sorted(criterion.parsed().names)
        if not is_known_name(name) and name not in queried
    ]
    return unknown
