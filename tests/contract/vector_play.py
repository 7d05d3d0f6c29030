"""Plays contract vectors: the requests of a step go to a server, and what comes back is held against what the vector expects.

The format is described in vectors/README.md. Every client's tests have a player of their own; this is the one of Python, over
the Python client's connection, generated code and typed errors. Values stay JSON (the proto3 mapping) until they are sent.
"""

from __future__ import annotations

import base64
import json
import re
import uuid
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeAlias

import grpc
from google.protobuf import descriptor_pool, json_format, message_factory
from google.protobuf.descriptor import MethodDescriptor
from google.protobuf.descriptor_pool import DescriptorPool
from google.protobuf.message import Message
from lightmem_client import LightMemError
from lightmem_client._connection import CHANNEL_OPTIONS
from lightmem_client._status import typed_errors
from lightmem_client.pb import admin_service_pb2, memory_service_pb2

Json: TypeAlias = Any
"""A JSON value. Any: a recursive union would have to be narrowed at every step, for nothing."""

FOLDER = Path(__file__).parent / "vectors"
FORMAT = 1
SERVICES = (memory_service_pb2.DESCRIPTOR, admin_service_pb2.DESCRIPTOR)
TIMEOUT_SECONDS = 60.0

KINDS = {
    "string": lambda value: isinstance(value, str),
    "number": lambda value: is_number(value),
    "time": lambda value: isinstance(value, str) and re.fullmatch(r"\d{4}-\d\d-\d\dT[0-9:.]+Z", value) is not None,
    "duration": lambda value: isinstance(value, str) and re.fullmatch(r"\d+(\.\d+)?s", value) is not None,
    "list": lambda value: isinstance(value, list),
    "object": lambda value: isinstance(value, dict),
}
"""What `$any` may ask for."""


class MismatchError(AssertionError):
    """An answer is not what the vector expects; says where."""


@dataclass(frozen=True)
class Outcome:
    """What one step gave."""

    responses: list[Json]
    error: LightMemError | None


@dataclass
class Names:
    """What one playing of one vector knows: values of its own, and what it captured."""

    run: str = field(default_factory=lambda: uuid.uuid4().hex[:12])
    captured: dict[str, Json] = field(default_factory=dict)

    def fresh(self, name: str) -> str:
        """A value that no other playing has."""
        return f"{name}-{self.run}"

    def resolve(self, value: Json) -> Json:
        """A value with its placeholders filled in."""
        match value:
            case {"$fresh": name}:
                return self.fresh(name)
            case {"$ref": name}:
                return self.captured[name]
            case {"$repeat": str(text), "count": count}:
                return text * count
            case dict():
                return {key: self.resolve(item) for key, item in value.items()}
            case list():
                return [item for part in value for item in self._resolve_item(part)]
            case _:
                return value

    def _resolve_item(self, value: Json) -> list[Json]:
        match value:
            case {"$repeat": item, "count": count} if not isinstance(item, str):
                return [self.resolve(item)] * count
            case _:
                return [self.resolve(value)]

    def match(self, expected: Json, actual: Json, path: str = "$") -> None:
        """Hold an answer against what is expected; fields that are not named are not judged.

        Raises:
            MismatchError: Something differs.
        """
        match expected:
            case {"$capture": name}:
                if actual in (None, ""):
                    raise MismatchError(f"{path}: nothing to capture as {name}")
                self.captured[name] = actual
            case {"$any": kind}:
                if not KINDS[kind](actual):
                    raise MismatchError(f"{path}: {actual!r} is no {kind}")
            case {"$fresh": _} | {"$ref": _}:
                self.match(self.resolve(expected), actual, path)
            case dict():
                if not isinstance(actual, dict):
                    raise MismatchError(f"{path}: {actual!r} is no object")
                for key, item in expected.items():
                    self.match(item, actual.get(key), f"{path}.{key}")
            case list():
                if not isinstance(actual, list) or len(actual) != len(expected):
                    raise MismatchError(f"{path}: {actual!r} has not {len(expected)} items")
                for i, (item, other) in enumerate(zip(expected, actual, strict=True)):
                    self.match(item, other, f"{path}[{i}]")
            case _:
                if not is_same(expected, actual):
                    raise MismatchError(f"{path}: {actual!r} instead of {expected!r}")


