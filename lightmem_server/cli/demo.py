"""`lightmem demo`: a real server, a conversation over seven months, five questions whose answers lie far apart."""

from __future__ import annotations

import contextlib
import importlib.resources
import shutil
import sys
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

import click
import lightmem_client
from lightmem_client import Client, RetrievedMemory, Role, Turn
from rich.console import Console
from rich.markup import escape
from rich.progress import Progress

from lightmem_server.cli import output
from lightmem_server.cli.add import Line, read_lines
from lightmem_server.cli.options import CommandError, ExitCode, json_option, refuse
from lightmem_server.cli.process import clean_environment, running_server
from lightmem_server.config import Settings, load
from lightmem_server.errors import LightMemError

USER_ID = "demo"
CONVERSATION = "demo_conversation.jsonl"
ASKED_AT = datetime(2025, 10, 5, 12, tzinfo=UTC)
"""A week after the conversation's last session."""

QUESTIONS = (
    "Where did Nora's greyhound come from?",
    "What is Nora allergic to?",
    "How did Tomás hurt his wrist?",
    "Where is the workshop that Nora opened?",
    "What is the name of Ines's baby?",
)
DEADLINE_SECONDS = 1.0
"""More than the default of 150 ms, so that a slow or busy machine finds what an idle one does; the times are real."""

SHOWN = 3
"""Of the memories of a default answer, which are ten; --json has them all."""


@dataclass(frozen=True, slots=True)
class Answer:
    """What one question found, and how long it took, measured at the client."""

    question: str
    elapsed_seconds: float
    memories: tuple[RetrievedMemory, ...]


@click.command()
@click.option("--keep", is_flag=True, help="Keep the data folder, to look at it or to serve it again.")
@json_option
def demo(keep: bool, as_json: bool) -> None:
    """Start a server, tell it a conversation, and ask it five questions. Leaves nothing behind.

    Fetches the models first if they aren't there. Uses a free port of this machine and a temporary data folder.
    """
    say = Console(stderr=True, highlight=False)
    try:
        settings = load()
        _pull_missing_models(settings, say)
    except LightMemError as error:
        raise CommandError(error.message, ExitCode.FAILED) from error
    with _data_dir(keep, say) as data_dir:
        models = ("--models-dir", str(settings.models_dir))
        started = time.perf_counter()
        with running_server(data_dir, flags=models, environment=clean_environment()) as server:
            say.print(f"server ready on {server.target} after {time.perf_counter() - started:.1f} s")
            with Client(server.target, api_key=server.key, user_id=USER_ID, tls=False) as client:
                try:
                    _tell(client, say)
                    answers = [_ask(client, question) for question in QUESTIONS]
                except lightmem_client.LightMemError as error:
                    refuse(error, server.target)
        say.print("server stopped")
    if as_json:
        output.print_json(answers)
    else:
        _print(answers)


def _pull_missing_models(settings: Settings, say: Console) -> None:
    """Fetches the models that a server with these settings needs. Raises ModelError."""
    from lightmem_server.slm.models import ModelState, list_models

    states = {status.name: status.state for status in list_models(settings.models_dir)}
    usable = (ModelState.INSTALLED, ModelState.OUTDATED)
    missing = [name for name in settings.needed_models if states.get(name) not in usable]
    if missing:
        say.print(f"fetching {' and '.join(missing)}, once")
        from lightmem_server.slm.pull import pull  # heavy: brings the converters

        with _PullProgress(say) as progress:
            pull(missing, settings.models_dir, progress=progress)


class _PullProgress:
    """Shows a pull as one line that changes, where stderr is a terminal."""

    def __init__(self, say: Console) -> None:
        self._say = say
        self._status = say.status("fetching")

    def __enter__(self) -> _PullProgress:
        self._status.start()
        return self

    def __exit__(self, *error: object) -> None:
        self._status.stop()

    def say(self, message: str) -> None:
        self._say.print(message, markup=False)

    def advance(self, title: str, done_bytes: int, total_bytes: int) -> None:
        self._status.update(f"{escape(title)}: {done_bytes / 1e6:.1f} of {total_bytes / 1e6:.1f} MB")


@contextlib.contextmanager
def _data_dir(keep: bool, say: Console) -> Iterator[Path]:
    folder = Path(tempfile.mkdtemp(prefix="lightmem-demo-"))
    try:
        yield folder
    finally:
        if keep:
            say.print(f"kept in {folder}; look again with `lightmem serve --data-dir {folder}`", soft_wrap=True)
        else:
            shutil.rmtree(folder)


def read_conversation() -> list[Line]:
    """The turns of the demo, as `lightmem add --file` would read them."""
    text = importlib.resources.files("lightmem_server.cli").joinpath(CONVERSATION).read_text("utf-8")
    return list(read_lines(text.splitlines(), Turn("", role=Role.USER), ""))


def _tell(client: Client, say: Console) -> None:
    """Streams the conversation, session by session, as an agent would."""
    lines = read_conversation()
    sessions: dict[str, list[Turn]] = {line.session_id: [] for line in lines}
    for line in lines:
        sessions[line.session_id].append(line.turn)
    started = time.perf_counter()
    with Progress(console=say, transient=True, disable=not sys.stderr.isatty()) as progress:
        task = progress.add_task("telling it the conversation", total=len(lines))
        for session_id, turns in sessions.items():
            with client.open_writer(session_id=session_id) as writer:
                for pending in [writer.send(turn) for turn in turns]:
                    pending.result()
                    progress.advance(task)
    elapsed_seconds = time.perf_counter() - started
    say.print(f"{len(lines)} turns of {len(sessions)} conversations stored in {elapsed_seconds:.2f} s")


def _ask(client: Client, question: str) -> Answer:
    started = time.perf_counter()
    answer = client.retrieve(question, asked_at=ASKED_AT, deadline_seconds=DEADLINE_SECONDS)
    return Answer(question, time.perf_counter() - started, answer.memories)


def _print(answers: list[Answer]) -> None:
    console = output.console()
    for answer in answers:
        console.print(f"\n[bold]{escape(answer.question)}[/]  [dim]{answer.elapsed_seconds * 1e3:.0f} ms[/]")
        table = output.table("tier", "date", "speaker", "score", "text", numbers=("score",))
        for hit in answer.memories[:SHOWN]:
            table.add_row(
                hit.memory.tier.name,
                output.day(hit.memory.occurred_at),
                output.plain(hit.memory.speaker),
                f"{hit.score:.3f}",
                output.plain(hit.memory.text),
            )
        console.print(table)
