"""Health follows the store: NOT_SERVING while commits cannot be durable, or what is stored is damaged.

Calls are not refused meanwhile: reads are answered as far as they can be, and a write that fails says why.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable

import structlog

from lightmem_server.errors import StoreError
from lightmem_server.store.trouble import TroubledStore

FIRST_PROBE_SECONDS = 1.0
LAST_PROBE_SECONDS = 30.0
"""Probes come less and less often: that of a damaged database reads all of it."""

log = structlog.get_logger()


async def watch(store: TroubledStore, set_serving: Callable[[bool], Awaitable[None]]) -> None:
    """Tell of trouble, and of its end; for ever.

    Args:
        set_serving: Called with False when there is trouble, with True when it is over.
    """
    while True:
        trouble = await store.wait_trouble()
        log.error("store_in_trouble", error=trouble.message)
        await set_serving(False)
        seconds = FIRST_PROBE_SECONDS
        while not await _is_over(store):
            await asyncio.sleep(seconds)
            seconds = min(2 * seconds, LAST_PROBE_SECONDS)
        log.info("store_recovered")
        await set_serving(True)


async def _is_over(store: TroubledStore) -> bool:
    try:
        await store.probe()
    except StoreError as error:
        log.warning("store_still_in_trouble", error=error.message)
        return False
    return True
