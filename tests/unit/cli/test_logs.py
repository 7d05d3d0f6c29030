from __future__ import annotations

import contextlib
import json
import logging
import os
from collections.abc import Iterator

import pytest
import structlog

from lightmem_server.cli.logs import configure_logging
from lightmem_server.config import load

SAID = "my neighbour is moving out"
FORMATS = pytest.mark.parametrize("log_format", ["json", "console"])


@pytest.fixture(autouse=True)
def _logging() -> Iterator[None]:
    yield
    structlog.reset_defaults()
    logging.getLogger().handlers.clear()


def fail(said: str) -> None:
    try:
        {}[said]
    except KeyError as error:
        problem = ExceptionGroup(f"about {said}", [ValueError(f"no place for {said}"), RuntimeError(said)])
        problem.add_note(said)
        raise problem from error


def log_failure() -> None:
    try:
        fail(SAID)
    except ExceptionGroup as error:
        structlog.get_logger().exception("rpc_failed", method="Retrieve")
        logging.getLogger("asyncio").error("Task exception was never retrieved", exc_info=error)


@FORMATS
def test_a_logged_failure_shows_where_and_not_what_was_said(
    capsys: pytest.CaptureFixture[str], log_format: str
) -> None:
    configure_logging(load({"log_format": log_format}, environment={}))
    log_failure()
    log = capsys.readouterr().err
    assert SAID not in log
    assert all(part in log for part in ("rpc_failed", "Task exception", "KeyError", "ExceptionGroup", "log_failure"))
    if log_format == "json":
        assert json.loads(log.splitlines()[0])["event"] == "rpc_failed"


@FORMATS
def test_it_is_shown_where_that_is_asked_for(capsys: pytest.CaptureFixture[str], log_format: str) -> None:
    configure_logging(load({"log_format": log_format, "log_content": True}, environment={}))
    log_failure()
    assert f"no place for {SAID}" in capsys.readouterr().err


@FORMATS
def test_a_log_that_cannot_be_written_fails_nothing(monkeypatch: pytest.MonkeyPatch, log_format: str) -> None:
    reading, writing = os.pipe()
    os.close(reading)
    broken = os.fdopen(writing, "w", buffering=1)
    monkeypatch.setattr("sys.stderr", broken)
    configure_logging(load({"log_format": log_format}, environment={}))
    log_failure()
    structlog.get_logger().warning("commit_failed")
    with contextlib.suppress(BrokenPipeError):
        broken.close()
    structlog.get_logger().warning("stopped")
