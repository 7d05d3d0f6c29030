"""What the Writer gave, as the text of a run's step and back."""

from __future__ import annotations

from pydantic import TypeAdapter

from lightmem_server.pipeline.consolidation.model import Summary, WindowOutcome

_SUMMARY = TypeAdapter(Summary)
_OUTCOME = TypeAdapter(WindowOutcome)


def write_summary(summary: Summary) -> str:
    """As JSON."""
    return _SUMMARY.dump_json(summary).decode()


def read_summary(data: str) -> Summary:
    """From write_summary."""
    return _SUMMARY.validate_json(data)


def write_outcome(outcome: WindowOutcome) -> str:
    """As JSON."""
    return _OUTCOME.dump_json(outcome).decode()


def read_outcome(data: str) -> WindowOutcome:
    """From write_outcome."""
    return _OUTCOME.validate_json(data)
