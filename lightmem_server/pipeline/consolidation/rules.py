"""The rules of the grounding gate: each says of a proposal, beside its evidence, whether it is broken.

Cheap rules first. Strict by design: a fact that is lost can still be found in its turn, a fact that is wrong misleads.
"""

from __future__ import annotations

import itertools
import re
from collections.abc import Callable, Sequence
from typing import TypeAlias

from lightmem_server.pipeline.consolidation.affiliations import is_elsewhere
from lightmem_server.pipeline.consolidation.claims import (
    VAGUE,
    bases_of,
    begins_with_own,
    claim_of,
    find_relative,
    is_done_by_object,
    is_participant,
    is_short_answer,
    is_speaker,
    keys_of,
    means_subject,
    mentions_as_own,
)
from lightmem_server.pipeline.consolidation.clauses import About
from lightmem_server.pipeline.consolidation.completeness import is_incomplete
from lightmem_server.pipeline.consolidation.courtesy import is_courtesy
from lightmem_server.pipeline.consolidation.firmness import is_no_firm_plan
from lightmem_server.pipeline.consolidation.government import is_ungoverned
from lightmem_server.pipeline.consolidation.grounds import Grounds, has_cue
from lightmem_server.pipeline.consolidation.instructions import is_instruction_text
from lightmem_server.pipeline.consolidation.lexicon import LEXICON, PASTS
from lightmem_server.pipeline.consolidation.model import Reason
from lightmem_server.pipeline.consolidation.normalise import quotations
from lightmem_server.pipeline.consolidation.objects import is_no_object
from lightmem_server.pipeline.consolidation.people import find_people
from lightmem_server.pipeline.consolidation.ties import (
    adds_ties,
    is_only_intended,
    is_thing_of_verb,
    is_untied_work,
    leaves_out_ties,
)
from lightmem_server.pipeline.consolidation.when import find_when, is_day_of, is_of_claim, is_said
from lightmem_server.pipeline.consolidation.words import Word, proper_names, split_words

Rule: TypeAlias = Callable[[Grounds], bool]

_AUXILIARIES = LEXICON["be_and_have"]
_GERUNDS = frozenset(["being", "having"])
_OPEN_ENDS = LEXICON["open_ends"]
_COMPLEMENTS = LEXICON["prepositions"]
_POINTING = LEXICON["pointing"]
_THIRD_PERSONS = LEXICON["third_persons"]
_INTENTION = LEXICON["intention"]
_PAST_HABIT = re.compile(r"\bused to\b|\bno longer\b|\bany ?more\b|\bstopped\b|\bquit\b|\bcancel", re.IGNORECASE)
_DENIED_DENIAL = re.compile(r"(?:n['\u2019]t|\bnot|\bnever)\s+(?:\w+\s+)?(?:hate|dislike|detest|mind)", re.IGNORECASE)
_ASIDE = re.compile(
    r",?\s*\bif\s+(?:(?:that|it|this)\s+(?:helps|matters)|you\s+(?:must|want\s+to|need\s+to)\s+know|you(?:['\u2019]re|\s+are)\s+"
    r"(?:wondering|curious|interested|asking)|I(?:['\u2019]m|\s+am)\s+(?:honest|being\s+honest))\b",
    re.IGNORECASE,
)
"""Says why something is told, not when it is so."""
_BEFORE_NOUNS = LEXICON["determiners"] | LEXICON["own_possessives"] | LEXICON["prepositions"]
_OF_OTHERS = LEXICON["others_possessives"] | frozenset(["that", "this", "these", "those"])
_ENDS_POINTING = frozenset(["it", "them", "this", "that"])
_ADDRESSED = frozenset(["you", "your", "yours"])
_HELPERS = frozenset(["had", "got", "was", "were", "been"])
_PAST_FEELINGS = frozenset(["felt", "was", "were"])
_NAMED_TASTE = re.compile(
    r"^\W*(?:is|are|was|were|['\u2019]s)\s+(?:\w+\s+){0,2}(?:favou?rites?|passion)", re.IGNORECASE
)
_BE = frozenset(["is", "are", "was", "were"])
_HAVING = LEXICON["having_verbs"]
_ATTEMPTS = LEXICON["attempts"]
_PAST_STATES = LEXICON["past_states"]
HELPER_WORDS = 5
"""How many words back a verb without content may stand that a claim begins with."""
_TAKEN_ON = frozenset(["hired", "employed", "promoted", "accepted"])
""""I was hired as a cook" tells what began then, not what was."""
RIGHT_AFTER_WORDS = 3
"""How many words back a relation's word may stand that has to be right in front of its object."""


