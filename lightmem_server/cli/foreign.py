"""What other systems export, read as turns: what was said, by whom, when, in which conversation.

    mem0       {"results": [{"id", "memory", "created_at", "metadata"}]}, or the bare list, of `get_all` or an export
    chatgpt    conversations.json of a data export: the branch of each conversation that was shown last, or was last written
    langgraph  [{"namespace", "key", "value", "created_at"}], as JSON or a line each: items of a store
    jsonl      a turn a line, as `lightmem add --file` takes it

Nothing is guessed: what has no text is counted and left out, and so is metadata that a memory can't have. Files are UTF-8, or
UTF-16 with a mark, as editors on Windows leave them.
"""

from __future__ import annotations

import codecs
import hashlib
import json
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from types import MappingProxyType
from typing import IO, Any

from lightmem_client import Role, Turn

from lightmem_server.cli.add import read_lines
from lightmem_server.cli.foreign_fit import is_unicode, to_metadata, to_name

LONGEST_TEXT_BYTES = 32 * 1024
"""What the server takes as one turn."""

NO_SOURCE: Mapping[str, str] = MappingProxyType({})
TEXT_FIELDS = ("memory", "text", "content", "data")
ROLES = {"user": Role.USER, "assistant": Role.ASSISTANT}
NO_TEXT, TOO_LONG, OTHER_ROLE = "without text", "longer than a turn may be", "of a system or a tool"
NOT_UNICODE, WITH_NUL, OF_OTHERS = "with half a character", "with a NUL character", "of another user, or of none"


class ForeignError(ValueError):
    """The file is not what it was said to be; the message says where."""


@dataclass(frozen=True, slots=True)
class Found:
    """A turn, and where it belongs. `key` names it in its file, the same each time that it is read."""

    key: str
    turn: Turn
    session_id: str
    agent_id: str = ""

    @property
    def request_id(self) -> str:
        """What makes storing it twice harmless; of what it says too, for files in which a key comes twice, or comes changed."""
        told = f"{self.key}\0{self.turn!r}"
        return f"import-{hashlib.sha256(told.encode(errors='surrogatepass')).hexdigest()[:32]}"


@dataclass(slots=True)
class Report:
    """What a file holds."""

    found: list[Found] = field(default_factory=list)
    skipped: Counter[str] = field(default_factory=Counter)
    metadata_left_out: int = 0
    users: Counter[str] = field(default_factory=Counter)
    """Whose the items say that they are, where they say it."""

    def add(
        self,
        key: str,
        text: Any,
        session_id: str,
        *,
        metadata: Any = None,
        source: Mapping[str, str] = NO_SOURCE,
        agent_id: str = "",
        **fields: Any,
    ) -> None:
        """Take a text as a turn, or count why not.

        Args:
            metadata: As the file has it.
            source: What is noted beside it.
        """
        if not isinstance(text, str) or not text.strip():
            self.skipped[NO_TEXT] += 1
        elif not is_unicode(text):
            self.skipped[NOT_UNICODE] += 1
        elif "\0" in text:
            self.skipped[WITH_NUL] += 1
        elif len(text.encode()) > LONGEST_TEXT_BYTES:
            self.skipped[TOO_LONG] += 1
        else:
            fitting, left_out = to_metadata(metadata or {})
            noted, too_long = to_metadata(source)
            self.metadata_left_out += left_out + too_long
            turn = Turn(text, metadata={**fitting, **noted}, **fields)
            self.found.append(Found(key, turn, to_name(session_id), to_name(agent_id)))


def read_mem0(file: IO[bytes], only: str | None = None) -> Report:
    """See the module. Raises ForeignError.

    Args:
        only: Of the users of the file the one whose memories are wanted; None: all of them.
    """
    data = _load(file)
    items = data.get("results", data.get("memories")) if isinstance(data, dict) else data
    report = Report()
    for place, item in enumerate(_list(items, "results")):
        made = _object(item, f"item {place}")
        owner = made.get("user_id")
        if only is not None and owner != only:
            report.skipped[OF_OTHERS] += 1
            continue
        if isinstance(owner, str) and owner:
            report.users[owner] += 1
        texts = (made[name] for name in TEXT_FIELDS if isinstance(made.get(name), str))
        report.add(
            f"mem0/{made.get('id', place)}",
            next((text for text in texts if text.strip()), None),
            "mem0",
            role=Role.USER,
            occurred_at=_time(made.get("created_at"), f"item {place}"),
            metadata=made.get("metadata"),
            source={"source": "mem0"},
        )
    return report


