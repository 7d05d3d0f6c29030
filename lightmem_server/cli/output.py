"""How results are printed: tables for people, JSON for programs."""

from __future__ import annotations

import dataclasses
import json
import sys
import textwrap
import unicodedata
from collections.abc import Mapping, Sequence
from datetime import datetime
from enum import Enum, StrEnum
from typing import Any

import click
from rich.console import Console
from rich.table import Table
from rich.text import Text

WIDTH_WITHOUT_TERMINAL = 160
LINE_WIDTH = 60


def console() -> Console:
    """The console of stdout; wide when it is no terminal, so that nothing is cut in a pipe."""
    return Console(file=sys.stdout, width=None if sys.stdout.isatty() else WIDTH_WITHOUT_TERMINAL, highlight=False)


def plain(text: str) -> Text:
    """Stored text as it is: no markup, and no control characters that would steer the terminal."""
    return Text("".join("\N{REPLACEMENT CHARACTER}" if is_control(character) else character for character in text))


def line(text: str) -> Text:
    """The beginning of a stored text, as one line."""
    return plain(textwrap.shorten(text, LINE_WIDTH, placeholder=" …"))


def is_control(character: str) -> bool:
    """Whether a character could do something to a terminal; line breaks and tabs are fine."""
    return character not in "\n\t" and unicodedata.category(character) in ("Cc", "Cf", "Zl", "Zp")


def table(*columns: str, numbers: tuple[str, ...] = (), title: str | None = None) -> Table:
    """An empty table; columns in `numbers` are right-aligned, the last one takes the room and folds."""
    made = Table(title=title, title_justify="left", box=None, pad_edge=False, header_style="bold")
    for column in columns:
        is_last = column == columns[-1]
        made.add_column(
            column,
            justify="right" if column in numbers else "left",
            no_wrap=not is_last,
            overflow="fold",
        )
    return made


def day(moment: datetime | None) -> str:
    """A date for a table, in UTC."""
    return "" if moment is None else f"{moment:%Y-%m-%d}"


def minute(moment: datetime | None) -> str:
    """A date and time for a table, in UTC."""
    return "" if moment is None else f"{moment:%Y-%m-%d %H:%M}"


def milliseconds(seconds: float) -> str:
    """A duration for a table."""
    return f"{seconds * 1e3:.1f}"


def size(size_bytes: int) -> str:
    """Bytes for people, in binary units."""
    value = float(size_bytes)
    for unit in ("B", "KiB", "MiB", "GiB"):
        if value < 1024:
            return f"{value:.0f} {unit}" if unit == "B" else f"{value:.1f} {unit}"
        value /= 1024
    return f"{value:.1f} TiB"


def to_json(value: Any) -> Any:
    """A result as JSON types: enums by their name (a StrEnum by its text), times in ISO 8601."""
    if isinstance(value, Enum):
        return str(value) if isinstance(value, StrEnum) else value.name
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return {field.name: to_json(getattr(value, field.name)) for field in dataclasses.fields(value)}
    if isinstance(value, datetime):
        return value.isoformat()
    if isinstance(value, Mapping):
        return {str(key): to_json(item) for key, item in value.items()}
    if isinstance(value, Sequence) and not isinstance(value, str | bytes):
        return [to_json(item) for item in value]
    return value


def print_json(value: Any, *, is_line: bool = False) -> None:
    """Print a result as JSON; as one line where several follow each other."""
    click.echo(json.dumps(to_json(value), ensure_ascii=False, indent=None if is_line else 2))
