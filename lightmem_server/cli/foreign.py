"""What other systems export, read as turns: what was said, by whom, when, in which conversation.

    mem0       {"results": [{"id", "memory", "created_at", "metadata"}]}, or the bare list, of `get_all` or an export
    chatgpt    conversations.json of a data export: the branch of each conversation that was shown last
    langgraph  [{"namespace", "key", "value", "created_at"}], as JSON or a line each: items of a store
    jsonl      a turn a line, as `lightmem add --file` takes it

Nothing is guessed: what has no text is counted and left out.
"""

from __future__ import annotations

import hashlib
import json
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import IO, Any

from lightmem_client import Role, Scalar, Turn

from lightmem_server.cli.add import read_lines

LONGEST_TEXT_BYTES = 32 * 1024
"""What the server takes as one turn."""

TEXT_FIELDS = ("memory", "text", "content", "data")
ROLES = {"user": Role.USER, "assistant": Role.ASSISTANT}
NO_TEXT, TOO_LONG, OTHER_ROLE = "without text", "longer than a turn may be", "of a system or a tool"
NOT_UNICODE = "with half a character"
"""JSON can hold half of a surrogate pair; UTF-8 can't."""


class ForeignError(ValueError):
    """The file is not what it was said to be; the message says where."""


@dataclass(frozen=True, slots=True)
class Found:
    """A turn, and where it belongs. `key` names it in its file, the same each time that it is read."""

    key: str
    turn: Turn
    session_id: str

    @property
    def request_id(self) -> str:
        """What makes storing it twice harmless."""
        return f"import-{hashlib.sha256(self.key.encode(errors='surrogatepass')).hexdigest()[:32]}"


@dataclass(slots=True)
class Report:
    """What a file holds."""

    found: list[Found] = field(default_factory=list)
    skipped: Counter[str] = field(default_factory=Counter)

    def add(self, key: str, text: Any, session_id: str, **fields: Any) -> None:
        """Take a text as a turn, or count why not."""
        if not isinstance(text, str) or not text.strip():
            self.skipped[NO_TEXT] += 1
        elif not _is_unicode(text):
            self.skipped[NOT_UNICODE] += 1
        elif len(text.encode()) > LONGEST_TEXT_BYTES:
            self.skipped[TOO_LONG] += 1
        else:
            self.found.append(Found(key, Turn(text, **fields), session_id))


def read_mem0(file: IO[bytes]) -> Report:
    """See the module. Raises ForeignError."""
    data = _load(file)
    items = data.get("results", data.get("memories")) if isinstance(data, dict) else data
    report = Report()
    for place, item in enumerate(_list(items, "results")):
        made = _object(item, f"item {place}")
        text = next((made[name] for name in TEXT_FIELDS if name in made), None)
        metadata = {**_scalars(made.get("metadata")), "source": "mem0"}
        at = _time(made.get("created_at"), f"item {place}")
        report.add(f"mem0/{made.get('id', place)}", text, "mem0", role=Role.USER, occurred_at=at, metadata=metadata)
    return report


def read_chatgpt(file: IO[bytes]) -> Report:
    """See the module. Raises ForeignError."""
    report = Report()
    for place, item in enumerate(_list(_load(file), "the file")):
        conversation = _object(item, f"conversation {place}")
        session = str(conversation.get("conversation_id") or conversation.get("id") or place)
        for name, message in _branch(conversation, f"conversation {place}"):
            role = ROLES.get(str(_object(message.get("author") or {}, session).get("role")))
            hidden = _object(message.get("metadata") or {}, session).get("is_visually_hidden_from_conversation")
            if role is None or hidden:
                report.skipped[OTHER_ROLE] += 1
                continue
            parts = _object(message.get("content") or {}, session).get("parts") or ()
            text = "\n".join(part for part in parts if isinstance(part, str))
            at = _time(message.get("create_time") or conversation.get("create_time"), f"conversation {place}")
            report.add(
                f"chatgpt/{session}/{name}",
                text,
                f"chatgpt-{session}",
                role=role,
                occurred_at=at,
                metadata={"source": "chatgpt"},
            )
    return report


