"""One loaded CTranslate2 encoder and the threads that wait for it.

CTranslate2 computes without the GIL but its call blocks, so each call waits in a thread of a small pool of our own. Two
replicas with one thread each were measured faster here than one replica with two: no thread waits for another inside a
layer. CT2_USE_MKL is never set: 5-8 times slower on AMD.
"""

from __future__ import annotations

import asyncio
import functools
import os
import sys
import threading
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

import ctranslate2
import numpy as np
from numpy.typing import NDArray
from tokenizers import Encoding

from lightmem_server.core import cpu_features
from lightmem_server.errors import ModelError, UnavailableError

R = TypeVar("R")


@dataclass(frozen=True, slots=True)
class EncoderOutput:
    """What an encoder makes of a batch of n sequences."""

    hidden: NDArray[np.float32] | None
    """(n, longest, dim), rows beyond a sequence's length hold anything; None for a model with a pooler."""
    pooled: NDArray[np.float32] | None
    """(n, dim), after the pooler and its tanh; None for a model without."""


class Encoder:
    """A loaded model. compute() may be called concurrently; as many calls compute at once as there are replicas."""

    def __init__(self, model: ctranslate2.Encoder, executor: ThreadPoolExecutor) -> None:
        """Use load_encoder."""
        self._model = model
        self._executor = executor
        self._is_closed = False

    @property
    def replicas(self) -> int:
        """How many calls compute at once."""
        return int(self._model.num_encoders)

    def compute(self, batch: Sequence[Encoding], finish: Callable[[EncoderOutput], R]) -> asyncio.Future[R]:
        """Run the model on sequences, none of them padded, and `finish` what it gives in the same thread. Begins at once,
        not when a coroutine gets its turn.

        Returns a future that raises:
            ModelError: The model could not compute it.
            UnavailableError: Closed.
        """
        loop = asyncio.get_running_loop()
        if self._is_closed:
            refused: asyncio.Future[R] = loop.create_future()
            refused.set_exception(UnavailableError("the model is being unloaded", reason="DRAINING"))
            return refused
        return loop.run_in_executor(self._executor, lambda: finish(self.forward_blocking(batch)))

    def forward_blocking(self, batch: Sequence[Encoding]) -> EncoderOutput:
        """What the model makes of sequences, in the calling thread. Raises ModelError."""
        try:
            output = self._model.forward_batch(
                [encoding.ids for encoding in batch], token_type_ids=[encoding.type_ids for encoding in batch]
            )
        except (RuntimeError, ValueError) as error:
            raise ModelError(f"the model failed: {error}") from error
        if output.pooler_output is not None:
            return EncoderOutput(None, np.array(output.pooler_output))
        return EncoderOutput(np.array(output.last_hidden_state), None)

    async def close(self) -> None:
        """Wait for calls in progress, then free the memory. May be called twice."""
        self._is_closed = True
        await asyncio.to_thread(self._executor.shutdown)
        if self._model.model_is_loaded:
            self._model.unload_model()


def available_threads(setting: int = 0) -> int:
    """Threads for a model: the setting, or where it is 0 the cores that this process may use."""
    if setting:
        return setting
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def prefer_avx512() -> None:
    """Let CTranslate2 use AVX-512 where the processor has it: by itself it takes AVX2, which measured 14 % slower for the
    Selector (720 tokens: 63 against 73 ms). A choice that the user made in the environment stands."""
    if any(name.startswith("avx512") for name in cpu_features()):
        os.environ.setdefault("CT2_FORCE_CPU_ISA", "AVX512")


def load_encoder(
    folder: Path, *, replicas: int, ahead: int = 0, niceness: int = 0, compute_type: str = "int8"
) -> Encoder:
    """Load a converted model; blocking, about 0.1 s. Each replica computes with one thread; they share the weights.

    Args:
        ahead: Calls that may wait inside the model beyond those that compute.
        niceness: How far the model's threads stand aside for the process's others, as nice(1) counts; on Linux alone,
            where threads have their own.

    Raises:
        ModelError: The folder holds no model that can be loaded.
    """
    prefer_avx512()
    load = functools.partial(
        ctranslate2.Encoder,
        str(folder),
        device="cpu",
        compute_type=compute_type,
        inter_threads=replicas,
        intra_threads=1,
    )
    try:
        # The model's threads inherit the niceness of the one that loads it, which can't take it back.
        with ThreadPoolExecutor(1, initializer=_stand_aside, initargs=(niceness,)) as loader:
            model = loader.submit(load).result()
    except (RuntimeError, ValueError) as error:
        raise ModelError(f"{folder} cannot be loaded: {error}") from error
    return Encoder(model, ThreadPoolExecutor(replicas + ahead, thread_name_prefix=f"model-{folder.name}"))


def _stand_aside(niceness: int) -> None:
    """Lower the calling thread's priority. Elsewhere than on Linux the priority is the whole process's."""
    if niceness and sys.platform == "linux":
        thread = threading.get_native_id()
        os.setpriority(os.PRIO_PROCESS, thread, os.getpriority(os.PRIO_PROCESS, thread) + niceness)
