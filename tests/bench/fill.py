"""Users with many memories, made quickly: a few real turns embedded once, then varied, written by the server's own store.

Embedding 100,000 turns through the server takes minutes, and what an exact scan, an index or BM25 costs depends on how
many rows there are, how long they are and how words are spread, not on what they say. So the first turns of a user are the
given conversation's, with true vectors; each further one is a copy of one of them

- with a fifth of its words replaced by words of other turns, as often as these occur, and sometimes by a name of its own,
  so that posting lists grow as they do with real texts and the vocabulary grows too;
- with its vectors moved at random to a cosine of about .8 with the original's: near enough to be a neighbour, as turns on
  one topic are, too far to be a duplicate.

Nothing may be concluded from such a user about quality. The server must not run while its folder is filled.
"""

from __future__ import annotations

import asyncio
import itertools
import random
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from datetime import UTC, datetime, timedelta

import numpy as np
import uuid_utils.compat
from lightmem_client import Role as ClientRole
from numpy.typing import NDArray

from lightmem_server.config import Settings
from lightmem_server.pipeline.passages import FORMAT, dense_views
from lightmem_server.service.auth import DEFAULT_NAMESPACE
from lightmem_server.slm.embedder import BertEmbedder, load_embedder
from lightmem_server.store.protocol import Change, VectorRecord
from lightmem_server.store.sqlite import SqliteStore
from lightmem_server.types import Kind, Memory, Partition, Role, Tier, Turn
from tests.bench.datasets import Conversation, DialogueTurn, Question, Session

REPLACED_SHARE = 0.2
NEW_NAME_SHARE = 0.05
NOISE = 0.75
"""Length of the random step beside a unit vector: cosine 1 / sqrt(1 + .75²) = .8."""

TURNS_PER_SESSION = 24
SECONDS_BETWEEN_TURNS = 30
COMMIT_ROWS = 2000
EMBED_TEXTS = 256
WORD = re.compile(r"\w[\w'-]*")

Made = Callable[[int], None]
"""Told how many more records there are."""


