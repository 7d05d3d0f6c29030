import json
import logging

import pytest
import structlog

from lightmem_server.cli.serve import configure_logging
from lightmem_server.config import Settings, load


@pytest.fixture(autouse=True)
def _logging() -> object:
    yield
    structlog.reset_defaults()
    logging.getLogger().handlers.clear()


def fail(secret: str) -> None:
    raise ValueError(f"failed with {len(secret)} characters")


@pytest.mark.parametrize("log_format", ["json", "console"])
def test_a_logged_failure_shows_where_and_not_what_was_said(
    capsys: pytest.CaptureFixture[str], log_format: str
) -> None:
    configure_logging(load({"log_format": log_format}, environment={}))
    try:
        fail("my neighbour is moving out")
    except ValueError:
        structlog.get_logger().exception("rpc_failed")
    log = capsys.readouterr().err
    assert "failed with 26 characters" in log
    assert "neighbour" not in log.replace('fail("my neighbour is moving out")', "")
    if log_format == "json":
        assert json.loads(log)["event"] == "rpc_failed"


def test_every_setting_has_a_flag() -> None:
    from lightmem_server.cli.serve import serve

    assert set(Settings.model_fields) <= {parameter.name for parameter in serve.params}