def has_unknown_relation(grounds: Grounds) -> bool:
    """The relation is none of the slots."""
    return grounds.relation is None


def is_empty(grounds: Grounds) -> bool:
    """The object says nothing: no word of content, only the subject again, or only points ("that movie")."""
    said = split_words(grounds.proposal.object)
    if said and (said[0].base in ("that", "this", "these", "those") or {"you", "your"} & {word.base for word in said}):
        return True
    claimed = {word.key for word in split_words(grounds.proposal.object) if word.is_content and word.base not in VAGUE}
    return not claimed - keys_of(grounds.proposal.subject)


def is_dangling(grounds: Grounds) -> bool:
    """The object breaks off, or means something only in its turn: "the taste of", "making him happy", "the smell"."""
    said = split_words(grounds.proposal.object)
    if (
        not said
        or said[-1].base in _OPEN_ENDS | {"one", "ones"}
        or said[-1].lower in ("my", "our", "your", "their", "his", "its")
    ):
        return True
    if grounds.relation is None:
        return False
    if grounds.relation.is_predicate and said[-1].base in _ENDS_POINTING:
        return True
    if not grounds.relation.is_general:
        return False
    points = [
        word
        for before, word in zip((None, *said), said, strict=False)
        if word.base in _THIRD_PERSONS and not (word.base == "that" and before and before.lower.endswith("s"))
    ]  # "stories that matter" tells which, "going to that place" doesn't
    if said[0].base in _POINTING or points:
        return True
    named = said[1:] if said[0].base == "all" else said
    if grounds.first and grounds.sentence.words[grounds.first - 1].base == "the" and named[0].base != "the":
        named = (grounds.sentence.words[grounds.first - 1], *named)  # "the colours" is no other thing as "colours"
    is_definite = bool(named) and named[0].base == "the" and not (len(named) > 1 and named[1].is_capitalised)
    return is_definite and not any(word.base in _COMPLEMENTS for word in said[2:])


def is_not_a_person(grounds: Grounds) -> bool:
    """The subject is neither a speaker nor somebody whom a speaker mentions as theirs."""
    return not (is_participant(grounds) or find_relative(grounds))


def is_assistants(grounds: Grounds) -> bool:
    """It rests on an assistant's, system's or tool's words."""
    return not grounds.cited.is_evidence


def is_instruction(grounds: Grounds) -> bool:
    """The turn speaks to a model instead of telling something: nothing of it is evidence."""
    return is_instruction_text(grounds.cited.text)


def is_echo(grounds: Grounds) -> bool:
    """It rests on words that were recalled from memory."""
    return grounds.is_echo


def has_unsupported_number(grounds: Grounds) -> bool:
    """A number of the object isn't in the turn."""
    numbers = {word.key for word in split_words(grounds.proposal.object) if word.is_number}
    return not numbers <= grounds.keys


def has_unsupported_name(grounds: Grounds) -> bool:
    """A name of the object isn't in the turn, nor resolved in it."""
    said = proper_names(f". {grounds.proposal.object}") or ()
    first = split_words(grounds.proposal.object)[:1]
    names = {word.key for word in (*said, *first) if word.is_capitalised and word.is_content}
    return not names <= grounds.keys


def has_unsupported_date(grounds: Grounds) -> bool:
    """`when` is neither a date that the claim's words resolve to, nor in its sentence."""
    when = grounds.proposal.when
    if not when or is_day_of(when, grounds.cited):
        return False
    date = find_when(when, grounds.cited)
    return not is_said(when, grounds) if date is None else not is_of_claim(date, grounds)


def has_unsupported_object(grounds: Grounds) -> bool:
    """The words of content of the object aren't in one sentence of the turn, in their order: other orders turn "my dog bit the
    cat" around, and words of several sentences are a mosaic. Or the small words are missing that say what they have to do with
    each other."""
    wanted = [word.key for word in split_words(grounds.proposal.object) if word.is_content]
    said = iter([word.key for word in grounds.sentence.words])
    return not all(key in said for key in wanted) or leaves_out_ties(grounds) or adds_ties(grounds)


def is_question(grounds: Grounds) -> bool:
    """The sentence asks."""
    return not mentions_as_own(grounds) and grounds.sentence.is_question


def has_wrong_speaker(grounds: Grounds) -> bool:
    """It is about one who takes part, by the words of another: who is the other's to say nothing for."""
    return is_participant(grounds) and not is_speaker(grounds)


