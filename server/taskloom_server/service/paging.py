"""Page tokens: opaque, and good only for the query that they came from."""

import base64
import binascii
import hashlib
import json
import math
from typing import Any

from google.protobuf.message import Message

from taskloom_server.graph.errors import InvalidField

DEFAULT_SIZE = 50
MAX_SIZE = 1_000


def page_size(request: Any) -> int:
    """How many entries to show. Raises InvalidField for a negative number."""
    size: int = request.page_size
    if size < 0:
        raise InvalidField("page_size", "must not be negative")
    return min(size or DEFAULT_SIZE, MAX_SIZE)


def _digest(request: Message) -> str:
    """Of all that must be equal from page to page."""
    query = type(request)()
    query.CopyFrom(request)
    query.ClearField("page_token")
    query.ClearField("page_size")
    name = query.DESCRIPTOR.name.encode()
    text = name + query.SerializeToString(deterministic=True)
    return hashlib.blake2b(text, digest_size=8).hexdigest()


def write_token(request: Message, place: tuple[Any, ...] | None) -> str:
    """The token with which the next page goes on from ``place``; empty for None."""
    if place is None:
        return ""
    text = json.dumps([_digest(request), place], separators=(",", ":"))
    return base64.urlsafe_b64encode(text.encode()).decode().rstrip("=")


def read_token(request: Any, *form: type) -> tuple[Any, ...] | None:
    """The place that the request's token tells, of these types; None for the first page.

    Raises InvalidField for a token that is damaged or of another query.
    """
    token: str = request.page_token
    if not token:
        return None
    try:
        text = base64.urlsafe_b64decode(token + "=" * (-len(token) % 4))
        digest, place = json.loads(text)
    except (binascii.Error, ValueError, TypeError, RecursionError) as error:
        raise InvalidField("page_token", "is not a token of this server") from error
    if digest != _digest(request):
        raise InvalidField(
            "page_token", "is of another query; repeat the request that it came from"
        )
    if (
        not isinstance(place, list)
        or tuple(map(type, place)) != form
        or not all(map(_is_storable, place))
    ):
        raise InvalidField("page_token", "is not a token of this server")
    return tuple(place)


def _is_storable(part: Any) -> bool:
    """Whether the database can hold it: JSON knows larger numbers, and halves of characters."""
    if isinstance(part, float):
        return math.isfinite(part)
    if isinstance(part, int):
        return -(2**63) <= part < 2**63
    return not any("\ud800" <= character <= "\udfff" for character in str(part))
