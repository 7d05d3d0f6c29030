"""`lightmem add`: store one turn, or many from a file."""

from __future__ import annotations

import json
import sys
from collections import deque
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from datetime import datetime
from typing import Any, NoReturn, TextIO

import click
from lightmem_client import Client, InvalidArgumentError, LightMemError, PendingWrite, Role, Turn
from rich.console import Console
from rich.progress import Progress, SpinnerColumn, TextColumn, TimeElapsedColumn

from lightmem_server.cli.options import (
    MOMENT,
    ServerOptions,
    json_option,
    refuse,
    server_options,
    user_option,
)
from lightmem_server.cli.output import print_json

ROLES = [role.name.lower() for role in Role if role]
TEXT_FIELDS = ("text", "speaker", "session_id", "agent_id")
TIME_FIELDS = ("occurred_at", "expires_at")
FIELDS = (*TEXT_FIELDS, *TIME_FIELDS, "role", "metadata", "is_pinned")


@dataclass(frozen=True, slots=True)
class Line:
    """One turn of a file, and where it belongs."""

    number: int
    turn: Turn
    session_id: str
    agent_id: str


@click.command()
@click.argument("text", required=False)
@user_option
@click.option("--session", "-s", default="", help="The conversation; for lines that name none.")
@click.option("--speaker", default="", help="Who said it; for lines that name nobody.")
@click.option("--role", type=click.Choice(ROLES), default="user", show_default=True, help="For lines without one.")
@click.option("--at", type=MOMENT, help="When it was said, such as 2024-05-08T13:56; local time unless it says more.")
@click.option("--file", "-f", type=click.File(encoding="utf-8-sig"), help="JSONL file of turns; - for standard input.")
@server_options
@json_option
def add(
    text: str | None,
    user_id: str,
    session: str,
    speaker: str,
    role: str,
    at: datetime | None,
    file: TextIO | None,
    server: ServerOptions,
    as_json: bool,
) -> None:
    """Store TEXT as one turn, or the turns of a JSONL file or of standard input.

    A line is an object with "text" and, as needed, "speaker", "role", "occurred_at" (ISO 8601 with a zone), "session_id",
    "agent_id", "metadata", "is_pinned", "expires_at".
    """
    if text is not None and file is not None:
        raise click.UsageError("give TEXT or --file, not both")
    default = Turn(text or "", speaker=speaker, role=Role[role.upper()], occurred_at=at)
    if text is not None:
        with server.connect() as client:
            written = client.write(default, user_id=user_id, session_id=session)
        if as_json:
            print_json(written)
        else:
            click.echo(written.memory_ids[0])
        return
    if file is None and sys.stdin.isatty():
        raise click.UsageError("give TEXT, or turns as JSONL with --file or on standard input")
    source = click.open_file("-", encoding="utf-8-sig") if file is None else file
    lines = read_lines(source, default, session)
    with server.connect() as client, _progress() as progress:
        count = _stream(client, user_id, lines, progress)
    if as_json:
        print_json({"stored": count})
    else:
        click.echo(f"{count} turns stored")


def read_lines(file: Iterable[str], default: Turn, session: str) -> Iterator[Line]:
    """The turns of a JSONL file, blank lines left out.

    Raises:
        click.UsageError: A line that is no turn; names its number.
    """
    for number, text in enumerate(file, start=1):
        if text.strip():
            try:
                yield _to_line(number, json.loads(text), default, session)
            except (ValueError, TypeError) as error:
                raise click.UsageError(f"line {number}: {error}") from error


def _to_line(number: int, value: Any, default: Turn, session: str) -> Line:
    if not isinstance(value, dict):
        raise TypeError("is not an object")
    unknown = set(value) - set(FIELDS)
    if unknown:
        raise ValueError(f"has unknown fields: {', '.join(sorted(unknown))}; known are {', '.join(FIELDS)}")
    for name in (*TEXT_FIELDS, *TIME_FIELDS):
        if not isinstance(value.get(name, ""), str):
            raise TypeError(f"{name} is not text")
    if "text" not in value:
        raise ValueError("has no text")
    role = value.get("role", default.role.name.lower())
    if role not in ROLES:
        raise ValueError(f"role is not one of {', '.join(ROLES)}")
    metadata = value.get("metadata", {})
    if not isinstance(metadata, dict):
        raise TypeError("metadata is not an object")
    times = {name: datetime.fromisoformat(value[name]) for name in TIME_FIELDS if name in value}
    turn = Turn(
        text=value["text"],
        speaker=value.get("speaker", default.speaker),
        role=Role[role.upper()],
        occurred_at=times.get("occurred_at", default.occurred_at),
        metadata=metadata,
        is_pinned=bool(value.get("is_pinned", False)),
        expires_at=times.get("expires_at"),
    )
    return Line(number, turn, value.get("session_id", session), value.get("agent_id", ""))


def _stream(client: Client, user_id: str, lines: Iterator[Line], progress: Progress) -> int:
    """Writes the turns, a writer per run of lines of one conversation. Returns how many."""
    task = progress.add_task("turns stored", total=None)
    count = 0
    line = next(lines, None)
    while line is not None:
        scope = (line.session_id, line.agent_id)
        waiting: deque[tuple[Line, PendingWrite]] = deque()
        try:
            with client.open_writer(user_id=user_id, session_id=line.session_id, agent_id=line.agent_id) as writer:
                while line is not None and (line.session_id, line.agent_id) == scope:
                    waiting.append((line, writer.send(line.turn)))
                    while waiting and waiting[0][1].is_done:
                        waiting.popleft()[1].result()
                        count += 1
                    progress.update(task, completed=count)
                    line = next(lines, None)
        except LightMemError as error:
            _refuse_line(error, waiting, client.target)
        count += len(waiting)
        progress.update(task, completed=count)
    return count


def _refuse_line(error: LightMemError, waiting: Iterable[tuple[Line, PendingWrite]], target: str) -> NoReturn:
    """Ends the command with the first line that was not stored; those before it are."""
    for line, pending in waiting:
        if pending.is_done:
            try:
                pending.result()
            except LightMemError as failure:
                if isinstance(failure, InvalidArgumentError):  # anything else is not about the line
                    before = "; the lines before it are stored" if line.number > 1 else ""
                    failure.message = f"line {line.number}: {failure.message}{before}"
                refuse(failure, target)
    refuse(error, target)


def _progress() -> Progress:
    """A count on stderr, where that is a terminal."""
    columns = (SpinnerColumn(), TextColumn("{task.completed:.0f} {task.description}"), TimeElapsedColumn())
    return Progress(*columns, console=Console(stderr=True), transient=True, disable=not sys.stderr.isatty())
