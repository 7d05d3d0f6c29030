"""A user's memory as lines of JSON: what export writes and import reads. Pure.

    {"type":"header","format":1,"schema":5,"embedding":"…","runs":1,"changes":2,"versions":1,"memories":2}
    {"type":"run","id":"…","cause":"idle","state":"done","started_at":…, …}           each consolidation run, and after it
    {"type":"change","run":"…","memory":"…","before":null,"after":1,"reason":"add"}   what it made (before: null) or changed
    {"type":"version","id":"…","version":1, …,"changed_at":…,"reason":"update"}       what a memory was, and how that ended
    {"type":"memory","id":"…","version":2, …,"vector":{"model":"…","views":2,"dim":384,"data":"base64 of float32"}}

Memories stand in the order in which they were first stored, each after its earlier versions, oldest first. Times are
microseconds since 1970 in UTC. A field that is left out has its default, which is that of `types.Memory`. `is_new`:
consolidation has not looked at it. The same memory always gives the same bytes. Raise FORMAT when a reader of the present one
would misunderstand.
"""

from __future__ import annotations

import base64
import json
import uuid
from collections.abc import Mapping
from typing import Annotated, Any, Literal, TypeAlias

import numpy as np
from pydantic import BaseModel, ConfigDict, Field, TypeAdapter, ValidationError

from lightmem_server.errors import InvalidInputError
from lightmem_server.store.protocol import VectorRecord
from lightmem_server.store.run_protocol import RunChange, RunRecord, RunState
from lightmem_server.store.transfer_protocol import Carried, CarriedChange, CarriedMemory, CarriedVersion, Outline
from lightmem_server.types import Kind, Memory, Partition, Role, State, Statement, Tier

FORMAT = 1

FIELD = "json_lines"
"""What errors call the lines."""

FLOAT32 = np.dtype("<f4")

Number = Annotated[int, Field(strict=True, ge=-(2**63), le=2**63 - 1)]
Count = Annotated[int, Field(strict=True, ge=0, le=2**63 - 1)]
Id = Annotated[str, Field(strict=True, pattern=r"\A[0-9a-f]{8}-([0-9a-f]{4}-){3}[0-9a-f]{12}\z")]
Text = Annotated[str, Field(strict=True, pattern=r"\A[^\x00]*\z")]
Name = Annotated[str, Field(strict=True, max_length=256, pattern=r"\A[^\x00]*\z")]
Moment = Annotated[int, Field(strict=True, ge=-62_135_596_800_000_000, le=253_402_300_799_999_999)]
"""Microseconds, of the years 1 to 9999."""
Key = Annotated[str, Field(strict=True, min_length=1, max_length=64, pattern=r"\A[^\x00]*\z")]
Value = Annotated[str, Field(strict=True, max_length=1024, pattern=r"\A[^\x00]*\z")]
Scalar = (
    Annotated[bool, Field(strict=True)] | Number | Annotated[float, Field(strict=True, allow_inf_nan=False)] | Value
)


class Line(BaseModel):
    """What all lines have in common: nothing is converted, and an unknown field is an error."""

    model_config = ConfigDict(extra="forbid", frozen=True)


class Header(Line):
    """The first line. `schema` and `embedding` are for people: vectors name their model themselves."""

    type: Literal["header"]
    format: Count
    schema_version: Count = Field(alias="schema")
    embedding: Text
    runs: Count
    changes: Count
    versions: Count
    memories: Count

    @property
    def line_count(self) -> int:
        """Of all lines, the header included."""
        return 1 + self.runs + self.changes + self.versions + self.memories


class RunLine(Line):
    """See `RunRecord`. Versions of the partition it came from mean nothing elsewhere."""

    type: Literal["run"]
    id: Id
    cause: Text
    state: Literal["done", "failed", "cancelled", "undone"]
    started_at: Moment
    finished_at: Moment | None = None
    model: Text
    prompt: Text
    kept: Count = 0
    rejected: dict[Text, Count] = Field(default_factory=dict)
    error: Text = ""
    model_tokens: Count = 0
    model_micros: Count = 0
    restored: Count = 0
    removed: Count = 0


