"""What the contract vectors ask: requests alone. What is answered to them, vector_record.py reads off a server.

A vector is a little story with a name and steps; each playing of it uses users of its own. What the end-to-end tests hold of
bad input is taken over from there, case by case.
"""

from __future__ import annotations

from collections.abc import Callable

from tests.contract.vector_bad_input import bad_input
from tests.contract.vector_requests import (
    ANN,
    BOB,
    DIARY,
    FILTERS,
    MONDAY,
    TUESDAY,
    File,
    admin,
    fresh,
    listed,
    memory,
    ref,
    retrieve,
    write,
)
from tests.e2e.test_bad_input import UNKNOWN_ID

WRITING = File(
    "Write: what is acknowledged is stored once, in order, as it was said",
    {
        "a turn is stored as it was said": [
            memory("Write", write({"text": " I live in Zürich 🏔 now ", "speaker": "Ann"}, scope=MONDAY)),
            memory("GetMemory", {"scope": ANN, "memoryId": ref("id1")}),
        ],
        "every field of a turn is kept, times to the microsecond": [
            memory(
                "Write",
                write(
                    {
                        "text": "Paid the rent",
                        "speaker": "Bank bot",
                        "role": "ROLE_TOOL",
                        "occurredAt": "2024-05-08T09:00:00.123456789Z",
                        "isPinned": True,
                        "expiresAt": "2100-01-01T00:00:00Z",
                        "metadata": {
                            "topic": {"stringValue": "money"},
                            "euros": {"intValue": "-9007199254740993"},
                            "share": {"doubleValue": 0.5},
                            "isDone": {"boolValue": False},
                        },
                    },
                    scope={**MONDAY, "agentId": "banker"},
                    requestId="r1",
                ),
            ),
            memory("GetMemory", {"scope": ANN, "memoryId": ref("id1")}),
        ],
        "turns of a session know the one before them": [
            memory("Write", write("one", "two"), write("three"), write("elsewhere", scope=ANN)),
            listed(),
        ],
        "requests of one stream are answered in order": [
            memory("Write", *(write(f"number {i}", requestId=f"r{i}") for i in range(40)))
        ],
        "a repeated request stores nothing": [
            memory("Write", write("once", requestId="r1")),
            memory("Write", write("once", requestId="r1"), write("twice", requestId="r2")),
            listed(),
        ],
        "a request id with other content is refused": [
            memory("Write", write("once", requestId="r1")),
            memory("Write", write("something else", requestId="r1")),
            listed(),
        ],
        "request ids are each user's own": [
            memory("Write", write("once", requestId="r1")),
            memory("Write", write("once", scope=BOB, requestId="r1")),
            listed(BOB),
        ],
        "one bad request ends the stream, and those before it stay": [
            memory("Write", write("first"), write("second"), write(""), write("fourth")),
            listed(),
        ],
        "a request is stored whole or not at all": [memory("Write", write("good", " \t")), listed()],
        "a message over the limit is refused": [
            memory("Write", write({"$repeat": {"text": {"$repeat": "x", "count": 32_000}}, "count": 150}))
        ],
        "a stream without requests is no error": [memory("Write")],
    },
)

