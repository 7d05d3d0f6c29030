"""The descriptor sets of test_skew.py: of an older API, which is kept, and of a later one, which is made of today's.

descriptors/older.binpb is the API that the first servers and clients spoke, of commit 846ae34; what it says has to be
understood for as long as there is a v1. descriptors/later.binpb is what a next version could be: `make vectors` writes it, by
`python -m tests.contract.skew_sets`.
"""

from __future__ import annotations

import importlib.util
from collections.abc import Iterator
from pathlib import Path

from google.protobuf.descriptor_pb2 import DescriptorProto, FieldDescriptorProto, FileDescriptorProto, FileDescriptorSet

PROTO = Path(__file__).parents[2] / "proto"
FOLDER = Path(__file__).parent / "descriptors"
OLDER, LATER = FOLDER / "older.binpb", FOLDER / "later.binpb"
PACKAGE = "lightmem.v1"
LATER_FIELD, LATER_METHOD = "of_a_later_version", "Later"
LATER_NUMBER = 4000


def today() -> FileDescriptorSet:
    """The API of now, without comments, by the command that keeps the baseline."""
    specification = importlib.util.spec_from_file_location("baseline", PROTO / "baseline.py")
    assert specification is not None
    assert specification.loader is not None
    module = importlib.util.module_from_spec(specification)
    specification.loader.exec_module(module)
    files: FileDescriptorSet = module.compile_protos()
    for file in files.file:
        file.ClearField("source_code_info")
    return files


def make_later(files: FileDescriptorSet) -> FileDescriptorSet:
    """What the next version could be: everything has more. Changes `files`."""
    for file in files.file:
        if file.package == PACKAGE:
            for message in file.message_type:
                _give_later_field(message)
            for service in file.service:
                first = service.method[0]
                service.method.add(name=LATER_METHOD, input_type=first.input_type, output_type=first.output_type)
    return files


def _give_later_field(message: DescriptorProto) -> None:
    if message.options.map_entry:
        return
    kind = FieldDescriptorProto.TYPE_STRING
    message.field.add(name=LATER_FIELD, number=LATER_NUMBER, type=kind, label=FieldDescriptorProto.LABEL_OPTIONAL)
    for nested in message.nested_type:
        _give_later_field(nested)


def names(files: FileDescriptorSet) -> set[str]:
    """Every field and method of ours."""
    return {name for file in files.file if file.package == PACKAGE for name in _names_of(file)}


def _names_of(file: FileDescriptorProto) -> Iterator[str]:
    for message in file.message_type:
        yield from _fields(message, message.name)
    for service in file.service:
        for method in service.method:
            yield f"{service.name}/{method.name}"


def _fields(message: DescriptorProto, path: str) -> Iterator[str]:
    for field in message.field:
        yield f"{path}.{field.name}"
    for nested in message.nested_type:
        yield from _fields(nested, f"{path}.{nested.name}")


if __name__ == "__main__":
    LATER.write_bytes(make_later(today()).SerializeToString(deterministic=True))