class ChangeLine(Line):
    """See `RunChange`."""

    type: Literal["change"]
    run: Id
    memory: Id
    before: Count | None
    after: Count
    reason: Text


class _MemoryLine(Line):
    """The fields of a record."""

    id: Id
    version: Annotated[int, Field(strict=True, ge=1, le=2**63 - 1)]
    tier: Literal["STM", "MTM", "LTM"]
    kind: Literal["TURN", "SUMMARY", "FACT", "PROFILE"]
    text: Text
    occurred_at: Moment
    created_at: Moment
    agent_id: Name = ""
    session_id: Name = ""
    speaker: Name = ""
    role: Literal["NONE", "USER", "ASSISTANT", "SYSTEM", "TOOL"] = "NONE"
    valid_from: Moment | None = None
    valid_to: Moment | None = None
    confidence: Annotated[float, Field(ge=0, le=1)] = 1.0
    statement: Annotated[list[Text], Field(min_length=3, max_length=3)] | None = None
    participants: list[Text] = Field(default_factory=list)
    evidence_ids: list[Id] = Field(default_factory=list)
    supersedes_ids: list[Id] = Field(default_factory=list)
    related_ids: list[Id] = Field(default_factory=list)
    previous_id: Id | None = None
    metadata: Annotated[dict[Key, Scalar], Field(max_length=32)] = Field(default_factory=dict)
    is_pinned: Annotated[bool, Field(strict=True)] = False
    expires_at: Moment | None = None
    state: Literal["ACTIVE", "ARCHIVED"] = "ACTIVE"
    token_count: Annotated[int, Field(strict=True, ge=0, le=2**32 - 1)] = 0

    def to_memory(self, *, access_count: int = 0, last_accessed_at: int | None = None) -> Memory:
        """The record."""
        return Memory(
            id=uuid.UUID(self.id),
            tier=Tier[self.tier],
            kind=Kind[self.kind],
            text=self.text,
            occurred_at=self.occurred_at,
            created_at=self.created_at,
            agent_id=self.agent_id,
            session_id=self.session_id,
            speaker=self.speaker,
            role=Role[self.role],
            valid_from=self.valid_from,
            valid_to=self.valid_to,
            confidence=self.confidence,
            statement=None if self.statement is None else Statement(*self.statement),
            participants=tuple(self.participants),
            evidence_ids=tuple(map(uuid.UUID, self.evidence_ids)),
            supersedes_ids=tuple(map(uuid.UUID, self.supersedes_ids)),
            related_ids=tuple(map(uuid.UUID, self.related_ids)),
            previous_id=None if self.previous_id is None else uuid.UUID(self.previous_id),
            metadata=self.metadata,
            is_pinned=self.is_pinned,
            expires_at=self.expires_at,
            state=State[self.state],
            token_count=self.token_count,
            version=self.version,
            access_count=access_count,
            last_accessed_at=last_accessed_at,
        )


class VersionLine(_MemoryLine):
    """See `CarriedVersion`."""

    type: Literal["version"]
    changed_at: Moment
    reason: Text
    run: Id | None = None


class VectorPart(Line):
    """Vectors of one memory, and what made them."""

    model: Text
    views: Annotated[int, Field(strict=True, ge=1, le=64)]
    dim: Annotated[int, Field(strict=True, ge=1, le=65_536)]
    data: Annotated[str, Field(strict=True)]


class MemoryLine(_MemoryLine):
    """See `CarriedMemory`."""

    type: Literal["memory"]
    access_count: Count = 0
    last_accessed_at: Moment | None = None
    is_new: Annotated[bool, Field(strict=True)] = False
    vector: VectorPart | None = None


AnyLine: TypeAlias = Annotated[Header | RunLine | ChangeLine | VersionLine | MemoryLine, Field(discriminator="type")]

_LINE: TypeAdapter[Header | RunLine | ChangeLine | VersionLine | MemoryLine] = TypeAdapter(AnyLine)


