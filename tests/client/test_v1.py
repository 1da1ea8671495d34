"""The contract under one name."""

from importlib import import_module
from importlib.resources import files

from taskloom import v1


def test_everything_is_exported() -> None:
    """Every message, enum, enum value and stub of every .proto is in taskloom.v1."""
    missing = []
    for proto in files("taskloom.v1").iterdir():
        name, _, suffix = proto.name.partition(".")
        if suffix != "proto":
            continue
        module = import_module(f"taskloom.v1.{name}_pb2").DESCRIPTOR
        wanted = [*module.message_types_by_name, *module.enum_types_by_name]
        for enum in module.enum_types_by_name.values():
            wanted += enum.values_by_name
        for service in module.services_by_name:
            wanted += [f"{service}Stub", f"{service}Servicer", f"add_{service}Servicer_to_server"]
        missing += [f"{proto.name}: {each}" for each in wanted if not hasattr(v1, each)]
    assert not missing
