"""Ids of requests: what they are made of, and their order."""

import time
import uuid

from taskloom_client.request_ids import new_request_id


def test_they_are_uuids_of_version_7_of_just_now() -> None:
    """Whatever the random bits are, version, variant and time are what they are to be."""
    before = time.time_ns() // 1_000_000
    ids = [uuid.UUID(new_request_id()) for _ in range(1_000)]
    after = time.time_ns() // 1_000_000
    assert {id.version for id in ids} == {7}
    assert {id.variant for id in ids} == {uuid.RFC_4122}
    assert all(before <= id.int >> 80 <= after for id in ids)
    assert len(set(ids)) == len(ids)


def test_their_order_is_that_of_time() -> None:
    """As texts, too: one of a later millisecond comes after all of an earlier one."""
    first = new_request_id()
    second = new_request_id()
    while second[:13] == first[:13]:
        second = new_request_id()
    assert first < second