def read_chatgpt(file: IO[bytes]) -> Report:
    """See the module. Raises ForeignError."""
    report = Report()
    data = _load(file)
    if isinstance(data, dict) and "mapping" in data:  # one conversation alone
        data = [data]
    for place, item in enumerate(_list(data, "the file")):
        conversation = _object(item, f"conversation {place}")
        session = str(conversation.get("conversation_id") or conversation.get("id") or place)
        for name, message in _branch(conversation, f"conversation {place}"):
            role = ROLES.get(str(_object(message.get("author") or {}, session).get("role")))
            hidden = _object(message.get("metadata") or {}, session).get("is_visually_hidden_from_conversation")
            if role is None or hidden:
                report.skipped[OTHER_ROLE] += 1
                continue
            text = _said(message.get("content"))
            at = _time(message.get("create_time") or conversation.get("create_time"), f"conversation {place}")
            report.add(
                f"chatgpt/{session}/{name}",
                text,
                f"chatgpt-{session}",
                role=role,
                occurred_at=at,
                source={"source": "chatgpt"},
            )
    return report


def _said(content: Any) -> str:
    """The words of a message: its texts, and what was understood of speech; no images, no code that a tool ran."""
    parts = content.get("parts") if isinstance(content, dict) else content
    several = parts if isinstance(parts, list) else [parts]
    spoken = (
        part.get("text") if isinstance(part, dict) and part.get("content_type") == "audio_transcription" else part
        for part in several
    )
    return "\n".join(part for part in spoken if isinstance(part, str) and part)


def _branch(conversation: Mapping[str, Any], where: str) -> Iterator[tuple[str, Mapping[str, Any]]]:
    """The messages from the root to the node that was shown last; where that is not there, to the one that was written last."""
    mapping = _object(conversation.get("mapping") or {}, where)
    node, path = conversation.get("current_node"), dict[str, None]()
    if not isinstance(node, str) or node not in mapping:
        node = _newest_leaf(mapping, where)
    while isinstance(node, str) and node in mapping and node not in path:
        path[node] = None
        node = _object(mapping[node], where).get("parent")
    for name in reversed(path):
        message = mapping[name].get("message")
        if message:
            yield name, _object(message, where)


def _newest_leaf(mapping: Mapping[str, Any], where: str) -> str | None:
    nodes = {name: _object(node, where) for name, node in mapping.items()}
    parents = {parent for node in nodes.values() if isinstance(parent := node.get("parent"), str)}

    def written_at(name: str) -> float:
        message = nodes[name].get("message")
        at = message.get("create_time") if isinstance(message, dict) else None
        return at if isinstance(at, int | float) else 0.0

    return max((name for name in nodes if name not in parents), key=written_at, default=None)


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
        source = {"source": "langgraph", "namespace": path, "key": str(made.get("key", ""))}
        at = _time(made.get("created_at"), f"item {place}")
        key = f"langgraph/{path}/{made.get('key', place)}"
        report.add(key, text, f"langgraph-{path}", role=Role.USER, occurred_at=at, source=source)
    return report


def read_turns(file: IO[bytes]) -> Report:
    """See the module. Raises click.UsageError for a line that is no turn."""
    report = Report()
    for line in read_lines(_text(file.read()).split("\n"), Turn("", role=Role.USER), ""):
        turn = line.turn
        report.add(
            f"line {line.number}",
            turn.text,
            line.session_id,
            agent_id=line.agent_id,
            speaker=to_name(turn.speaker),
            role=turn.role,
            occurred_at=turn.occurred_at,
            metadata=turn.metadata,
            is_pinned=turn.is_pinned,
            expires_at=turn.expires_at,
        )
    return report


def _text(data: bytes) -> str:
    """Raises UnicodeDecodeError."""
    is_wide = data.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE))
    return data.decode("utf-16" if is_wide else "utf-8-sig")


READERS: Mapping[str, Callable[[IO[bytes]], Report]] = {
    "mem0": read_mem0,
    "chatgpt": read_chatgpt,
    "langgraph": read_langgraph,
    "jsonl": read_turns,
}


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
        return [json.loads(line) for line in _text(data).split("\n") if line.strip()]
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
