"""What starts a consolidation by itself: jobs that are enqueued in the commit that gave rise to them.

    a turn falls out of a running conversation ─▶ due some idle time later, however the conversation goes on
    a turn is written                          ─▶ due when nothing has been written for the idle time
    memories are archived for lack of room     ─▶ due at once
    the schedule                               ─▶ due at once, for every user with news

So while a conversation goes on there is at most one run per idle time, and one after it.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from lightmem_server.pipeline.consolidation.budget import MICROS
from lightmem_server.pipeline.consolidation.run import JOB_KIND
from lightmem_server.store.protocol import JobRecord
from lightmem_server.types import Memory

IDLE_KEY = "idle"
"""A job of its own: each write puts it off, and must not put off the others."""


@dataclass(frozen=True, slots=True)
class Triggers:
    """The settings `consolidation_idle_seconds`, `stm_turns` and `stm_tokens`."""

    idle_seconds: float
    stm_turns: int
    stm_tokens: int

    def overflows(self, turns: Sequence[Memory]) -> bool:
        """Whether a running conversation of these turns is longer than it may be, so that its first ones leave it."""
        return len(turns) > self.stm_turns or sum(turn.token_count for turn in turns) > self.stm_tokens

    def on_write(self, now: int, *, overflows: bool) -> list[JobRecord]:
        """The jobs of a commit of turns; `overflows`: with them, turns fall out of the running conversation."""
        due_at = now + round(self.idle_seconds * MICROS)
        jobs = [JobRecord(JOB_KIND, IDLE_KEY, "idle", not_before=due_at, postpones=True)]
        if overflows:
            jobs.append(JobRecord(JOB_KIND, payload="overflow", not_before=due_at))
        return jobs

    def on_archive(self, now: int) -> list[JobRecord]:
        """The job of a commit that archives for lack of room."""
        return [JobRecord(JOB_KIND, payload="capacity", not_before=now)]