def write_line(carried: Carried, *, embedding: str) -> str:
    """One line, without its line feed. `embedding` is what the server makes vectors with now, for the header."""
    match carried:
        case Outline():
            fields: dict[str, Any] = {
                "type": "header",
                "format": FORMAT,
                "schema": carried.schema_version,
                "embedding": embedding,
                "runs": carried.run_count,
                "changes": carried.change_count,
                "versions": carried.version_count,
                "memories": carried.memory_count,
            }
        case RunRecord():
            fields = _from_run(carried)
        case CarriedChange(run_id, change):
            fields = {"type": "change", "run": str(run_id), "memory": str(change.memory_id)}
            fields |= {"before": change.version_before, "after": change.version_after, "reason": change.reason}
        case CarriedVersion():
            fields = {"type": "version", **_from_memory(carried.memory)}
            fields |= {"changed_at": carried.changed_at, "reason": carried.reason}
            if carried.run_id is not None:
                fields["run"] = str(carried.run_id)
        case CarriedMemory():
            fields = {"type": "memory", **_from_memory(carried.memory)}
            fields |= _present({"access_count": carried.memory.access_count, "is_new": carried.is_new})
            if carried.memory.last_accessed_at is not None:
                fields["last_accessed_at"] = carried.memory.last_accessed_at
            if carried.vector is not None:
                fields["vector"] = _from_vector(carried.vector)
    return json.dumps(fields, ensure_ascii=False, allow_nan=False, separators=(",", ":"))


def read_line(number: int, line: str) -> Header | RunLine | ChangeLine | VersionLine | MemoryLine:
    """A line, checked.

    Raises:
        InvalidInputError: It is none; names its number and the field, never its content.
    """
    try:
        return _LINE.validate_json(line)
    except (ValidationError, UnicodeEncodeError) as error:
        raise bad_line(number, _describe(error)) from None


def read_header(line: str) -> Header:
    """The first line.

    Raises:
        InvalidInputError: It is no header; UNKNOWN_FORMAT: of a newer format.
    """
    try:
        fields = json.loads(line)
    except ValueError:
        raise bad_line(1, "is not JSON") from None
    if not isinstance(fields, dict) or fields.get("type") != "header":
        raise bad_line(1, 'is not the header of an export ("type":"header")')
    version = fields.get("format")
    if isinstance(version, int) and version > FORMAT:
        raise bad_line(
            1,
            f"is of format {version}, this server knows up to {FORMAT}; import it with a newer LightMem",
            reason="UNKNOWN_FORMAT",
        )
    header = read_line(1, line)
    assert isinstance(header, Header), "its type was looked at"
    return header


def bad_line(number: int, problem: str, *, reason: str = "BAD_LINE") -> InvalidInputError:
    """The error of a line that is refused."""
    return InvalidInputError(FIELD, f"line {number}: {problem}", reason=reason)


def to_run(line: RunLine, partition: Partition) -> RunRecord:
    """The run, as one of this partition."""
    return RunRecord(
        uuid.UUID(line.id),
        partition,
        line.cause,
        RunState(line.state),
        line.started_at,
        line.finished_at,
        line.model,
        line.prompt,
        0,
        0,
        line.kept,
        line.rejected,
        line.error,
        line.model_tokens,
        line.model_micros,
        line.restored,
        line.removed,
    )


def to_change(line: ChangeLine) -> CarriedChange:
    """What a run did."""
    return CarriedChange(uuid.UUID(line.run), RunChange(uuid.UUID(line.memory), line.before, line.after, line.reason))


def to_version(line: VersionLine) -> CarriedVersion:
    """An earlier version."""
    run_id = None if line.run is None else uuid.UUID(line.run)
    return CarriedVersion(line.to_memory(), line.changed_at, line.reason, run_id)


def to_carried_memory(number: int, line: MemoryLine) -> CarriedMemory:
    """A record.

    Raises:
        InvalidInputError: Its vectors are not what they say.
    """
    memory = line.to_memory(access_count=line.access_count, last_accessed_at=line.last_accessed_at)
    vector = None if line.vector is None else _to_vector(number, memory.id, line.vector)
    return CarriedMemory(memory, vector, line.is_new)


