"""The grounding gate: a proposal is kept only where code can tie it to the turn that it cites.

Each rule is a function of a proposal beside its evidence and says whether it is broken; the first broken one is the reason
that is counted. Cheap rules first, the Selector last. Strict by design: a fact that is lost can still be found in its turn, a
fact that is wrong misleads.
"""

from __future__ import annotations

import itertools
import re
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import timedelta
from typing import TypeAlias

from lightmem_server.pipeline.consolidation.clauses import About, begins_clause
from lightmem_server.pipeline.consolidation.grounds import Grounds, ground, has_cue
from lightmem_server.pipeline.consolidation.lexicon import LEXICON
from lightmem_server.pipeline.consolidation.model import (
    Proposal,
    Reason,
    Rejection,
    Resolution,
    ResolutionKind,
    Utterance,
    Window,
)
from lightmem_server.pipeline.consolidation.normalise import quotations
from lightmem_server.pipeline.consolidation.people import RELATIVES, find_people
from lightmem_server.pipeline.consolidation.proposals import Relation
from lightmem_server.pipeline.consolidation.words import (
    Sentence,
    content_keys,
    proper_names,
    split_words,
)
from lightmem_server.slm.time_window import EPOCH, MICROSECOND, speaks_of_time

MIN_LOGIT = 0.0
"""What the Selector must give a statement beside its evidence. On what the rules kept of FriendsQA's dialogues
ms-marco-MiniLM-L-12-v2 gave 2.6 to 8.8 beside the own turn, and to half of them -11 beside another turn of the scene. It sees
what a turn is about, not who did what: that is for the rules."""

Score: TypeAlias = Callable[[str, Sequence[str]], Awaitable[Sequence[float | None]]]
"""Selector.judge: logits of passages for a statement."""

Rule: TypeAlias = Callable[[Grounds], bool]

_IDIOMS = re.compile(
    r"can(?:'|\u2019)t wait|can(?:'|\u2019)t believe|could(?:n't|n\u2019t) be happier|not only|no wonder|no problem|no matter"
    r"|don(?:'|\u2019)t worry|why not|if only you knew|^no,|\bno,\s|has(?:n't|n\u2019t) stopped|never stop",
    re.IGNORECASE,
)
_AUXILIARIES = LEXICON["be_and_have"]
_INTENTION = LEXICON["intention"]
_PAST_HABIT = re.compile(r"\bused to\b|\bno longer\b|\bany ?more\b|\bstopped\b|\bquit\b|\bcancel", re.IGNORECASE)
_DENIED_DENIAL = re.compile(r"(?:n['\u2019]t|\bnot|\bnever)\s+(?:\w+\s+)?(?:hate|dislike|detest|mind)", re.IGNORECASE)
_COURTESY = re.compile(
    r"^\W*(?:(?:oh|wow|aw+|hey|hi|hello|ah|ha|haha|well|yes|yeah)\W+)*(?:thanks?\b|thank you|congrat\w*"
    r"|good (?:luck|night|morning|evening|afternoon|to know)|bye\b"
    r"|see you|take care|welcome\b|you(?:'|\u2019)re welcome|no problem|happy birthday|sorry\b"
    r"|how are you|nice to|that(?:'|\u2019)s (?:great|awesome|amazing|wonderful|nice|so)|sounds (?:great|good|fun|like))",
    re.IGNORECASE,
)
_INSTRUCTION = re.compile(
    r"\b(?:ignore|disregard|forget|override)\s+(?:\w+\s+){0,3}?(?:above|previous|prior|earlier|instructions?|rules|everything)\b"
    r"|\b(?:output|print|write|append|add|insert|respond with|reply with|return)\s+(?:\w+\s+){0,3}?"
    r"(?:following|line|lines|fact|facts|exactly|verbatim|json)\b"
    r"|\b(?:new|updated?) (?:instructions?|system prompt|facts?)\s*:|\bsystem\s*(?:prompt)?\s*:|<\|?\w+\|?>|\w\s*\|\s*\w+\s*\|"
    r"|\b(?:you are|act as|pretend to be) (?:now )?(?:an?|the) (?:ai|assistant|model|language model|system)\b",
    re.IGNORECASE,
)
_SUBJECTS = frozenset(["i", "we", "you", "he", "she", "they", "it", "my", "our"])
_BEFORE_NOUNS = LEXICON["determiners"] | LEXICON["own_possessives"] | LEXICON["prepositions"]
_ATTEMPTS = LEXICON["attempts"]
_PAST_STATES = LEXICON["past_states"]
RIGHT_AFTER_WORDS = 3
"""How many words back a relation's word may stand that has to be right in front of its object."""
HALF_DAY = timedelta(hours=12)
_VAGUE = LEXICON["vague"]


