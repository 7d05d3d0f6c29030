"""Chats written for this recipe, and what is asked about them: chats/*.txt, one for each pair of people.

    @ Ana | Ben
    ## 1 | 12 March 2024                              a session
    Ana: We got the keys on Friday!
    Ben: ...
    ??                                                what is asked, behind the turns that answer it
    1.1 | When did Ana get her keys?
    1.1, 2.4 | Which flats has Ana lived in?          each of them, or all together
    - | What is the name of Ana's brother?            a near miss: none

They were written by a large language model that was told what to write about and that it must copy nothing; nobody's own chats
are among them. Some labels are wrong: of two turns that say nearly the same, one may not be listed.
"""

from __future__ import annotations

import itertools
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from importlib import resources

from lightmem_server.errors import InvalidInputError
from lightmem_server.slm.distill.sets import Asked, Part, dialogue_passages, part_of

SET_NAME = "chats"
JOINED = "chats_joined"
FOLDER = "chats"
NO_ANSWER = "-"
QUESTIONS = "\n??"

_TURN = re.compile(r"(?P<speaker>[^:]{1,40}): (?P<text>.+)")
_PLACE = re.compile(r"(?P<session>\d+)\.(?P<turn>\d+)")


def read_chats() -> Iterator[Asked]:
    """What is asked about every chat, chat by chat.

    Raises:
        InvalidInputError: A file is not of this form.
    """
    for name, text in read_texts(FOLDER):
        yield from parse_chat(name, text)


def read_joined() -> Iterator[Asked]:
    """What is asked about every chat for training, over the chats of its theme, in which the same two people speak: as of a
    user who has talked for years, there is much that is like the answer. Some of it answers too, see lists.drop_rivals.

    Raises:
        InvalidInputError: As read_chats.
    """
    of_training = [(name, text) for name, text in read_texts(FOLDER) if part_of(SET_NAME, name) is Part.TRAIN]
    for theme, chats in itertools.groupby(of_training, key=lambda chat: chat[0].rpartition("_")[0]):
        yield from join_chats(theme, dict(chats))


def join_chats(theme: str, chats: Mapping[str, str]) -> Iterator[Asked]:
    """The questions of some chats, texts by name, over all of their turns: of the people of the first one."""
    first, *_ = chats.values()
    asked: list[Asked] = []
    passages: list[str] = []
    for name, text in chats.items():
        of_chat = list(parse_chat(name, _with_people(text, _people(first))))
        asked += [
            replace(one, set_name=JOINED, group=theme, positives=frozenset(len(passages) + n for n in one.positives))
            for one in of_chat
        ]
        passages += of_chat[0].passages
    yield from (replace(one, passages=tuple(passages)) for one in asked if one.positives)


def read_texts(folder: str) -> Sequence[tuple[str, str]]:
    """The texts of a folder of the recipe by name, in order."""
    files = {path.name: path for path in resources.files("lightmem_server.slm.distill").joinpath(folder).iterdir()}
    return [
        (name.removesuffix(".txt"), path.read_text("utf-8"))
        for name, path in sorted(files.items())
        if name.endswith(".txt")
    ]


def _people(text: str) -> Sequence[str]:
    return [speaker.strip() for speaker in text.partition("\n")[0].removeprefix("@").split("|")]


def _with_people(text: str, others: Sequence[str]) -> str:
    """A chat between other people."""
    names = dict(zip(_people(text), others, strict=True))
    return re.sub(rf"\b(?:{'|'.join(map(re.escape, names))})\b", lambda found: names[found[0]], text)


@dataclass(frozen=True, slots=True)
class ChatTurns:
    """The turns of one chat.

    Attributes:
        passages: As they are judged.
        positions: Of each in `passages`, by its session and its number there, both from 1.
    """

    name: str
    passages: tuple[str, ...]
    positions: Mapping[tuple[int, int], int]

    def find(self, places: str) -> frozenset[int]:
        """The positions of "1.3, 2.1". Raises InvalidInputError where the chat has no such turn."""
        return frozenset(self._position(place.strip()) for place in places.split(","))

    def _position(self, place: str) -> int:
        found = _PLACE.fullmatch(place)
        position = self.positions.get((int(found["session"]), int(found["turn"]))) if found else None
        if position is None:
            raise InvalidInputError("chats", f"{self.name} has no turn {place!r}")
        return position


def parse_turns(name: str, text: str) -> ChatTurns:
    """The turns of a chat. Raises InvalidInputError where the text is not of this form."""
    head, parted, _ = text.partition(QUESTIONS)
    _, *sessions = re.split(r"^##.*$", head, flags=re.MULTILINE)
    speakers = set(_people(head))
    if not parted or not sessions or len(speakers) != 2:
        raise InvalidInputError("chats", f"{name} has no two people, sessions and questions")
    passages: list[str] = []
    positions: dict[tuple[int, int], int] = {}
    for session, lines in enumerate(sessions, start=1):
        turns = [_turn(name, line, speakers) for line in lines_of(lines)]
        for number, passage in enumerate(dialogue_passages(turns), start=1):
            positions[session, number] = len(passages)
            passages.append(passage)
    return ChatTurns(name, tuple(passages), positions)


def parse_chat(name: str, text: str) -> Iterator[Asked]:
    """What is asked about one chat. Raises InvalidInputError where the text is not of this form."""
    turns = parse_turns(name, text)
    for number, line in enumerate(lines_of(text.partition(QUESTIONS)[2]), start=1):
        places, _, question = (part.strip() for part in line.partition("|"))
        if not question.endswith("?"):
            raise InvalidInputError("chats", f"{name} asks nothing in {line!r}")
        yield Asked(
            SET_NAME,
            name,
            part_of(SET_NAME, name),
            f"{name}/{number}",
            question,
            turns.passages,
            frozenset() if places == NO_ANSWER else turns.find(places),
        )


def lines_of(text: str) -> Sequence[str]:
    """Those that say something."""
    return [line.strip() for line in text.splitlines() if line.strip()]


def _turn(name: str, line: str, speakers: set[str]) -> str:
    found = _TURN.fullmatch(line)
    if found is None or found["speaker"] not in speakers:
        raise InvalidInputError("chats", f"{name} has no turn of its people in {line!r}")
    return line
