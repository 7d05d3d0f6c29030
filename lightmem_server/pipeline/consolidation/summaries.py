"""An episode's summary by the Writer, sentence by sentence checked against the turns; by quotation where nothing is left."""

from __future__ import annotations

import uuid
from collections.abc import Sequence
from datetime import UTC, tzinfo

import numpy as np
from numpy.typing import NDArray

from lightmem_server.pipeline.consolidation.extract import represent
from lightmem_server.pipeline.consolidation.instructions import is_instruction_text
from lightmem_server.pipeline.consolidation.lexicon import LEXICON
from lightmem_server.pipeline.consolidation.model import Episode, Summary, Utterance
from lightmem_server.pipeline.consolidation.normalise import normalise
from lightmem_server.pipeline.consolidation.words import (
    Sentence,
    all_keys,
    content_keys,
    proper_names,
    split_sentences,
    stem,
)
from lightmem_server.slm.prompt import Prompt
from lightmem_server.slm.protocols import Writer
from lightmem_server.slm.time_window import EPOCH, MICROSECOND

PROMPT = "summary-1"
MOST_SENTENCES = 3
MOST_TOKENS = 110
LONGEST_TURN = 400
"""Characters of a turn that the Writer reads here."""
STOPS = ("\n\n", "\nDate:", "\nTurns:")

_REPORTING = frozenset(map(stem, LEXICON["reporting"]))
"""Words that a summary adds to say who said it."""


async def summarise(
    episode: Episode, vectors: NDArray[np.float32], prompt: Prompt, *, writer: Writer | None = None, zone: tzinfo = UTC
) -> Summary:
    """Summarise an episode.

    Args:
        vectors: (n, dim), of unit length; row i is of `episode.turns[i]`.
        writer: None: profile `lite`, by quotation.
        zone: The user's.

    Raises:
        OverloadedError: The Writer's queue is full.
    """
    utterances = normalise(episode.turns, zone)
    said = [each for each in utterances if not is_instruction_text(each.text)]
    if writer is None or not said:
        return represent(episode, vectors)
    turns = "\n".join(f"{each.speaker}: {_flat(each.annotated)}" for each in said)
    written = await writer.generate(
        prompt.static, prompt.ask(date=_date(episode, zone), turns=turns), max_tokens=MOST_TOKENS, stops=STOPS
    )
    kept, dropped, evidence = check_sentences(written.text, said)
    if not kept:
        return represent(episode, vectors)
    ids = tuple(each.id for each in said if each.id in evidence)
    return Summary(" ".join(kept), ids, dropped, prompt_tokens=written.prompt_tokens, tokens=written.tokens)


def check_sentences(
    text: str, utterances: Sequence[Utterance]
) -> tuple[tuple[str, ...], tuple[str, ...], frozenset[uuid.UUID]]:
    """The sentences of a summary that the turns support, those that they don't, and the ids of the turns that support
    the first."""
    kept: list[str] = []
    dropped: list[str] = []
    evidence: set[uuid.UUID] = set()
    for sentence in split_sentences(" ".join(text.split()))[:MOST_SENTENCES]:
        supporting = find_support(sentence, utterances)
        if not supporting or not sentence.text.endswith((".", "!")):
            dropped.append(sentence.text)
        elif sentence.text not in kept:
            kept.append(sentence.text)
            evidence |= {each.id for each in supporting}
    return tuple(kept), tuple(dropped), frozenset(evidence)


def find_support(sentence: Sentence, utterances: Sequence[Utterance]) -> tuple[Utterance, ...]:
    """The turns that hold what a sentence says; none where they don't.

    A sentence is about the one whom it begins with: what it says must be in that one's turns, unless it names
    both. Each content word, number and name has to occur there; what is asked, denied or only possible supports nothing.
    """
    if sentence.is_question:
        return ()
    speakers = {each.speaker for each in utterances}
    words = {word.base for word in sentence.words}
    named = {speaker for speaker in speakers if set(speaker.lower().split()) & words}
    if not named:
        return ()
    own = [each for each in utterances if each.speaker in named and each.is_evidence]
    names = all_keys(tuple(speakers))
    wanted = content_keys(sentence.text) - names - _REPORTING
    if not wanted or any(word.is_negation for word in sentence.words):
        return ()
    chosen: list[Utterance] = []
    missing = set(wanted)
    for each in sorted(own, key=lambda each: -len(wanted & _asserted(each))):
        if not missing & _asserted(each):
            continue
        chosen.append(each)
        missing -= _asserted(each)
    if missing or len(chosen) > MOST_SUPPORTING:
        return ()
    unsaid = {word.key for word in proper_names(sentence.text)} - names - frozenset().union(*map(_asserted, chosen))
    return () if unsaid else tuple(chosen)


MOST_SUPPORTING = 2
"""Turns of which one sentence may be made: words picked from more of them are a mosaic, not a support."""


def _asserted(utterance: Utterance) -> frozenset[str]:
    """Keys of the sentences of a turn that tell something as so, with what was resolved in them."""
    told = [
        sentence
        for sentence in split_sentences(utterance.text)
        if not sentence.is_question and not any(word.is_negation or word.is_hypothetical for word in sentence.words)
    ]
    resolved = [
        resolution.value
        for resolution in utterance.resolutions
        if any(sentence.start <= resolution.start < sentence.end for sentence in told)
    ]
    return all_keys([*(sentence.text for sentence in told), *resolved])


def _flat(text: str) -> str:
    return " ".join(text[:LONGEST_TURN].split())


def _date(episode: Episode, zone: tzinfo) -> str:
    try:
        return f"{(EPOCH + episode.turns[0].occurred_at * MICROSECOND).astimezone(zone):%A %Y-%m-%d}"
    except OverflowError:
        return "-"
