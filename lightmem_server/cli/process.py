"""A server of one's own for as long as a block lasts: `python -m lightmem_server serve` on a free loopback port."""

from __future__ import annotations

import contextlib
import json
import os
import queue
import signal
import subprocess
import sys
import threading
import time
from collections import deque
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import IO

import lightmem_client
from lightmem_client import Client

from lightmem_server.cli.options import CommandError, ExitCode

KEPT_LOG_LINES = 20
LOOK_SECONDS = 1.0
STOP_SECONDS = 30.0


@dataclass(frozen=True, slots=True)
class RunningServer:
    """Where the server is, and the admin key that it made."""

    target: str
    key: str
    process_id: int


@contextlib.contextmanager
def running_server(
    data_dir: Path,
    *,
    flags: Sequence[str] = (),
    environment: Mapping[str, str] | None = None,
    ready_seconds: float = 120.0,
) -> Iterator[RunningServer]:
    """Start a server, wait until it is ready, and stop it at the end of the block with SIGTERM.

    A SIGTERM to this process ends the block as SystemExit, so that no server outlives it.

    Args:
        data_dir: Its data folder.
        flags: More flags of `lightmem serve`.
        environment: Instead of this process's.

    Raises:
        CommandError: It ended, or was not ready in time; says what it said last.
    """
    command = [
        *(sys.executable, "-m", "lightmem_server", "serve"),
        *("--listen", "127.0.0.1:0", "--data-dir", str(data_dir)),
        *("--log-level", "info", "--log-format", "json", *flags),
    ]
    with _exit_on_sigterm():
        process = subprocess.Popen(  # noqa: S603  # our own program
            command, stdin=subprocess.DEVNULL, stderr=subprocess.PIPE, env=environment, text=True, encoding="utf-8"
        )
        assert process.stderr is not None
        log = _Log(process.stderr)
        try:
            address = log.wait_for_address(ready_seconds)
            with Client(address, tls=False) as client:
                _wait_ready(client, process, log, ready_seconds)
            yield RunningServer(address, (data_dir / "admin.key").read_text("utf-8").strip(), process.pid)
        finally:
            _stop(process)
            log.join()


@contextlib.contextmanager
def _exit_on_sigterm() -> Iterator[None]:
    """SIGTERM unwinds the stack rather than ending the process on the spot. Python takes signals in its main thread."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return

    def leave(number: int, frame: object) -> None:
        raise SystemExit(128 + number)

    previous = signal.signal(signal.SIGTERM, leave)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, previous)


def clean_environment() -> dict[str, str]:
    """This process's environment without LightMem's settings, so that a server starts with its defaults."""
    return {name: value for name, value in os.environ.items() if not name.startswith("LIGHTMEM_")}


class _Log:
    """Reads the server's log in a thread: finds the address, keeps the last lines, never lets the pipe fill."""

    def __init__(self, stream: IO[str]) -> None:
        self._stream = stream
        self._address: queue.Queue[str] = queue.Queue()
        self._lines: deque[str] = deque(maxlen=KEPT_LOG_LINES)
        self._thread = threading.Thread(target=self._read, name="server-log", daemon=True)
        self._thread.start()

    def wait_for_address(self, seconds: float) -> str:
        """Where the server listens. Raises CommandError when it ended without."""
        try:
            address = self._address.get(timeout=seconds)
        except queue.Empty:
            raise self.failure(f"the server did not listen within {seconds:.0f} s") from None
        if not address:
            raise self.failure("the server ended before it was ready")
        return address

    def failure(self, what: str) -> CommandError:
        """The error that says what the server said last."""
        last = next((line for line in reversed(self._lines) if line.strip()), "")
        return CommandError(f"{what}{': ' if last else ''}{last.strip()}", ExitCode.UNAVAILABLE)

    def join(self) -> None:
        """Wait until the log has ended, as it does with the process."""
        self._thread.join(STOP_SECONDS)

    def _read(self) -> None:
        with self._stream:
            for line in self._stream:
                self._lines.append(line)
                address = _listening_address(line)
                if address:
                    self._address.put(address)
        self._address.put("")


def _listening_address(line: str) -> str:
    """The address in the log line that says that the port is open; "" in any other line."""
    try:
        event = json.loads(line)
    except ValueError:
        return ""
    return str(event["address"]) if isinstance(event, dict) and event.get("event") == "listening" else ""


def _wait_ready(client: Client, process: subprocess.Popen[str], log: _Log, seconds: float) -> None:
    """Waits for health, looking every second whether the process still lives."""
    ends_at = time.monotonic() + seconds
    while True:
        try:
            client.wait_ready(timeout_seconds=LOOK_SECONDS)
        except lightmem_client.LightMemError as error:
            if process.poll() is not None:
                log.join()
                raise log.failure("the server ended before it was ready") from error
            if time.monotonic() >= ends_at:
                raise log.failure(f"the server was not ready within {seconds:.0f} s") from error
        else:
            return


def _stop(process: subprocess.Popen[str]) -> None:
    """SIGTERM, and patience; SIGKILL only when it does not end."""
    if process.poll() is None:
        process.send_signal(signal.SIGTERM)
    try:
        process.wait(STOP_SECONDS)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()