def is_number(value: Json) -> bool:
    """Whether it is a number, or a 64-bit one, which JSON has as text."""
    if isinstance(value, str):
        return re.fullmatch(r"-?\d+", value) is not None
    return isinstance(value, int | float) and not isinstance(value, bool)


def is_same(expected: Json, actual: Json) -> bool:
    """Equality of scalars: true is not 1, but 1 is 1.0."""
    return bool(expected == actual) and isinstance(expected, bool) == isinstance(actual, bool)


class Player:
    """One connection to a server, for playing vectors.

    `pool` holds the API as the client knows it: its generated code, or another version of it. `dress` may change a request
    before it is sent.
    """

    def __init__(
        self,
        target: str,
        admin_key: str,
        *,
        pool: DescriptorPool | None = None,
        dress: Callable[[Message], None] = lambda message: None,
    ) -> None:
        self._channel = grpc.insecure_channel(target, options=CHANNEL_OPTIONS)
        self._admin_key = admin_key
        self._pool = pool or descriptor_pool.Default()
        self._dress = dress

    def close(self) -> None:
        """End the connection."""
        self._channel.close()

    def method_of(self, call: str) -> MethodDescriptor:
        """The method that a step names, such as lightmem.v1.MemoryService/Write. Raises KeyError."""
        service, _, name = call.partition("/")
        return self._pool.FindServiceByName(service).methods_by_name[name]

    def play(self, vector: Json) -> None:
        """Every step in order. Raises MismatchError."""
        names = Names()
        for number, step in enumerate(vector["steps"], 1):
            try:
                check(step, self.send(step, names), names)
            except MismatchError as error:
                raise MismatchError(f"step {number}, {step['call']}: {error}") from error

    def send(self, step: Json, names: Names) -> Outcome:
        """The requests of a step, and what came back. Every method is called as a stream, which is the same on the wire."""
        method = self.method_of(step["call"])
        answer = message_factory.GetMessageClass(method.output_type)
        data = [self._encode(method, request, names) for request in step["requests"]]
        responses: list[Json] = []
        try:
            with typed_errors():
                call = self._channel.stream_stream(
                    f"/{step['call']}", request_serializer=None, response_deserializer=answer.FromString
                )(iter(data), timeout=step.get("timeoutSeconds", TIMEOUT_SECONDS), metadata=self._metadata(step, names))
                responses.extend(to_json(response) for response in call)
        except LightMemError as error:
            return Outcome(responses, error)
        return Outcome(responses, None)

    def _encode(self, method: MethodDescriptor, request: Json, names: Names) -> bytes:
        if "$raw" in request:
            return base64.b64decode(request["$raw"])
        message = message_factory.GetMessageClass(method.input_type)()
        json_format.ParseDict(names.resolve(request), message)
        self._dress(message)
        return bytes(message.SerializeToString())

    def _metadata(self, step: Json, names: Names) -> tuple[tuple[str, str], ...]:
        if "authorization" in step:
            return (("authorization", step["authorization"]),) if step["authorization"] else ()
        key = names.resolve(step["key"]) if "key" in step else self._admin_key
        return (("authorization", f"Bearer {key}"),)


def to_json(message: Message) -> Json:
    """A message as JSON; fields without presence are there even where they have their default."""
    return json_format.MessageToDict(message, always_print_fields_with_no_presence=True)


def check(step: Json, outcome: Outcome, names: Names) -> None:
    """Hold what a step gave against what it expects. Raises MismatchError."""
    expected, error = step.get("error"), outcome.error
    if expected is None and error is not None:
        raise MismatchError(f"failed with {error.status.name} {error.reason}: {error.message}")
    if expected is not None:
        if error is None:
            raise MismatchError(f"succeeded instead of failing with {expected}")
        names.match(expected, describe(error), "$error")
    if "last" in step:
        names.match(step["last"], outcome.responses[-1] if outcome.responses else None, "$last")
    else:
        names.match(step["responses"], outcome.responses, "$responses")


def describe(error: LightMemError) -> Json:
    """An error as a vector has it."""
    described = {"status": error.status.name, "reason": error.reason}
    return described if error.field is None else {**described, "field": error.field}


def read_vectors() -> Iterator[tuple[str, Json]]:
    """Every vector there is, with its name: that of its file and its own."""
    for path in sorted(FOLDER.glob("*.json")):
        for vector in json.loads(path.read_text("utf-8"))["vectors"]:
            yield f"{path.stem}: {vector['name']}", vector