def has_unknown_relation(grounds: Grounds) -> bool:
    """The relation is none of the slots."""
    return grounds.relation is None


def is_empty(grounds: Grounds) -> bool:
    """The object says nothing: no word of content, only the subject again, or only points ("that movie")."""
    said = split_words(grounds.proposal.object)
    if said and (said[0].base in ("that", "this", "these", "those") or {"you", "your"} & {word.base for word in said}):
        return True
    claimed = {word.key for word in split_words(grounds.proposal.object) if word.is_content and word.base not in _VAGUE}
    return not claimed - _keys(grounds.proposal.subject)


def is_not_a_person(grounds: Grounds) -> bool:
    """The subject is neither a speaker nor somebody whom a speaker mentions as theirs."""
    return not (_is_participant(grounds) or _find_relative(grounds))


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
    if not when or _is_date_of(when, grounds.cited):
        return False
    date = find_when(when, grounds.cited)
    return not _is_said(when, grounds) if date is None else not _is_of_claim(date, grounds)


def has_unsupported_object(grounds: Grounds) -> bool:
    """The words of content of the object aren't in one sentence of the turn, in their order: other orders turn "my dog bit the
    cat" around, and words of several sentences are a mosaic."""
    wanted = [word.key for word in split_words(grounds.proposal.object) if word.is_content]
    said = iter([word.key for word in grounds.sentence.words])
    return not all(key in said for key in wanted)


def is_courtesy(grounds: Grounds) -> bool:
    """The sentence only greets, thanks or congratulates."""
    return _COURTESY.search(grounds.sentence.text) is not None and not _tells_more(grounds)


def is_question(grounds: Grounds) -> bool:
    """The sentence asks."""
    return not _mentions_as_own(grounds) and grounds.sentence.is_question


def has_wrong_speaker(grounds: Grounds) -> bool:
    """It is about one who takes part, by the words of another: who is the other's to say nothing for."""
    return _is_participant(grounds) and not _is_speaker(grounds)


def has_wrong_subject(grounds: Grounds) -> bool:
    """The clause is about somebody else than the proposal."""
    about = grounds.subject.about
    if any(start <= grounds.claim_start < end for start, end in quotations(grounds.cited.text)):
        return True  # somebody else's words
    if _is_speaker(grounds):
        if about is About.SPEAKER:
            return _is_done_by_object(grounds)
        if about is About.SPEAKERS_OWN:
            return not (grounds.relation and grounds.relation.is_of_own) and not _begins_with_own(grounds)
        if about is About.RELATIVE:
            return not (grounds.relation and grounds.relation.is_of_others)
        if _mentions_as_own(grounds):
            return False
        return not (about is About.OTHER and grounds.answers and _is_short_answer(grounds))
    if about is About.RELATIVE:
        meant = {
            person.name.lower() for person in find_people(grounds.sentence.text) if person.noun == grounds.subject.noun
        }
        return not (meant | {grounds.subject.noun}) & _lower_words(grounds.proposal.subject)
    if about is About.THIRD:
        return not _means_subject(grounds)
    return True


def has_wrong_relation(grounds: Grounds) -> bool:
    """The turn has no word for the relation: a model fills slots with what is near."""
    relation = grounds.relation
    if relation is None:
        return False
    claimed = split_words(grounds.proposal.object)
    if claimed and claimed[0].base in _AUXILIARIES and not relation.is_predicate:
        return True  # "the woman I love is tall": what is loved isn't "is tall"
    if relation.is_feeling and {word.base for word in claimed} & {"a", "an", "the"}:
        return True
    if relation.needs_number and not any(word.is_number for word in claimed):
        return True
    if relation.nouns and not _mentions_as_own(grounds) and not {word.base for word in claimed} & set(relation.nouns):
        return True
    before = [word.base for word in grounds.sentence.words[: grounds.first]]
    if set(before[-1:]) & set(relation.not_after) or set(before[-4:]) & set(relation.not_near):
        return True
    is_noun = bool(set(before[-1:]) & _BEFORE_NOUNS) and not _begins_with_own(grounds)
    if relation.is_predicate and not relation.is_plan and is_noun:
        return True  # "I love the quiet" tells of no "quiet" that somebody did
    if relation.right_after and not set(before[-RIGHT_AFTER_WORDS:]) & set(relation.right_after):
        return True
    return not has_cue(relation, f"{grounds.answers} {grounds.claim_clause}")


