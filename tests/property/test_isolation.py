"""No read, write, count, error or trace crosses from one user or namespace to another, whoever calls what in which order.

A machine calls every RPC of both services over real gRPC, with keys of two namespaces that have users, sessions and texts
in common: admins and agents, bound to users and not, revoked and expired. Each partition has a token of its own in all that
is written to it; a token in an answer that isn't its own is a leak. An error about what isn't the caller's must be equal, to
the byte, to the one about what isn't there.
"""

from __future__ import annotations

import itertools
import secrets
import shutil
import tempfile
import uuid
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

import grpc
from google.protobuf.field_mask_pb2 import FieldMask
from google.protobuf.message import Message
from google.protobuf.timestamp_pb2 import Timestamp
from hypothesis import Phase, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    Bundle,
    RuleBasedStateMachine,
    initialize,
    multiple,
    rule,
    run_state_machine_as_test,
)

from lightmem_server.pb import admin_service_pb2 as admin
from lightmem_server.pb import memory_pb2
from lightmem_server.pb import memory_service_pb2 as memory
from tests.live_server import LiveServer
from tests.wire import METHODS, Answer, call

USERS = ("ana", "bob", "cleo")
UNKNOWN_ID = "0190a000-0000-7000-8000-000000000000"
OK, DENIED = grpc.StatusCode.OK, grpc.StatusCode.PERMISSION_DENIED
NOT_FOUND, UNAUTHENTICATED = grpc.StatusCode.NOT_FOUND, grpc.StatusCode.UNAUTHENTICATED
TURNS = memory_pb2.MemoryFilter(kinds=[memory_pb2.KIND_TURN], include_archived=True)

users = st.sampled_from(USERS)
anything = st.integers(0, 10_000)
"""Chooses one of whatever there is by then."""


@dataclass(eq=False)
class Key:
    """A key, as the machine knows it."""

    secret: str
    key_id: str
    namespace: str
    user_ids: frozenset[str] = frozenset()
    is_admin: bool = False
    expires_at: int | None = None
    is_revoked: bool = False

    def may_manage(self, other: Key) -> bool:
        is_within = not self.user_ids or (bool(other.user_ids) and other.user_ids <= self.user_ids)
        return self.is_operator or (self.namespace == other.namespace and is_within)

    @property
    def is_operator(self) -> bool:
        return self.namespace == "default" and self.is_admin and not self.user_ids


@dataclass(eq=False)
class Place:
    """A partition, as the machine knows it: the token that is in all of its words, and what it should hold."""

    namespace: str
    user_id: str
    token: str
    turn_ids: list[str]


