"""The time that a proposal gives: whether its turn has it, and for this claim."""

from __future__ import annotations

import re
from datetime import timedelta

from lightmem_server.pipeline.consolidation.claims import bases_of, keys_of
from lightmem_server.pipeline.consolidation.government import form_of
from lightmem_server.pipeline.consolidation.grounds import Grounds
from lightmem_server.pipeline.consolidation.lexicon import LEXICON
from lightmem_server.pipeline.consolidation.model import Resolution, ResolutionKind, Utterance
from lightmem_server.pipeline.consolidation.words import split_words
from lightmem_server.slm.time_window import EPOCH, MICROSECOND, speaks_of_time

_SUBJECTS = frozenset(["i", "we", "you", "he", "she", "they", "it", "my", "our"])
_TIE = re.compile(
    r"(?:\s+(?:on|in|at|by|for|during|over|since|until|this|the|last|next|back|just|only))+\s*$", re.IGNORECASE
)
_OTHER_CLAUSE = re.compile(
    r"\b(?:and|or|so|which|that)\b.{0,80}\b(?:i|we|you|he|she|they|it|is|are|was|were|will)\b", re.IGNORECASE
)
"""Between a claim and a time that is another's: "I'm a guard and our first game is next week"."""
_DASH = re.compile(r"\s-\s|[;\u2013\u2014]")
_NOT_AT = frozenset(["since", "until", "till", "before", "after", "than", "unlike", "by"])
LONGEST_TIE = 20
"""Characters in front of a time in which the word stands that ties it."""
HALF_DAY = timedelta(hours=12)


def find_when(when: str, cited: Utterance) -> Resolution | None:
    """The date of a turn that `when` means: by its label, a coarser part of it, or the words that it was resolved from."""
    dates = [each for each in cited.resolutions if each.kind is ResolutionKind.DATE]
    wanted = when.strip("[]() .").lower()
    for date in dates:
        label, words = date.value.lower(), cited.text[date.start : date.end].lower()
        if wanted in (label, words, label.removeprefix("week of ")) or (wanted and label.startswith(f"{wanted}-")):
            return date
    return None


def date_of_claim(grounds: Grounds) -> Resolution | None:
    """The date to which a claim's words belong; None where they have none, or several, or one that doesn't go with what is
    claimed: what was done was before it was told, and what is planned comes after."""
    relation, said_at = grounds.relation, grounds.cited.turn.occurred_at
    if relation is None or not relation.has_time:
        return None
    dates = [
        each for each in grounds.cited.resolutions if each.kind is ResolutionKind.DATE and is_of_claim(each, grounds)
    ]
    if len({date.value for date in dates}) != 1:
        return None
    begins, ends = dates[0].valid_from or 0, dates[0].valid_to or 0
    if (relation.is_past and begins > said_at) or (relation.is_plan and ends <= said_at):
        return None
    return dates[0]


def without_time(said: str, time: str) -> str:
    """Words without those of a time at their end, or in front, nor what ties it to them.

    >>> without_time("saw two eagles on Monday", "Monday"), without_time("last week went home", "last week")
    ('saw two eagles', 'went home')
    """
    if said.lower().endswith(time.lower()):
        return _TIE.sub("", said[: len(said) - len(time)]).rstrip(" ,")
    if said.lower().startswith(time.lower()):
        return said[len(time) :].lstrip(" ,")
    return said


def is_day_of(when: str, cited: Utterance) -> bool:
    """Whether `when` is the day on which the turn was said, to within the zones of the earth."""
    try:
        said = EPOCH + cited.turn.occurred_at * MICROSECOND
        return when in {f"{said + shift:%Y-%m-%d}" for shift in (-HALF_DAY, timedelta(0), HALF_DAY)}
    except OverflowError:
        return False


def is_said(when: str, grounds: Grounds) -> bool:
    """Whether `when` is in the sentence's words, and no date."""
    if not speaks_of_time(when) and not set(bases_of(when)) & LEXICON["times"]:
        return False
    if re.search(r"\b(?:19|20)\d\d\b", when):
        return when.lower() in grounds.sentence.text.lower()
    keys = keys_of(when)
    return bool(keys) and keys <= keys_of(grounds.sentence.text)


def is_of_claim(date: Resolution, grounds: Grounds) -> bool:
    """Whether a date belongs to the claim: in its clause, or parted from it by nothing that somebody else does."""
    sentence, clause = grounds.sentence, grounds.clause
    if not sentence.start <= date.start < sentence.end or _is_of_other_thing(date, grounds) or _is_apart(date, grounds):
        return False
    if clause.start <= date.start < clause.end:
        behind = (
            sentence.text[sentence.words[grounds.last].end : max(0, date.start - sentence.start)]
            if sentence.words
            else ""
        )
        return _OTHER_CLAUSE.search(behind) is None and not _goes_on_behind_dash(behind)
    if date.start < clause.start:
        between = grounds.cited.text[grounds.clause_before(date.start) : clause.start]
    else:
        between = grounds.cited.text[clause.end : date.end]
        following = split_words(grounds.cited.text[date.end : min(sentence.end, date.end + LONGEST_TIE)])[:1]
        if any(word.base in _SUBJECTS or word.is_content for word in following):
            return False  # "I practise at night, and last night I stayed up"
    return not any(word.base in _SUBJECTS for word in split_words(between))


def _goes_on_behind_dash(text: str) -> bool:
    """Whether a dash is followed by a further deed: "Got a bike - had two lessons last week"."""
    return any(form_of(word) == "past" for part in _DASH.split(text)[1:] for word in split_words(part))


def _is_apart(date: Resolution, grounds: Grounds) -> bool:
    """Whether a dash parts a claim and its subject from what the time in front of them is said of: "They broke in last week - I
    fixed it"."""
    sentence = grounds.sentence
    if not sentence.words or date.start >= sentence.start + sentence.words[grounds.first].start:
        return False
    begin, end = date.start - sentence.start, date.end - sentence.start
    *before, behind = _DASH.split(sentence.text[end : sentence.words[grounds.first].start])
    return (
        bool(before)
        and any(word.base in _SUBJECTS for word in split_words(behind))
        and any(word.is_content for word in split_words(sentence.text[:begin]))
    )


def _is_of_other_thing(date: Resolution, grounds: Grounds) -> bool:
    """Whether a time only says which thing is meant, "last week's game"; or, of a deed, what it came before or after."""
    text = grounds.cited.text
    if text[date.end : date.end + 1] in ("'", "\u2019"):
        return True
    before = split_words(text[max(0, date.start - LONGEST_TIE) : date.start])[-1:]
    is_past = grounds.relation is not None and grounds.relation.is_past
    return is_past and any(word.base in _NOT_AT for word in before)
