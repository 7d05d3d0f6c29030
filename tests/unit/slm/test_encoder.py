"""Loading an encoder; what it computes is for the tests of the embedder and the Selector."""

from __future__ import annotations

import os
import sys
import threading
from pathlib import Path

import pytest

from lightmem_server.errors import UnavailableError
from lightmem_server.slm.encoder import load_encoder
from lightmem_server.slm.manifest import ModelRole
from tests.unit.slm import tiny_bert


@pytest.mark.skipif(sys.platform != "linux", reason="threads have a niceness of their own on Linux alone")
async def test_the_threads_of_the_model_stand_aside_and_no_others(tmp_path: Path) -> None:
    tiny_bert.install(tmp_path, "tiny", ModelRole.EMBEDDER)
    before, own = _threads(), os.getpriority(os.PRIO_PROCESS, threading.get_native_id())
    encoder = load_encoder(tmp_path / "tiny", replicas=2, niceness=3)
    niceness = [os.getpriority(os.PRIO_PROCESS, thread) for thread in _threads() - before]
    assert len(niceness) >= 2
    assert set(niceness) == {own + 3}
    assert os.getpriority(os.PRIO_PROCESS, threading.get_native_id()) == own
    await encoder.close()


async def test_a_closed_encoder_refuses_through_its_future(tmp_path: Path) -> None:
    tiny_bert.install(tmp_path, "tiny", ModelRole.EMBEDDER)
    encoder = load_encoder(tmp_path / "tiny", replicas=1)
    await encoder.close()
    refused = encoder.compute([], lambda output: output)
    with pytest.raises(UnavailableError):
        await refused


def _threads() -> set[int]:
    return {int(task.name) for task in Path("/proc/self/task").iterdir()}
