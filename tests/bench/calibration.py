"""Fits relevance (pipeline/relevance.py): how likely a candidate is to hold the answer, from its coarse score and its logit.

    python -m tests.bench.calibration --data FriendsQA/dat                       the published folder
    python -m tests.bench.calibration --data friendsqa.jsonl.gz                  its other form, see tests/bench/friendsqa.py
    python -m tests.bench.calibration --layout locomo --data locomo10.json       how the constants do elsewhere

Every question is asked in mode FAST and with the Selector OFF; a candidate is right when it is evidence. Two logistic models
are fitted by maximum likelihood: of what was judged, on coarse score and logit; of all candidates with the Selector OFF, on
the coarse score alone. Each user is judged by a fit on all others. ECE is the expected calibration error of ten bins of
like count (Naeini et al., AAAI 2015; Nguyen and O'Connor, EMNLP 2015 for the bins). Intervals of the constants are two
standard deviations of a bootstrap over users.

The answers of the models are kept, see memo.py. Writes target/bench/calibration.json.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import math
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from rich.console import Console
from rich.table import Table

from lightmem_server.config import load
from lightmem_server.pipeline.retrieval import SelectorMode
from lightmem_server.pipeline.tuning import Calibration, tuning_for
from lightmem_server.slm.distill.calibration import fit_logistic
from lightmem_server.slm.distill.evaluation import to_probabilities
from tests.bench import report
from tests.bench.datasets import Conversation, digest, take_quick
from tests.bench.in_process import MEMORY_FILE, Answer, told
from tests.bench.memo import Memory
from tests.bench.options import ROOT, add_held_out, make_parser, open_bars, parse_options, read_conversations

RESULT_FILE = ROOT / "target" / "bench" / "calibration.json"
QUICK_QUESTIONS = 8
BINS = 10
RESAMPLES = 200
Floats = NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class Candidates:
    """n candidates of one user's questions: coarse score, logit (nan where not judged), whether it is evidence."""

    coarse: Floats
    logit: Floats
    is_right: NDArray[np.bool_]

    def where(self, mask: NDArray[np.bool_]) -> Candidates:
        """Some of them."""
        return Candidates(self.coarse[mask], self.logit[mask], self.is_right[mask])

    @staticmethod
    def joined(parts: Sequence[Candidates]) -> Candidates:
        """All of several."""
        return Candidates(
            np.concatenate([part.coarse for part in parts]),
            np.concatenate([part.logit for part in parts]),
            np.concatenate([part.is_right for part in parts]),
        )


@dataclass(frozen=True, slots=True)
class Asked:
    """One user's candidates: in mode FAST, and with the Selector OFF."""

    fast: Candidates
    off: Candidates


@dataclass(frozen=True, slots=True)
class Fitted:
    """The two models."""

    judged: Calibration
    not_judged: Calibration

    def probabilities(self, candidates: Candidates) -> Floats:
        """Of each candidate, by the model for it."""
        is_judged = ~np.isnan(candidates.logit)
        log_odds = np.where(
            is_judged,
            self.judged.bias
            + self.judged.coarse * candidates.coarse
            + self.judged.logit * np.nan_to_num(candidates.logit),
            self.not_judged.bias + self.not_judged.coarse * candidates.coarse,
        )
        return to_probabilities(log_odds)


def fit(users: Sequence[Asked]) -> Fitted:
    """Both models by the candidates of some users."""
    fast = Candidates.joined([user.fast for user in users])
    judged = fast.where(~np.isnan(fast.logit))
    off = Candidates.joined([user.off for user in users])
    bias, coarse, logit = fit_logistic(np.stack([judged.coarse, judged.logit], axis=1), judged.is_right)
    bias_alone, coarse_alone = fit_logistic(off.coarse[:, None], off.is_right)
    return Fitted(Calibration(bias, coarse, logit), Calibration(bias_alone, coarse_alone, 0.0))


def reliability(probabilities: Floats, is_right: NDArray[np.bool_]) -> list[dict[str, float]]:
    """By bins of like count, least likely first: the mean probability and the share that was right."""
    order = np.argsort(probabilities, kind="stable")
    return [
        {
            "count": len(part),
            "predicted": float(probabilities[part].mean()),
            "observed": float(is_right[part].mean()),
        }
        for part in np.array_split(order, BINS)
        if len(part)
    ]


def calibration_error(bins: Sequence[Mapping[str, float]]) -> float:
    """ECE: the mean distance of predicted and observed, by count.

    >>> calibration_error([{"count": 3, "predicted": 0.1, "observed": 0.0}, {"count": 1, "predicted": 0.5, "observed": 1.0}])
    0.2
    """
    total = math.fsum(part["count"] for part in bins)
    return math.fsum(part["count"] * abs(part["predicted"] - part["observed"]) for part in bins) / total


async def ask(conversations: Sequence[Conversation], memory: Memory, selector: str) -> dict[str, Asked]:
    """By user, the candidates of all questions, judged by a Selector."""
    asked: dict[str, dict[SelectorMode, list[Candidates]]] = {
        conversation.conversation_id: {SelectorMode.FAST: [], SelectorMode.OFF: []} for conversation in conversations
    }
    with open_bars() as bars:
        async with told(conversations, memory, bars, selector=selector) as bench:
            for mode in (SelectorMode.FAST, SelectorMode.OFF):
                async for answer in bench.ask(tuning_for(selector), mode, bars, f"asking, {mode.name}"):
                    asked[answer.conversation_id][mode].append(_candidates(answer, bench.turns))
    return {
        name: Asked(Candidates.joined(made[SelectorMode.FAST]), Candidates.joined(made[SelectorMode.OFF]))
        for name, made in asked.items()
    }


