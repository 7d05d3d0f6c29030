"""The words that the contract vectors are told in: requests as JSON, with placeholders."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TypeAlias

from tests.contract.vector_play import Json

Step: TypeAlias = dict[str, Json]


@dataclass(frozen=True)
class File:
    """One file of vectors."""

    title: str
    vectors: dict[str, list[Step]] = field(default_factory=dict)


def memory(name: str, *requests: Json, **options: Json) -> Step:
    """A step to the MemoryService."""
    return {"call": f"lightmem.v1.MemoryService/{name}", **options, "requests": list(requests)}


def admin(name: str, *requests: Json, **options: Json) -> Step:
    """A step to the AdminService."""
    return {"call": f"lightmem.v1.AdminService/{name}", **options, "requests": list(requests)}


def fresh(name: str) -> Json:
    """A name that each playing makes its own."""
    return {"$fresh": name}


def ref(name: str) -> Json:
    """What was captured before. The recorder calls the n-th id of a vector "id<n>"."""
    return {"$ref": name}


ANN, BOB = {"userId": fresh("ann")}, {"userId": fresh("bob")}
MONDAY, TUESDAY = {**ANN, "sessionId": "monday"}, {**ANN, "sessionId": "tuesday"}


def write(*turns: str | Json, scope: Json = MONDAY, **fields: Json) -> Json:
    """A WriteRequest; plain text is a turn of 2024."""
    return {
        "scope": scope,
        "turns": [
            {"text": turn, "speaker": "Ann", "occurredAt": "2024-05-08T09:00:00Z"} if isinstance(turn, str) else turn
            for turn in turns
        ],
        **fields,
    }


def retrieve(query: str, scope: Json = MONDAY, **fields: Json) -> Json:
    """A RetrieveRequest with time enough on any machine, asked at one moment."""
    return {
        "scope": scope,
        "query": query,
        "askedAt": "2024-05-10T12:00:00Z",
        "budget": {"maxMemories": 1, "deadline": "10s"},
        **fields,
    }


def where(key: str, operator: str, *values: Json) -> Json:
    """A condition on metadata."""
    return {"condition": {"key": key, "operator": f"OPERATOR_{operator}", "values": list(values)}}


def listed(scope: Json = ANN, **fields: Json) -> Step:
    """A step that lists."""
    return memory("ListMemories", {"scope": scope, **fields})


DIARY = (
    {
        "text": "I moved to Rome last week",
        "speaker": "Ann",
        "occurredAt": "2024-05-08T09:00:00Z",
        "metadata": {"topic": {"stringValue": "home"}, "year": {"intValue": "2024"}, "isDone": {"boolValue": True}},
    },
    {
        "text": "The dentist wants to see me on Friday",
        "speaker": "Ann",
        "occurredAt": "2024-06-08T09:00:00Z",
        "metadata": {"topic": {"stringValue": "health"}, "year": {"intValue": "2023"}, "cost": {"doubleValue": 12.5}},
    },
    {"text": "My brother plays the cello", "speaker": "Ann", "occurredAt": "2024-07-08T09:00:00Z"},
)

FILTERS: dict[str, Json] = {
    "equal": where("topic", "EQ", {"stringValue": "home"}),
    "unequal, of the records that have the key": where("topic", "NE", {"stringValue": "home"}),
    "greater": where("year", "GT", {"intValue": "2023"}),
    "greater or equal, a double beside an int": where("year", "GTE", {"doubleValue": 2023.0}),
    "less": where("cost", "LT", {"intValue": "13"}),
    "less or equal": where("cost", "LTE", {"doubleValue": 12.5}),
    "one of several": where("topic", "IN", {"stringValue": "work"}, {"stringValue": "health"}),
    "contains": where("topic", "CONTAINS", {"stringValue": "eal"}),
    "another type does not match": where("year", "EQ", {"stringValue": "2024"}),
    "truth value": where("isDone", "EQ", {"boolValue": True}),
    "all of": {
        "allOf": {"filters": [where("year", "GT", {"intValue": "2000"}), where("cost", "GT", {"intValue": "0"})]}
    },
    "any of": {
        "anyOf": {"filters": [where("isDone", "EQ", {"boolValue": True}), where("cost", "GT", {"intValue": "0"})]}
    },
    "not": {"not": where("topic", "EQ", {"stringValue": "home"})},
}
