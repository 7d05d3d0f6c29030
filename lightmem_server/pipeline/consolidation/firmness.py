"""Whether a plan is one: what somebody is going to do. "I'll check it out" is a courtesy, "I'm hoping to win" a hope; with its
time such a thing is as good as planned.
"""

from __future__ import annotations

import re

from lightmem_server.pipeline.consolidation.alignment import align
from lightmem_server.pipeline.consolidation.government import form_of, is_adverb
from lightmem_server.pipeline.consolidation.grounds import Grounds
from lightmem_server.pipeline.consolidation.lexicon import LEXICON
from lightmem_server.pipeline.consolidation.words import split_words

_OFTEN = r"(?:(?:just|also|even|finally|actually|already|both|all|still|really|so|definitely|now|currently|probably|soon)\s+)*"
_IS = rf"^(?:['\u2019](?:m|re|s)|\s*(?:am|are|is|was|were))?\s*{_OFTEN}"
_FIRM = re.compile(
    rf"{_IS}(?:going\s+to|gonna|planning(?:\s+(?:to|on|for))?|plans?\s+(?:to|on|for)|about\s+to|(?:all\s+)?set\s+to|scheduled\s+to|intends?\s+to"
    r"|decided\s+to|organi[sz]ing|preparing\s+(?:to|for)|getting\s+ready\s+(?:to|for)"
    rf"|(?:['\u2019]ve|have)?\s*{_OFTEN}(?:booked|signed\s+up\s+(?:for|to)|registered\s+for|planned|scheduled))\b",
    re.IGNORECASE,
)
_OWN = re.compile(r"^(?:my|our)\s+(?:\w+\s+)?plans?\s+(?:is|are)\s+(?:to|for)\b", re.IGNORECASE)
_SOFT = re.compile(
    rf"^(?:['\u2019]ll|\s+will|(?:['\u2019]ve\s+got|\s+have|\s+got|\s+has)|{_IS[1:]}(?:hop(?:e|es|ing)\s+to|wants?\s+to|wanna"
    r"|thinking\s+(?:of|about)|considering|looking\s+forward\s+to|look\s+forward\s+to|trying\s+to|aiming\s+to|have\s+to))\b",
    re.IGNORECASE,
)
_PROGRESSIVE = re.compile(rf"^(?:['\u2019](?:m|re|s)|\s+(?:am|are|is))\s+{_OFTEN}", re.IGNORECASE)
_TO_COME = re.compile(
    r"\b(?:tomorrow|tonight|soon|upcoming|coming\s+up|later|(?:this|next|coming)\s+(?:\w+\s+)?(?:week(?:end)?|month|year|spring|summer|autumn"
    r"|fall|winter|monday|tuesday|wednesday|thursday|friday|saturday|sunday))\b",
    re.IGNORECASE,
)
_SOME_TIME = frozenset(["soon", "later"])
"""Enough for what somebody does ("I'm moving soon"), not for what they hope."""
_REASONS = frozenset(["given", "depending", "based", "because"])
"""First words of no plan, but of what it hangs on."""
_PARTING = re.compile(r",|\band\b|\bor\b|\bthen\b", re.IGNORECASE)
_ARTICLES = LEXICON["determiners"] | LEXICON["own_possessives"]
_GOING = frozenset(["going", "to", "i", "we", "will", "gonna", "plan", "planning"])
_OFTENS = LEXICON["adverbs"]
_HINDERING = LEXICON["subordinators"] | frozenset(["i", "we", "you", "he", "she", "they", "it"])


def is_no_firm_plan(grounds: Grounds) -> bool:
    """A plan that its subject hasn't made: a hope, a promise, a guess; or what is done now."""
    relation, sentence = grounds.relation, grounds.sentence
    if relation is None or not relation.is_plan or not sentence.words:
        return False
    its = align(grounds)
    if _is_no_deed(grounds):
        return True
    subject, first = grounds.subject, sentence.words[its.begin]
    if first.base in _REASONS:
        return True
    if subject.end and subject.end <= first.start:
        head = max((word for word in sentence.words if word.end <= subject.end), key=lambda word: word.end)
        lead = sentence.text[head.start + len(head.base) : first.start]
    else:
        lead = f" {sentence.text[: first.start]}"
    own = sentence.text[subject.start : first.start]
    for pattern, text in ((_FIRM, lead), (_OWN, own)):
        match = pattern.search(text)
        if match is not None and _reaches(text[match.end() :]):
            return False
    is_dated = bool(grounds.proposal.when) or _TO_COME.search(sentence.text) is not None
    match = _SOFT.search(lead)
    times = {time[0].lower() for time in _TO_COME.finditer(sentence.text)}
    is_set = bool(grounds.proposal.when) or bool(times - _SOME_TIME)
    if is_set and match is not None and _reaches(lead[match.end() :]):
        return False
    match = _PROGRESSIVE.search(lead)
    if match is None:
        is_scheduled = not lead.strip() and form_of(first) == "plain" and bool(grounds.proposal.when)
        return not is_scheduled  # "I start tomorrow"
    rest = lead[match.end() :]
    began = (split_words(rest) or (first,))[0]
    is_begun = form_of(began) == "ing" and (is_dated or began.base in LEXICON["begins_soon"])
    return not (is_begun and form_of(first) == "ing" and _reaches(rest))


def _is_no_deed(grounds: Grounds) -> bool:
    """Whether the plan's verb is none that can be planned: "I'm going to miss it"."""
    words, its = grounds.sentence.words, align(grounds)
    verbs = [
        words[place].base for place in range(max(0, its.begin - 1), its.end + 1) if words[place].base not in _GOING
    ]
    first = next((base for base in verbs if base not in _OFTENS), "")
    return first in LEXICON["no_plans"]


def _reaches(rest: str) -> bool:
    """Whether what says that it is planned still does for words behind `rest`: at once, or as further things planned."""
    *items, last = _PARTING.split(rest)
    words = split_words(rest)
    if any(word.base in _HINDERING or word.is_negation for word in words):
        return False
    return all(is_adverb(word) or word.base in _ARTICLES or word.base == "to" for word in split_words(last)) and (
        bool(items) or not any(word.is_content and not is_adverb(word) for word in words)
    )
