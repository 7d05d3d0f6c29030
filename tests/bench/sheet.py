"""Draws kept and rejected facts of a consolidated dialogue set for reading, and counts what the reader found.

    python -m tests.bench.sheet draw SHEET --folder DIR [--kept 200] [--rejected 100] [--seed 0] [--leave-out ID]
                                                              a sheet without verdicts; not of the dialogue ID, read before
    python -m tests.bench.sheet show SHEET --folder DIR       each row with its fact and its evidence
    python -m tests.bench.sheet score SHEET                   the gate's precision, and what it rejected wrongly

DIR is a folder of `make bench-consolidate`. A sheet is CSV and holds nothing that was said: the fact's id is a digest of what
it says and of where, the evidence is turn ids. Verdicts: `yes`, the turns say it (for a rejected one: it should have been
kept); `no`.
"""

from __future__ import annotations

import argparse
import asyncio
import csv
import hashlib
import math
import random
import sys
from collections.abc import Collection, Sequence
from dataclasses import asdict, dataclass, fields
from pathlib import Path

from rich.console import Console

from lightmem_server.pipeline.consolidation.gate import statement
from lightmem_server.pipeline.consolidation.model import Proposal
from lightmem_server.pipeline.consolidation.proposals import PROMPT, FactsPrompt
from lightmem_server.pipeline.passages import turn_passage
from lightmem_server.store.sqlite import SqliteStore
from lightmem_server.types import Memory
from tests.bench.consolidated import OUTCOMES_FILE, TURN_KEY, RecordedOutcomes, read_records

KEPT = "kept"
YES, NO = "yes", "no"
Z95 = 1.959964


@dataclass(frozen=True, slots=True)
class Row:
    """One line of a sheet. `fate` is KEPT or the rule that rejected it; `evidence` are turn ids."""

    seed: int
    fact: str
    conversation: str
    evidence: str
    fate: str
    verdict: str = ""
    reason: str = ""


@dataclass(frozen=True, slots=True)
class Drawn:
    """A row and what it is about."""

    row: Row
    text: str
    evidence: tuple[str, ...]


async def read_all(folder: Path, seed: int) -> list[Drawn]:
    """Every proposal of a consolidated set, once each, in an order that is the same in every run."""
    relations = FactsPrompt.load(PROMPT).by_name
    store = SqliteStore(folder)
    await store.open()
    found: dict[str, Drawn] = {}
    try:
        turns: dict[str, dict[object, Memory]] = {}
        for one in RecordedOutcomes(folder / OUTCOMES_FILE).read():
            if one.conversation_id not in turns:
                records = await read_records(store, one.conversation_id)
                turns[one.conversation_id] = {memory.id: memory for memory in records if TURN_KEY in memory.metadata}
            said = turns[one.conversation_id]
            fates = [(proposal, KEPT) for proposal in one.outcome.kept]
            fates += [(rejection.proposal, str(rejection.reason)) for rejection in one.outcome.rejected]
            for proposal, fate in fates:
                cited = [said[id_] for id_ in proposal.evidence_ids if id_ in said]
                text = statement(proposal, relations) + (f" ({proposal.when})" if proposal.when else "")
                row = _to_row(seed, one.conversation_id, proposal, cited, fate)
                found[row.fact] = Drawn(row, text, tuple(map(turn_passage, cited)))
    finally:
        await store.close()
    return [found[fact] for fact in sorted(found)]


def _to_row(seed: int, conversation_id: str, proposal: Proposal, cited: Sequence[Memory], fate: str) -> Row:
    where = " ".join(str(turn.metadata[TURN_KEY]) for turn in cited)
    said = (conversation_id, where, proposal.subject, proposal.relation, proposal.object, proposal.when)
    return Row(seed, hashlib.blake2b("\0".join(said).encode(), digest_size=8).hexdigest(), conversation_id, where, fate)


