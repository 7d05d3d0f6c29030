"""The server's log: one line per event on stderr, JSON for machines or readable for people.

What people said does not end up in it: no values of variables, and of exceptions, whose texts may quote anything, the class and
the place alone. The setting `log_content` shows the texts too.
"""

from __future__ import annotations

import contextlib
import io
import logging
import sys
import traceback
from types import TracebackType
from typing import Any, TextIO, TypeAlias

import structlog
from structlog.tracebacks import ExceptionDictTransformer

from lightmem_server.config import Settings

HIDDEN = "(the setting log_content shows it)"

_ExcInfo: TypeAlias = tuple[type[BaseException] | None, BaseException | None, TracebackType | None]


def configure_logging(settings: Settings) -> None:
    """Configure structlog, and what libraries log through `logging` from warnings on."""
    stream: Any = _Lossy(sys.stderr)  # as much of a TextIO as is used
    level = logging.getLevelNamesMapping()[settings.log_level.upper()]
    processors: list[structlog.typing.Processor] = [
        structlog.contextvars.merge_contextvars,
        structlog.processors.add_log_level,
        structlog.processors.TimeStamper(fmt="iso", utc=True),
    ]
    if settings.log_format == "json":
        frames = ExceptionDictTransformer(show_locals=False)
        processors.append(structlog.processors.ExceptionRenderer(frames if settings.log_content else _Reticent(frames)))
        processors.append(structlog.processors.JSONRenderer())
    else:
        write = structlog.dev.plain_traceback if settings.log_content else _write_places
        processors.append(structlog.dev.ConsoleRenderer(colors=sys.stderr.isatty(), exception_formatter=write))
    structlog.configure(
        processors=processors,
        wrapper_class=structlog.make_filtering_bound_logger(level),
        logger_factory=structlog.PrintLoggerFactory(stream),
        cache_logger_on_first_use=True,
    )
    handler = logging.StreamHandler(stream)
    handler.setFormatter((logging.Formatter if settings.log_content else _ReticentFormatter)(logging.BASIC_FORMAT))
    logging.basicConfig(handlers=[handler], level=max(level, logging.WARNING), force=True)


class _Lossy(io.TextIOBase):
    """Drops what can't be written: a log on a full disk, or whose reader is gone, fails no call and ends no thread."""

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream

    def write(self, text: str) -> int:
        with contextlib.suppress(OSError, ValueError):  # ValueError: it is closed
            self._stream.write(text)
        return len(text)

    def flush(self) -> None:
        with contextlib.suppress(OSError, ValueError):
            self._stream.flush()


class _Reticent:
    """Takes the texts out of the exceptions that a transformer describes."""

    def __init__(self, transform: ExceptionDictTransformer) -> None:
        self._transform = transform

    def __call__(self, exc_info: Any) -> list[dict[str, Any]]:
        described = self._transform(exc_info)
        _hide(described)
        return described


def _hide(described: list[dict[str, Any]]) -> None:
    for one in described:
        one.update(exc_value=HIDDEN, exc_notes=[], syntax_error=None)
        for group in one["exceptions"]:
            _hide(group)


def _write_places(sio: TextIO, exc_info: Any) -> None:
    sio.write(_places(exc_info))


def _places(exc_info: _ExcInfo) -> str:
    """A traceback without the texts of the exceptions, of what caused them too."""
    parts: list[str] = []
    error, seen = exc_info[1], set[int]()
    while error is not None and id(error) not in seen:
        seen.add(id(error))
        parts.insert(0, "".join([*traceback.format_tb(error.__traceback__), f"{type(error).__name__}: {HIDDEN}"]))
        error = error.__cause__ or (None if error.__suppress_context__ else error.__context__)
    return "\n\nand then\n\n".join(parts)


class _ReticentFormatter(logging.Formatter):
    """The same for `logging`."""

    def formatException(self, ei: Any) -> str:  # noqa: N802
        return _places(ei)