class Isolation(RuleBasedStateMachine):
    """Calls, and what must come of them."""

    live: ClassVar[LiveServer]
    channel: ClassVar[grpc.Channel]
    examples = itertools.count()

    keys = Bundle("keys")

    def __init__(self) -> None:
        super().__init__()
        number = next(self.examples)
        self.namespaces = [f"n{number}", f"n{number}/{USERS[0]}"]
        self.places = {
            (namespace, user): Place(namespace, user, f"tok{secrets.token_hex(8)}", [])
            for namespace in self.namespaces
            for user in USERS
        }
        self.all_ids: list[str] = []
        self.all_keys: list[Key] = []
        self.run_ids: dict[str, Place] = {}
        self.page_tokens: list[tuple[Place, str]] = []
        self.roots: dict[str, Key] = {}
        self.operator = Key(self.live.key, self.live.key.split("_")[1], "default", is_admin=True)

    @initialize(target=keys)
    def begin(self) -> Any:
        """Two namespaces, an admin of all of each; a few turns everywhere; keys of every sort."""
        for namespace in self.namespaces:
            self.roots[namespace] = self._made(self.operator, namespace, (), is_admin=True)
        made = [self.operator]
        for namespace, root in self.roots.items():
            made += [self._made(root, namespace, (USERS[0],)), self._made(root, namespace, USERS[:2], is_admin=True)]
        for place in self.places.values():
            self.write(self.roots[place.namespace], place.user_id, 3)
        return multiple(*made, *self.roots.values())

    # What the machine knows

    def now(self) -> int:
        return self.live.server._clock.now()

    def refusal_of(self, key: Key, user_id: str | None = None, *, is_admin_call: bool = False) -> str | None:
        """Why a call must be refused, whatever it asks for; None: it need not be. `user_id` None: it names none."""
        if key.is_revoked or (key.expires_at is not None and key.expires_at <= self.now()):
            return "KEY_INVALID"
        if is_admin_call and not key.is_admin:
            return "KEY_NOT_ADMIN"
        if user_id is not None and key.user_ids and user_id not in key.user_ids:
            return "KEY_NOT_FOR_USER"
        return None

    def place(self, key: Key, user_id: str) -> Place | None:
        """Whose data a call with this key is about; the operator's own namespace has none."""
        return self.places.get((key.namespace, user_id))

    def any_id(self, number: int) -> str:
        return self.all_ids[number % len(self.all_ids)] if self.all_ids else UNKNOWN_ID

    def any_place(self, number: int) -> Place:
        return list(self.places.values())[number % len(self.places)]

    def call(self, key: Key, name: str, request: Message | Sequence[Message], *, about: Place | None) -> Answer:
        """Call, and look for what isn't the answer's business: tokens and ids of every place but the one it is about."""
        answer = call(self.channel, name, request, key.secret)
        seen = answer.everything
        own_words = b"".join(
            one.SerializeToString() for one in ([request] if isinstance(request, Message) else request)
        )
        for place in self.places.values():
            if place is not about:
                assert place.token.encode() not in seen or place.token.encode() in own_words, (name, place)
                assert not any(id_.encode() in seen for id_ in place.turn_ids), f"{name} told an id of {place}"
        for other in self.all_keys:
            assert other is key or other.secret.encode() not in seen, f"{name} told a secret"
        assert answer.status not in (grpc.StatusCode.UNKNOWN, grpc.StatusCode.INTERNAL), (name, answer)
        return answer

    def ask(
        self, key: Key, name: str, request: Message | Sequence[Message], user_id: str, *, is_admin_call: bool = False
    ) -> Answer | None:
        """Call for one user; None when it was refused as it had to be."""
        about = self.place(key, user_id)
        refusal = self.refusal_of(key, user_id, is_admin_call=is_admin_call)
        answer = self.call(key, name, request, about=about if refusal is None else None)
        if refusal is None:
            return answer
        assert answer.reason == refusal, (name, answer)
        assert answer.status is (UNAUTHENTICATED if refusal == "KEY_INVALID" else DENIED)
        return None

    def ask_for_id(
        self, key: Key, name: str, make: Callable[[str], Message], user_id: str, memory_id: str
    ) -> Answer | None:
        """Call about one memory; None when it was refused as it had to be: as for an id that there never was."""
        answer = self.ask(key, name, make(memory_id), user_id)
        if answer is None:
            return None
        place = self.place(key, user_id)
        if place is None or memory_id not in place.turn_ids:
            unknown = call(self.channel, name, make(str(uuid.uuid4())), key.secret)
            assert answer.status is NOT_FOUND
            assert answer.refusal == unknown.refusal
            return None
        assert answer.status is OK, answer
        return answer

    # MemoryService

    @rule(key=keys, user=users, count=st.integers(1, 3))
    def write(self, key: Key, user: str, count: int) -> None:
        place = self.place(key, user)
        token = place.token if place else "tokoperator"
        request = memory.WriteRequest(
            scope=scope(user, token),
            turns=[
                memory_pb2.Turn(
                    text=f"I said {token} and that I live in Porto, {token}.",
                    speaker=token,
                    metadata={"place": memory_pb2.MetadataValue(string_value=token)},
                )
                for _ in range(count)
            ],
            request_id=secrets.token_hex(4),
        )
        answer = self.ask(key, "Write", [request], user)
        if answer is not None:
            assert answer.status is OK, answer
            (response,) = answer.responses
            assert isinstance(response, memory.WriteResponse)
            assert len(response.memory_ids) == count
            if place is not None:
                place.turn_ids += response.memory_ids
                self.all_ids += response.memory_ids

    @rule(key=keys, user=users, other=anything, query=st.sampled_from(["Where do I live?", "What did I say of {}?"]))
    def retrieve(self, key: Key, user: str, other: int, query: str) -> None:
        """Asks for another place's words, in its session."""
        token = self.any_place(other).token
        request = memory.RetrieveRequest(
            scope=scope(user, token), query=query.format(token), include_coarse=True, filter=turns_alone()
        )
        answer = self.ask(key, "Retrieve", request, user)
        if answer is None:
            return
        assert answer.status is OK, answer
        place = self.place(key, user)
        trace = answer.responses[-1]
        assert isinstance(trace, memory.RetrieveResponse)
        assert trace.HasField("trace")
        if place is not None:
            assert trace.trace.matched_count == len(place.turn_ids)

    @rule(key=keys, user=users, number=anything)
    def explain(self, key: Key, user: str, number: int) -> None:
        def make(memory_id: str) -> Message:
            retrieve = memory.RetrieveRequest(scope=scope(user), query="Where do I live?")
            return memory.ExplainRequest(retrieve=retrieve, memory_id=memory_id)

        self.ask_for_id(key, "Explain", make, user, self.any_id(number))

    @rule(key=keys, user=users, other=anything)
    def get_context(self, key: Key, user: str, other: int) -> None:
        place, theirs = self.place(key, user), self.any_place(other)
        answer = self.ask(key, "GetContext", memory.GetContextRequest(scope=scope(user, theirs.token)), user)
        if answer is not None:
            assert answer.status is OK
            (response,) = answer.responses
            assert isinstance(response, memory.GetContextResponse)
            assert bool(response.turns) == (theirs is place and bool(theirs.turn_ids))

    @rule(key=keys, user=users, number=anything)
    def get_memory(self, key: Key, user: str, number: int) -> None:
        def make(memory_id: str) -> Message:
            return memory.GetMemoryRequest(scope=scope(user), memory_id=memory_id)

        self.ask_for_id(key, "GetMemory", make, user, self.any_id(number))

    @rule(key=keys, user=users, number=anything)
    def get_memory_history(self, key: Key, user: str, number: int) -> None:
        def make(memory_id: str) -> Message:
            return memory.GetMemoryHistoryRequest(scope=scope(user), memory_id=memory_id)

        self.ask_for_id(key, "GetMemoryHistory", make, user, self.any_id(number))

    @rule(key=keys, user=users, number=anything, version=st.integers(0, 3))
    def update_memory(self, key: Key, user: str, number: int, version: int) -> None:
        """An expected version must not tell whether there is a record elsewhere."""
        mine = self.place(key, user)

        def make(memory_id: str) -> Message:
            is_mine = mine is not None and memory_id in mine.turn_ids
            return memory.UpdateMemoryRequest(
                scope=scope(user),
                memory=memory_pb2.Memory(id=memory_id, is_pinned=True),
                update_mask=FieldMask(paths=["is_pinned"]),
                expected_version=0 if is_mine else version,
            )

        self.ask_for_id(key, "UpdateMemory", make, user, self.any_id(number))

    @rule(key=keys, user=users, number=anything)
    def delete_memory(self, key: Key, user: str, number: int) -> None:
        def make(memory_id: str) -> Message:
            return memory.DeleteMemoryRequest(scope=scope(user), memory_id=memory_id)

        memory_id = self.any_id(number)
        if self.ask_for_id(key, "DeleteMemory", make, user, memory_id) is not None:
            place = self.place(key, user)
            assert place is not None
            place.turn_ids.remove(memory_id)

    @rule(key=keys, user=users)
    def list_memories(self, key: Key, user: str) -> None:
        """And with tokens that belong to other listings."""
        request = memory.ListMemoriesRequest(scope=scope(user), filter=TURNS, page_size=2)
        place = self.place(key, user)
        found: list[str] = []
        while True:
            answer = self.ask(key, "ListMemories", request, user)
            if answer is None:
                return
            assert answer.status is OK
            (page,) = answer.responses
            assert isinstance(page, memory.ListMemoriesResponse)
            found += [one.id for one in page.memories]
            if not page.next_page_token:
                break
            if place is not None:
                self.page_tokens.append((place, page.next_page_token))
            request.page_token = page.next_page_token
        if place is not None:
            assert found == place.turn_ids[::-1]
        for owner, request.page_token in self.page_tokens[-6:]:
            answer = self.ask(key, "ListMemories", request, user)
            assert answer is not None
            assert answer.status is OK if owner is place else answer.reason == "BAD_PAGE_TOKEN"

    # AdminService

    @rule(key=keys, user=st.sampled_from(["", *USERS]))
    def get_stats(self, key: Key, user: str) -> None:
        answer = self.ask(key, "GetStats", admin.GetStatsRequest(user_id=user), user, is_admin_call=True)
        if answer is None:
            return
        (stats,) = answer.responses
        assert isinstance(stats, admin.GetStatsResponse)
        if key.is_operator:
            assert stats.store_size_bytes > 0
            return
        mine = [
            place for place in self.places.values() if place.namespace == key.namespace and user in ("", place.user_id)
        ]
        counts = [count for count in stats.counts if count.kind == memory_pb2.KIND_TURN]
        assert sum(c.active_count + c.archived_count for c in counts) == sum(len(place.turn_ids) for place in mine)
        assert stats.user_count == sum(bool(place.turn_ids) for place in mine)
        sizes = (stats.store_size_bytes, stats.resident_partition_count, stats.resident_size_bytes)
        assert sizes == (0, 0, 0), "figures of the whole server tell of other namespaces"

    @rule(
        target=keys,
        key=keys,
        elsewhere=st.booleans(),
        user_ids=st.sets(users, max_size=2),
        is_admin=st.booleans(),
        lasts_seconds=st.sampled_from([None, 0, 60, 86_400]),
    )
    def create_key(
        self, key: Key, elsewhere: bool, user_ids: set[str], is_admin: bool, lasts_seconds: int | None
    ) -> Any:
        """Whoever makes a key makes none that opens more than their own."""
        namespace = self.namespaces[0 if elsewhere else -1]
        wanted = Key("", "", namespace, frozenset(user_ids), is_admin)
        if lasts_seconds is not None:
            wanted.expires_at = self.now() + lasts_seconds * 1_000_000
        refusal = self.refusal_of(key, is_admin_call=True)
        if refusal is None and namespace != key.namespace and not key.is_operator:
            refusal = "KEY_NOT_OPERATOR"
        if refusal is None and not key.may_manage(wanted):
            refusal = "KEY_NOT_FOR_USER"
        answer = self.call(key, "CreateKey", creation(wanted), about=None)
        assert answer.reason == (refusal or "")
        if refusal is not None:
            return multiple()
        return self._learn(answer.responses[0], wanted)

    @rule(key=keys, elsewhere=st.booleans())
    def list_keys(self, key: Key, elsewhere: bool) -> None:
        namespace = self.namespaces[0 if elsewhere else -1]
        refusal = self.refusal_of(key, is_admin_call=True)
        if refusal is None and namespace != key.namespace and not key.is_operator:
            refusal = "KEY_NOT_OPERATOR"
        request = admin.ListKeysRequest(namespace=namespace, page_size=2)
        found: set[str] = set()
        while True:
            answer = self.call(key, "ListKeys", request, about=None)
            assert answer.reason == (refusal or "")
            if refusal is not None:
                return
            (page,) = answer.responses
            assert isinstance(page, admin.ListKeysResponse)
            found |= {one.key_id for one in page.keys}
            request.page_token = page.next_page_token
            if not page.next_page_token:
                break
        assert found == {k.key_id for k in self.all_keys if k.namespace == namespace and key.may_manage(k)}

    @rule(target=keys, key=keys, other=keys, overlap_seconds=st.sampled_from([0, 600]))
    def rotate_key(self, key: Key, other: Key, overlap_seconds: int) -> Any:
        request = admin.RotateKeyRequest(key_id=other.key_id)
        request.overlap.seconds = overlap_seconds
        answer = self._ask_for_key(key, other, "RotateKey", request)
        if answer is None:
            return multiple()
        if self.refusal_of(other) is not None:
            assert answer.reason == "KEY_OVER"
            return multiple()
        response = answer.responses[0]
        assert isinstance(response, admin.RotateKeyResponse)
        assert response.replaced.key_id == other.key_id
        made = self._learn(response, other)
        if overlap_seconds:
            other.expires_at = response.replaced.expires_at.ToMicroseconds()
        else:
            other.is_revoked = True
        assert (self.refusal_of(other) is None) == (overlap_seconds > 0)
        return made

    @rule(key=keys, other=keys)
    def revoke_key(self, key: Key, other: Key) -> None:
        if self._ask_for_key(key, other, "RevokeKey", admin.RevokeKeyRequest(key_id=other.key_id)) is not None:
            other.is_revoked = True

    @rule(key=keys, user=users)
    def consolidate(self, key: Key, user: str) -> None:
        answer = self.ask(key, "Consolidate", admin.ConsolidateRequest(user_id=user), user, is_admin_call=True)
        place = self.place(key, user)
        if answer is not None and place is not None:
            assert answer.status is OK, answer
            messages = [one for one in answer.responses if isinstance(one, admin.ConsolidateResponse)]
            self.run_ids |= {message.run_id: place for message in messages if message.run_id}

    @rule(key=keys, user=users)
    def cancel_consolidation(self, key: Key, user: str) -> None:
        request = admin.CancelConsolidationRequest(user_id=user)
        answer = self.ask(key, "CancelConsolidation", request, user, is_admin_call=True)
        assert answer is None or answer.status is OK

    @rule(key=keys)
    def undo_consolidation(self, key: Key) -> None:
        """Of a run of every user, begun here where there is none yet."""
        for place in self.places.values():
            if place.namespace in self.roots and place.user_id in USERS and place not in self.run_ids.values():
                self.consolidate(self.roots[place.namespace], place.user_id)
        for run_id, place in self.run_ids.items():
            answer = self.call(key, "UndoConsolidation", admin.UndoConsolidationRequest(run_id=run_id), about=None)
            refusal = self.refusal_of(key, is_admin_call=True)
            if refusal is not None:
                assert answer.reason == refusal
            elif place.namespace != key.namespace or self.refusal_of(key, place.user_id) is not None:
                unknown = admin.UndoConsolidationRequest(run_id=str(uuid.uuid4()))
                assert answer.status is NOT_FOUND
                assert answer.refusal == call(self.channel, "UndoConsolidation", unknown, key.secret).refusal
            else:
                assert answer.status in (OK, grpc.StatusCode.FAILED_PRECONDITION)

    @rule(key=keys, user=users)
    def export_user(self, key: Key, user: str) -> None:
        answer = self.ask(key, "ExportUser", admin.ExportUserRequest(user_id=user), user, is_admin_call=True)
        if answer is not None:
            assert answer.status is OK
            place = self.place(key, user)
            text = answer.everything.decode(errors="replace")
            assert place is None or all(id_ in text or id_.replace("-", "") in text for id_ in place.turn_ids)

    @rule(key=keys, user=users)
    def import_user(self, key: Key, user: str) -> None:
        """Of what is no export; whether a real one comes back whole is for other tests."""
        request = admin.ImportUserRequest(user_id=user, json_lines=["{}"])
        answer = self.ask(key, "ImportUser", [request], user, is_admin_call=True)
        assert answer is None or answer.status is grpc.StatusCode.INVALID_ARGUMENT

    @rule(key=keys)
    def erase_user(self, key: Key) -> None:
        """Of a user of the same name everywhere: it is gone in the caller's namespace alone."""
        user = f"gone-{secrets.token_hex(4)}"
        text = memory_pb2.Turn(text="I said nothing.")
        for root in self.roots.values():
            call(self.channel, "Write", memory.WriteRequest(scope=scope(user), turns=[text]), root.secret)
        answer = self.ask(key, "EraseUser", admin.EraseUserRequest(user_id=user), user, is_admin_call=True)
        is_erased = answer is not None and answer.status is OK
        for namespace, root in self.roots.items():
            listed = call(self.channel, "ListMemories", memory.ListMemoriesRequest(scope=scope(user)), root.secret)
            (page,) = listed.responses
            assert isinstance(page, memory.ListMemoriesResponse)
            assert bool(page.memories) != (is_erased and namespace == key.namespace)
            call(self.channel, "EraseUser", admin.EraseUserRequest(user_id=user), root.secret)
            for one in page.memories:
                delete = memory.DeleteMemoryRequest(scope=scope(user), memory_id=one.id)
                call(self.channel, "DeleteMemory", delete, root.secret)
        for namespace in self.namespaces:
            self.places.setdefault((namespace, user), Place(namespace, user, f"tok{secrets.token_hex(8)}", []))

    @rule(key=keys)
    def backup(self, key: Key) -> None:
        """It is of all namespaces: for the operator alone."""
        answer = self.call(key, "Backup", admin.BackupRequest(), about=None)
        if key.is_operator:
            assert answer.status is OK or answer.reason == "BACKUP_AT_WORK", answer
        else:
            assert answer.status in (DENIED, UNAUTHENTICATED)

    # Time

    @rule(seconds=st.sampled_from([1, 61, 3600]))
    def wait(self, seconds: int) -> None:
        self.live.ahead_micros += seconds * 1_000_000

    def teardown(self) -> None:
        """What every user has is what was written and not deleted, to the last id."""
        for (namespace, user), place in self.places.items():
            if namespace in self.roots:
                request = memory.ListMemoriesRequest(scope=scope(user), filter=TURNS, page_size=1000)
                (page,) = self.call(self.roots[namespace], "ListMemories", request, about=place).responses
                assert isinstance(page, memory.ListMemoriesResponse)
                assert [one.id for one in page.memories] == place.turn_ids[::-1]

    # Keys

    def _made(self, by: Key, namespace: str, user_ids: Sequence[str], *, is_admin: bool = False) -> Key:
        wanted = Key("", "", namespace, frozenset(user_ids), is_admin)
        answer = self.call(by, "CreateKey", creation(wanted), about=None)
        assert answer.status is OK, answer
        return self._learn(answer.responses[0], wanted)

    def _learn(self, response: Message, like: Key) -> Key:
        assert isinstance(response, admin.CreateKeyResponse | admin.RotateKeyResponse)
        made = Key(response.secret, response.key.key_id, like.namespace, like.user_ids, like.is_admin, like.expires_at)
        assert (response.key.namespace, set(response.key.user_ids)) == (like.namespace, set(like.user_ids))
        self.all_keys.append(made)
        return made

    def _ask_for_key(self, key: Key, other: Key, name: str, request: Message) -> Answer | None:
        """Call about one key; None when it was refused as it had to be. The roots are left alone: the machine needs them."""
        if other is self.operator or other in self.roots.values():
            return None
        answer = self.call(key, name, request, about=None)
        refusal = self.refusal_of(key, is_admin_call=True)
        if refusal is not None:
            assert answer.reason == refusal
            return None
        if not key.may_manage(other):
            unknown = type(request)(key_id="nobody")
            assert answer.status is NOT_FOUND
            assert answer.refusal == call(self.channel, name, unknown, key.secret).refusal
            return None
        return answer