def has_wrong_subject(grounds: Grounds) -> bool:
    """The clause is about somebody else than the proposal."""
    about = grounds.subject.about
    if any(start <= grounds.claim_start < end for start, end in quotations(grounds.cited.text)):
        return True  # somebody else's words
    if is_speaker(grounds):
        if about is About.SPEAKER:
            return is_done_by_object(grounds)
        if about is About.SPEAKERS_OWN:
            return not (grounds.relation and grounds.relation.is_of_own) and not begins_with_own(grounds)
        if about is About.RELATIVE:
            return not (grounds.relation and grounds.relation.is_of_others)
        if mentions_as_own(grounds):
            return False
        return not (about is About.OTHER and grounds.answers and is_short_answer(grounds))
    if about is About.RELATIVE:
        meant = {
            person.name.lower() for person in find_people(grounds.sentence.text) if person.noun == grounds.subject.noun
        }
        return not (meant | {grounds.subject.noun}) & bases_of(grounds.proposal.subject)
    if about is About.THIRD:
        return not means_subject(grounds)
    return True


def has_wrong_relation(grounds: Grounds) -> bool:
    """The turn has no word for the relation: a model fills slots with what is near."""
    relation = grounds.relation
    if relation is None:
        return False
    if is_untied_work(grounds) or is_thing_of_verb(grounds):
        return True
    claimed = split_words(grounds.proposal.object)
    if claimed and claimed[0].base in _AUXILIARIES - _GERUNDS and not relation.is_predicate:
        return True  # "the woman I love is tall": what is loved isn't "is tall"
    if relation.nouns and {word.base for word in claimed} & _AUXILIARIES:
        return True  # "grandmother had one" tells what she had, not whom somebody has
    if relation.is_feeling and {word.base for word in claimed} & {"a", "an", "the"}:
        return True
    if relation.needs_number and not any(word.is_number for word in claimed):
        return True
    if relation.nouns and not mentions_as_own(grounds) and not {word.base for word in claimed} & set(relation.nouns):
        return True
    if relation.is_past and {word.base for word in claimed} & _BE and not (claimed and _is_verb_form(claimed[0])):
        return True  # "support was helpful" tells what that was, not what somebody did
    before = [word.base for word in grounds.sentence.words[: grounds.first]]
    before_keys = [word.key for word in grounds.sentence.words[: grounds.first + 1]]
    if relation.is_general and (_is_pointed_at(before) or not _is_cued_outside(grounds)):
        return True
    if claimed and claimed[0].base in _HELPERS and claimed[0].key not in before_keys[-HELPER_WORDS:]:
        return True  # "had hurt", of "I got hurt": no content, so that its place has to say it
    if relation.is_feeling and set(before[-RIGHT_AFTER_WORDS:]) & _PAST_FEELINGS:
        return True  # how somebody felt then is no way to feel now
    if set(before[-1:]) & set(relation.not_after) or set(before[-4:]) & set(relation.not_near):
        return True
    if claimed and claimed[0].base == "had":  # its verb is in the claim: "had a picnic" tells of no "picnic" alone
        lead = [word.base for word in itertools.takewhile(lambda word: not word.is_content, claimed)]
        before = before[: -len(lead)] if before[-len(lead) :] == lead else before
    is_noun = bool(set(before[-1:]) & _BEFORE_NOUNS) and not begins_with_own(grounds)
    if relation.is_predicate and not relation.is_plan and is_noun:
        return True  # "I love the quiet" tells of no "quiet" that somebody did
    if (
        relation.is_predicate
        and not relation.is_plan
        and set(before[-1:]) & _HAVING
        and not (claimed and (_is_verb_form(claimed[0]) or claimed[0].base in _HAVING))
    ):
        return True  # nor "I love long rides" of "long rides"
    if relation.right_after and not set(before[-RIGHT_AFTER_WORDS:]) & set(relation.right_after):
        return True
    return not has_cue(relation, f"{grounds.answers} {grounds.claim_clause}")


def is_negated(grounds: Grounds) -> bool:
    """The clause denies it."""
    relation = grounds.relation
    if mentions_as_own(grounds):
        return False
    if relation is not None and relation.is_denial:
        return _DENIED_DENIAL.search(grounds.clause.text) is not None
    denies = any(word.is_negation for word in claim_of(grounds).words) or _denies_question(grounds)
    return denies and not _has_negation(grounds.proposal.object)


def is_hypothetical(grounds: Grounds) -> bool:
    """The sentence says what might be, or would be."""
    if mentions_as_own(grounds):
        return False
    conditional = any(word.base in ("if", "unless") for word in split_words(_ASIDE.sub("", grounds.sentence.text)))
    return conditional or any(word.is_hypothetical for word in claim_of(grounds).words)


