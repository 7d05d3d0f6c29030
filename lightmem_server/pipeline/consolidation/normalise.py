"""What a turn's words mean: who "I" is, when "yesterday" was, who "she" is where only one can be meant.

The turn itself is never changed: what was understood stands beside it, by place. Where two readings are possible nothing
is said: a wrong reading would become a wrong fact.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from datetime import UTC, tzinfo

from lightmem_server.pipeline.consolidation.dates import find_dates
from lightmem_server.pipeline.consolidation.lexicon import LEXICON
from lightmem_server.pipeline.consolidation.model import Resolution, ResolutionKind, Utterance
from lightmem_server.pipeline.consolidation.people import PRONOUNS, Number, Person, find_people
from lightmem_server.pipeline.consolidation.words import STOP_WORDS, split_words
from lightmem_server.slm.asker import UNNAMED
from lightmem_server.types import Memory, Role

REMEMBERED_TURNS = 3
"""How many turns back a person may have been mentioned for a pronoun to mean them."""

ROLE_NAMES = {Role.USER: UNNAMED, Role.ASSISTANT: "Assistant", Role.SYSTEM: "System", Role.TOOL: "Tool"}

_FIRST_PERSON = re.compile(
    r"(?<![\w'\u2019])(?:I(?:['\u2019](?:m|ve|d|ll))?|[Mm]e|[Mm]y|[Mm]yself|[Ww]e(?:['\u2019](?:re|ve|d|ll))?|[Uu]s|[Oo]urs?|mine)"
    r"(?![\w'\u2019])"
)
_NUMERAL = re.compile(r"\b(?:War|Part|Chapter|Phase|Type|Elizabeth|Class|Volume|Level|Grade|Act|Henry|Charles)\s$")
_MINE_OF_COAL = re.compile(r"\b(?:the|a|an|coal|gold|silver|land|old|abandoned)\s$", re.IGNORECASE)
_QUOTED = re.compile(r"\"[^\"\n]{1,400}\"|\u201c[^\u201d\n]{1,400}\u201d|\u00ab[^\u00bb\n]{1,400}\u00bb")
_PLACED = LEXICON["place_prepositions"]


def speaker_of(turn: Memory) -> str:
    """Who spoke a turn: its speaker, or a name for its role."""
    return " ".join(turn.speaker.split()) or ROLE_NAMES.get(turn.role, "Somebody")


def normalise(turns: Sequence[Memory], zone: tzinfo = UTC) -> tuple[Utterance, ...]:
    """Resolve what can be resolved in the turns of one session.

    Args:
        turns: Oldest first.
        zone: The user's, where days begin.
    """
    utterances: list[Utterance] = []
    for turn in turns:
        quoted = quotations(turn.text)
        before = utterances[-REMEMBERED_TURNS:]
        found = (*_speakers(turn, quoted), *_dates(turn, zone), *_persons(turn, before, quoted))
        resolutions: list[Resolution] = []
        for resolution in sorted(found, key=lambda resolution: (resolution.start, -resolution.end)):
            if not resolutions or resolution.start >= resolutions[-1].end:
                resolutions.append(resolution)
        utterances.append(Utterance(turn, speaker_of(turn), tuple(resolutions)))
    return tuple(utterances)


def quotations(text: str) -> tuple[tuple[int, int], ...]:
    """Where a text quotes: whose words those are isn't known."""
    return tuple(match.span() for match in _QUOTED.finditer(text))


def _speakers(turn: Memory, quoted: Sequence[tuple[int, int]]) -> list[Resolution]:
    speaker = speaker_of(turn)
    return [
        Resolution(match.start(), match.end(), ResolutionKind.SPEAKER, speaker)
        for match in _FIRST_PERSON.finditer(turn.text)
        if not _within(match.start(), quoted)
        and not (match.group() == "I" and _NUMERAL.search(turn.text, 0, match.start()))
        and not (match.group() == "mine" and _MINE_OF_COAL.search(turn.text, 0, match.start()))
    ]


def _dates(turn: Memory, zone: tzinfo) -> list[Resolution]:
    return [
        Resolution(span.at, span.end, ResolutionKind.DATE, span.label, span.starts, span.ends)
        for span in find_dates(turn.text, turn.occurred_at, zone)
    ]


def _persons(turn: Memory, before: Sequence[Utterance], quoted: Sequence[tuple[int, int]]) -> list[Resolution]:
    earlier = [(person, utterance.speaker) for utterance in before for person in find_people(utterance.text)]
    own = [(person, speaker_of(turn)) for person in find_people(turn.text)]
    if not earlier and not own:
        return []
    strangers = [name for utterance in before for name, _ in _strange_names(utterance.text, utterance.speaker)]
    own_strangers = _strange_names(turn.text, speaker_of(turn))
    participants = {utterance.speaker.casefold() for utterance in before} | {speaker_of(turn).casefold()}
    found = []
    for word in split_words(turn.text):
        number = PRONOUNS.get(word.base)
        if number is None or _within(word.start, quoted):
            continue
        said = [*earlier, *((person, whose) for person, whose in own if person.end <= word.start)]
        others = [*strangers, *(name for name, at in own_strangers if at < word.start)]
        if any(name.casefold() not in participants for name in others):
            continue  # a name that nobody introduced may be the one
        meant = {person.described(whose) for person, whose in said if _can_mean(number, person)}
        if len(meant) == 1:
            found.append(Resolution(word.start, word.end, ResolutionKind.PERSON, meant.pop()))
    return found


def _can_mean(pronoun: Number, person: Person) -> bool:
    """Whether a pronoun can mean a person; one of unknown gender can be meant by any of the singular."""
    if pronoun is Number.PLURAL:
        return person.number is Number.PLURAL
    return person.number in (pronoun, Number.EITHER)


def _strange_names(text: str, speaker: str) -> list[tuple[str, int]]:
    """Names in a text of whom nobody said who they are, with their places; not those of places."""
    known = {person.name for person in find_people(text)} | set(speaker.split())
    words = split_words(text)
    found = []
    for place, word in enumerate(words):
        before = words[place - 1].base if place else ""
        begins = place == 0 or bool(re.search(r"[.!?]\W*$", text[: word.start]))
        is_name = word.is_capitalised and not begins and word.base not in STOP_WORDS
        if is_name and word.text not in known and before not in _PLACED:
            found.append((word.text, word.start))
    return found


def _within(place: int, spans: Sequence[tuple[int, int]]) -> bool:
    return any(start <= place < end for start, end in spans)
