"""What a consolidated dialogue set took, and what its facts and summaries are worth to retrieval, beside the turns alone."""

from __future__ import annotations

import math
import time
import uuid
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from rich.console import Console
from rich.table import Table

from lightmem_server.config import load
from lightmem_server.pipeline.consolidation.words import content_keys
from lightmem_server.pipeline.retrieval import Budget, Candidate, RetrieveQuery, Selected
from lightmem_server.pipeline.retrieve import Retrieving
from lightmem_server.pipeline.tuning import tuning_for
from lightmem_server.slm.time_window import to_micros
from lightmem_server.types import Kind, Memory, MemoryFilter
from tests.bench.consolidated import TURN_KEY, Consolidated, partition_of, sampled_sessions
from tests.bench.datasets import Conversation, Question
from tests.bench.f1 import bootstrap
from tests.bench.observations import Observation
from tests.bench.report import recall

EVIDENCE_BUDGET = Budget(max_memories=50, max_candidates=32, max_tokens=512, deadline_seconds=1e9)
AROUND = tuple(range(432, 593, 20))
"""Tokens around 512. Which turn is the last that fits hangs on a few tokens, and moves the evidence of 500 questions by as
much as a rule does: the mean over these has less of that."""
COVERAGE_BUDGET = Budget(max_memories=5, max_candidates=32, max_tokens=32_768, deadline_seconds=1e9)
TOLD_SHARE = 0.5
"""An observation is told by a memory that rests on its turns and has so much of its words of content."""

TURNS_ALONE = MemoryFilter(kinds=frozenset({Kind.TURN}))
ARMS: Mapping[str, MemoryFilter] = {"turns alone": TURNS_ALONE, "all memories": MemoryFilter()}


@dataclass(frozen=True, slots=True)
class Reader:
    """Asks one conversation, and knows which turns a memory stands for."""

    conversation: Conversation
    retrieving: Retrieving
    turns: Mapping[uuid.UUID, str]

    async def ask(self, text: str, budget: Budget, record_filter: MemoryFilter) -> list[Candidate]:
        """What is returned, best first."""
        return list((await self.select(text, budget, record_filter)).candidates)

    async def select(self, text: str, budget: Budget, record_filter: MemoryFilter) -> Selected:
        """What is returned, and packed."""
        query = RetrieveQuery(
            partition_of(self.conversation.conversation_id),
            text,
            budget,
            asked_at=to_micros(self.conversation.asked_at),
            arrived_at=time.monotonic(),
            filter=record_filter,
        )
        async for part in self.retrieving.retrieve(query):
            if isinstance(part, Selected):
                return part
        raise AssertionError("a retrieval ends with what was selected")

    def stands_for(self, memory: Memory, *, with_summaries: bool) -> frozenset[str]:
        """The turn that it is, or the turns that a fact rests on; those of a summary only where that is asked for: it is far
        shorter than they are."""
        if memory.kind is Kind.TURN:
            return frozenset([self.turns[memory.id]])
        if memory.kind is Kind.FACT or (with_summaries and memory.kind is Kind.SUMMARY):
            return frozenset(self.turns[id_] for id_ in memory.evidence_ids if id_ in self.turns)
        return frozenset()


async def abstraction(conversations: Sequence[Conversation], made: Consolidated) -> dict[str, Any]:
    """What was made, of what, and what it took."""
    kinds: Counter[str] = Counter()
    rejected: Counter[str] = Counter()
    seconds = tokens = kept = 0.0
    for conversation in conversations:
        records = await made.records(conversation.conversation_id)
        kinds.update(record.kind.name.lower() for record in records)
        for run in await made.runs(conversation.conversation_id):
            seconds += run.model_micros / 1e6
            tokens += run.model_tokens
            kept += run.kept_count
            rejected.update(run.rejected)
    names = {conversation.conversation_id for conversation in conversations}
    outcomes = [one.outcome for one in made.recorded.read() if one.conversation_id in names]
    written = sum(outcome.tokens for outcome in outcomes)
    return {
        "conversations": len(conversations),
        "windows": len(outcomes),
        "turns": sum(1 for conversation in conversations for _ in conversation.turns),
        "turns_asked": sum(outcome.asked for outcome in outcomes),
        "tokens_written": written,
        "tokens_written_per_fact": round(written / kept, 1) if kept else None,
        "model_seconds": round(seconds, 1),
        "model_tokens": int(tokens),
        "kept": int(kept),
        "rejected": dict(rejected.most_common()),
        "records": dict(kinds),
    }


async def evidence(
    conversations: Sequence[Conversation],
    made: Consolidated,
    *,
    sessions: int,
    seed: int,
    budgets: Sequence[int] = (EVIDENCE_BUDGET.max_tokens,),
) -> dict[str, Any]:
    """The share of a question's evidence that so many tokens hold, on average over `budgets`, turns and facts' turns counted;
    and the same with summaries' turns. Questions whose evidence is all in the sessions that were consolidated. Besides by
    dialogue, and what all memories have on turns alone, paired, with its 95 % interval."""
    figures: dict[str, list[float]] = {}
    by_dialogue: dict[str, dict[str, float]] = {}
    asked = 0
    for conversation in conversations:
        before = asked
        reader = await read_conversation(conversation, made)
        within = _turns_of(conversation, sampled_sessions(conversation, sessions, seed=seed))
        for question in _within(conversation.questions, within):
            asked += 1
            for arm, record_filter in ARMS.items():
                shares: dict[str, list[float]] = {}
                for tokens in budgets:
                    budget = replace(EVIDENCE_BUDGET, max_tokens=tokens)
                    found = await reader.ask(question.text, budget, record_filter)
                    for with_summaries in (False, True):
                        name = f"{arm}{', summaries counted' if with_summaries else ''}"
                        ranking = _ranking(reader, found, with_summaries=with_summaries)
                        shares.setdefault(name, []).append(recall(ranking, question.evidence, 10_000))
                for name, values in shares.items():
                    figures.setdefault(name, []).append(math.fsum(values) / len(values))
        if asked > before:
            by_dialogue[conversation.conversation_id] = {arm: _mean(figures[arm][before:]) for arm in ARMS}
    turns, everything = (figures.get(arm, []) for arm in ARMS)
    more = [after - before for before, after in zip(turns, everything, strict=True)]
    low, high = bootstrap(more) if more else (0.0, 0.0)
    return {
        "questions": asked,
        "tokens": list(budgets),
        **{name: _mean(values) for name, values in figures.items()},
        "difference": {"mean": _mean(more), "low": round(low, 4), "high": round(high, 4)},
        "by dialogue": by_dialogue,
    }