READING = File(
    "Get, list, update, delete, history and the running conversation",
    {
        "an unknown memory is not found": [
            memory(name, {"scope": ANN, "memoryId": id_})
            for name in ("GetMemory", "DeleteMemory", "GetMemoryHistory")
            for id_ in (UNKNOWN_ID, "no uuid at all")
        ],
        "an empty memory lists as empty": [listed()],
        "pages end with an empty token": [
            memory("Write", write("one", "two", "three")),
            listed(pageSize=2),
            listed(pageSize=2, pageToken=ref("nextPageToken1")),
        ],
        "a page token is of its listing alone": [
            memory("Write", write("one", "two", "three"), write("theirs", scope=BOB)),
            listed(pageSize=2),
            listed(pageSize=2, pageToken=ref("nextPageToken1"), filter={"sessionIds": ["monday"]}),
            listed(BOB, pageSize=2, pageToken=ref("nextPageToken1")),
        ],
        "a listing is restricted by session, kind, tier, agent and time": [
            memory(
                "Write",
                write(*DIARY, scope={**MONDAY, "agentId": "a1"}),
                write("elsewhere", scope={**ANN, "agentId": "a2"}),
            ),
            listed(filter={"sessionIds": ["monday"], "occurredFrom": "2024-06-08T09:00:00Z"}),
            listed(filter={"occurredTo": "2024-06-08T09:00:00Z", "kinds": ["KIND_TURN"], "tiers": ["TIER_MTM"]}),
            listed(filter={"agentIds": ["a2"]}),
            listed(filter={"kinds": ["KIND_FACT"]}),
        ],
        **{
            f"metadata: {name}": [memory("Write", write(*DIARY)), listed(filter={"metadata": expression})]
            for name, expression in FILTERS.items()
        },
        "metadata, pin and expiry change, and the history tells": [
            memory("Write", write(DIARY[0])),
            memory(
                "UpdateMemory",
                {
                    "scope": ANN,
                    "memory": {
                        "id": ref("id1"),
                        "metadata": {"topic": {"stringValue": "travel"}},
                        "isPinned": True,
                        "expiresAt": "2100-01-01T00:00:00Z",
                    },
                    "updateMask": "metadata,isPinned,expiresAt",
                    "expectedVersion": "1",
                },
            ),
            memory("UpdateMemory", {"scope": ANN, "memory": {"id": ref("id1")}, "updateMask": "expiresAt"}),
            memory("GetMemoryHistory", {"scope": ANN, "memoryId": ref("id1")}),
        ],
        "a change of another version is aborted": [
            memory("Write", write("one")),
            memory(
                "UpdateMemory",
                {"scope": ANN, "memory": {"id": ref("id1")}, "updateMask": "isPinned", "expectedVersion": "7"},
            ),
        ],
        "an expired memory is not listed": [
            memory("Write", write({"text": "old", "expiresAt": "2001-01-01T00:00:00Z"})),
            listed(),
        ],
        "a deleted memory is gone for good": [
            memory("Write", write("one", "two")),
            memory("DeleteMemory", {"scope": ANN, "memoryId": ref("id2")}),
            memory("DeleteMemory", {"scope": ANN, "memoryId": ref("id2")}),
            memory("GetMemory", {"scope": ANN, "memoryId": ref("id2")}),
            memory("GetMemoryHistory", {"scope": ANN, "memoryId": ref("id2")}),
            listed(),
        ],
        "the running conversation of a session, oldest first": [
            memory("Write", write("one", "two", "three")),
            memory("GetContext", {"scope": MONDAY}),
            memory("GetContext", {"scope": MONDAY, "maxTurns": 2}),
            memory("GetContext", {"scope": {**ANN, "sessionId": "never"}}),
        ],
    },
)

RETRIEVING = File(
    "Retrieve and Explain: the parts of an answer, budgets, filters, deadlines",
    {
        "the running conversation, the memory that answers, and how it came about": [
            memory("Write", write(*DIARY), write("Hello again", scope=TUESDAY)),
            memory("Retrieve", retrieve("Which instrument does my brother play?", scope=TUESDAY)),
        ],
        "without the running conversation": [
            memory("Write", write(*DIARY)),
            memory("Retrieve", retrieve("When is the dentist?", scope=ANN, excludeContext=True)),
        ],
        "coarse hits before the selected ones": [
            memory("Write", write(DIARY[0])),
            memory("Retrieve", retrieve("Where did I move?", scope=ANN, includeCoarse=True, excludeContext=True)),
        ],
        "nothing is better than nonsense": [
            memory("Write", write(*DIARY)),
            memory(
                "Retrieve", retrieve("What is the capital of Peru?", scope=ANN, minRelevance=1.0, excludeContext=True)
            ),
        ],
        "only what the filter lets through": [
            memory("Write", write(*DIARY)),
            memory(
                "Retrieve",
                retrieve(
                    "Which instrument does my brother play?",
                    scope=ANN,
                    filter={"metadata": FILTERS["equal"]},
                    excludeContext=True,
                ),
            ),
        ],
        "of a user without memories": [memory("Retrieve", retrieve("Where do I live?"))],
        "coarse order where the Selector is off": [
            memory("Write", write(DIARY[2])),
            memory("Retrieve", retrieve("cello", scope=ANN, selectorMode="SELECTOR_MODE_OFF", excludeContext=True)),
        ],
        "a budget of a millisecond still answers": [
            memory("Write", write(DIARY[2])),
            memory(
                "Retrieve",
                retrieve("cello", scope=ANN, budget={"deadline": "0.001s"}, excludeContext=True),
                responses=[{"memories": {"memories": {"$any": "list"}}}, {"trace": {"elapsed": {"$any": "duration"}}}],
            ),
        ],
        "a deadline that has passed": [memory("Retrieve", retrieve("Where do I live?"), timeoutSeconds=0)],
        "hypothetical queries without a Writer": [
            memory("Retrieve", retrieve("Where do I live?", hypotheticalQueries=1))
        ],
        "why a memory is among the answers": [
            memory("Write", write(DIARY[0])),
            memory("Explain", {"retrieve": retrieve("Where did I move?", scope=ANN), "memoryId": ref("id1")}),
        ],
        "an unknown memory is not explained": [
            memory("Explain", {"retrieve": retrieve("Where did I move?"), "memoryId": UNKNOWN_ID})
        ],
    },
)

