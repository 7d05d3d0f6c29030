"""Every promise of PROMISES.md names tests, and each of them exists."""

from __future__ import annotations

import ast
import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "lightmem_server" / "PROMISES.md").read_text("utf-8")
PROMISES = re.findall(r"^- (.*?)(?=^- |^#|\Z)", PAGE, re.MULTILINE | re.DOTALL)
NAMED = sorted(set(re.findall(r"`(tests/[\w/]+\.py)::(\w+)`", PAGE)))


def functions(path: Path) -> set[str]:
    """The tests that a file defines."""
    kinds = (ast.FunctionDef, ast.AsyncFunctionDef)
    return {node.name for node in ast.walk(ast.parse(path.read_text("utf-8"))) if isinstance(node, kinds)}


@pytest.mark.parametrize(("file", "test"), NAMED)
def test_the_named_test_exists(file: str, test: str) -> None:
    assert test.startswith("test_")
    assert test in functions(ROOT / file)


@pytest.mark.parametrize("promise", PROMISES, ids=lambda promise: re.sub(r"\W+", " ", promise)[:40])
def test_each_promise_names_a_test(promise: str) -> None:
    assert re.search(r"`tests/[\w/]+\.py::test_\w+`", promise)


def test_the_readme_leads_here() -> None:
    assert "(lightmem_server/PROMISES.md)" in (ROOT / "README.md").read_text("utf-8")
    assert len(PROMISES) > 15
