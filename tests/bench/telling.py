"""Tells how far a long run is: on a terminal one line that changes, in a log a line now and then."""

from __future__ import annotations

import sys
import time
from typing import TextIO

EVERY_SECONDS = 20.0
"""Between two lines of a log."""


class Telling:
    """Of one part after the other."""

    def __init__(self, stream: TextIO | None = None, *, every_seconds: float = EVERY_SECONDS) -> None:
        """`stream`: None for standard error."""
        self._stream = stream or sys.stderr
        self._every_seconds = every_seconds
        self._began = time.monotonic()
        self._told = float("-inf")
        self._part = ""

    def begin(self, part: str) -> None:
        """Another part from now on."""
        self._part = part
        self._line("begins")

    def step(self, what: str, *, always: bool = False) -> None:
        """How far it is; told if the last line is some time ago, or `always`."""
        now = time.monotonic()
        if always or self._stream.isatty() or now - self._told >= self._every_seconds:
            self._line(what)

    def end(self, what: str) -> None:
        """The part is over."""
        self._line(what)
        if self._stream.isatty():
            self._stream.write("\n")

    def _line(self, what: str) -> None:
        minutes, seconds = divmod(int(time.monotonic() - self._began), 60)
        line = f"{minutes:3}:{seconds:02}  {self._part}: {what}"
        self._stream.write(f"\r\x1b[K{line[:160]}" if self._stream.isatty() else f"{line}\n")
        self._stream.flush()
        self._told = time.monotonic()
