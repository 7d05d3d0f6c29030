"""API keys: who calls, and for whom they may.

A key is `lm_<key id>_<secret>`; the secret has 256 random bits, so its SHA-256 is what is stored: nothing slower is needed
against guessing. Comparison takes constant time, and an address that fails too often is refused unread. The caller of the
RPC at work is in a context variable.
"""

from __future__ import annotations

import asyncio
import base64
import hashlib
import hmac
import os
import secrets
import tempfile
from collections.abc import Callable, Iterable
from contextvars import ContextVar
from dataclasses import dataclass
from pathlib import Path

import structlog

from lightmem_server.errors import ForbiddenError, InvalidInputError, UnauthenticatedError
from lightmem_server.service.failures import FailureLimit
from lightmem_server.store.protocol import KeyRecord, Store
from lightmem_server.types import SHARED_USER, Partition

DEFAULT_NAMESPACE = "default"
KEY_ID_BYTES = 10
SECRET_BYTES = 32
RECHECK_MICROS = 1_000_000
"""How long an open stream relies on what it knows of its key, where the key was not changed by this server."""

MAX_KNOWN = 4096
"""Keys in use whose records are kept that long."""

log = structlog.get_logger()


@dataclass(frozen=True, slots=True)
class Caller:
    """Whoever holds the key of this call."""

    key_id: str
    namespace: str
    user_ids: frozenset[str]
    is_admin: bool
    expires_at: int | None = None

    @property
    def is_operator(self) -> bool:
        """Whether this is who runs the server: an admin of the namespace that the first start makes, bound to no users."""
        return self.is_admin and not self.user_ids and self.namespace == DEFAULT_NAMESPACE

    def partition(self, user_id: str, *, field: str = "scope.user_id") -> Partition:
        """The partition of a user whom the caller may act for. `field` is where the request names them.

        Raises:
            ForbiddenError: The key is bound to other users.
            InvalidInputError: The id is reserved.
        """
        if user_id == SHARED_USER:
            raise InvalidInputError(field, f"'{SHARED_USER}' is reserved", reason="RESERVED_USER_ID")
        if self.user_ids and user_id not in self.user_ids:
            raise ForbiddenError("this key is not for that user", reason="KEY_NOT_FOR_USER")
        return Partition(self.namespace, user_id)

    def may_act_for(self, partition: Partition) -> bool:
        """Whether a partition is of a user whom the caller may act for."""
        is_one_of_them = not self.user_ids or partition.user_id in self.user_ids
        return partition.namespace == self.namespace and is_one_of_them

    def may_manage(self, key: KeyRecord) -> bool:
        """Whether a key has no rights that this caller hasn't."""
        if self.is_operator:
            return True
        is_within = not self.user_ids or (bool(key.user_ids) and self.user_ids.issuperset(key.user_ids))
        return self.is_admin and key.namespace == self.namespace and is_within

    def require_admin(self) -> None:
        """Raises ForbiddenError unless the key has admin rights."""
        if not self.is_admin:
            raise ForbiddenError("this key has no admin rights", reason="KEY_NOT_ADMIN")

    def require_operator(self) -> None:
        """Raises ForbiddenError unless this is the server's operator."""
        self.require_admin()
        if not self.is_operator:
            raise ForbiddenError("this needs the key of the server's operator", reason="KEY_NOT_OPERATOR")


caller: ContextVar[Caller] = ContextVar("caller")
"""Set by the interceptor before a servicer method runs."""


def make_key(
    namespace: str,
    *,
    now: int,
    label: str = "",
    user_ids: Iterable[str] = (),
    is_admin: bool = False,
    expires_at: int | None = None,
) -> tuple[KeyRecord, str]:
    """A new key: what to store, and the text to hand out, which is not stored."""
    key_id = base64.b32encode(secrets.token_bytes(KEY_ID_BYTES)).decode().lower()
    secret = secrets.token_urlsafe(SECRET_BYTES)
    record = KeyRecord(
        key_id=key_id,
        namespace=namespace,
        secret_hash=_hash(secret),
        label=label,
        user_ids=tuple(user_ids),
        is_admin=is_admin,
        created_at=now,
        expires_at=expires_at,
    )
    return record, f"lm_{key_id}_{secret}"


