"""What the templates promise to those who run experiments on them.

They are read as files here. That a server imports them is tested where importing is.
"""

import json
from collections import Counter, defaultdict
from collections.abc import Iterable
from graphlib import TopologicalSorter
from pathlib import Path
from typing import Any

import pytest
import yaml

EXPERIMENTS = Path(__file__).parents[2] / "experiments"
TEMPLATES = sorted((EXPERIMENTS / "templates").glob("*.json"))

MINUTE_MS = 60_000
PHASES = ["explore", "design", "implement", "test"]
SPECIALISTS = [{"explorer"}, {"architect"}, {"implementer"}, {"tester"}]

Row = dict[str, Any]
Tables = dict[str, list[Row]]


def read(name: str) -> Tables:
    """The tables of one template."""
    text = (EXPERIMENTS / "templates" / name).read_text(encoding="utf-8")
    tables: Tables = json.loads(text)["tables"]
    return tables


@pytest.fixture(params=[file.name for file in TEMPLATES])
def tables(request: pytest.FixtureRequest) -> Tables:
    """The tables of each template in turn."""
    return read(request.param)


@pytest.fixture
def parallel() -> Tables:
    """The tables of the template whose tasks are independent."""
    return read("browser-parallel.json")


@pytest.fixture
def phased() -> Tables:
    """The tables of the template whose components go through phases."""
    return read("browser-phased.json")


def edges(tables: Tables, *types: str) -> set[tuple[str, str]]:
    """The dependencies of these types, as (from, to)."""
    return {
        (row["from_task_id"], row["to_task_id"])
        for row in tables["dependencies"]
        if row["dep_type"] in types
    }


def by_id(tables: Tables) -> dict[str, Row]:
    """The task rows by their ids."""
    return {task["id"]: task for task in tables["tasks"]}


def root_of(tables: Tables) -> str:
    """The id of the only task that has no parent."""
    children = {child for _, child in edges(tables, "contains")}
    [root] = [task["id"] for task in tables["tasks"] if task["id"] not in children]
    return str(root)


def work_of(tables: Tables) -> list[Row]:
    """All tasks but the root."""
    root = root_of(tables)
    return [task for task in tables["tasks"] if task["id"] != root]


def waits_for(tables: Tables) -> dict[str, set[str]]:
    """What has to end before each task can end: its blockers, and a parent's children."""
    before: dict[str, set[str]] = {task["id"]: set() for task in tables["tasks"]}
    for blocker, blocked in edges(tables, "blocks", "follows"):
        before[blocked].add(blocker)
    for parent, child in edges(tables, "contains"):
        before[parent].add(child)
    return before


def critical_path_ms(tables: Tables) -> int:
    """How long the project takes, by its estimates, with more agents than tasks."""
    tasks, before = by_id(tables), waits_for(tables)
    end_ms: dict[str, int] = {}
    for task_id in TopologicalSorter(before).static_order():
        start_ms = max((end_ms[other] for other in before[task_id]), default=0)
        end_ms[task_id] = start_ms + (tasks[task_id]["time_estimate_ms"] or 0)
    return max(end_ms.values())


def may_take(tags: Iterable[str], task: Row) -> bool:
    """The rule of the design: all of the needed tags and, where there are any, a wanted one."""
    wanted = set(task["wanted_tags"])
    return set(task["needed_tags"]) <= set(tags) and (not wanted or not wanted.isdisjoint(tags))


def not_takeable(fleet: list[set[str]], tables: Tables) -> list[str]:
    """The tasks that no worker of a fleet, given by its workers' tags, may take."""
    return [
        task["id"] for task in work_of(tables) if not any(may_take(tags, task) for tags in fleet)
    ]


