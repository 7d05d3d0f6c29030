"""A real server in a process of its own, for end-to-end tests and benches."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Self

import pytest

from lightmem_server.config import load
from lightmem_server.slm.models import ModelState, list_models

ROOT = Path(__file__).parents[1]

ENDED_SECONDS = 60
"""How long a server may take to load its models, or to drain; a guard against hanging, not a measurement."""


def require_models() -> None:
    """Skips, saying why, where the models of the default settings have not been pulled."""
    settings = load()
    missing = [
        state.name
        for state in list_models(settings.models_dir)
        if state.name in settings.needed_models and state.state is ModelState.MISSING
    ]
    if missing:
        pytest.skip(f"models {', '.join(missing)} are not in {settings.models_dir}; run `make models`")


class ServerProcess:
    """`lightmem serve` on a free loopback port; a context manager that stops it.

    Attributes:
        address: host:port, known once it serves.
        log: The log lines so far, parsed.
    """

    def __init__(
        self,
        data_dir: Path,
        *arguments: str,
        environment: Mapping[str, str] | None = None,
        prefix: Sequence[str] = (),
        module: str = "lightmem_server",
        log_reader: bool = True,
    ) -> None:
        """`prefix` is put before the command, such as `prlimit --fsize=…`; `module` is run instead, such as the server with
        fault points. Without `log_reader` nobody reads the log once it serves, and the pipe is broken."""
        self._has_log_reader = log_reader
        self.data_dir = data_dir
        self.address = ""
        self.log: list[dict[str, Any]] = []
        self._serving = threading.Event()
        self._command = [
            *prefix,
            *(sys.executable, "-m", module, "serve", "--listen", "127.0.0.1:0"),
            *("--data-dir", str(data_dir), *arguments),
        ]
        self._environment = {**os.environ, **(environment or {})}
        self._process: subprocess.Popen[str] | None = None

    def __enter__(self) -> Self:
        self._process = subprocess.Popen(
            self._command, env=self._environment, cwd=ROOT, stdin=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True
        )
        threading.Thread(target=self._read_log, daemon=True).start()
        if not self._serving.wait(ENDED_SECONDS) or not self.address:
            self.kill()
            raise RuntimeError(f"the server did not start: {self.log}")
        return self

    def __exit__(self, *_: object) -> None:
        if self.process.poll() is None:
            self.stop()

    @property
    def process(self) -> subprocess.Popen[str]:
        """The running process."""
        assert self._process is not None, "enter it first"
        return self._process

    @property
    def key(self) -> str:
        """The admin key that the first start left."""
        return (self.data_dir / "admin.key").read_text().strip()

    def stop(self) -> int:
        """SIGTERM, and wait for the drain; the exit status."""
        self.process.send_signal(signal.SIGTERM)
        return self.process.wait(ENDED_SECONDS)

    def kill(self) -> None:
        """SIGKILL: no chance to finish anything."""
        self.process.kill()
        self.process.wait(ENDED_SECONDS)

    def _read_log(self) -> None:
        stderr = self.process.stderr
        assert stderr is not None
        with stderr:
            for line in stderr:
                try:
                    entry = json.loads(line)
                except ValueError:
                    entry = {"event": line.rstrip()}
                self.log.append(entry)
                if entry["event"] == "serving":
                    self.address = entry["address"]
                    if not self._has_log_reader:
                        break
                    self._serving.set()
        self._serving.set()