KEY = {"key": ref("secret1")}

ACCESS = File(
    "Keys, and one user never seeing another's memory",
    {
        "no key": [memory("Retrieve", retrieve("x"), authorization=""), admin("GetStats", {}, authorization="")],
        "no key of ours": [
            memory("Retrieve", retrieve("x"), authorization=header)
            for header in ("Basic abc", "Bearer lm_abc_def", "Bearer sk-123")
        ],
        "a key for one user opens no other and no admin call": [
            admin("CreateKey", {"key": {"label": "one user", "userIds": [fresh("ann")]}}),
            memory("Write", write("mine"), **KEY),
            {**listed(), **KEY},
            {**listed(BOB), **KEY},
            memory("Write", write("not mine", scope=BOB), **KEY),
            admin("GetStats", {}, **KEY),
            admin("CreateKey", {"key": {}}, **KEY),
            admin("ListKeys", {}, **KEY),
            admin("RevokeKey", {"keyId": ref("keyId1")}, **KEY),
            admin("Consolidate", {"userId": fresh("ann")}, **KEY),
            admin("CancelConsolidation", {"userId": fresh("ann")}, **KEY),
            admin("UndoConsolidation", {"runId": UNKNOWN_ID}, **KEY),
            admin("EraseUser", {"userId": fresh("ann")}, **KEY),
            admin("ExportUser", {"userId": fresh("ann")}, **KEY),
            admin("ImportUser", {"userId": fresh("ann"), "jsonLines": ["{}"]}, **KEY),
            admin("RotateKey", {"keyId": ref("keyId1")}, **KEY),
            admin("Backup", {}, **KEY),
        ],
        "a key with admin rights for one user": [
            admin("CreateKey", {"key": {"userIds": [fresh("ann")], "isAdmin": True}}),
            admin("GetStats", {"userId": fresh("ann")}, **KEY),
            admin("CancelConsolidation", {"userId": fresh("bob")}, **KEY),
            admin("EraseUser", {"userId": fresh("bob")}, **KEY),
            admin("ExportUser", {"userId": fresh("bob")}, **KEY),
            admin("ImportUser", {"userId": fresh("bob"), "jsonLines": ["{}"]}, **KEY),
            admin("Backup", {}, **KEY),
        ],
        "a revoked key opens nothing": [
            admin("CreateKey", {"key": {"label": "short-lived"}}),
            {**listed(), **KEY},
            admin("RevokeKey", {"keyId": ref("keyId1")}),
            {**listed(), **KEY},
            admin("RevokeKey", {"keyId": ref("keyId1")}),
        ],
        "a rotated key opens nothing, its successor what it did": [
            admin("CreateKey", {"key": {"label": "leaked", "userIds": [fresh("ann")]}}),
            admin("RotateKey", {"keyId": ref("keyId1")}),
            {**listed(), **KEY},
            {**listed(), "key": ref("secret2")},
            {**listed(BOB), "key": ref("secret2")},
            admin("RotateKey", {"keyId": ref("keyId1")}),
        ],
        "a rotated key goes on for as long as is asked for": [
            admin("CreateKey", {"key": {"label": "changing over"}}),
            admin("RotateKey", {"keyId": ref("keyId1"), "overlap": "3600s"}),
            {**listed(), **KEY},
            {**listed(), "key": ref("secret2")},
            admin("RotateKey", {"keyId": "nobody"}),
            admin("RotateKey", {"keyId": ref("keyId2"), "overlap": "-1s"}),
        ],
        "a namespace never sees another's memory, not even of a user of the same name": [
            admin("CreateKey", {"key": {"namespace": fresh("tenant"), "isAdmin": True}}),
            memory("Write", write("ours")),
            memory("Write", write("theirs", requestId="r1"), **KEY),
            listed(),
            {**listed(), **KEY},
            memory("GetMemory", {"scope": ANN, "memoryId": ref("id1")}, **KEY),
            memory("Retrieve", retrieve("ours", excludeContext=True), **KEY),
            admin("GetStats", {}, **KEY),
            admin("ListKeys", {}, **KEY),
            admin("ListKeys", {"namespace": "default"}, **KEY),
            admin("CreateKey", {"key": {"namespace": "default"}}, **KEY),
            admin("RevokeKey", {"keyId": ref("keyId1")}, **KEY),
        ],
        "an expired key opens nothing": [
            admin("CreateKey", {"key": {"expiresAt": "2001-01-01T00:00:00Z"}}),
            {**listed(), **KEY},
        ],
        "keys are listed page by page, without their secrets": [
            admin("CreateKey", {"key": {"label": "listed"}}),
            admin("ListKeys", {"pageSize": 1}),
            admin("ListKeys", {"pageSize": 1, "pageToken": ref("nextPageToken1")}),
            admin("ListKeys", {"pageSize": 1001}),
        ],
        "an unknown key is not found": [admin("RevokeKey", {"keyId": "nobody"}), admin("RevokeKey", {})],
        "another user's memory looks exactly like none": [
            memory("Write", write("theirs", scope=BOB)),
            memory("GetMemory", {"scope": ANN, "memoryId": ref("id1")}),
            memory("UpdateMemory", {"scope": ANN, "memory": {"id": ref("id1")}, "updateMask": "isPinned"}),
            memory("DeleteMemory", {"scope": ANN, "memoryId": ref("id1")}),
            memory("GetMemoryHistory", {"scope": ANN, "memoryId": ref("id1")}),
            memory("Explain", {"retrieve": retrieve("theirs"), "memoryId": ref("id1")}),
            memory("Retrieve", retrieve("theirs", excludeContext=True)),
            memory("GetContext", {"scope": MONDAY}),
            listed(),
            memory("GetMemory", {"scope": BOB, "memoryId": ref("id1")}),
        ],
    },
)

