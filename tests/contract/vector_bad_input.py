"""What the end-to-end tests hold of bad input, as contract vectors, case by case."""

from __future__ import annotations

import base64

from google.protobuf import json_format
from google.protobuf.message import Message

from tests.contract.vector_play import Json
from tests.contract.vector_requests import File
from tests.e2e.test_bad_input import CASES

MAX_DEPTH = 50
"""JSON parsers have bounds of their own; what is nested deeper is sent as bytes."""

MIN_REPEATS = 8
MIN_REPEATED_TEXT = 200


def bad_input() -> File:
    """The cases of the end-to-end tests."""
    vectors = {}
    for name, method, request, *_ in CASES:
        vectors[name] = [{"call": f"lightmem.v1.{method}", "requests": [_to_json(request)]}]
    return File("Bad input is refused by name: the field and the reason", vectors)


def _to_json(request: Message | bytes) -> Json:
    """A request as JSON; as bytes where JSON cannot say it."""
    if isinstance(request, bytes):
        return {"$raw": base64.b64encode(request).decode()}
    try:
        value = json_format.MessageToDict(request)
    except (json_format.Error, ValueError):
        value = None
    if value is None or _depth(value) > MAX_DEPTH or _is_lossy(value, request):
        return {"$raw": base64.b64encode(request.SerializeToString(deterministic=True)).decode()}
    return _fold(value)


def _is_lossy(value: Json, request: Message) -> bool:
    """Whether JSON's parsers would refuse it, or read something else."""
    try:
        return bool(json_format.ParseDict(value, type(request)()) != request) and "NaN" not in str(value)
    except json_format.ParseError:
        return True


def _depth(value: Json) -> int:
    items = value.values() if isinstance(value, dict) else value if isinstance(value, list) else ()
    return 1 + max((_depth(item) for item in items), default=0)


def _fold(value: Json) -> Json:
    """Long repetitions as $repeat."""
    match value:
        case str() if len(value) >= MIN_REPEATED_TEXT and len(set(value)) == 1:
            return {"$repeat": value[0], "count": len(value)}
        case dict():
            return {key: _fold(item) for key, item in sorted(value.items())}
        case [first, *rest] if len(value) >= MIN_REPEATS and all(item == first for item in rest):
            if isinstance(first, str):
                return value
            return [{"$repeat": _fold(first), "count": len(value)}]
        case list():
            return [_fold(item) for item in value]
        case _:
            return value