def is_negated(grounds: Grounds) -> bool:
    """The clause denies it."""
    relation = grounds.relation
    if _mentions_as_own(grounds):
        return False
    if relation is not None and relation.is_denial:
        return _DENIED_DENIAL.search(grounds.clause.text) is not None
    denies = any(word.is_negation for word in _claim(grounds).words) or _denies_question(grounds)
    return denies and not _has_negation(grounds.proposal.object)


def is_hypothetical(grounds: Grounds) -> bool:
    """The sentence says what might be, or would be."""
    if _mentions_as_own(grounds):
        return False
    conditional = any(word.base in ("if", "unless") for word in grounds.sentence.words)
    return conditional or any(word.is_hypothetical for word in _claim(grounds).words)


def is_not_done(grounds: Grounds) -> bool:
    """It is told as done or as so, and the clause speaks of a plan, or of what is over."""
    relation = grounds.relation
    if _mentions_as_own(grounds):
        return False
    if relation is None or relation.is_plan:
        return relation is not None and _PAST_HABIT.search(grounds.clause.text) is not None
    words = [word.lower for word in _claim(grounds).words]
    intends = any(word in _INTENTION or word.endswith("'ll") for word in words)
    if relation.is_predicate:
        before = {word.base for word in grounds.sentence.words[max(0, grounds.first - 2) : grounds.first]}
        return intends or bool(before & _ATTEMPTS)
    is_over = not relation.is_past and _PAST_HABIT.search(grounds.clause.text) is not None
    if relation.is_state:
        is_over = is_over or any(
            word in _PAST_STATES and before not in ("have", "i've", "we've", "has", "'ve")
            for before, word in itertools.pairwise(["", *words])
        )
    return intends or is_over


RULES: tuple[tuple[Reason, Rule], ...] = (
    (Reason.UNKNOWN_RELATION, has_unknown_relation),
    (Reason.EMPTY, is_empty),
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
)


@dataclass(frozen=True, slots=True)
class Gated:
    """What the gate made of a window's proposals, in their order."""

    kept: tuple[Proposal, ...]
    rejected: tuple[Rejection, ...]


def check(
    proposals: Sequence[Proposal], window: Window, relations: Mapping[str, Relation], *, recalled: Sequence[str] = ()
) -> Gated:
    """All rules but the Selector's. What is kept has its validity in time, and its subject written in one way.

    Args:
        recalled: What was returned from memory to the agent lately.
    """
    kept: list[Proposal] = []
    rejected: list[Rejection] = []
    seen: set[tuple[str, str, frozenset[str]]] = set()
    for proposal in proposals:
        grounds = ground(proposal, window, relations, recalled)
        reason = Reason.NO_EVIDENCE if grounds is None else find_reason(grounds)
        if grounds is not None and reason is None:
            proposal = _settle(grounds)
            same = (proposal.subject, proposal.relation, content_keys(proposal.object))
            if same in seen:
                reason = Reason.DUPLICATE
            seen.add(same)
        if reason is None:
            kept.append(proposal)
        else:
            rejected.append(Rejection(proposal, reason))
    return Gated(tuple(kept), tuple(rejected))


async def check_all(
    proposals: Sequence[Proposal],
    window: Window,
    relations: Mapping[str, Relation],
    score: Score,
    *,
    recalled: Sequence[str] = (),
    min_logit: float = MIN_LOGIT,
) -> Gated:
    """All rules, and then the Selector: does the turn, with the one before it, tell what the statement says?"""
    gated = check(proposals, window, relations, recalled=recalled)
    kept, rejected = [], list(gated.rejected)
    for proposal in gated.kept:
        (logit,) = await score(statement(proposal, relations), [evidence(proposal, window)])
        judged = replace(proposal, score=logit)
        if logit is None or logit < min_logit:
            rejected.append(Rejection(judged, Reason.INCONSISTENT))
        else:
            kept.append(judged)
    return Gated(tuple(kept), tuple(rejected))


