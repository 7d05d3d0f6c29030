"""What governs a claim in its sentence: whether its verb is the subject's own, and whether its object is the whole object.

A small model takes words that stand near each other for words that belong together: of "I like having them around to keep me
calm" it makes that somebody likes calm. Without a parser that can't be told in general; but the plain cases can, in which
between subject, verb and object there is nothing but adverbs, articles and the items of a list. What is not plain is refused.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from lightmem_server.pipeline.consolidation.alignment import align, is_parted
from lightmem_server.pipeline.consolidation.claims import begins_with_own, is_short_answer
from lightmem_server.pipeline.consolidation.clauses import About
from lightmem_server.pipeline.consolidation.grounds import Grounds
from lightmem_server.pipeline.consolidation.lexicon import LEXICON, PASTS
from lightmem_server.pipeline.consolidation.words import Word, split_words

_STARTERS = LEXICON["clause_starters"]
_PREPOSITIONS = LEXICON["prepositions"] - {"like"}
_ARTICLES = LEXICON["determiners"] | LEXICON["own_possessives"]
_SUBORDINATORS = LEXICON["subordinators"]
_AUXILIARIES = LEXICON["be_and_have"] - frozenset(["would", "can", "could", "will"]) | {"have"}
_BE = frozenset(["am", "is", "are", "was", "were", "be", "been", "being"])
_PASSIVE = frozenset(["was", "were", "got", "get", "is", "are", "am", "be", "been", "being"])
_PASTS = PASTS | LEXICON["further_pasts"]
_CONJUNCTIONS = frozenset(["and", "or", "then", "plus"])
_LIKING = frozenset(
    ["love", "loving", "loved", "like", "liked", "enjoy", "enjoying", "enjoyed", "hate", "hated", "adore", "prefer"]
)
_FEELING = frozenset(["feel", "feeling", "feels"])
_SHORTEST_PAST = 4
_SHOWING = (["look", "at"], ["check", "out"], ["take", "a"])
"""How a sentence begins that shows something, and answers nothing."""


class _Verb(NamedTuple):
    """Of a claim's first word: the place of its subject, -1 where the sentence leaves it out; of the nearest word in front
    that is neither adverb nor auxiliary; and those between."""

    subject: int
    before: int
    passed: frozenset[str]


def is_ungoverned(grounds: Grounds) -> bool:
    """The claim's verb, or what makes it a taste or something had, isn't the subject's in any plain way."""
    relation = grounds.relation
    if relation is None or not grounds.sentence.words:
        return False
    if relation.is_feeling:
        return not _is_felt(grounds)
    if relation.is_predicate and not relation.is_plan:
        return not _is_done(grounds)
    return False


def _is_done(grounds: Grounds) -> bool:
    """Whether a deed, or what else is so, is what the subject does, in the tense that the relation has."""
    words, its = grounds.sentence.words, align(grounds)
    if grounds.subject.about is About.SPEAKERS_OWN:
        left_out = set(range(its.begin, its.end)) - set(its.places)
        is_past = grounds.relation is not None and grounds.relation.is_past
        verbs = [words[place] for place in its.places[1:] if _is_finite(words[place])]
        has_verb = any(not is_past or form_of(word) == "past" for word in verbs)
        return begins_with_own(grounds) and has_verb and not any(words[place].base in _BE for place in left_out)
    begin = its.begin
    if begin and words[begin - 1].base == "got" and split_words(grounds.proposal.object)[0].base in ("has", "have"):
        begin -= 1  # "I've got asthma" as "has asthma"
    verb = _verb_of(grounds, begin)
    if verb is None or not _is_of_subject(grounds, verb, begin) or _is_unreal(words, verb.subject):
        return False
    if grounds.relation is None or not grounds.relation.is_past:
        return words[begin].base not in LEXICON["passing"] and not verb.passed & {"was", "were"}
    form = form_of(words[its.begin])
    if form == "ing":
        return "been" in verb.passed
    return form == "past" and not verb.passed & _PASSIVE


def _is_finite(word: Word) -> bool:
    """Whether a word may be the verb of "my laptop crashed"; "my highest ever" has none."""
    return (
        word.base in _BE
        or word.base in _AUXILIARIES
        or form_of(word) == "past"
        or word.is_negation
        or word.lower.endswith("'s")
    )