def is_not_done(grounds: Grounds) -> bool:
    """It is told as done or as so, and the clause speaks of a plan, or of what is over."""
    relation = grounds.relation
    if mentions_as_own(grounds):
        return False
    if is_only_intended(grounds) or is_no_firm_plan(grounds):
        return True
    if relation is None or relation.is_plan:
        return relation is not None and _PAST_HABIT.search(grounds.clause.text) is not None
    words = [word.lower for word in claim_of(grounds).words]
    intends = any(word in _INTENTION or word.endswith("'ll") for word in words)
    if relation.is_predicate:
        before = {word.base for word in grounds.sentence.words[max(0, grounds.first - 2) : grounds.first]}
        return intends or bool(before & _ATTEMPTS)
    is_over = not relation.is_past and _PAST_HABIT.search(grounds.clause.text) is not None
    if relation.is_state:
        is_over = is_over or any(
            word in _PAST_STATES and before not in ("have", "i've", "we've", "has", "'ve") and behind not in _TAKEN_ON
            for before, word, behind in zip(["", *words], words, [*words[1:], ""], strict=False)
        )
    return intends or is_over


def is_loose(grounds: Grounds) -> bool:
    """Its words stand in the sentence, but not plainly as what the subject does, feels, likes or has."""
    return is_ungoverned(grounds) or is_no_object(grounds) or is_elsewhere(grounds)


RULES: tuple[tuple[Reason, Rule], ...] = (
    (Reason.UNKNOWN_RELATION, has_unknown_relation),
    (Reason.EMPTY, is_empty),
    (Reason.DANGLING, is_dangling),
    (Reason.NOT_A_PERSON, is_not_a_person),
    (Reason.ASSISTANT, is_assistants),
    (Reason.INSTRUCTION, is_instruction),
    (Reason.ECHO, is_echo),
    (Reason.UNSUPPORTED_NUMBER, has_unsupported_number),
    (Reason.UNSUPPORTED_NAME, has_unsupported_name),
    (Reason.UNSUPPORTED_DATE, has_unsupported_date),
    (Reason.UNSUPPORTED_OBJECT, has_unsupported_object),
    (Reason.COURTESY, is_courtesy),
    (Reason.QUESTION, is_question),
    (Reason.WRONG_SPEAKER, has_wrong_speaker),
    (Reason.WRONG_SUBJECT, has_wrong_subject),
    (Reason.NEGATED, is_negated),
    (Reason.HYPOTHETICAL, is_hypothetical),
    (Reason.NOT_DONE, is_not_done),
    (Reason.WRONG_RELATION, has_wrong_relation),
    (Reason.UNGOVERNED, is_loose),
    (Reason.INCOMPLETE, is_incomplete),
)


def find_reason(grounds: Grounds) -> Reason | None:
    """The first rule that a proposal breaks."""
    return next((reason for reason, breaks in RULES if breaks(grounds)), None)


def _is_pointed_at(before: Sequence[str]) -> bool:
    """Whether a taste is for one thing that is pointed at: "I love that painting", "I love your way of telling it"."""
    own = max((place for place, word in enumerate(before) if word in ("i", "we")), default=-1)
    return bool(set(before[-1:]) & _OF_OTHERS or set(before[own + 1 :]) & _ADDRESSED)


def _is_cued_outside(grounds: Grounds) -> bool:
    """Whether a word for the relation stands around the claim, or in the question that it answers: "love can be found
    everywhere" tells of no love for love."""
    words, text = grounds.sentence.words, grounds.sentence.text
    if not words or grounds.relation is None:
        return False
    start = text.find(grounds.claim_clause)
    before = text[max(0, start) : words[grounds.first].start]
    behind = text[words[grounds.last].end :]
    is_named = _NAMED_TASTE.search(behind) is not None
    return has_cue(grounds.relation, f"{grounds.answers} {before} {behind if is_named else ''}")


def _is_verb_form(word: Word) -> bool:
    """Whether a word may be a participle or a gerund."""
    return word.base in PASTS or word.base.endswith(("ed", "ing"))


def _has_negation(text: str) -> bool:
    return any(word.is_negation for word in split_words(text))


def _denies_question(grounds: Grounds) -> bool:
    """ "No." to a question that had the words: the sentence before the claim took it back."""
    if not grounds.answers or not is_short_answer(grounds):
        return False
    upto = grounds.clause.end - grounds.sentence.start  # "I'm allergic to cashews, not peanuts" says yes
    return _has_negation(grounds.sentence.text[:upto])