class TestEveryTemplate:
    """What holds for any template, whatever its project."""

    def test_both_are_there(self) -> None:
        """The parallel and the phased browser project are the templates."""
        assert [file.name for file in TEMPLATES] == ["browser-parallel.json", "browser-phased.json"]

    @pytest.mark.parametrize("file", TEMPLATES, ids=lambda file: file.name)
    def test_header(self, file: Path) -> None:
        """A template is a snapshot of schema 3 with all seven tables."""
        snapshot = json.loads(file.read_text(encoding="utf-8"))
        assert snapshot["schema_version"] == 3
        assert list(snapshot["tables"]) == [
            "tasks",
            "dependencies",
            "attachments",
            "task_tags",
            "task_needed_tags",
            "task_wanted_tags",
            "task_sequence",
        ]

    @pytest.mark.parametrize("file", TEMPLATES, ids=lambda file: file.name)
    def test_layout(self, file: Path) -> None:
        """A template is formatted as json.dumps does it with indent 2, and ends in one newline."""
        text = file.read_text(encoding="utf-8")
        assert text == json.dumps(json.loads(text), indent=2, ensure_ascii=False) + "\n"

    def test_ids_are_unique(self, tables: Tables) -> None:
        """No two tasks have the same id."""
        ids = Counter(task["id"] for task in tables["tasks"])
        assert [task_id for task_id, times in ids.items() if times > 1] == []

    def test_columns_are_alike(self, tables: Tables) -> None:
        """All tasks state the same columns, in the same order."""
        assert len({tuple(task) for task in tables["tasks"]}) == 1

    def test_tasks_are_to_be_done(self, tables: Tables) -> None:
        """Every task is pending and its priority is between 0 and 10."""
        assert {task["status"] for task in tables["tasks"]} == {"pending"}
        assert all(0 <= task["priority"] <= 10 for task in tables["tasks"])

    def test_tasks_tell_what_to_do(self, tables: Tables) -> None:
        """Every task has a title of its own, and a description that says when it is done."""
        assert len({task["title"] for task in tables["tasks"]}) == len(tables["tasks"])
        assert [
            task["id"]
            for task in tables["tasks"]
            if not ("Done when" in task["description"] or "is done when" in task["description"])
        ] == []

    def test_references_resolve(self, tables: Tables) -> None:
        """Every row that names a task names one that is there."""
        named = {
            value
            for table, rows in tables.items()
            for row in rows
            for column, value in row.items()
            if table != "tasks" and column.endswith("task_id")
        }
        assert named <= by_id(tables).keys()
        assert named

    def test_dependencies_are_unique(self, tables: Tables) -> None:
        """No dependency is listed twice and no two tasks block each other in two ways."""
        rows = [tuple(row.values()) for row in tables["dependencies"]]
        assert len(set(rows)) == len(rows)
        assert edges(tables, "blocks").isdisjoint(edges(tables, "follows"))

    def test_dependency_types(self, tables: Tables) -> None:
        """Templates use no dependencies but contains, blocks and follows."""
        assert {row["dep_type"] for row in tables["dependencies"]} <= {
            "contains",
            "blocks",
            "follows",
        }

    @pytest.mark.parametrize(
        ("table", "column"),
        [
            ("task_tags", "tags"),
            ("task_needed_tags", "needed_tags"),
            ("task_wanted_tags", "wanted_tags"),
        ],
    )
    def test_tag_tables_equal_the_lists(self, tables: Tables, table: str, column: str) -> None:
        """Each tag table holds exactly the tags that the tasks' own lists hold."""
        assert [(row["task_id"], row["tag"]) for row in tables[table]] == [
            (task["id"], tag) for task in tables["tasks"] for tag in task[column]
        ]

    @pytest.mark.parametrize("column", ["tags", "needed_tags", "wanted_tags"])
    def test_tags_are_sorted(self, tables: Tables, column: str) -> None:
        """A task's tags are sorted and none is listed twice."""
        assert all(task[column] == sorted(set(task[column])) for task in tables["tasks"])

    def test_graph_is_acyclic(self, tables: Tables) -> None:
        """Blocks, follows and contains together leave an order in which all tasks can end."""
        TopologicalSorter(waits_for(tables)).prepare()

    def test_tree(self, tables: Tables) -> None:
        """Every task but the one root has exactly one parent."""
        parents = Counter(child for _, child in edges(tables, "contains"))
        assert parents == Counter(task["id"] for task in work_of(tables))

    def test_root_is_no_work_of_its_own(self, tables: Tables) -> None:
        """The root has neither points nor an estimate: it ends when its children have."""
        root = by_id(tables)[root_of(tables)]
        assert (root["points"], root["time_estimate_ms"]) == (None, None)

    def test_estimates(self, tables: Tables) -> None:
        """All work is estimated, in points and at one minute to sixty."""
        for task in work_of(tables):
            assert MINUTE_MS <= task["time_estimate_ms"] <= 60 * MINUTE_MS, task["id"]
            assert task["points"] >= 1, task["id"]

    def test_estimates_are_skewed(self, tables: Tables) -> None:
        """Most tasks are shorter than the mean, as with real work, and few are alike."""
        estimates = [task["time_estimate_ms"] for task in work_of(tables)]
        mean = sum(estimates) / len(estimates)
        assert sum(estimate < mean for estimate in estimates) > len(estimates) / 2
        assert len(set(estimates)) > 24

    def test_larger_estimates_have_no_fewer_points(self, tables: Tables) -> None:
        """Points grow with the estimate, within each phase."""
        of_phase: dict[str, list[tuple[int, int]]] = defaultdict(list)
        for task in work_of(tables):
            of_phase[task["phase"]].append((task["time_estimate_ms"], task["points"]))
        for sizes in of_phase.values():
            points = [point for _, point in sorted(sizes)]
            assert points == sorted(points)


