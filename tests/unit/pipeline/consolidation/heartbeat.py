"""Whether the event loop goes on while something is awaited."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable


async def beats_during(awaited: Awaitable[object]) -> int:
    """How often another task gets its turn until `awaited` is done."""
    beats = 0

    async def beat() -> None:
        nonlocal beats
        while True:
            await asyncio.sleep(0)
            beats += 1

    heart = asyncio.create_task(beat())
    await asyncio.sleep(0)
    before = beats
    try:
        await awaited
    finally:
        heart.cancel()
    return beats - before
