"""JSON in text columns: tags, and the images in events."""

from collections.abc import Iterable
from functools import lru_cache
from typing import Any

import orjson


@lru_cache(maxsize=4096)
def read_tags(text: str) -> tuple[str, ...]:
    """A JSON array of strings. The same few texts come again and again, hence the cache."""
    return tuple(orjson.loads(text))


@lru_cache(maxsize=4096)
def _write(tags: tuple[str, ...]) -> str:
    return orjson.dumps(tags).decode()


def write_tags(tags: Iterable[str]) -> str:
    """Tags as a JSON array, sorted and each once, so that equal sets are equal texts."""
    return _write(tuple(sorted(set(tags))))


def write(value: Any) -> str:
    """Any plain value as JSON."""
    return orjson.dumps(value).decode()


def read(text: str) -> Any:
    """The value of a JSON text."""
    return orjson.loads(text)