def make_conversation(source: Sequence[str], *, turns: int, questions: int, seed: int) -> Conversation:
    """A conversation of random sentences in the words of `source`, as often as they occur there; deterministic.

    Turns are as long as those of chats: log-normal, 18 words in the middle, 60 in one of twenty. A question asks for the
    three longest words of a turn, which is its evidence.
    """
    drawn = random.Random(seed)
    words = [word for text in source for word in WORD.findall(text)]
    began = datetime(2024, 1, 1, 9, tzinfo=UTC)
    said = []
    for number in range(turns):
        length = min(150, max(2, round(drawn.lognormvariate(2.9, 0.7))))
        text = " ".join([*(drawn.choice(words) for _ in range(length)), _new_name(drawn)]).capitalize() + "."
        at = began + timedelta(hours=6 * (number // TURNS_PER_SESSION), seconds=SECONDS_BETWEEN_TURNS * number)
        speaker = ("Nora", "Tom")[number % 2]
        said.append(DialogueTurn(f"t{number}", speaker, ClientRole.USER, text, at))
    sessions = tuple(
        Session(f"s{start // TURNS_PER_SESSION}", tuple(said[start : start + TURNS_PER_SESSION]))
        for start in range(0, turns, TURNS_PER_SESSION)
    )
    asked = tuple(
        Question(f"q{number}", ask_about(turn.text), "0", frozenset({turn.turn_id}))
        for number, turn in enumerate(drawn.choices(said, k=questions))
    )
    return Conversation("made", sessions, asked)


def vary(texts: Sequence[str], *, count: int, seed: int) -> Iterator[tuple[int, str]]:
    """`count` texts made of the given ones, each with the index of the one it is a variation of; the first are these."""
    drawn = random.Random(seed)
    words = [word for text in texts for word in WORD.findall(text)]
    for number in range(count):
        index = number % len(texts)
        yield index, texts[index] if number < len(texts) else _replace_words(texts[index], words, drawn)


def move(vectors: NDArray[np.float32], generator: np.random.Generator) -> NDArray[np.float32]:
    """Unit vectors near the given ones, at a cosine of about .8."""
    step = generator.standard_normal(vectors.shape, np.float32)
    step *= NOISE / np.linalg.norm(step, axis=-1, keepdims=True)
    moved: NDArray[np.float32] = vectors + step
    return moved / np.linalg.norm(moved, axis=-1, keepdims=True)


def fill_users(
    settings: Settings, conversation: Conversation, counts: Mapping[str, int], source_turns: int, made: Made
) -> None:
    """Write users with so many memories each into a folder that no server has open.

    Args:
        counts: User to memories.
        source_turns: How many of the conversation's turns are embedded and varied.
    """
    turns = [
        Turn(turn.text, int(turn.occurred_at.timestamp() * 1e6), turn.speaker, Role(turn.role))
        for turn in itertools.islice(conversation.turns, source_turns)
    ]
    asyncio.run(_fill(settings, turns, counts, made))


async def _fill(settings: Settings, turns: Sequence[Turn], counts: Mapping[str, int], made: Made) -> None:
    embedder = load_embedder(settings.models_dir, settings.embedder, threads=settings.threads)
    store = SqliteStore(settings.data_dir)
    try:
        await store.open()
        vectors = await _embed(embedder, turns)
        identity = f"{embedder.identity}/passages-{FORMAT}"
        tokens = [embedder.tokens.count(turn.text) for turn in turns]
        for user_id, count in counts.items():
            changes = make_changes(Partition(DEFAULT_NAMESPACE, user_id), turns, vectors, tokens, identity, count)
            for change in changes:
                await store.commit(change)
                made(len(change.puts))
    finally:
        await store.close()
        await embedder.close()


async def _embed(embedder: BertEmbedder, turns: Sequence[Turn]) -> NDArray[np.float32]:
    """(turns, views, dim) of the conversation as the server would embed it."""
    texts = [dense_views(turn, turns[max(0, number - 1) : number]) for number, turn in enumerate(turns)]
    flat = [text for views in texts for text in views]
    parts = [await embedder.embed_passages(flat[at : at + EMBED_TEXTS]) for at in range(0, len(flat), EMBED_TEXTS)]
    return np.concatenate(parts).reshape(len(turns), -1, embedder.dim)


def make_changes(
    partition: Partition,
    turns: Sequence[Turn],
    vectors: NDArray[np.float32],
    token_counts: Sequence[int],
    identity: str,
    count: int,
) -> Iterator[Change]:
    """The commits that make one user.

    Args:
        turns: What is varied, with `vectors` (turns, views, dim) and their token counts.
        identity: Of what made the vectors.
    """
    generator = np.random.default_rng(count)
    last = turns[-1].occurred_at or 0
    puts: list[Memory] = []
    records: list[VectorRecord] = []
    previous: Memory | None = None
    for number, (index, text) in enumerate(vary([turn.text for turn in turns], count=count, seed=count)):
        is_real = number < len(turns)
        at = (
            turns[index].occurred_at
            if is_real
            else last + (number - len(turns) + 1) * SECONDS_BETWEEN_TURNS * 1_000_000
        )
        begins = number % TURNS_PER_SESSION == 0
        memory = Memory(
            id=uuid_utils.compat.uuid7(),
            tier=Tier.MTM,
            kind=Kind.TURN,
            text=text,
            occurred_at=at or 0,
            created_at=at or 0,
            session_id=f"s{number // TURNS_PER_SESSION}",
            speaker=turns[index].speaker,
            role=turns[index].role,
            previous_id=None if begins or previous is None else previous.id,
            token_count=token_counts[index],
        )
        puts.append(memory)
        records.append(
            VectorRecord(memory.id, identity, vectors[index] if is_real else move(vectors[index], generator))
        )
        previous = memory
        if len(puts) == COMMIT_ROWS or number == count - 1:
            yield Change(partition, puts=puts, vectors=records)
            puts, records = [], []


def _replace_words(text: str, words: Sequence[str], drawn: random.Random) -> str:
    def other(match: re.Match[str]) -> str:
        luck = drawn.random()
        if luck < REPLACED_SHARE * NEW_NAME_SHARE:
            return _new_name(drawn)
        return drawn.choice(words) if luck < REPLACED_SHARE else match[0]

    return WORD.sub(other, text)


def _new_name(drawn: random.Random) -> str:
    return "".join(
        drawn.choice(syllables)
        for syllables in (
            ("Bel", "Kar", "Mon", "Tri", "Vos", "Zan"),
            ("a", "e", "i", "o"),
            ("dri", "lle", "mor", "nek", "sta", "vin"),
            ("", "a", "en", "is", "on"),
        )
    )


def ask_about(text: str) -> str:
    """A question for the three longest words of a text.

    >>> ask_about("I moved to Lisbon in May, for the light.")
    'What was said about Lisbon, moved, light?'
    """
    words = sorted(dict.fromkeys(WORD.findall(text)), key=len, reverse=True)[:3]
    return f"What was said about {', '.join(words)}?"


def shorten(conversation: Conversation, questions: int, *, seed: int) -> Conversation:
    """The conversation with at most so many of its questions, drawn at random."""
    chosen = random.Random(seed).sample(conversation.questions, min(questions, len(conversation.questions)))
    return replace(conversation, questions=tuple(chosen))