def scope(user_id: str, session: str = "") -> memory_pb2.Scope:
    """A scope whose session and agent have a place's token for a name."""
    return memory_pb2.Scope(user_id=user_id, session_id=session, agent_id=session)


def turns_alone() -> memory_pb2.MemoryFilter:
    return memory_pb2.MemoryFilter(kinds=[memory_pb2.KIND_TURN])


def creation(key: Key) -> admin.CreateKeyRequest:
    """The request for such a key."""
    wanted = admin.ApiKey(namespace=key.namespace, user_ids=sorted(key.user_ids), is_admin=key.is_admin)
    if key.expires_at is not None:
        expires_at = Timestamp()
        expires_at.FromMicroseconds(key.expires_at)
        wanted.expires_at.CopyFrom(expires_at)
    return admin.CreateKeyRequest(key=wanted)


def test_every_rpc_has_a_rule() -> None:
    """An RPC that is added fails here until the machine calls it."""
    missing = {
        name for name in METHODS if not hasattr(getattr(Isolation, snake(name), None), "hypothesis_stateful_rule")
    }
    assert missing == set()


def snake(name: str) -> str:
    return "".join(f"_{letter.lower()}" if letter.isupper() else letter for letter in name).lstrip("_")


def test_nothing_crosses() -> None:
    folder = Path(tempfile.mkdtemp(prefix="lightmem-isolation-"))
    try:
        with (
            LiveServer(folder, max_auth_failures_per_minute=1_000_000) as live,
            grpc.insecure_channel(live.address) as channel,
        ):
            Isolation.live, Isolation.channel = live, channel
            run_state_machine_as_test(
                Isolation,
                settings=settings(max_examples=20, stateful_step_count=40, deadline=None, phases=(Phase.generate,)),
            )
    finally:
        shutil.rmtree(folder)


def test_ids_cannot_be_guessed_from_one_another(tmp_path: Path) -> None:
    """Ids of the same millisecond count upwards in their middle; the last 32 bits of each are its own."""
    with LiveServer(tmp_path) as live, grpc.insecure_channel(live.address) as channel:
        turns = [memory_pb2.Turn(text=f"turn {i}") for i in range(100)]
        answer = call(channel, "Write", memory.WriteRequest(scope=scope("ana"), turns=turns), live.key)
        (response,) = answer.responses
        assert isinstance(response, memory.WriteResponse)
        numbers = [uuid.UUID(id_).int & 0xFFFF_FFFF for id_ in response.memory_ids]
    distances = [(one ^ other).bit_count() for one, other in itertools.pairwise(numbers)]
    assert min(distances) >= 3, "neighbours differ in about half of 32 bits"
    assert sum(distances) / len(distances) > 12
