"""Domain types to proto, where a property test of the way back has nothing to hold on to."""

from __future__ import annotations

import uuid
from dataclasses import replace

from lightmem_server.service import convert
from lightmem_server.types import Kind, Memory, Statement, Tier

FACT = Memory(uuid.UUID(int=1), Tier.LTM, Kind.FACT, "Ana lives in Porto.", occurred_at=0, created_at=0)


def test_a_fact_carries_its_statement_and_a_summary_its_participants() -> None:
    statement = Statement("Ana", "lives in", "Porto")
    fact = convert.from_memory(replace(FACT, statement=statement), "ana")
    assert (fact.statement.subject, fact.statement.relation, fact.statement.object) == ("Ana", "lives in", "Porto")
    summary = convert.from_memory(replace(FACT, participants=("Ana", "Bo")), "ana")
    assert list(summary.participants) == ["Ana", "Bo"]
    assert not summary.HasField("statement")