def _candidates(answer: Answer, turns: Mapping[str, str]) -> Candidates:
    found = answer.trace.candidates
    return Candidates(
        np.array([candidate.coarse_score for candidate in found], np.float64),
        np.array([math.nan if candidate.logit is None else candidate.logit for candidate in found], np.float64),
        np.array([turns[str(candidate.memory_id)] in answer.question.evidence for candidate in found], np.bool_),
    )


def figures(users: Mapping[str, Asked], current: Fitted) -> dict[str, Any]:
    """The fit on all users, its scatter, and how well fits on the others, and the constants in use, are calibrated."""
    made = fit(list(users.values()))
    left_out = {name: fit([user for other, user in users.items() if other != name] or [users[name]]) for name in users}
    parts: dict[str, Any] = {}
    of_user: Mapping[str, Callable[[Asked], Candidates]] = {
        "mode FAST": lambda user: user.fast,
        "mode FAST, those judged": lambda user: user.fast.where(~np.isnan(user.fast.logit)),
        "mode OFF": lambda user: user.off,
    }
    for mode, get in of_user.items():
        candidates = {name: get(user) for name, user in users.items()}
        everything = Candidates.joined(list(candidates.values()))
        by_others = np.concatenate([left_out[name].probabilities(of_one) for name, of_one in candidates.items()])
        bins = reliability(by_others, everything.is_right)
        parts[mode] = {
            "ece_left_out": calibration_error(bins),
            "ece_left_out_by_user": {
                name: calibration_error(reliability(left_out[name].probabilities(of_one), of_one.is_right))
                for name, of_one in candidates.items()
            },
            "ece_constants_in_use": calibration_error(
                reliability(current.probabilities(everything), everything.is_right)
            ),
            "ece_logit_alone": calibration_error(
                reliability(to_probabilities(everything.logit[judged]), everything.is_right[judged])
            )
            if (judged := ~np.isnan(everything.logit)).any()
            else None,
            "candidates": len(everything.coarse),
            "reliability_left_out": bins,
        }
    return {"fitted": _constants(made), "scatter": _scatter(users), "in_use": _constants(current), "modes": parts}


def _scatter(users: Mapping[str, Asked]) -> dict[str, dict[str, float]]:
    """Two standard deviations of each constant over users drawn with replacement."""
    generator = np.random.default_rng(0)
    everyone = list(users.values())
    drawn = [
        _constants(fit([everyone[i] for i in generator.integers(len(everyone), size=len(everyone))]))
        for _ in range(RESAMPLES)
    ]
    return {
        model: {name: float(2 * np.std([one[model][name] for one in drawn])) for name in drawn[0][model]}
        for model in drawn[0]
    }


def _constants(fitted: Fitted) -> dict[str, dict[str, float]]:
    return {"JUDGED": asdict(fitted.judged), "NOT_JUDGED": asdict(fitted.not_judged)}


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the bench. Returns the exit code."""
    parser = make_parser(__doc__, layout="friendsqa", data=None)
    parser.add_argument("--selector", default=load().selector, metavar="NAME", help="default: %(default)s")
    add_held_out(parser)
    options = parse_options(parser, arguments)
    conversations = read_conversations(options)
    if isinstance(conversations, int):
        return conversations
    if options.quick:
        conversations = take_quick(conversations, QUICK_QUESTIONS)
    memory = Memory(MEMORY_FILE)
    try:
        users = asyncio.run(ask(conversations, memory, options.selector))
    finally:
        memory.close()
    tuning = tuning_for(options.selector)
    made = figures(users, Fitted(tuning.judged, tuning.not_judged))
    result = {
        "machine": report.machine(),
        "commit": report.commit(ROOT),
        "settings": _settings(options, conversations),
        "figures": made,
    }
    RESULT_FILE.parent.mkdir(parents=True, exist_ok=True)
    RESULT_FILE.write_text(json.dumps(result, indent=2) + "\n", "utf-8")
    print_tables(Console(width=None if sys.stdout.isatty() else 120), made)
    return 0


def _settings(options: argparse.Namespace, conversations: Sequence[Conversation]) -> dict[str, Any]:
    return {
        "data": options.data.name,
        "data_sha256": digest(options.data),
        "layout": options.layout,
        "selector": options.selector,
        "held_out": options.held_out,
        "quick": options.quick,
        "users": len(conversations),
        "questions": sum(len(conversation.questions) for conversation in conversations),
    }


def print_tables(console: Console, made: Mapping[str, Any]) -> None:
    """The figures for people."""
    constants = Table("constant", "fitted here", "two deviations", "in use", box=None, header_style="bold")
    for model, values in made["fitted"].items():
        for name, value in values.items():
            scatter, in_use = made["scatter"][model][name], made["in_use"][model][name]
            constants.add_row(f"{model}.{name}", f"{value:.3f}", f"{scatter:.3f}", f"{in_use:.3f}")
    console.print(constants)
    for mode, values in made["modes"].items():
        by_user = values["ece_left_out_by_user"].values()
        alone = "" if values["ece_logit_alone"] is None else f"; the bare logit {values['ece_logit_alone']:.3f}"
        console.print(
            f"\n{mode}, {values['candidates']} candidates: ECE {values['ece_left_out']:.4f} on users left out "
            f"({min(by_user):.4f} to {max(by_user):.4f}); the constants in use {values['ece_constants_in_use']:.4f}{alone}",
            highlight=False,
        )
        table = Table("candidates", "predicted", "right", box=None, header_style="bold")
        for part in values["reliability_left_out"]:
            table.add_row(str(part["count"]), f"{part['predicted']:.4f}", f"{part['observed']:.4f}")
        console.print(table)


if __name__ == "__main__":
    sys.exit(main())