def _is_felt(grounds: Grounds) -> bool:
    """Whether a feeling is what the subject is, or feels; not what it is like."""
    words, its = grounds.sentence.words, align(grounds)
    its_own = {words[place].base for place in its.places[1:2]} & LEXICON["own_possessives"]
    if form_of(words[its.begin]) == "ing" or its_own:
        return False  # "I'm living my dreams"
    verb = _verb_of(grounds, its.begin)
    if verb is None:
        return False
    if verb.before > verb.subject and words[verb.before].base in _FEELING:
        verb = _verb_of(grounds, verb.before)
    if verb is None or verb.before > verb.subject:
        return False
    return words[its.begin].base not in LEXICON["no_feelings"] and not _is_unreal(words, verb.subject)


def _is_unreal(words: Sequence[Word], subject: int) -> bool:
    """Whether what somebody says of themselves was only in their mind: "I thought I won", "it's like I won"."""
    before = [word.base for word in words[max(0, subject - 2) : max(0, subject)] if word.base != "that"]
    return bool(before) and before[-1] in LEXICON["unreal"]


def _verb_of(grounds: Grounds, begin: int) -> _Verb | None:
    """None: what the rules know of the clause's subject doesn't do for a verb."""
    words, subject = grounds.sentence.words, grounds.subject
    if subject.about not in (About.SPEAKER, About.RELATIVE, About.THIRD):
        return None
    place = (
        max((p for p, word in enumerate(words[:begin]) if word.end <= subject.end), default=-1) if subject.end else -1
    )
    before, passed = begin - 1, set[str]()
    while before > place and _may_stand_between(words[before], grounds):
        passed.add(words[before].base)
        before -= 1
    return _Verb(place, before, frozenset(passed))


def _may_stand_between(word: Word, grounds: Grounds) -> bool:
    base = word.base
    if base in _AUXILIARIES or is_adverb(word) or word.is_negation:
        return True
    if base == "a" and grounds.relation is not None and grounds.relation.is_feeling:
        return True  # "I'm a bit tired"
    if grounds.subject.about in (About.THIRD, About.RELATIVE):  # "my sister Mia, who keeps bees"
        return base in ("who", "which") or (word.is_capitalised and base in grounds.proposal.subject.lower().split())
    return False


def is_adverb(word: Word) -> bool:
    """Whether a word may stand between a subject and its verb without changing what is told."""
    base = word.base
    return base in LEXICON["adverbs"] or (base.endswith("ly") and base not in LEXICON["not_adverbs"])


def _is_of_subject(grounds: Grounds, verb: _Verb, begin: int) -> bool:
    """Whether the verb stands behind its subject, or goes on where another of its verbs does: "I packed and left"."""
    words = grounds.sentence.words
    if verb.before == verb.subject:
        return True
    if verb.subject < 0 and all(word.base in _STARTERS for word in words[: verb.before + 1]):
        return True
    if words[verb.before].base in _LIKING and form_of(words[begin]) == "ing":
        lead = words[verb.subject + 1 : verb.before]
        return all(_may_stand_between(word, grounds) for word in lead)  # "I love running"
    if words[verb.before].base not in _CONJUNCTIONS and not is_parted(grounds, verb.before):
        return False
    return _goes_on(grounds, words[verb.subject + 1 : verb.before + 1], form_of(words[begin]))


def _goes_on(grounds: Grounds, lead: Sequence[Word], form: str) -> bool:
    """Whether a subject's first verb has the same form as a later one, and nothing between them begins a clause of its own."""
    behind = list(lead)
    while behind and (is_adverb(behind[0]) or behind[0].base in _STARTERS):
        behind.pop(0)
    forms = [form_of(word) for word in behind[:3] if not is_adverb(word)]
    first = behind[0].base if behind else ""
    tried = 2 if first in _AUXILIARIES else 1  # "I've packed and left", "I had a tea and left"
    return form in forms[:tried] and not any(word.base in _SUBORDINATORS for word in behind)


def is_bare_answer(grounds: Grounds, begin: int) -> bool:
    """Whether a claim answers a question that has its verb, with nothing but small words in front of it: "In Lisbon!", and
    not "It's like meditation"."""
    words = grounds.sentence.words
    before = words[:begin]
    if [word.base for word in words[:2]] in _SHOWING:
        return False
    return is_short_answer(grounds) and all(
        is_adverb(word) or word.base in _STARTERS | _PREPOSITIONS | _ARTICLES for word in before
    )


def form_of(word: Word) -> str:
    """Of a verb, by its ending: "past", "ing" or "plain"."""
    base = word.base
    if base in _PASTS or (base.endswith("ed") and len(base) > _SHORTEST_PAST) or base in ("was", "were", "did"):
        return "past"
    return "ing" if base.endswith(("ing", "in'")) else "plain"