class Authenticator:
    """Finds the caller of a key."""

    def __init__(self, store: Store, now: Callable[[], int], failures: FailureLimit | None = None) -> None:
        """`failures`: None: not limited."""
        self._store = store
        self._now = now
        self._failures = failures
        self._known: dict[bytes, tuple[KeyRecord, int, int]] = {}
        """By the hash of the whole key: its record, when it was read, and at which change_count."""
        self.change_count = 0
        """Raised by whoever changes a stored key: open streams then look again."""

    async def authenticate(self, authorization: str | None, *, peer: str = "") -> Caller:
        """The caller of an `authorization` header. `peer`: the other end's address, whose failures are counted.

        Raises:
            UnauthenticatedError: No header, another scheme, an unknown, expired or revoked key.
            OverloadedError: The address failed too often. Keys that were good lately are still looked at: whoever shares an
                address with an attacker goes on working.
        """
        scheme, _, token = (authorization or "").partition(" ")
        digest = _hash(token)
        if self._failures is not None:
            self._failures.check(peer, digest)
        record = await self._look_up(token.strip(), digest) if scheme.lower() == "bearer" else None
        if record is None:
            if self._failures is not None:
                self._failures.count(peer, digest)
            if scheme.lower() != "bearer":
                raise UnauthenticatedError("send the key as 'authorization: Bearer lm_...'", reason="KEY_MISSING")
            raise _not_good()
        if self._failures is not None:
            self._failures.note_good(digest)
        return Caller(record.key_id, record.namespace, frozenset(record.user_ids), record.is_admin, record.expires_at)

    async def _look_up(self, key: str, digest: bytes) -> KeyRecord | None:
        """As verify, but a key in use is read from the store once in RECHECK_MICROS: under load the store's readers are busy,
        and a call that is to be refused must not wait for them."""
        now = self._now()
        record, looked_at, change_count = self._known.get(digest, (None, 0, -1))
        if record is not None and change_count == self.change_count and abs(now - looked_at) < RECHECK_MICROS:
            return record if is_good(record, now) else None
        change_count = self.change_count
        record = await self.verify(key)
        self._known.pop(digest, None)
        if record is not None:
            if len(self._known) >= MAX_KNOWN:
                self._known.clear()
            self._known[digest] = (record, now, change_count)
        return record

    async def verify(self, key: str) -> KeyRecord | None:
        """The record of a key that is good now."""
        prefix, _, rest = key.partition("_")
        key_id, _, secret = rest.partition("_")
        if prefix != "lm" or not key_id or not secret or not key.isascii():
            return None
        record = await self._store.find_key(key_id)
        if record is None or not hmac.compare_digest(record.secret_hash, _hash(secret)):
            return None
        return record if is_good(record, self._now()) else None

    def watch(self, holder: Caller) -> KeyWatch:
        """Looks after the key of a call that stays open."""
        return KeyWatch(self, self._store, holder, self._now)


class KeyWatch:
    """Sees at each message of an open stream that its key is still good: expiry at once, a change of the key made by this
    server at once, by another one that shares the store within RECHECK_MICROS."""

    def __init__(self, authenticator: Authenticator, store: Store, holder: Caller, now: Callable[[], int]) -> None:
        self._authenticator = authenticator
        self._store = store
        self._holder = holder
        self._now = now
        self._seen = (authenticator.change_count, now())

    async def check(self) -> None:
        """Raises UnauthenticatedError when the key is good no more."""
        now = self._now()
        if self._holder.expires_at is not None and self._holder.expires_at <= now:
            raise _not_good()
        change_count, looked_at = self._seen
        if change_count == self._authenticator.change_count and abs(now - looked_at) < RECHECK_MICROS:
            return
        seen = (self._authenticator.change_count, now)
        record = await self._store.find_key(self._holder.key_id)
        if record is None or not is_good(record, now):
            raise _not_good()
        self._seen = seen


def is_good(key: KeyRecord, now: int) -> bool:
    """Whether a key is neither revoked nor expired."""
    return key.revoked_at is None and (key.expires_at is None or key.expires_at > now)


def _not_good() -> UnauthenticatedError:
    """One error for all, so that nobody learns which keys there are or were."""
    return UnauthenticatedError("the key is unknown, expired or revoked")


async def ensure_admin_key(store: Store, path: Path, now: Callable[[], int]) -> None:
    """At the first start, make an admin key and leave it in a file that its owner alone can read.

    The file is written before the key is stored: a crash between the two leaves a file that opens nothing, which the next
    start replaces. A file that was deleted later on purpose is not made again.
    """
    present = await asyncio.to_thread(_read_key_file, path)
    if present and await Authenticator(store, now).verify(present) is not None:
        return
    if await store.list_keys(DEFAULT_NAMESPACE, limit=1, after_key_id=""):
        log.warning("admin_key_file_unusable", path=str(path), advice="keys exist; the file holds none of them")
        return
    await leave_admin_key(store, path, now, label="admin key of the first start")
    log.info("admin_key_created", path=str(path))


async def leave_admin_key(store: Store, path: Path, now: Callable[[], int], *, label: str) -> None:
    """Make an operator's key and leave it in a file."""
    record, key = make_key(DEFAULT_NAMESPACE, now=now(), label=label, is_admin=True)
    await asyncio.to_thread(_write_key_file, path, key)
    await store.put_key(record)


def _read_key_file(path: Path) -> str:
    return path.read_text("utf-8").strip() if path.exists() else ""


def _write_key_file(path: Path, key: str) -> None:
    with tempfile.NamedTemporaryFile("w", dir=path.parent, prefix=path.name, delete=False) as file:
        file.write(key + "\n")
        file.flush()
        os.fsync(file.fileno())
    Path(file.name).replace(path)  # tempfile made it with mode 0600


def _hash(secret: str) -> bytes:
    return hashlib.sha256(secret.encode()).digest()
