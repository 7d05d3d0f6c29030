"""Reads a dialogue file: sessions of turns by named speakers, in TOML."""

from __future__ import annotations

import tomllib
import uuid
from datetime import timedelta
from pathlib import Path

from lightmem_server.slm.time_window import to_micros
from lightmem_server.types import Kind, Memory, Role, Tier

TURN_GAP = timedelta(minutes=1)


def read_dialogue(path: Path) -> list[list[Memory]]:
    """The sessions of a file, each its turns, a minute apart; ids are functions of the file's name and the turn's place."""
    data = tomllib.loads(path.read_text("utf-8"))
    sessions = []
    for number, session in enumerate(data["sessions"]):
        turns = []
        for place, line in enumerate(session["turns"].strip().splitlines()):
            who, _, text = line.partition(": ")
            moment = to_micros(session["at"] + place * TURN_GAP)
            name = data["speakers"][who]
            turns.append(
                Memory(
                    uuid.uuid5(uuid.NAMESPACE_URL, f"{path.name}/{number}/{place}"),
                    Tier.MTM,
                    Kind.TURN,
                    text,
                    occurred_at=moment,
                    created_at=moment,
                    session_id=f"s{number}",
                    speaker=name,
                    role=Role.ASSISTANT if name == "Assistant" else Role.USER,
                )
            )
        sessions.append(turns)
    return sessions