OPERATING = File(
    "Figures and consolidation",
    {
        "figures of one user": [
            memory("Write", write("one", "two")),
            admin("GetStats", {"userId": fresh("ann")}),
        ],
        "a run is followed to its end, and taken back": [
            memory("Write", write(*(turn["text"] for turn in DIARY))),
            admin("Consolidate", {"userId": fresh("ann")}),
            admin("UndoConsolidation", {"runId": ref("id4")}),
            admin("UndoConsolidation", {"runId": ref("id4")}),
            listed(filter={"kinds": ["KIND_SUMMARY", "KIND_FACT"]}),
        ],
        "an erased user is gone, and what had begun before does not come back": [
            memory("Write", write("one", "two", requestId="r1"), write("theirs", scope=BOB)),
            admin("EraseUser", {"userId": fresh("ann")}),
            listed(),
            memory("GetMemory", {"scope": ANN, "memoryId": ref("id1")}),
            memory("GetContext", {"scope": MONDAY}),
            memory("Write", write("one", "two", requestId="r1")),
            admin("EraseUser", {"userId": fresh("ann")}),
            memory("Write", write("a new user's")),
            listed(),
            listed(BOB),
        ],
        "an export is taken in by another user, ids kept, and once": [
            memory("Write", write(*DIARY)),
            admin(
                "ExportUser",
                {"userId": fresh("ann")},
                responses=[
                    {
                        "jsonLines": {"$capture": "lines"},
                        "doneCount": {"$any": "number"},
                        "totalCount": {"$any": "number"},
                    }
                ],
            ),
            admin("ImportUser", {"userId": fresh("bob"), "jsonLines": ref("lines")}),
            admin("ImportUser", {"userId": fresh("bob"), "jsonLines": ref("lines")}),
            listed(BOB),
            admin("ImportUser", {"userId": fresh("bob"), "jsonLines": ["no line of an export"]}),
            admin("ImportUser", {"userId": fresh("bob")}),
            admin("ImportUser"),
        ],
        "a user without memories exports a header alone": [
            admin(
                "ExportUser",
                {"userId": fresh("ann")},
                responses=[{"jsonLines": [{"$any": "string"}], "doneCount": "1", "totalCount": "1"}],
            )
        ],
        "a copy of everything, complete with the last message": [
            admin("Backup", {"name": fresh("copy")}),
            admin("Backup", {"name": fresh("copy")}),
            admin("Backup", {"name": "../escape"}),
        ],
        "nothing new is nothing to do": [admin("Consolidate", {"userId": fresh("ann")})],
        "no run is nothing to cancel": [admin("CancelConsolidation", {"userId": fresh("ann")})],
        "a user is required": [
            admin(name, {}) for name in ("Consolidate", "CancelConsolidation", "EraseUser", "ExportUser", "ImportUser")
        ],
        "an unknown run is not found": [
            admin("UndoConsolidation", {"runId": id_}) for id_ in (UNKNOWN_ID, "no uuid at all", "")
        ],
    },
)


FILES: dict[str, Callable[[], File] | File] = {
    "access": ACCESS,
    "bad_input": bad_input,
    "operating": OPERATING,
    "reading": READING,
    "retrieving": RETRIEVING,
    "writing": WRITING,
}
"""File name, without its ending, to what is in it."""


def files() -> dict[str, File]:
    """Every file by its name."""
    return {name: made if isinstance(made, File) else made() for name, made in FILES.items()}
