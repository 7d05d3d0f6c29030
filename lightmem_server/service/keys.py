"""Makes, lists, rotates and revokes API keys, as far as the caller's own rights go.

A key that the caller may not manage is as one that is not there.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

from lightmem_server.errors import ForbiddenError, InvalidInputError, NotFoundError, PreconditionError
from lightmem_server.service.auth import Authenticator, Caller, is_good, make_key
from lightmem_server.store.protocol import KeyRecord, Store

MAX_OVERLAP_SECONDS = 30 * 86_400


@dataclass(frozen=True, slots=True)
class NewKey:
    """A key and its secret, which is not kept. `replaced`: what it stands in for."""

    record: KeyRecord
    secret: str
    replaced: KeyRecord | None = None


class Keys:
    """The keys of one server."""

    def __init__(self, store: Store, authenticator: Authenticator, now: Callable[[], int]) -> None:
        self._store = store
        self._authenticator = authenticator
        self._now = now
        self._changing = asyncio.Lock()
        """Held from reading a key to writing it: what revokes one and what rotates it must not undo each other."""

    async def create(
        self,
        holder: Caller,
        *,
        namespace: str,
        label: str,
        user_ids: Sequence[str],
        is_admin: bool,
        expires_at: int | None,
    ) -> NewKey:
        """Make a key. `namespace`: "" for the holder's own.

        Raises:
            ForbiddenError: It would open more than the holder's.
        """
        record, secret = make_key(
            _namespace(holder, namespace),
            now=self._now(),
            label=label,
            user_ids=user_ids,
            is_admin=is_admin,
            expires_at=expires_at,
        )
        if not holder.may_manage(record):
            raise ForbiddenError("this key is not for those users", reason="KEY_NOT_FOR_USER")
        await self._store.put_key(record)
        return NewKey(record, secret)

    async def list_page(
        self, holder: Caller, *, namespace: str, limit: int, after_key_id: str
    ) -> tuple[list[KeyRecord], bool]:
        """The keys that the holder may manage, in order of their ids, and whether there are more."""
        namespace = _namespace(holder, namespace)
        page: list[KeyRecord] = []
        while len(page) <= limit:
            keys = await self._store.list_keys(namespace, limit=limit + 1, after_key_id=after_key_id)
            page += [key for key in keys if holder.may_manage(key)]
            if len(keys) <= limit:
                break
            after_key_id = keys[-1].key_id
        return page[:limit], len(page) > limit

    async def rotate(self, holder: Caller, key_id: str, overlap_seconds: float) -> NewKey:
        """Put a new key in a key's place.

        The new one is stored first: a crash between the two leaves the old one as it was, and a key that nobody knows.

        Raises:
            NotFoundError.
            PreconditionError: It is revoked or has expired; reason KEY_OVER.
            InvalidInputError: The overlap is out of range.
        """
        if not 0 <= overlap_seconds <= MAX_OVERLAP_SECONDS:
            raise InvalidInputError("overlap", "is not between 0 and 30 days", reason="OUT_OF_RANGE")
        async with self._changing:
            old, now = await self._find(holder, key_id), self._now()
            if not is_good(old, now):
                raise PreconditionError("the key is revoked or has expired", reason="KEY_OVER")
            record, secret = make_key(
                old.namespace,
                now=now,
                label=old.label,
                user_ids=old.user_ids,
                is_admin=old.is_admin,
                expires_at=old.expires_at,
            )
            await self._store.put_key(record)
            if overlap_seconds:
                ends_at = now + round(overlap_seconds * 1e6)
                old = replace(old, expires_at=ends_at if old.expires_at is None else min(ends_at, old.expires_at))
            else:
                old = replace(old, revoked_at=now)
            await self._change(old)
        return NewKey(record, secret, old)

    async def revoke(self, holder: Caller, key_id: str) -> KeyRecord:
        """Make a key useless; the key as it is now. Raises NotFoundError."""
        async with self._changing:
            key = await self._find(holder, key_id)
            if key.revoked_at is None:
                key = replace(key, revoked_at=self._now())
                await self._change(key)
        return key

    async def _find(self, holder: Caller, key_id: str) -> KeyRecord:
        key = await self._store.find_key(key_id)
        if key is None or not holder.may_manage(key):
            raise NotFoundError("no such key")
        return key

    async def _change(self, key: KeyRecord) -> None:
        await self._store.put_key(key)
        self._authenticator.change_count += 1


def _namespace(holder: Caller, namespace: str) -> str:
    if namespace not in ("", holder.namespace):
        holder.require_operator()
    return namespace or holder.namespace
