"""What of the cited turns a proposal can rest on: the sentence that says it, the clause in it, and who that is about."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from lightmem_server.pipeline.consolidation.clauses import ClauseSubject, clause_subject
from lightmem_server.pipeline.consolidation.echo import echoes
from lightmem_server.pipeline.consolidation.lexicon import LEXICON
from lightmem_server.pipeline.consolidation.model import Proposal, Utterance, Window
from lightmem_server.pipeline.consolidation.people import Person, find_people
from lightmem_server.pipeline.consolidation.proposals import Relation
from lightmem_server.pipeline.consolidation.words import (
    Sentence,
    Word,
    all_keys,
    content_keys,
    split_sentences,
    split_words,
    stem,
)

_CLAUSE_END = re.compile(
    r"[,;:\u2014\u2013]|\b(?:but|because|so that|although|though|while|when|if|since|until|and I|and we)\b"
    r"|['\u2019]cause\b"
)
_TURN = re.compile(r"\b(?:but|although|though|because|while|whereas|so|until)\b|['\u2019]cause\b", re.IGNORECASE)
ANSWER_PLACE = 60
"""How many characters into a turn a sentence may begin that answers the question before it."""
_LIKENESS = re.compile(
    r"\b(?:looks?|feels?|felt|sounds?|seems?|was|is|are|were|be|been|it's|that's|i'm|you're|he's|she's)\s+like\b"
    r"|(?<!\bi )\bjust\s+like\b"
    r"|\blike\s+(?:this|that|a|an|the|when|if|i|you|what)\b|,\s*like\b"
)
"""Where "like" compares."""
_OCCUPATIONS = frozenset(stem(word) for word in LEXICON["occupations"])


@dataclass(frozen=True, slots=True)
class Grounds:
    """A proposal beside its evidence. Made once, read by all rules.

    Attributes:
        cited: The turn that the proposal names.
        preceding: The turn before it in the window; None: it is the first.
        relation: Its slot; None: there is none of that name.
        recalled: What the agent was told from memory lately, for echoes.
    """

    proposal: Proposal
    window: Window
    cited: Utterance
    preceding: Utterance | None
    relation: Relation | None
    recalled: tuple[str, ...]
    sentence: Sentence
    first: int
    last: int
    """Places of the first and last word of the sentence that the object shares."""
    subject: ClauseSubject

    @property
    def clause(self) -> Sentence:
        """From the border of a clause before the claim to the one behind it."""
        words = self.sentence.words
        if not words:
            return self.sentence
        start, end = words[self.first].start, words[self.last].end
        borders = list(_CLAUSE_END.finditer(self.sentence.text))
        left = max((match.start() for match in borders if match.end() <= start), default=0)
        if self.subject.start < left and self.subject.end:
            # The subject stands further in front: what lies between belongs to the claim.
            left = max((match.start() for match in borders if match.end() <= self.subject.start), default=0)
        right = min((match.start() for match in borders if match.start() >= end), default=len(self.sentence.text))
        return Sentence(self.sentence.text[left:right], self.sentence.start + left)

    def clause_before(self, place: int) -> int:
        """Where, before a place of the turn, a clause of the sentence begins."""
        at = place - self.sentence.start
        return self.sentence.start + max(
            (m.end() for m in _CLAUSE_END.finditer(self.sentence.text, 0, max(0, at))), default=0
        )

    @property
    def claim_clause(self) -> str:
        """The clause from the last word that turns it, such as "but", before the claim."""
        turns = [match.end() for match in _TURN.finditer(self.sentence.text, 0, self._claim_place)]
        start = max([self.clause.start - self.sentence.start, *turns])
        return self.sentence.text[start : self.clause.end - self.sentence.start]

    @property
    def _claim_place(self) -> int:
        return self.claim_start - self.sentence.start

    @property
    def claim_start(self) -> int:
        """Where in the turn the claim begins."""
        words = self.sentence.words
        return self.sentence.start + (words[self.first].start if words else 0)

    @property
    def answers(self) -> str:
        """The question right before the cited turn, when the claim stands in the turn's beginning; else ""."""
        if self.preceding is None or self.preceding.speaker == self.cited.speaker:
            return ""
        sentences = split_sentences(self.preceding.text)
        if not sentences or not sentences[-1].is_question or self.sentence.start > ANSWER_PLACE:
            return ""
        return sentences[-1].text

    @property
    def keys(self) -> frozenset[str]:
        """Of all words of the cited turn, its speaker and what was resolved in it."""
        return _utterance_keys(self.cited)

    @property
    def is_echo(self) -> bool:
        """Whether the sentence repeats what was recalled."""
        return echoes(self.sentence.text, self.recalled)

    @property
    def people(self) -> tuple[tuple[Person, str], ...]:
        """Whom the window's speakers mention as theirs, each with whose they are."""
        return tuple((person, each.speaker) for each in self.window.utterances for person in find_people(each.text))