class TestParallel:
    """browser-parallel.json: all that slows agents down is each other."""

    def test_implementation_tasks_are_independent(self, parallel: Tables) -> None:
        """At least 24 implementation tasks lie under the root and wait for no other task."""
        root, before = root_of(parallel), waits_for(parallel)
        free = [
            task["id"]
            for task in parallel["tasks"]
            if task["phase"] == "implement"
            and not before[task["id"]]
            and (root, task["id"]) in edges(parallel, "contains")
        ]
        assert len(free) >= 24
        assert len(free) == len(parallel["tasks"]) - 2  # the root and the integration task

    def test_integration_task_is_behind_them_all(self, parallel: Tables) -> None:
        """One integration task is blocked by every implementation task, and nothing else is."""
        [integration] = [task["id"] for task in work_of(parallel) if task["phase"] == "integrate"]
        assert edges(parallel, "blocks", "follows") == {
            (task["id"], integration) for task in work_of(parallel) if task["phase"] == "implement"
        }

    def test_generalists_may_take_every_task(self, parallel: Tables) -> None:
        """The agents of every run of pure-pull are qualified for each task of its template."""
        file = EXPERIMENTS / "definitions" / "pure-pull.yaml"
        definition = yaml.safe_load(file.read_text(encoding="utf-8"))
        assert definition["template"] == "experiments/templates/browser-parallel.json"
        for run in definition["runs"]:
            tags = set(run["agent_config"]["tags"])
            assert tags == {"worker", "implementer", "code"}
            assert not_takeable([tags], parallel) == []

    def test_tags_make_a_difference(self, parallel: Tables) -> None:
        """A worker without tags is refused many of the tasks, so that the rules are exercised."""
        assert len(not_takeable([set()], parallel)) > len(parallel["tasks"]) / 2

    def test_eight_agents_find_work(self, parallel: Tables) -> None:
        """The longest chain is no longer than an eighth of the work: eight agents are of use."""
        total_ms = sum(task["time_estimate_ms"] for task in work_of(parallel))
        assert critical_path_ms(parallel) <= total_ms / 8


class TestPhased:
    """browser-phased.json: agents wait for phases, and for tasks that their tags allow."""

    def test_size(self, phased: Tables) -> None:
        """There are at least 40 tasks besides the root, in all four phases."""
        assert len(work_of(phased)) >= 40
        assert {task["phase"] for task in work_of(phased)} >= set(PHASES)

    def test_components_go_through_the_four_phases(self, phased: Tables) -> None:
        """At least ten components are explored, designed, implemented and tested in turn."""
        tasks, follows = by_id(phased), edges(phased, "follows")
        successor = dict(follows)
        assert len(successor) == len(follows) == len(set(successor.values()))
        starts = successor.keys() - set(successor.values())
        assert len(starts) >= 10
        for start in starts:
            chain = [start]
            while chain[-1] in successor:
                chain.append(successor[chain[-1]])
            assert [tasks[task_id]["phase"] for task_id in chain] == PHASES
            component = start.removesuffix("-explore")
            assert chain == [f"{component}-{phase}" for phase in PHASES]
            assert all(component in tasks[task_id]["tags"] for task_id in chain)

    def test_components_wait_for_each_other(self, phased: Tables) -> None:
        """Blocks go from component to component; the loader waits for the network."""
        blocks = edges(phased, "blocks")
        assert ("networking-implement", "loader-implement") in blocks
        assert all(one.rsplit("-", 1)[0] != other.rsplit("-", 1)[0] for one, other in blocks)

    def test_phases_need_specialists(self, phased: Tables) -> None:
        """Each phase of a component needs its own specialist."""
        in_chains = {task_id for edge in edges(phased, "follows") for task_id in edge}
        needed = {
            (task["phase"], *task["needed_tags"])
            for task in phased["tasks"]
            if task["id"] in in_chains
        }
        assert needed == {
            ("explore", "explorer"),
            ("design", "architect"),
            ("implement", "implementer"),
            ("test", "tester"),
        }

    def test_four_specialists_are_enough(self, phased: Tables) -> None:
        """Four specialists together may take every task, and no three of them may."""
        assert not_takeable(SPECIALISTS, phased) == []
        for one in SPECIALISTS:
            assert not_takeable([tags for tags in SPECIALISTS if tags != one], phased) != []

    def test_everything_leads_to_the_release(self, phased: Tables) -> None:
        """The release candidate waits, directly or not, for all other work."""
        before = waits_for(phased)
        reached: set[str] = set()
        ahead = ["release-candidate"]
        while ahead:
            new = before[ahead.pop()] - reached
            reached |= new
            ahead += new
        assert reached == {task["id"] for task in work_of(phased)} - {"release-candidate"}

    def test_specialists_work_at_the_same_time(self, phased: Tables) -> None:
        """The longest chain is shorter than a quarter of the work: four specialists are of use."""
        total_ms = sum(task["time_estimate_ms"] for task in work_of(phased))
        assert critical_path_ms(phased) < total_ms / 4
