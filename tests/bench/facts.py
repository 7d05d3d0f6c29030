"""What the Writer proposes of a dialogue and what the gate keeps of it, with the evidence beside each line, for reading.

python -m tests.bench.facts [FILE ...] [--writer standard] [--remember PATH]
"""

from __future__ import annotations

import argparse
import asyncio
import time
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

from lightmem_server.config import load
from lightmem_server.pipeline.consolidation.facts import find_facts
from lightmem_server.pipeline.consolidation.gate import evidence, statement
from lightmem_server.pipeline.consolidation.model import Reason, Window
from lightmem_server.pipeline.consolidation.normalise import normalise
from lightmem_server.pipeline.consolidation.proposals import PROMPT, FactsPrompt
from lightmem_server.pipeline.consolidation.telling import find_telling
from lightmem_server.pipeline.consolidation.windows import cut_windows
from lightmem_server.slm.protocols import Writer
from lightmem_server.slm.selector import load_selector
from lightmem_server.slm.writer import load_writer
from lightmem_server.types import Memory
from tests.bench import memo
from tests.bench.dialogue_file import read_dialogue

DIALOGUES = sorted(Path(__file__).parent.joinpath("dialogues").glob("*.toml"))
WRITERS = {"standard": "qwen2.5-coder-1.5b-instruct", "small": "qwen2.5-coder-0.5b-instruct", "lite": ""}


async def run(paths: list[Path], profile: str, remember: Path | None, threads: int) -> None:
    """Print every proposal with its fate, and the counts."""
    prompt, directory = FactsPrompt.load(PROMPT), load().models_dir
    selector = load_selector(directory, load().gate_selector, threads=1)
    real = load_writer(directory, WRITERS[profile], threads=threads) if WRITERS[profile] else None
    memory = memo.Memory(remember) if remember else None
    writer: Writer | None = memo.RememberingWriter(real, memory) if real and memory else real
    reasons: Counter[Reason] = Counter()
    kept = malformed = tokens = windows = 0
    began = time.perf_counter()
    asked = [window for path in paths for session in read_dialogue(path) for window in _cut(session, writer)]
    made = await asyncio.gather(*(find_facts(window, prompt, writer=writer, score=selector.judge) for window in asked))
    for window, outcome in zip(asked, made, strict=True):
        for proposal in outcome.kept:
            score = f"{proposal.score:.1f}" if proposal.score is not None else "-"
            print(f"kept {score:>24}  {statement(proposal, prompt.by_name)} ({proposal.when or '-'})")
            print(f"{'':29}  <- {evidence(proposal, window)}")
        for rejection in outcome.rejected:
            print(f"not  {rejection.reason:>24}  {statement(rejection.proposal, prompt.by_name)}")
            print(f"{'':29}  <- {evidence(rejection.proposal, window)}")
        kept += len(outcome.kept)
        reasons += outcome.reasons
        malformed += outcome.malformed
        tokens += outcome.tokens
        windows += 1
    seconds = time.perf_counter() - began
    print(
        f"\n{profile}: {windows} windows, {kept + reasons.total()} proposals, {kept} kept, {malformed} malformed lines"
    )
    each = f", {tokens / kept:.0f} for each kept" if kept else ""
    print(f"{tokens} tokens written in {seconds:.0f} s{each}; refused: {dict(reasons.most_common())}")
    await selector.close()
    if real:
        await real.close()


def _cut(session: Sequence[Memory], writer: Writer | None) -> Sequence[Window]:
    utterances = normalise(session)
    return cut_windows(utterances, telling=None if writer is None else find_telling(utterances))


def main() -> None:
    """Read the arguments, run."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("files", nargs="*", type=Path, default=DIALOGUES)
    parser.add_argument("--writer", choices=list(WRITERS), default="standard")
    parser.add_argument("--remember", type=Path, help="what the Writer said before is read from here")
    parser.add_argument("--threads", type=int, default=1)
    arguments = parser.parse_args()
    asyncio.run(run(arguments.files, arguments.writer, arguments.remember, arguments.threads))


if __name__ == "__main__":
    main()
