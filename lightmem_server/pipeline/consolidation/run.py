"""One run over one user's memories, as the work itself sees it.

    worker ─▶ Consolidator.run(handle) ─▶ handle.load_step: done before a crash? ─▶ the models ─▶ save_step, spend, report
                                       └▶ handle.commit: a change, what it is done with, how far the run has come

A run is resumed where it stopped, in this process or the next: what a window gave is a step, kept until the run ends. A
step that a change came of is marked in the change's own transaction, and the same change is not made twice.

Stopping is asyncio's: `run` is cancelled when the job is cancelled, when the lease is lost and when the server stops. Nothing
has to be cleaned up then.
"""

from __future__ import annotations

import uuid
from collections.abc import Mapping, Sequence
from typing import Protocol

from lightmem_server.store.protocol import Change, CommitResult
from lightmem_server.types import Partition

JOB_KIND = "consolidate"
"""Of the durable jobs that start a run."""

WATERMARK = "consolidate"
"""Name of the watermark: up to which version of the partition runs have looked at it."""


class RunHandle(Protocol):
    """A run at work. Every method may raise RunEndedError: the run was cancelled, or is another worker's now; stop."""

    @property
    def run_id(self) -> uuid.UUID:
        """Names the run, also to users."""

    @property
    def partition(self) -> Partition:
        """Whose memories."""

    @property
    def trigger(self) -> str:
        """What started it: "overflow", "idle", "capacity", "schedule" or "request"."""

    @property
    def from_version(self) -> int:
        """The partition's version up to which earlier runs have come."""

    @property
    def to_version(self) -> int:
        """The version that this run is to come up to: the one when it began, also after it was resumed."""

    async def load_step(self, stage: str, key: str) -> str | None:
        """What `save_step` kept; "" for a step that `commit` marked; None: not done yet."""

    async def save_step(self, stage: str, key: str, data: str, *, memory_ids: Sequence[uuid.UUID]) -> bool:
        """Keep what one window gave, for the case that the run is interrupted.

        Args:
            stage: The stage's stable name.
            key: Names the window within its stage, the same after a resumption.
            data: The outcome, such as JSON.
            memory_ids: All memories whose words may be in `data`: when one of them is deleted, the step goes with it.

        Returns:
            False, and nothing is kept: one of the memories was deleted meanwhile, so the outcome is not to be used.
        """

    async def report(self, stage: str, *, done: int, total: int, kept: int, rejected: Mapping[str, int]) -> None:
        """Say how far a stage is, to whoever follows the run, and for the record.

        Args:
            done, total: Items of the stage.
            kept, rejected: Candidates in this run so far, in all; the rejected by the stable name of the rule.
        """

    async def spend(self, *, seconds: float, tokens: int) -> None:
        """Account for model time. Call it once what the model gave is saved or committed.

        Raises:
            BudgetSpentError: The namespace's budget is used up. Let it pass: the run goes on here when there is some.
        """

    async def commit(self, change: Change, *, stage: str, key: str, watermark: int | None = None) -> CommitResult:
        """Make a change durable and visible, as part of this run: it is in the history and can be undone.

        Args:
            change: Of this partition. `reason` and `reasons` are kept in the history.
            stage, key: The step that is done with it. Where the step was marked before, nothing is changed
                and the result says `is_replay`.
            watermark: The version up to which the partition is now consolidated, where this moved it.

        Raises:
            NotFoundError: Evidence that a put names was deleted, or a record that it changes; make it anew.
            VersionMismatchError: A record was changed meanwhile; read it again.
        """


class Consolidator(Protocol):
    """The work of a run. One object serves all runs of a server, one at a time per user."""

    @property
    def model(self) -> str:
        """Identity of what writes: the Writer's, or the name of an extractive method."""

    @property
    def prompt(self) -> str:
        """Version of what the Writer is told."""

    async def run(self, run: RunHandle) -> None:
        """Consolidate what changed after `from_version`, up to `to_version`. Returns when it is done; the watermark is then
        at `to_version`, whether it committed that or not.

        Raises:
            LightMemError: It failed; it is tried again later, and goes on at the saved steps.
        """
