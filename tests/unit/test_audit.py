from __future__ import annotations

import importlib.util
import sys
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

FILE = Path(__file__).parents[2] / ".ci" / "audit.py"


@pytest.fixture(scope="module")
def audit() -> ModuleType:
    """.ci is no package."""
    spec = importlib.util.spec_from_file_location("audit", FILE)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module  # dataclasses look their module up
    spec.loader.exec_module(module)
    return module


def advisory(*events: dict[str, str], imports: tuple[str, ...] = (), **more: Any) -> dict[str, Any]:
    affected = {
        "package": {"name": "example.org/net"},
        "ranges": [{"events": list(events)}],
        "ecosystem_specific": {"imports": [{"path": path} for path in imports]},
    }
    return {"id": "GO-1", "affected": [affected], **more}


@pytest.mark.parametrize(
    ("version", "is_affected"),
    [
        ("v1.1.9", False),
        ("v1.2.0", True),
        ("v1.2.10", True),
        ("v1.3.0-rc.1", True),
        ("v1.3.0", False),
        ("v2.0.1", True),
    ],
)
def test_versions_lie_between_introduced_and_fixed(audit: ModuleType, version: str, is_affected: bool) -> None:
    one = advisory({"introduced": "1.2.0"}, {"fixed": "1.3.0"}, {"introduced": "2.0.0"})
    found = audit.find_go([one], {"example.org/net": version}, {"example.org/net"})
    assert found == ([f"example.org/net {version}: GO-1"] if is_affected else [])


def test_what_is_not_built_or_was_withdrawn_is_no_finding(audit: ModuleType) -> None:
    built, packages = {"example.org/net": "v1.0.0"}, {"example.org/net/http2"}
    always = {"introduced": "0"}
    assert audit.find_go([advisory(always, imports=("example.org/net/html",))], built, packages) == []
    assert audit.find_go([advisory(always, withdrawn="2026-01-01T00:00:00Z")], built, packages) == []
    assert audit.find_go([advisory(always)], {"example.org/other": "v1.0.0"}, packages) == []
    assert len(audit.find_go([advisory(always, imports=("example.org/net/http2",))], built, packages)) == 1


def test_packages_that_the_database_lacks_were_not_looked_up(audit: ModuleType) -> None:
    outcome = audit.Outcome("Python: advisories")
    known = {"name": "a", "version": "1", "vulns": [{"id": "PYSEC-1"}]}
    audit.read_pip_audit([known, {"name": "b", "skip_reason": "not found"}], outcome)
    assert (outcome.findings, outcome.counted) == (["a 1: PYSEC-1"], 1)
    assert "1 packages, from b on" in outcome.unreached
