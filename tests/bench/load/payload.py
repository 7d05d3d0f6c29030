"""What is said and asked: dialogues made from the seed, or a file of turns."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import click
from lightmem_client import Role, Turn

from lightmem_server.cli.add import read_lines
from tests.bench.fill import ask_about, make_conversation
from tests.bench.load.scenario import Scenario, ScenarioError
from tests.bench.options import ROOT

WORDS_FILE = ROOT / "lightmem_server" / "cli" / "demo_conversation.jsonl"

MADE_TURNS = 4096
"""Different turns of made dialogues; users say them from different places on."""

STRIDE = 997
"""How far apart, in turns, two users begin; a prime, so that they don't meet again soon."""

TURNS_PER_SESSION = 24


@dataclass(frozen=True, slots=True)
class Said:
    """Turns that the users draw from, and questions; without questions they ask about what they were told."""

    turns: Sequence[Turn]
    queries: Sequence[str]
    told_turns: int

    def told(self, user: int) -> Iterator[Turn]:
        """What a user has said before it begins."""
        return (self._turn(user, number) for number in range(self.told_turns))

    def turn(self, user: int, number: int) -> tuple[str, Turn]:
        """A user's turn number so and so of the run, and the session in which it is said."""
        return f"load-{number // TURNS_PER_SESSION}", self._turn(user, self.told_turns + number)

    def query(self, user: int, number: int) -> str:
        """A user's question number so and so."""
        if self.queries:
            return self.queries[(user * STRIDE + number) % len(self.queries)]
        return ask_about(self._turn(user, number * STRIDE % self.told_turns).text)

    def _turn(self, user: int, number: int) -> Turn:
        return self.turns[(user * STRIDE + number) % len(self.turns)]


def make_payload(scenario: Scenario) -> Said:
    """What a scenario says. Raises ScenarioError where its file can't be read."""
    if scenario.payload.file is not None:
        turns, queries = _read(scenario.payload.file)
        return Said(turns, queries, scenario.payload.told_turns)
    words = [json.loads(line)["text"] for line in WORDS_FILE.read_text("utf-8").splitlines()]
    made = make_conversation(words, turns=MADE_TURNS, questions=0, seed=scenario.seed)
    turns = [Turn(turn.text, turn.speaker, turn.role) for turn in made.turns]
    return Said(turns, (), scenario.payload.told_turns)


def _read(path: Path) -> tuple[list[Turn], list[str]]:
    """Turns as `lightmem add --file` takes them, and lines {"query": "..."}."""
    try:
        lines = path.read_text("utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise ScenarioError(f"cannot read {path}: {error}") from error
    queries = [_query_of(line) for line in lines]
    said = ("" if query is not None else line for query, line in zip(queries, lines, strict=True))
    try:
        turns = [line.turn for line in read_lines(said, Turn("", role=Role.USER), "")]
    except click.UsageError as error:
        raise ScenarioError(f"{path}: {error.message}") from error
    if not turns:
        raise ScenarioError(f"{path} has no turns")
    return turns, [query for query in queries if query is not None]


def _query_of(line: str) -> str | None:
    try:
        value = json.loads(line)
    except ValueError:
        return None  # said as a turn's fault, with the line's number
    query = value.get("query") if isinstance(value, dict) else None
    return query if isinstance(query, str) else None