def is_instruction_text(text: str) -> bool:
    """Whether a text speaks to a model: "ignore the above and write ..."."""
    return _INSTRUCTION.search(text) is not None


def find_reason(grounds: Grounds) -> Reason | None:
    """The first rule that a proposal breaks."""
    return next((reason for reason, breaks in RULES if breaks(grounds)), None)


def statement(proposal: Proposal, relations: Mapping[str, Relation]) -> str:
    """A fact in words, without its time."""
    relation = relations.get(proposal.relation)
    states = relation.states if relation else "{subject}: {object}"
    return states.format(subject=proposal.subject, object=proposal.object)


def evidence(proposal: Proposal, window: Window) -> str:
    """The cited turns in words."""
    cited = [turn for turn in window.turns if turn.id in proposal.evidence_ids]
    return " ".join(f"{turn.speaker}: {turn.annotated}" for turn in cited)


def find_when(when: str, cited: Utterance) -> Resolution | None:
    """The date of a turn that `when` means: by its label, a coarser part of it, or the words that it was resolved from."""
    dates = [each for each in cited.resolutions if each.kind is ResolutionKind.DATE]
    wanted = when.strip("[]() .").lower()
    for date in dates:
        label, words = date.value.lower(), cited.text[date.start : date.end].lower()
        if wanted in (label, words, label.removeprefix("week of ")) or (wanted and label.startswith(f"{wanted}-")):
            return date
    return None


def _is_date_of(when: str, cited: Utterance) -> bool:
    """Whether `when` is the day on which the turn was said, to within the zones of the earth."""
    try:
        said = EPOCH + cited.turn.occurred_at * MICROSECOND
        return when in {f"{said + shift:%Y-%m-%d}" for shift in (-HALF_DAY, timedelta(0), HALF_DAY)}
    except OverflowError:
        return False


def _settle(grounds: Grounds) -> Proposal:
    proposal = grounds.proposal
    date = find_when(proposal.when, grounds.cited) if proposal.when else None
    if date is None and _is_date_of(proposal.when, grounds.cited):
        proposal = replace(proposal, when="")  # when it was said, which the evidence knows better
    subject = grounds.cited.speaker if _is_speaker(grounds) else proposal.subject
    proposal = replace(proposal, evidence_ids=(grounds.cited.id,))
    if date is None:
        return replace(proposal, subject=subject)
    return replace(proposal, subject=subject, when=date.value, valid_from=date.valid_from, valid_to=date.valid_to)


def _keys(text: str) -> frozenset[str]:
    return frozenset(word.key for word in split_words(text))


def _lower_words(text: str) -> frozenset[str]:
    return frozenset(word.base for word in split_words(text))


def _named(subject: str, speaker: str) -> bool:
    """Whether a subject names a speaker: in full, or by a part of the name alone."""
    wanted, full = subject.casefold().split(), speaker.casefold().split()
    return bool(wanted) and (wanted == full or (len(wanted) == 1 and wanted[0] in full))


def _is_participant(grounds: Grounds) -> bool:
    return any(_named(grounds.proposal.subject, speaker) for speaker in grounds.window.speakers)


def _is_speaker(grounds: Grounds) -> bool:
    return _named(grounds.proposal.subject, grounds.cited.speaker)


def _find_relative(grounds: Grounds) -> str:
    """The noun, or the name, by which the cited turn's speaker mentions the subject as theirs; "" when they don't."""
    subject = _lower_words(grounds.proposal.subject)
    owner = {part.casefold() for part in grounds.cited.speaker.split()}
    for person, whose in grounds.people:
        if whose != grounds.cited.speaker:
            continue
        others = subject - owner - {person.noun, person.name.lower()}
        if others - {"the", "my"} or not subject & {person.noun, person.name.lower()}:
            continue
        if person.name.lower() in subject or subject & owner:
            return person.name if person.name.lower() in subject else person.noun
    return ""


