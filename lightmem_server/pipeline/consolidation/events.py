"""What somebody did, or means to do, and when: by patterns, for consolidation without a Writer.

Only what says its time is an event: "I ran a marathon last Sunday". The turn says "last Sunday"; the fact says which one it
was. What has no time is found as well by its turn.
"""

from __future__ import annotations

import re
from collections.abc import Iterator

from lightmem_server.pipeline.consolidation.lexicon import LEXICON, PASTS
from lightmem_server.pipeline.consolidation.model import Proposal, Resolution, ResolutionKind, Utterance
from lightmem_server.pipeline.consolidation.words import Sentence, split_sentences, split_words

MOST_WORDS = 12
"""Of an event: a longer one is a story, whose end the patterns don't see."""
LEAST_WORDS = 2
LONGEST = 200
"""Characters in which an event ends: patterns take time by the square of what they look at."""

_PAST = rf"(?!had\s+to\b)(?:{'|'.join(sorted(PASTS))}|[a-z]{{2,}}ed)"
_WORDS = r"[^,.;:!?\u2014()\[\]\"\u201c]*"
_ADVERB = r"(?:(?:just|also|even|finally|actually|recently|already|then|both|all)\s+)*"
_CLAUSE = (
    r"(?:^\W*|[.,;:!?\u2014\u2013-]\s*"
    r"|\b(?:and|but|because|so|since|well|yes|yeah|oh|wow|hey|while|when|after|before"
    r"|(?i:yesterday|today|tonight|last\s+[a-z]+|this\s+[a-z]+|[a-z]+\s+[a-z]+\s+ago|tomorrow|next\s+[a-z]+))\s+)"
)
_DONE = re.compile(rf"{_CLAUSE}(?:I|[Ww]e)\s+{_ADVERB}(?P<said>{_PAST}\b{_WORDS})")
_WE_ARE = rf"{_CLAUSE}(?:I['\u2019]m|I\s+am|[Ww]e['\u2019]re|[Ww]e\s+are)\s+{_ADVERB}"
_WE_WILL = rf"{_CLAUSE}(?:I['\u2019]ll|I\s+will|[Ww]e['\u2019]ll|[Ww]e\s+will)\s+{_ADVERB}"
_GOING = (
    r"(?:going\s+to\s+(?=(?:the|my|our|an?)\b|[A-Z])|(?:moving|flying|driving|travell?ing)\s+to\b"
    r"|(?:starting|visiting|meeting|running|hosting|leaving|having)\b|getting\s+married\b)"
)
_PLANNED = (
    re.compile(rf"{_WE_ARE}(?:going|planning|about|hoping)\s+to\s+(?P<said>(?!(?:the|my|our|an?)\b)[a-z]+\b{_WORDS})"),
    re.compile(rf"{_WE_ARE}(?P<said>{_GOING}{_WORDS})"),
    re.compile(rf"{_WE_WILL}(?P<said>[a-z]+\b{_WORDS})"),
    re.compile(rf"{_WE_ARE}(?:planning|organi[sz]ing)\s+(?P<said>(?:an?|our|my)\b{_WORDS})"),
    re.compile(rf"{_CLAUSE}(?:I|[Ww]e)\s+{_ADVERB}(?:plan|want|hope|intend)\s+to\s+(?P<said>[a-z]+\b{_WORDS})"),
    re.compile(
        rf"{_CLAUSE}(?:I|[Ww]e)(?:['\u2019]ve|\s+have)?\s+{_ADVERB}(?:booked|planned|signed\s+up\s+for|registered\s+for)"
        rf"\s+(?=[^,.;:!?]*\b[A-Z])(?P<said>{_WORDS})"
    ),
)
_ENDS = re.compile(
    r"\s+(?:and|but|because|so|since|when|while|which|where|who|that|if|though|although|as|to\s+see)\b"
    r"|\s+['\u2019]cause\b|\s+[-\u2013]\s"
)
_OF_TIME = re.compile(
    r"(?:\s+(?:on|in|at|by|for|during|over|since|until|this|the|last|next|back|just|only))+$", re.IGNORECASE
)
_OF_DAY = re.compile(r"^(?:(?:in\s+the\s+)?(?:morning|afternoon|evening|night)|at\s+night)\b\s*", re.IGNORECASE)
_POINTING = LEXICON["third_persons"] - {"their"} | frozenset(
    ["one", "ones", "there", "here", "more", "thing", "things", "stuff"]
)
"""What an event of one of these is about is only said in its turn."""
_NO_EVENT = LEXICON["no_events"]
_NOT_DONE = LEXICON["reporting_verbs"] | LEXICON["attempts"]
_SMALL = LEXICON["small_talk"]


def find_events(utterance: Utterance) -> Iterator[Proposal]:
    """Dated events that a turn tells of its speaker."""
    dates = [each for each in utterance.resolutions if each.kind is ResolutionKind.DATE]
    if not dates:
        return
    for sentence in split_sentences(utterance.text):
        for pattern in (_DONE, *_PLANNED):
            for match in pattern.finditer(sentence.text):
                event = _event(sentence, match.start("said"), match["said"], dates)
                if event is None:
                    continue
                said, date = event
                is_done = pattern is _DONE
                is_past = (date.valid_from or 0) <= utterance.turn.occurred_at
                if is_done == is_past and not (is_done and said.split()[0].lower() in _NOT_DONE):
                    relation = "did" if is_done else "plans"
                    yield Proposal(utterance.speaker, relation, said, date.value, (utterance.id,), line=sentence.text)


def _event(sentence: Sentence, at: int, said: str, dates: list[Resolution]) -> tuple[str, Resolution] | None:
    """The words of an event without those of its time, and the time; None where it has none, or no clear end."""
    end = _ENDS.search(said[:LONGEST])
    if end is None and len(said) > LONGEST:
        return None
    said = said[: end.start()] if end else said
    start = sentence.start + at
    within = [date for date in dates if start <= date.start and date.end <= start + len(said)]
    before = [date for date in dates if sentence.start <= date.start < start]
    if len(within) > 1 or (not within and len(before) != 1):
        return None
    if within:
        date = within[0]
        front, behind = said[: date.start - start], said[date.end - start :]
        if behind[:1] in ("'", "\u2019"):
            return None  # "yesterday's class"
        front = _OF_TIME.sub("", front.rstrip())
        said = f"{front.rstrip()} {_OF_DAY.sub('', behind.strip())}"
    else:
        date = before[0]
    words = split_words(said)
    if not LEAST_WORDS <= len(words) <= MOST_WORDS or words[0].base in _NO_EVENT:
        return None
    if any(word.base in _POINTING or word.base in ("i", "we") for word in words) or all(
        word.base in _SMALL or not word.is_content for word in words[1:]
    ):
        return None
    return " ".join(said.split()), date
