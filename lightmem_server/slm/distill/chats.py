"""Chats written for this recipe, and what is asked about them: chats/*.txt, one for each pair of people.

    @ Ana | Ben
    ## 1 | 12 March 2024                              a session
    Ana: We got the keys on Friday!
    Ben: ...
    ??                                                what is asked, behind the turns that answer it
    1.1 | When did Ana get her keys?
    1.1, 2.4 | Which flats has Ana lived in?          each of them, or all together
    - | What is the name of Ana's brother?            a near miss: none

They were written by a large language model (Claude) that was told what to write about and that it must copy nothing; nobody's
own chats are among them. Some labels are wrong: of two turns that say nearly the same, one may not be listed.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from importlib import resources

from lightmem_server.errors import InvalidInputError
from lightmem_server.slm.distill.sets import Asked, dialogue_passages, part_of

SET_NAME = "chats"
FOLDER = "chats"
NO_ANSWER = "-"

_TURN = re.compile(r"(?P<speaker>[^:]{1,40}): (?P<text>.+)")
_PLACE = re.compile(r"(?P<session>\d+)\.(?P<turn>\d+)")


def read_chats() -> Iterator[Asked]:
    """What is asked about every chat, chat by chat.

    Raises:
        InvalidInputError: A file is not of this form.
    """
    folder = resources.files("lightmem_server.slm.distill").joinpath(FOLDER)
    files = (path for path in folder.iterdir() if path.name.endswith(".txt"))
    for path in sorted(files, key=lambda path: path.name):
        yield from parse_chat(path.name.removesuffix(".txt"), path.read_text("utf-8"))


def parse_chat(name: str, text: str) -> Iterator[Asked]:
    """What is asked about one chat. Raises InvalidInputError where the text is not of this form."""
    head, parted, questions = text.partition("\n??")
    people, *sessions = re.split(r"^##.*$", head, flags=re.MULTILINE)
    speakers = {speaker.strip() for speaker in people.removeprefix("@").split("|")}
    if not parted or not sessions or len(speakers) != 2:
        raise InvalidInputError("chats", f"{name} has no two people, sessions and questions")
    passages: list[str] = []
    positions: dict[tuple[int, int], int] = {}
    for session, lines in enumerate(sessions, start=1):
        turns = [_turn(name, line, speakers) for line in _lines(lines)]
        for number, passage in enumerate(dialogue_passages(turns), start=1):
            positions[session, number] = len(passages)
            passages.append(passage)
    for number, line in enumerate(_lines(questions), start=1):
        places, _, question = (part.strip() for part in line.partition("|"))
        if not question.endswith("?"):
            raise InvalidInputError("chats", f"{name} asks nothing in {line!r}")
        yield Asked(
            SET_NAME,
            name,
            part_of(SET_NAME, name),
            f"{name}/{number}",
            question,
            tuple(passages),
            frozenset(_answers(name, places, positions)),
        )


def _lines(text: str) -> Sequence[str]:
    return [line.strip() for line in text.splitlines() if line.strip()]


def _turn(name: str, line: str, speakers: set[str]) -> str:
    found = _TURN.fullmatch(line)
    if found is None or found["speaker"] not in speakers:
        raise InvalidInputError("chats", f"{name} has no turn of its people in {line!r}")
    return line


def _answers(name: str, places: str, positions: dict[tuple[int, int], int]) -> Iterator[int]:
    if places == NO_ANSWER:
        return
    for place in places.split(","):
        found = _PLACE.fullmatch(place.strip())
        position = positions.get((int(found["session"]), int(found["turn"]))) if found else None
        if position is None:
            raise InvalidInputError("chats", f"{name} has no turn {place.strip()!r}")
        yield position