def _to_vector(number: int, memory_id: uuid.UUID, part: VectorPart) -> VectorRecord:
    try:
        data = base64.b64decode(part.data, validate=True)
    except ValueError:
        raise bad_line(number, "vector.data is not base64") from None
    if len(data) != part.views * part.dim * FLOAT32.itemsize:
        raise bad_line(number, "vector.data is not of views x dim float32 numbers")
    vectors = np.frombuffer(data, FLOAT32).reshape(part.views, part.dim)
    if not np.isfinite(vectors).all():
        raise bad_line(number, "vector.data has a number that is not finite")
    return VectorRecord(memory_id, part.model, vectors.astype(np.float32, copy=False))


def _from_vector(vector: VectorRecord) -> dict[str, Any]:
    views, dim = vector.vectors.shape
    data = base64.b64encode(np.ascontiguousarray(vector.vectors, FLOAT32).tobytes()).decode()
    return {"model": vector.model, "views": views, "dim": dim, "data": data}


def _from_run(run: RunRecord) -> dict[str, Any]:
    is_at_work = run.state is RunState.RUNNING  # its steps stay behind, so it cannot go on elsewhere
    fields: dict[str, Any] = {
        "type": "run",
        "id": str(run.run_id),
        "cause": run.cause,
        "state": str(RunState.CANCELLED if is_at_work else run.state),
        "started_at": run.started_at,
        "model": run.model,
        "prompt": run.prompt,
    }
    if run.finished_at is not None:
        fields["finished_at"] = run.finished_at
    return fields | _present(
        {
            "kept": run.kept_count,
            "rejected": dict(run.rejected),
            "error": run.error,
            "model_tokens": run.model_tokens,
            "model_micros": run.model_micros,
            "restored": run.restored_count,
            "removed": run.removed_count,
        }
    )


def _from_memory(memory: Memory) -> dict[str, Any]:
    fields: dict[str, Any] = {
        "id": str(memory.id),
        "version": memory.version,
        "tier": memory.tier.name,
        "kind": memory.kind.name,
        "text": memory.text,
        "occurred_at": memory.occurred_at,
        "created_at": memory.created_at,
    }
    fields |= _present(
        {
            "agent_id": memory.agent_id,
            "session_id": memory.session_id,
            "speaker": memory.speaker,
            "participants": list(memory.participants),
            "evidence_ids": [str(id_) for id_ in memory.evidence_ids],
            "supersedes_ids": [str(id_) for id_ in memory.supersedes_ids],
            "related_ids": [str(id_) for id_ in memory.related_ids],
            "metadata": dict(memory.metadata),
            "is_pinned": memory.is_pinned,
            "token_count": memory.token_count,
        }
    )
    for name in ("valid_from", "valid_to", "expires_at"):
        if getattr(memory, name) is not None:
            fields[name] = getattr(memory, name)
    if memory.role is not Role.NONE:
        fields["role"] = memory.role.name
    if memory.state is not State.ACTIVE:
        fields["state"] = memory.state.name
    if memory.confidence != 1.0:
        fields["confidence"] = memory.confidence
    if memory.statement is not None:
        fields["statement"] = [memory.statement.subject, memory.statement.relation, memory.statement.object]
    if memory.previous_id is not None:
        fields["previous_id"] = str(memory.previous_id)
    return fields


def _present(fields: Mapping[str, Any]) -> dict[str, Any]:
    """Without those that are at their default, which is nothing."""
    return {name: value for name, value in fields.items() if value}


def _describe(error: ValidationError | UnicodeEncodeError) -> str:
    if isinstance(error, UnicodeEncodeError):
        return "has text that is not Unicode"
    first = error.errors(include_input=False, include_context=False, include_url=False)[0]
    where = ".".join(str(part) for part in first["loc"] if part not in ("header", "run", "change", "version", "memory"))
    return f"{where}: {first['msg']}" if where else first["msg"]