def draw(
    found: Sequence[Drawn], *, kept: int, rejected: int, seed: int, leave_out: Collection[str] = ()
) -> list[Drawn]:
    """So many of each, without regard to anything but that they are of none of the dialogues to leave out."""
    found = [one for one in found if one.row.conversation not in leave_out]
    drawn: list[Drawn] = []
    for is_kept, count in ((True, kept), (False, rejected)):
        among = [one for one in found if (one.row.fate == KEPT) is is_kept]
        drawn += random.Random(seed).sample(among, min(count, len(among)))
    return drawn


def write_sheet(path: Path, rows: Sequence[Row]) -> None:
    """As CSV."""
    with path.open("w", encoding="utf-8", newline="") as file:
        writer = csv.DictWriter(file, [field.name for field in fields(Row)], lineterminator="\n")
        writer.writeheader()
        writer.writerows(asdict(row) for row in rows)


def read_sheet(path: Path) -> list[Row]:
    """From write_sheet."""
    with path.open(encoding="utf-8", newline="") as file:
        return [Row(**{**row, "seed": int(row["seed"])}) for row in csv.DictReader(file)]  # type: ignore[arg-type]


def wilson(right: int, total: int) -> tuple[float, float]:
    """The 95 % interval of a share (Wilson 1927).

    >>> [round(end, 3) for end in wilson(95, 100)]
    [0.888, 0.978]
    """
    if not total:
        return 0.0, 1.0
    share, squared = right / total, Z95 * Z95
    centre = (share + squared / (2 * total)) / (1 + squared / total)
    half = Z95 * math.sqrt(share * (1 - share) / total + squared / (4 * total * total)) / (1 + squared / total)
    return centre - half, centre + half


def score(rows: Sequence[Row]) -> list[str]:
    """What the verdicts say, in lines."""
    lines = []
    for is_kept, what in (
        (True, "kept facts that their turns support"),
        (False, "rejected that should have been kept"),
    ):
        judged = [row for row in rows if (row.fate == KEPT) is is_kept and row.verdict in (YES, NO)]
        right = sum(row.verdict == YES for row in judged)
        low, high = wilson(right, len(judged))
        share = right / len(judged) if judged else 0.0
        lines.append(f"{what}: {right} of {len(judged)}, {share:.3f} ({low:.3f} to {high:.3f})")
    return lines


def main(arguments: Sequence[str] | None = None) -> int:
    """Draw, show or score. Returns the exit code."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("action", choices=("draw", "show", "score"))
    parser.add_argument("sheet", type=Path)
    parser.add_argument("--folder", type=Path, help="of `make bench-consolidate`")
    parser.add_argument("--kept", type=int, default=200)
    parser.add_argument("--rejected", type=int, default=100)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--leave-out", action="append", default=[], metavar="ID")
    options = parser.parse_args(arguments)
    if options.action != "score" and options.folder is None:
        parser.error("--folder is needed")
    if options.action == "draw":
        if options.sheet.exists():
            parser.error(f"{options.sheet} is there; its verdicts are not overwritten")
        found = asyncio.run(read_all(options.folder, options.seed))
        drawn = draw(
            found, kept=options.kept, rejected=options.rejected, seed=options.seed, leave_out=options.leave_out
        )
        write_sheet(options.sheet, [one.row for one in drawn])
    elif options.action == "show":
        _show(read_sheet(options.sheet), asyncio.run(read_all(options.folder, options.seed)))
    else:
        print("\n".join(score(read_sheet(options.sheet))))
    return 0


def _show(rows: Sequence[Row], found: Sequence[Drawn]) -> None:
    console, by_fact = Console(width=160, soft_wrap=True), {one.row.fact: one for one in found}
    for number, row in enumerate(rows, 1):
        drawn = by_fact.get(row.fact)
        told = "not among what this folder holds" if drawn is None else drawn.text
        console.print(
            f"{number:>3} {row.fate} {row.verdict or '?'} {row.reason}  {told}", markup=False, highlight=False
        )
        for line in () if drawn is None else drawn.evidence:
            console.print(f"      <- {line}", markup=False, highlight=False, style="dim")


if __name__ == "__main__":
    sys.exit(main())
