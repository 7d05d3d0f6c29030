"""What the servicers call. It exists once the server has loaded; the interceptor refuses calls before that."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from lightmem_server.core import Engine
from lightmem_server.pipeline.access import AccessRecorder
from lightmem_server.pipeline.clock import Clock
from lightmem_server.pipeline.consolidation.control import Consolidating
from lightmem_server.pipeline.edit import Editing
from lightmem_server.pipeline.erase import Erasing
from lightmem_server.pipeline.retrieve import Retrieving
from lightmem_server.pipeline.transfer import Exporting, Importing
from lightmem_server.pipeline.write import Writing
from lightmem_server.service.auth import Authenticator
from lightmem_server.service.keys import Keys
from lightmem_server.slm.foreground import Foreground
from lightmem_server.store.protocol import JobStore


@dataclass(frozen=True, slots=True)
class ModelInfo:
    """A loaded model, for GetStats; `identity` names its weights."""

    role: str
    name: str
    identity: str


@dataclass(frozen=True, slots=True)
class Backend:
    """The parts of a loaded server."""

    store: JobStore
    engine: Engine
    authenticator: Authenticator
    keys: Keys
    writing: Writing
    retrieving: Retrieving
    editing: Editing
    consolidating: Consolidating
    erasing: Erasing
    exporting: Exporting
    importing: Importing
    access: AccessRecorder
    clock: Clock
    models: Sequence[ModelInfo]
    foreground: Foreground
    server_version: str