def _branch(conversation: Mapping[str, Any], where: str) -> Iterator[tuple[str, Mapping[str, Any]]]:
    """The messages from the root to the node that was shown last."""
    mapping = _object(conversation.get("mapping") or {}, where)
    node, path = conversation.get("current_node"), list[str]()
    while isinstance(node, str) and node in mapping and node not in path:
        path.append(node)
        node = _object(mapping[node], where).get("parent")
    for name in reversed(path):
        message = mapping[name].get("message")
        if message:
            yield name, _object(message, where)


def read_langgraph(file: IO[bytes]) -> Report:
    """See the module. Raises ForeignError."""
    report = Report()
    for place, item in enumerate(_list(_load(file, is_lines_too=True), "the file")):
        made = _object(item, f"item {place}")
        value, namespace = made.get("value"), made.get("namespace") or ()
        path = "/".join(map(str, namespace)) if isinstance(namespace, list) else str(namespace)
        text = value
        if isinstance(value, dict):
            text = next((value[name] for name in TEXT_FIELDS if isinstance(value.get(name), str)), json.dumps(value))
        metadata = {"source": "langgraph", "namespace": path[:1024], "key": str(made.get("key", ""))[:1024]}
        at = _time(made.get("created_at"), f"item {place}")
        key = f"langgraph/{path}/{made.get('key', place)}"
        report.add(key, text, f"langgraph-{path}"[:256], role=Role.USER, occurred_at=at, metadata=metadata)
    return report


def read_turns(file: IO[bytes]) -> Report:
    """See the module. Raises click.UsageError for a line that is no turn."""
    report = Report()
    lines = (line.decode() for line in file)
    for line in read_lines(lines, Turn("", role=Role.USER), ""):
        digest = hashlib.sha256(repr(line.turn).encode()).hexdigest()
        report.found.append(Found(f"jsonl/{line.number}/{digest}", line.turn, line.session_id))
    return report


READERS: Mapping[str, Callable[[IO[bytes]], Report]] = {
    "mem0": read_mem0,
    "chatgpt": read_chatgpt,
    "langgraph": read_langgraph,
    "jsonl": read_turns,
}


def _is_unicode(text: str) -> bool:
    return not any("\ud800" <= character <= "\udfff" for character in text)


def _load(file: IO[bytes], *, is_lines_too: bool = False) -> Any:
    data = file.read()
    try:
        return json.loads(data)
    except RecursionError:
        raise ForeignError("is nested too deeply") from None
    except ValueError as error:
        if not is_lines_too:
            raise ForeignError(f"is not JSON: {error}") from error
    try:
        return [json.loads(line) for line in data.splitlines() if line.strip()]
    except RecursionError:
        raise ForeignError("is nested too deeply") from None
    except ValueError as error:
        raise ForeignError(f"is neither JSON nor a line of JSON each: {error}") from error


def _list(value: Any, where: str) -> Sequence[Any]:
    if not isinstance(value, list):
        raise ForeignError(f"{where} is not a list")
    return value


def _object(value: Any, where: str) -> Mapping[str, Any]:
    if not isinstance(value, dict):
        raise ForeignError(f"{where} holds what is not an object")
    return value


def _scalars(value: Any) -> dict[str, Scalar]:
    """Of metadata what the server can filter by."""
    items = value.items() if isinstance(value, dict) else ()
    return {str(key): item for key, item in list(items)[:31] if isinstance(item, str | int | float | bool)}


def _time(value: Any, where: str) -> datetime | None:
    """A moment in ISO 8601, UTC where it names no zone, or in seconds of the epoch; None for none."""
    try:
        if isinstance(value, int | float):
            return datetime.fromtimestamp(value, UTC)
        if isinstance(value, str) and value:
            moment = datetime.fromisoformat(value)
            return moment if moment.utcoffset() is not None else moment.replace(tzinfo=UTC)
    except (ValueError, OverflowError, OSError) as error:
        raise ForeignError(f"{where} has no time such as 2024-05-08T09:00:00Z: {value!r}") from error
    return None