async def coverage(
    conversations: Sequence[Conversation],
    made: Consolidated,
    observations: Mapping[str, Sequence[Observation]],
    *,
    sessions: int,
    seed: int,
) -> dict[str, Any]:
    """The share of the data's own observations that five results hold: by the turn that it is from, and by a memory that rests
    on that turn and tells half of its words."""
    by_turn: dict[str, list[float]] = {}
    by_words: dict[str, list[float]] = {}
    for conversation in conversations:
        reader = await read_conversation(conversation, made)
        within = _turns_of(conversation, sampled_sessions(conversation, sessions, seed=seed))
        for observation in observations.get(conversation.conversation_id, ()):
            if not observation.evidence <= within:
                continue
            wanted = content_keys(observation.text)
            for arm, record_filter in ARMS.items():
                found = await reader.ask(observation.text, COVERAGE_BUDGET, record_filter)
                ranking = _ranking(reader, found, with_summaries=False)
                by_turn.setdefault(arm, []).append(float(bool(observation.evidence & set(ranking))))
                by_words.setdefault(arm, []).append(float(_is_told(reader, found, observation, wanted)))
    return {
        "observations": max(map(len, by_turn.values()), default=0),
        "by turn": {arm: _mean(values) for arm, values in by_turn.items()},
        "by words": {arm: _mean(values) for arm, values in by_words.items()},
    }


async def read_conversation(conversation: Conversation, made: Consolidated) -> Reader:
    """A reader of one of the consolidated conversations."""
    records = await made.records(conversation.conversation_id)
    turns = {record.id: str(record.metadata[TURN_KEY]) for record in records if record.kind is Kind.TURN}
    return Reader(conversation, made.retrieving(tuning_for(load().selector)), turns)


def _turns_of(conversation: Conversation, sessions: frozenset[str]) -> frozenset[str]:
    return frozenset(
        turn.turn_id for session in conversation.sessions if session.session_id in sessions for turn in session.turns
    )


def _within(questions: Sequence[Question], turns: frozenset[str]) -> list[Question]:
    return [question for question in questions if question.evidence <= turns]


def _ranking(reader: Reader, found: Sequence[Candidate], *, with_summaries: bool) -> list[str]:
    return [
        turn
        for candidate in found
        if candidate.memory is not None
        for turn in sorted(reader.stands_for(candidate.memory, with_summaries=with_summaries))
    ]


def _is_told(reader: Reader, found: Sequence[Candidate], observation: Observation, wanted: frozenset[str]) -> bool:
    return any(
        len(wanted & content_keys(candidate.memory.text)) >= TOLD_SHARE * len(wanted)
        for candidate in found
        if candidate.memory is not None
        and observation.evidence & reader.stands_for(candidate.memory, with_summaries=True)
    )


def _mean(values: Sequence[float]) -> float:
    return round(math.fsum(values) / len(values), 4) if values else 0.0


def print_figures(console: Console, figures: Mapping[str, Any]) -> None:
    """For people."""
    made = figures["abstraction"]
    console.print(
        f"{made['conversations']} dialogues: {made['windows']} windows, which ask about {made['turns_asked']} of "
        f"{made['turns']} turns; {made['model_seconds']:.0f} s and {made['model_tokens']} "
        f"tokens of the Writer, {made['tokens_written']} of them facts' lines written, {made['tokens_written_per_fact']} for "
        f"each of {made['kept']} kept; records: {made['records']}"
    )
    table = Table("rejected because", "proposals", box=None, header_style="bold")
    for reason, count in made["rejected"].items():
        table.add_row(reason, str(count))
    console.print(table)
    if "evidence" in figures:
        told = figures["evidence"]
        tokens = " to ".join(str(bound) for bound in sorted({min(told["tokens"]), max(told["tokens"])}))
        console.print(f"evidence within {tokens} tokens, {told['questions']} questions:")
        for name, value in told.items():
            if isinstance(value, float):
                console.print(f"  {name:<36} {value:.4f}")
        more = told["difference"]
        console.print(
            f"  {'all memories - turns alone':<36} {more['mean']:+.4f} ({more['low']:+.4f} to {more['high']:+.4f})"
        )
        for dialogue, values in told["by dialogue"].items():
            console.print(f"  {dialogue}: " + ", ".join(f"{arm} {value:.4f}" for arm, value in values.items()))
    if "coverage" in figures:
        told = figures["coverage"]
        console.print(f"observations within five results, {told['observations']}:")
        for way in ("by turn", "by words"):
            for arm, value in told[way].items():
                console.print(f"  {way}, {arm:<28} {value:.4f}")