def ground(
    proposal: Proposal, window: Window, relations: Mapping[str, Relation], recalled: Sequence[str] = ()
) -> Grounds | None:
    """Put a proposal beside its turn; None when it cites none of the window's own.

    Small models miscount: where the cited turn lacks words of the object and another turn of the window has them all,
    said by the one whom it is about where that is one of the speakers, that other is taken.
    """
    cited = next((turn for turn in window.turns if turn.id in proposal.evidence_ids), None)
    if cited is None:
        return None
    cited = _recite(proposal, cited, window)
    utterances = window.utterances
    place = utterances.index(cited)
    relation = relations.get(proposal.relation)
    sentence, first, last = _best_sentence(proposal.object, cited.text, relation)
    names = {person.name for each in utterances for person in find_people(each.text)} | {
        part for speaker in window.speakers for part in speaker.split()
    }
    return Grounds(
        proposal,
        window,
        cited,
        utterances[place - 1] if place else None,
        relation,
        tuple(recalled),
        sentence,
        first,
        last,
        clause_subject(sentence, first, end=last, known_names=names - {""}),
    )


def _recite(proposal: Proposal, cited: Utterance, window: Window) -> Utterance:
    wanted = content_keys(proposal.object)
    subject = proposal.subject.casefold()
    own = [turn for turn in window.turns if subject in (turn.speaker.casefold(), *turn.speaker.casefold().split())]
    candidates: list[Utterance] = [cited, *(own or window.turns)]
    for turn in candidates:
        if (turn in own or not own) and any(
            wanted <= all_keys([sentence.text]) for sentence in split_sentences(turn.text)
        ):
            return turn
    return cited


def has_cue(relation: Relation, text: str) -> bool:
    """Whether a text has one of a relation's words; always where it has none."""
    plain = text.lower().replace("\u2019", "'")
    keys = all_keys([_LIKENESS.sub(" ", plain)])
    if relation.is_of_work and keys & _OCCUPATIONS:
        return True
    return not relation.cues or any(stem(cue) in keys if cue.isalpha() else cue in plain for cue in relation.cues)


def _best_sentence(claim: str, text: str, relation: Relation | None) -> tuple[Sentence, int, int]:
    """The sentence that shares most of a claim's words, one with a word for the relation before others, and the tightest
    stretch of it that has them all."""
    wanted = content_keys(claim) or all_keys([claim])
    best, best_keys, best_rank = Sentence(text, 0), frozenset[str](), (0, False)
    for sentence in split_sentences(text):
        shared = wanted & all_keys([sentence.text])
        rank = (len(shared), relation is not None and has_cue(relation, sentence.text))
        if shared and rank > best_rank:
            best, best_keys, best_rank = sentence, shared, rank
    if not best_keys:
        return best, 0, max(0, len(split_words(best.text)) - 1)
    return best, *_tightest(best.words, best_keys)


def _tightest(words: Sequence[Word], keys: frozenset[str]) -> tuple[int, int]:
    places = [place for place, word in enumerate(words) if word.key in keys]
    best = (places[0], places[-1])
    for start in places:
        missing = set(keys)
        for end in places:
            if end >= start:
                missing.discard(words[end].key)
                if not missing:
                    if end - start < best[1] - best[0]:
                        best = (start, end)
                    break
    return best


def _utterance_keys(utterance: Utterance) -> frozenset[str]:
    resolved = [resolution.value for resolution in utterance.resolutions]
    return all_keys([utterance.text, utterance.speaker, *resolved])
