"""YAML with its lines: plain values, and where in the file each of them stands."""

import functools
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import yaml

_MAX_BYTES = 1 << 20
_MAX_VALUES = 50_000  # aliases can make a large file of a small one
_MAX_DEPTH = 20
_LONGEST_SHOWN = 40
# What a file holds is made of it once, as long as it says the same: for all of the shipped ones it
# takes 100 ms, which else each reload and each simulated run would take again.
once_a_text = functools.lru_cache(maxsize=64)

Place = tuple[str | int, ...]


class WorkflowFileError(Exception):
    """A workflow file cannot be used; ``str()`` says which, where in it, why, and what to do."""

    def __init__(self, path: Path, problem: str, line: int | None = None, field: str = "") -> None:
        """``line``: counted from 1; None where it is about the file as a whole."""
        place = f"{path}:{line}" if line else f"{path}"
        super().__init__(": ".join(filter(None, (place, field, problem))))
        self.path = path
        self.line = line
        self.field = field
        self.problem = problem


class Marked:
    """What stands in a YAML file, and where."""

    def __init__(self, path: Path, root: yaml.Node) -> None:
        """Raises WorkflowFileError."""
        self.path = path
        self._keys: dict[Place, int] = {}  # the line of the key, or of the entry of a list
        self._nodes: dict[Place, yaml.Node] = {}
        self._constructor = yaml.constructor.SafeConstructor()
        self.data: Any = self._read(root, ())

    def error(self, place: Sequence[str | int], problem: str, line: int = 0) -> WorkflowFileError:
        """What is wrong at a place; ``line``: the one within the text that stands there."""
        place = tuple(place)
        field = ".".join(map(str, place))
        while place and place not in self._keys:
            place = place[:-1]
        at = self._keys.get(place, 1)
        node = self._nodes.get(place)
        # Only in a literal text are lines those of the file; a folded one has others.
        if line and isinstance(node, yaml.ScalarNode) and node.style == "|":
            at = node.start_mark.line + 1 + line
        return WorkflowFileError(self.path, problem, at, field)

    def _read(self, node: yaml.Node, place: Place) -> Any:
        self._nodes[place] = node
        self._keys.setdefault(place, node.start_mark.line + 1)
        if len(self._nodes) > _MAX_VALUES or len(place) > _MAX_DEPTH:
            raise self.error((), "has more in it than a workflow can have; do without aliases")
        if isinstance(node, yaml.MappingNode) and node.tag == "tag:yaml.org,2002:map":
            return self._read_mapping(node, place)
        if isinstance(node, yaml.SequenceNode) and node.tag == "tag:yaml.org,2002:seq":
            return [self._read(each, (*place, n)) for n, each in enumerate(node.value)]
        if not isinstance(node, yaml.ScalarNode):
            raise self.error(place, f"is a {node.tag}, which means nothing here; take the tag out")
        try:
            return self._constructor.construct_object(node)
        except (yaml.YAMLError, ValueError) as error:
            problem = getattr(error, "problem", None) or str(error)
            raise self.error(place, f"cannot be read: {problem}") from error

    def _read_mapping(self, node: yaml.MappingNode, place: Place) -> dict[str, Any]:
        values: dict[str, Any] = {}
        for key_node, value_node in node.value:
            line = key_node.start_mark.line + 1
            field = ".".join(map(str, place))
            if not isinstance(key_node, yaml.ScalarNode):
                raise WorkflowFileError(self.path, "a key must be a string", line, field)
            key: str = key_node.value
            if key_node.tag not in ("tag:yaml.org,2002:str", "tag:yaml.org,2002:merge"):
                raise WorkflowFileError(
                    self.path,
                    f"the key {key!r} is not a string to YAML; put it into quotes",
                    line,
                    field,
                )
            here = (*place, key)
            if key in values:
                raise WorkflowFileError(
                    self.path,
                    f"is there twice, first in line {self._keys[here]}; drop one of both",
                    line,
                    ".".join(map(str, here)),
                )
            self._keys[here] = line
            values[key] = self._read(value_node, here)
        return values


def read_yaml(path: Path) -> Marked:
    """What stands in a YAML file. Raises WorkflowFileError."""
    try:
        contents = path.read_bytes()
        if len(contents) > _MAX_BYTES:
            raise WorkflowFileError(path, f"is larger than {_MAX_BYTES >> 10} KiB; is it the file?")
        text = contents.decode("utf-8")
    except OSError as error:
        raise WorkflowFileError(path, error.strerror or str(error)) from error
    except UnicodeDecodeError as error:
        line = contents.count(b"\n", 0, error.start) + 1
        raise WorkflowFileError(
            path, f"is not utf-8: {error.reason}; save it as that", line
        ) from error
    return _marked(path, text)


@once_a_text
def _marked(path: Path, text: str) -> Marked:
    try:
        root = yaml.compose(text, Loader=yaml.SafeLoader)
    except yaml.reader.ReaderError as error:
        line = text.count("\n", 0, error.position) + 1
        raise WorkflowFileError(path, "has a character that YAML does not allow", line) from error
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        said = "; ".join(filter(None, (error.context, error.problem)))
        problem = f"is not YAML: {' '.join(said.split())}"
        raise WorkflowFileError(path, problem, mark.line + 1 if mark else None) from error
    except (yaml.YAMLError, RecursionError) as error:
        raise WorkflowFileError(path, f"is not YAML: {' '.join(str(error).split())}") from error
    if root is None:
        raise WorkflowFileError(path, "is empty; a mapping with `name` and more is expected", 1)
    return Marked(path, root)


def shown(value: object) -> str:
    """A value as an error may quote it."""
    match value:
        case None:
            return "empty"
        case bool():
            return str(value).lower()
        case dict():
            return "a mapping"
        case list():
            return "a list"
    text = repr(value)
    return text if len(text) <= _LONGEST_SHOWN else text[:_LONGEST_SHOWN] + "…"
