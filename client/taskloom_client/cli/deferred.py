"""Modules that are imported at their first use, under the names by which the commands know them.

gRPC and the generated code take longer to import than everything else that the CLI does before
it talks to a server: ``taskloom --help``, completion and a mistyped option need not wait for them.
"""

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from google.protobuf import duration_pb2, json_format, timestamp_pb2
    from taskloom import v1

    from taskloom_client import client, errors
else:
    from importlib import import_module

    class _Deferred:
        def __init__(self, name):
            self._name = name

        def __getattr__(self, attribute):
            return getattr(import_module(self._name), attribute)

    duration_pb2 = _Deferred("google.protobuf.duration_pb2")
    json_format = _Deferred("google.protobuf.json_format")
    timestamp_pb2 = _Deferred("google.protobuf.timestamp_pb2")
    v1 = _Deferred("taskloom.v1")
    client = _Deferred("taskloom_client.client")
    errors = _Deferred("taskloom_client.errors")

__all__ = ["client", "duration_pb2", "errors", "json_format", "timestamp_pb2", "v1"]
