"""A pull in a process of its own, for tests that kill it, run two of them, or take its space away.

Arguments: manifest (JSON), models' folder, index URL, and optionally "die-at TEXT" (kill -9 itself when the pull says
something with TEXT in it) or "limit BYTES" (no file may grow beyond).
"""

from __future__ import annotations

import os
import resource
import signal
import sys
from pathlib import Path

from lightmem_server.errors import ModelError
from lightmem_server.slm.download import Endpoints
from lightmem_server.slm.manifest import Manifest
from lightmem_server.slm.pull import pull


class Progress:
    """Prints the steps."""

    def __init__(self, die_at: str | None) -> None:
        self._die_at = die_at

    def say(self, message: str) -> None:
        print(message, flush=True)
        if self._die_at is not None and self._die_at in message:
            os.kill(os.getpid(), signal.SIGKILL)

    def advance(self, title: str, done_bytes: int, total_bytes: int) -> None:
        """Not printed."""


def main(manifest_path: str, directory: str, url: str, option: str = "", value: str = "") -> None:
    if option == "limit":
        resource.setrlimit(resource.RLIMIT_FSIZE, (int(value), int(value)))
    manifest = Manifest.model_validate_json(Path(manifest_path).read_text())
    progress = Progress(value if option == "die-at" else None)
    endpoints = Endpoints(index_url=f"{url}/simple", hub_url=url)
    try:
        pull(list(manifest.models), Path(directory), progress=progress, manifest=manifest, endpoints=endpoints)
    except ModelError as error:
        sys.exit(f"{error.reason}: {error.message}")


if __name__ == "__main__":
    main(*sys.argv[1:])
