"""The room that an answer has, in memories and tokens, of which a share is kept.

Facts fill it first: a fact tells in a dozen tokens what its turn tells in fifty, so that the last turns that would fit, the
least likely to answer, make room for facts whose turns are not shown. What facts leave is for whatever was refused. A long turn
at the end then doesn't take the room of several short ones behind it.
"""

from __future__ import annotations

from lightmem_server.pipeline.retrieval import DropReason


class Room:
    """What is left of a budget.

    >>> room = Room(max_tokens=100, max_memories=4, kept_share=0.25)
    >>> room.take(80, is_fact=False), room.take(20, is_fact=True), room.take(60, is_fact=False)
    (<DropReason.MAX_TOKENS: 2>, None, None)
    """

    def __init__(self, max_tokens: int, max_memories: int, kept_share: float) -> None:
        """`kept_share`: of both, in whole tokens and memories; 0 to 1."""
        self._tokens, self._memories = max_tokens, max_memories
        self._kept_tokens, self._kept_memories = int(max_tokens * kept_share), int(max_memories * kept_share)

    def open(self) -> None:
        """Keep nothing any more."""
        self._kept_tokens = self._kept_memories = 0

    def take(self, tokens: int, *, is_fact: bool) -> DropReason | None:
        """Take what a memory needs; without enough, nothing, and the answer is why."""
        kept_tokens, kept_memories = self._kept_tokens, self._kept_memories
        if is_fact:
            kept_tokens, kept_memories = max(0, kept_tokens - tokens), max(0, kept_memories - 1)
        if self._memories - 1 < kept_memories:
            return DropReason.MAX_MEMORIES
        if self._tokens - tokens < kept_tokens:
            return DropReason.MAX_TOKENS
        self._tokens, self._memories = self._tokens - tokens, self._memories - 1
        self._kept_tokens, self._kept_memories = kept_tokens, kept_memories
        return None
