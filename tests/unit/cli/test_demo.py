from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import pytest
from click.testing import Result
from lightmem_client import Client

from lightmem_server.cli.demo import ASKED_AT, QUESTIONS, read_conversation
from lightmem_server.cli.options import CommandError
from lightmem_server.cli.process import clean_environment, running_server
from lightmem_server.config import load
from lightmem_server.slm.models import ModelState, list_models

Run = Callable[..., Result]

EVIDENCE = {
    "Where did Nora's greyhound come from?": "called Biscuit",
    "What is Nora allergic to?": "walnuts",
    "How did Tomás hurt his wrist?": "broke my left wrist",
    "Where is the workshop that Nora opened?": "Harbour Street",
    "What is the name of Ines's baby?": "Alma",
}


@pytest.fixture
def _models() -> None:
    settings = load()
    states = {status.name: status.state for status in list_models(settings.models_dir)}
    usable = (ModelState.INSTALLED, ModelState.OUTDATED)
    if any(states[name] not in usable for name in settings.needed_models):
        pytest.skip(f"the models are not in {settings.models_dir}; run `make models`")


def test_conversation_is_long_between_two_people_over_months() -> None:
    lines = read_conversation()
    assert len(lines) >= 36
    assert set(Counter(line.turn.speaker for line in lines)) == {"Nora", "Tomás"}
    days = {line.turn.occurred_at.date() for line in lines if line.turn.occurred_at}
    assert len(days) >= 5
    assert (max(days) - min(days)).days > 180
    assert max(line.turn.occurred_at for line in lines if line.turn.occurred_at) < ASKED_AT


def test_answers_lie_in_different_sessions() -> None:
    lines = read_conversation()
    sessions = [
        next(line.session_id for line in lines if EVIDENCE[question] in line.turn.text) for question in QUESTIONS
    ]
    assert len(set(sessions)) == len(QUESTIONS) == 5


def test_server_that_cannot_start_says_why(tmp_path: Path) -> None:
    flags = ("--models-dir", str(tmp_path / "no-models"))
    with pytest.raises(CommandError, match=r"ended before it was ready.*models pull"):  # noqa: SIM117
        with running_server(tmp_path / "data", flags=flags, environment=clean_environment()):
            pass


@pytest.mark.models
@pytest.mark.usefixtures("_models")
def test_demo_finds_what_it_asks_for(run: Run) -> None:
    result = run("demo", "--json")
    assert result.exit_code == 0, result.stderr
    assert "48 turns of 6 conversations stored" in result.stderr
    assert "server stopped" in result.stderr
    answers = json.loads(result.stdout)
    found = {
        answer["question"]: EVIDENCE[answer["question"]]
        in " ".join(hit["memory"]["text"] for hit in answer["memories"])
        for answer in answers
    }
    assert found == dict.fromkeys(QUESTIONS, True)


@pytest.mark.models
@pytest.mark.usefixtures("_models")
def test_demo_keeps_its_data_only_when_asked(run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    shown = run("demo").stdout
    assert all(question in shown for question in QUESTIONS)
    assert shown.count("tier  date        speaker  score  text") == len(QUESTIONS)
    assert list(tmp_path.iterdir()) == []
    run("demo", "--keep")
    (folder,) = tmp_path.iterdir()
    assert (folder / "admin.key").exists()


@pytest.mark.models
@pytest.mark.usefixtures("_models")
def test_demo_that_is_terminated_leaves_nothing_behind(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "lightmem_server", "demo"]
    environment = {**os.environ, "TMPDIR": str(tmp_path), "PYTHONUNBUFFERED": "1"}
    with subprocess.Popen(command, stderr=subprocess.PIPE, env=environment, text=True) as process:
        assert process.stderr is not None
        target = next(line for line in process.stderr if "server ready on" in line).split()[3]
        process.terminate()
        process.stderr.read()
        assert process.wait() == 128 + signal.SIGTERM
    assert list(tmp_path.iterdir()) == []
    with Client(target, tls=False) as client:
        assert not client.is_healthy()