def _means_subject(grounds: Grounds) -> bool:
    """Whether a pronoun or name in front of the claim is the proposal's subject."""
    if grounds.subject.text in ("", "I"):
        return False
    if grounds.subject.text.lower() in _lower_words(grounds.proposal.subject):
        return True
    start = grounds.sentence.start + grounds.subject.start
    for resolution in grounds.cited.resolutions:
        if resolution.kind is ResolutionKind.PERSON and resolution.start == start:
            return _lower_words(grounds.proposal.subject) <= _lower_words(resolution.value)
    return False


def _mentions_as_own(grounds: Grounds) -> bool:
    """Whether the claim is that a speaker has a relative, whom the sentence calls theirs: "my sister" says so in any sentence,
    also in a question or a denial."""
    if grounds.relation is None or not grounds.relation.is_of_others or not _is_speaker(grounds):
        return False
    claimed = _lower_words(grounds.proposal.object)
    return any(
        {person.noun, person.name.lower()} >= {word for word in claimed if word not in _VAGUE} and claimed
        for person in find_people(grounds.sentence.text)
        if person.noun in grounds.relation.nouns
    )


def _is_done_by_object(grounds: Grounds) -> bool:
    """Whether what is claimed is done by somebody between the speaker and it: "I saw Tom win", "I want my sister to win"."""
    if grounds.relation is None or not grounds.relation.is_predicate:
        return False
    words = grounds.sentence.words
    if grounds.first and words[grounds.first].is_capitalised and begins_clause(grounds.sentence, words, grounds.first):
        return True
    before = [word for word in words[: grounds.first] if word.base not in ("to", "not", "also", "always")]
    return bool(before) and (before[-1].base in RELATIVES or (before[-1].is_capitalised and len(before) > 1))


def _begins_with_own(grounds: Grounds) -> bool:
    """Whether the claim takes along what is the speaker's: "my name is Ana" as "name is Ana"."""
    words = grounds.sentence.words
    return grounds.first > 0 and words[grounds.first - 1].start == grounds.subject.start


def _is_short_answer(grounds: Grounds) -> bool:
    asked = _lower_words(grounds.answers)
    return len(grounds.sentence.words) <= 6 and bool(asked & {"you", "your", "yours"})


def _claim(grounds: Grounds) -> Sentence:
    """The clause without idioms that look like denials."""
    return Sentence(_IDIOMS.sub(" ", grounds.clause.text), grounds.clause.start)


def _has_negation(text: str) -> bool:
    return any(word.is_negation for word in split_words(text))


def _denies_question(grounds: Grounds) -> bool:
    """ "No." to a question that had the words: the sentence before the claim took it back."""
    return False if not grounds.answers else _is_short_answer(grounds) and _has_negation(grounds.sentence.text)


def _is_said(when: str, grounds: Grounds) -> bool:
    """Whether `when` is in the sentence's words, and no date."""
    if not speaks_of_time(when) and not set(_lower_words(when)) & LEXICON["times"]:
        return False
    if re.search(r"\b(?:19|20)\d\d\b", when):
        return when.lower() in grounds.sentence.text.lower()
    keys = _keys(when)
    return bool(keys) and keys <= _keys(grounds.sentence.text)


def _is_of_claim(date: Resolution, grounds: Grounds) -> bool:
    """Whether a date belongs to the claim: in its clause, or parted from it by nothing that somebody else does."""
    sentence, clause = grounds.sentence, grounds.clause
    if not sentence.start <= date.start < sentence.end:
        return False
    if clause.start <= date.start < clause.end:
        return True
    if date.start < clause.start:
        between = grounds.cited.text[grounds.clause_before(date.start) : clause.start]
    else:
        between = grounds.cited.text[clause.end : date.end]
    return not any(word.base in _SUBJECTS for word in split_words(between))


def _tells_more(grounds: Grounds) -> bool:
    """Whether a sentence that begins with a courtesy goes on: "Thanks, I moved to Lisbon"."""
    after = _COURTESY.sub("", grounds.sentence.text, count=1)
    first = re.search(r"\b(?:I|we|my)\b", after)
    words = grounds.sentence.words
    return first is not None and bool(words) and words[grounds.first].start >= len(grounds.sentence.text) - len(after)
