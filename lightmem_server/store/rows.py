"""Records to rows of the database and back. Pure.

Memory ──▶ columns that filters select by + body, a JSON object of the rest (fields at their default are left out)
VectorRecord ──▶ float32 bytes, little-endian, with their shape
"""

from __future__ import annotations

import json
import uuid
from typing import Any

import numpy as np

from lightmem_server.store.protocol import KeyRecord, StoredRow, VectorRecord
from lightmem_server.types import NO_METADATA, Kind, Memory, Role, State, Statement, Tier

ORDER_FACTOR = 1 << 16
"""Places in one commit: `order_no` is the version times this plus the place."""

MEMORY_SELECT = """m.id, m.record_version, m.tier, m.kind, m.state, m.session_id, m.agent_id, m.occurred_at,
    m.valid_from, m.valid_to, m.previous_id, m.body, a.access_count, a.last_accessed_at"""
"""Columns that `to_memory` takes, of `memory m LEFT JOIN access a USING (memory_no)`."""

MEMORY_SELECT_WIDTH = 14

VECTOR_SELECT = "o.identity, v.views, v.dim, v.data"
"""Columns that follow in `to_stored_row`, of `LEFT JOIN vector v USING (memory_no) LEFT JOIN model o USING (model_no)`."""

# A dictionary finds a member several times faster than the enum's constructor; loading a partition decodes all its rows.
TIERS = {member.value: member for member in Tier}
KINDS = {member.value: member for member in Kind}
ROLES = {member.value: member for member in Role}
STATES = {member.value: member for member in State}

FLOAT32 = np.dtype("<f4")


def memory_columns(memory: Memory) -> tuple[Any, ...]:
    """record_version, tier, kind, state, session_id, agent_id, occurred_at, valid_from, valid_to, previous_id, body."""
    return (
        memory.version,
        int(memory.tier),
        int(memory.kind),
        int(memory.state),
        memory.session_id,
        memory.agent_id,
        memory.occurred_at,
        memory.valid_from,
        memory.valid_to,
        memory.previous_id.bytes if memory.previous_id is not None else None,
        _to_body(memory),
    )


def to_memory(row: tuple[Any, ...]) -> Memory:
    """A record from the columns of MEMORY_SELECT."""
    (
        id_,
        record_version,
        tier,
        kind,
        state,
        session_id,
        agent_id,
        occurred_at,
        valid_from,
        valid_to,
        previous_id,
        body,
        access_count,
        last_accessed_at,
    ) = row
    rest = json.loads(body)
    return Memory(
        id=uuid.UUID(bytes=id_),
        tier=TIERS[tier],
        kind=KINDS[kind],
        text=rest["text"],
        occurred_at=occurred_at,
        created_at=rest["created_at"],
        agent_id=agent_id,
        session_id=session_id,
        speaker=rest.get("speaker", ""),
        role=ROLES[rest.get("role", 0)],
        valid_from=valid_from,
        valid_to=valid_to,
        confidence=rest.get("confidence", 1.0),
        statement=Statement(*rest["statement"]) if "statement" in rest else None,
        participants=tuple(rest.get("participants", ())),
        evidence_ids=tuple(uuid.UUID(text) for text in rest.get("evidence_ids", ())),
        supersedes_ids=tuple(uuid.UUID(text) for text in rest.get("supersedes_ids", ())),
        related_ids=tuple(uuid.UUID(text) for text in rest.get("related_ids", ())),
        previous_id=uuid.UUID(bytes=previous_id) if previous_id is not None else None,
        metadata=rest.get("metadata", NO_METADATA),
        is_pinned=rest.get("is_pinned", False),
        expires_at=rest.get("expires_at"),
        state=STATES[state],
        token_count=rest.get("token_count", 0),
        version=record_version,
        access_count=access_count or 0,
        last_accessed_at=last_accessed_at,
    )


def read_statement(body: str) -> Statement | None:
    """The statement in the body of a stored record."""
    parts = json.loads(body).get("statement")
    return None if parts is None else Statement(*parts)


def to_stored_row(row: tuple[Any, ...]) -> StoredRow:
    """A replica's row from order_no, the columns of MEMORY_SELECT and those of VECTOR_SELECT."""
    memory = to_memory(row[1 : 1 + MEMORY_SELECT_WIDTH])
    model, views, dim, data = row[1 + MEMORY_SELECT_WIDTH :]
    vector = None
    if model is not None:
        vectors = np.frombuffer(data, FLOAT32).reshape(views, dim).astype(np.float32, copy=False)
        vector = VectorRecord(memory.id, model, vectors)
    return StoredRow(memory, vector, row[0])


def vector_columns(vector: VectorRecord) -> tuple[int, int, bytes]:
    """views, dim, data.

    Raises:
        ValueError: The vectors are not (views, dim).
    """
    views, dim = vector.vectors.shape
    return views, dim, np.ascontiguousarray(vector.vectors, FLOAT32).tobytes()


def key_columns(key: KeyRecord) -> tuple[Any, ...]:
    """The columns of api_key, in the order of the table."""
    return (
        key.key_id,
        key.namespace,
        key.secret_hash,
        key.label,
        json.dumps(key.user_ids, ensure_ascii=False),
        int(key.is_admin),
        key.created_at,
        key.expires_at,
        key.revoked_at,
    )


def to_key(row: tuple[Any, ...]) -> KeyRecord:
    """A key from the columns of api_key, in the order of the table."""
    key_id, namespace, secret_hash, label, user_ids, is_admin, created_at, expires_at, revoked_at = row
    return KeyRecord(
        key_id=key_id,
        namespace=namespace,
        secret_hash=secret_hash,
        label=label,
        user_ids=tuple(json.loads(user_ids)),
        is_admin=bool(is_admin),
        created_at=created_at,
        expires_at=expires_at,
        revoked_at=revoked_at,
    )


def _to_body(memory: Memory) -> str:
    rest: dict[str, Any] = {
        "speaker": memory.speaker,
        "role": int(memory.role),
        "participants": memory.participants,
        "evidence_ids": [id_.hex for id_ in memory.evidence_ids],
        "supersedes_ids": [id_.hex for id_ in memory.supersedes_ids],
        "related_ids": [id_.hex for id_ in memory.related_ids],
        "metadata": dict(memory.metadata),
        "is_pinned": memory.is_pinned,
        "token_count": memory.token_count,
    }
    body = {name: value for name, value in rest.items() if value}
    body["text"] = memory.text
    body["created_at"] = memory.created_at
    if memory.confidence != 1.0:
        body["confidence"] = memory.confidence
    if memory.statement is not None:
        body["statement"] = [memory.statement.subject, memory.statement.relation, memory.statement.object]
    if memory.expires_at is not None:
        body["expires_at"] = memory.expires_at
    return json.dumps(body, ensure_ascii=False, allow_nan=False, separators=(",", ":"))
