"""Reflection, so that grpcurl and its like need no proto files."""

from collections.abc import Iterable
from typing import Any

from google.protobuf import descriptor_pool
from google.protobuf.descriptor import FileDescriptor
from grpc import aio
from grpc_reflection.v1alpha import reflection


class _Pool:
    """The pool of all descriptors, in which methods are found, too.

    The reflection protocol says that a symbol may be a method; Python's pool knows only what
    contains one, so ``grpcurl describe SERVICE.METHOD`` failed.
    """

    def __init__(self) -> None:
        self._pool = descriptor_pool.Default()

    def FindFileContainingSymbol(self, symbol: str) -> FileDescriptor:
        """The file that declares a symbol. Raises KeyError."""
        try:
            file: FileDescriptor = self._pool.FindFileContainingSymbol(symbol)
        except KeyError:
            service, _, method = symbol.rpartition(".")
            file = (
                self._pool.FindServiceByName(service)
                .FindMethodByName(method)
                .containing_service.file
            )
        return file

    def __getattr__(self, name: str) -> Any:
        return getattr(self._pool, name)


def enable_reflection(services: Iterable[str], server: aio.Server) -> None:
    """Tell clients about these services, and about reflection itself."""
    names = (*services, reflection.SERVICE_NAME)
    reflection.enable_server_reflection(names, server, pool=_Pool())
