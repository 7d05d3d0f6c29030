"""One text being written: what the event loop and the model's thread share of it."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Hashable, Sequence

from tokenizers import Tokenizer

from lightmem_server.slm.protocols import Ending, Written

EXPECTED_SHARE = 4
"""A text has a quarter of the tokens that it may have."""

LONGEST_PERIOD, LEAST_COPIES, LEAST_REPEATED = 32, 3, 12
"""A text turns in circles when its last tokens, up to LONGEST_PERIOD, were said LEAST_COPIES times in a row, and those
copies have LEAST_REPEATED tokens or more."""


def count_repeated(ids: Sequence[int]) -> int:
    """How many tokens at the end only repeat what stands before them; 0 where the text doesn't turn in circles.

    >>> count_repeated([9, 1, 2, 3, 4, 1, 2, 3, 4, 1, 2, 3, 4])
    8
    >>> count_repeated([1, 1, 1])
    0
    """
    for period in range(1, LONGEST_PERIOD + 1):
        copies = max(LEAST_COPIES, math.ceil(LEAST_REPEATED / period))
        if len(ids) < copies * period:
            continue
        tail = ids[-copies * period :]
        if all(tail[i] == tail[i + period] for i in range(len(tail) - period)):
            return len(tail) - period
    return 0


class Generation:
    """Decides after every token whether to go on. `step` runs in the model's thread, everything else on the event loop."""

    def __init__(
        self,
        static: Sequence[str],
        prompt: Sequence[str],
        *,
        tokenizer: Tokenizer,
        end_id: int,
        padding: Sequence[str] = (),
        is_online: bool,
        max_tokens: int,
        stops: Sequence[str],
        until: Callable[[str], bool] | None = None,
        deadline: float | None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """
        Args:
            static, prompt: Tokens; the first are those that the model may keep from call to call.
            end_id: The token that ends a turn.
            padding: Blanks in front of `prompt`.
            is_online: A request waits for it: it is written alone.
            until: See Writer.generate.
            deadline: On `clock`.
        """
        self.static, self.prompt = static, [*padding, *prompt]
        self._prompt_tokens = len(static) + len(prompt)
        self.is_online = is_online
        self.max_tokens = max_tokens
        self.deadline = deadline
        self._tokenizer = tokenizer
        self._end_id = end_id
        self._stops = stops
        self._until = until
        self._clock = clock
        self._ids: list[int] = []
        self._ending: Ending | None = None
        self._is_cancelled = False

    @property
    def kind(self) -> Hashable:
        """What those have in common that can be written together."""
        return self if self.is_online or not self.static else (tuple(self.static), len(self.prompt))

    @property
    def cost(self) -> int:
        """Tokens that it takes to write it, about."""
        return len(self.static) + len(self.prompt) + self.max_tokens // EXPECTED_SHARE

    @property
    def is_over(self) -> bool:
        """Whether a step is no longer wanted."""
        return self._is_cancelled or (self.deadline is not None and self._clock() >= self.deadline)

    def cancel(self, ending: Ending | None = None) -> None:
        """Write nothing more: the caller left, or has what it gets."""
        self._is_cancelled = True
        self._ending = self._ending or ending

    def step(self, token_id: int) -> bool:
        """Take a token; True to write no more."""
        if token_id == self._end_id:
            self._ending = Ending.DONE
            return True
        if self._is_cancelled:
            return True
        self._ids.append(token_id)
        if self._stops and self._find_stop(self._decode(self._ids)) is not None:
            self._ending = Ending.STOP
        elif repeated := count_repeated(self._ids):
            del self._ids[-repeated:]
            self._ending = Ending.REPETITION
        elif self._until is not None and "\n" in self._decode([token_id]) and self._until(self._decode(self._ids)):
            self._ending = Ending.ENOUGH
        elif self.is_over:
            self._ending = Ending.DEADLINE
        elif len(self._ids) >= self.max_tokens:
            self._ending = Ending.MAX_TOKENS
        return self._ending is not None or self.is_over

    def written(self) -> Written:
        """What there is of the text."""
        ids = list(self._ids)
        text = self._decode(ids)
        stop = self._find_stop(text)
        return Written(
            text=text[:stop].strip(),
            ending=self._ending or Ending.MAX_TOKENS,
            prompt_tokens=self._prompt_tokens,
            tokens=len(ids),
        )

    def _decode(self, ids: Sequence[int]) -> str:
        return str(self._tokenizer.decode(list(ids), skip_special_tokens=True))

    def _find_stop(self, text: str) -> int | None:
        found = [at for at in (text.find(stop) for stop in self._stops) if at >= 0]
        return min(found, default=None)
