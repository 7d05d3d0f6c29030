"""Writes texts with a decoder on CTranslate2. Implements protocols.Writer.

How an online request is kept from waiting for background writing:

- Threads: the Writer computes with `threads` threads of its own, one by default, at a lower priority (NICENESS) than
  those of the server; an online request that needs a core gets nine tenths of it from the kernel.
- Between two tokens a background generation looks whether an online request is at work (slm/foreground.py), and waits
  until it isn't: so the request shares the cores with one step, at most.
- An online generation doesn't wait for a background one: it has a replica of its own, over the same weights.

The first step reads the prompts and is the longest; what the prompts of a task have in common is read once (`static`).

Background texts are written several at once: a step reads all weights, a gigabyte and a half, for one text as for eight. They
have to have prompts of the same length (CTranslate2 reads what goes beyond the shortest token by token), so that blank
lines are put in front of a prompt to fill it up to a multiple of PADDING. Measured on two cores, a token of
Qwen2.5-Coder-1.5B takes 130 ms alone and 37 among eight.
"""

from __future__ import annotations

import asyncio
import ctypes
import functools
import os
import threading
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import ctranslate2
from tokenizers import Tokenizer

from lightmem_server.errors import InvalidInputError, ModelError
from lightmem_server.slm.batcher import Batcher, BatcherLimits, Priority
from lightmem_server.slm.convert import TOKENIZER_FILE
from lightmem_server.slm.convert_gguf import TURN_END, TURN_START
from lightmem_server.slm.encoder import prefer_avx512
from lightmem_server.slm.foreground import Foreground
from lightmem_server.slm.generation import Generation
from lightmem_server.slm.manifest import ModelRole
from lightmem_server.slm.models import InstalledModel, read_installed
from lightmem_server.slm.protocols import Ending, Message, Written
from lightmem_server.slm.tokens import JsonTokenCounter, load_tokenizer

NICENESS = 10
"""Of the Writer's threads. Not 19: a thread of theirs holds Python's lock for a moment after each token, and must not be
kept from giving it back."""

MAX_YIELD_SECONDS = 1.0
"""How long a background step waits for online requests to end. On a server that is never idle background work then still
does a step a second, instead of holding its place for ever."""

PADDING = 32
"""Tokens. Less wastes less reading and finds fewer prompts of the same length."""

BATCH_TOKENS = 3000
"""Of prompts and texts that are written at once. CTranslate2 keeps 344 KB for each with Qwen2.5-Coder-1.5B, and copies them at
every token, 6 KB a layer: of more than 5,400 the copies would have MAPPED_BYTES."""

MAPPED_BYTES, TRIMMED_BYTES, PADDED_BYTES = 32 << 20, 1 << 30, 64 << 20
"""Allocations from MAPPED_BYTES on, the most that glibc takes, are mapped anew each time, and the kernel clears each of their
pages: half of the time of a step. Below, freed memory stays with the process, up to TRIMMED_BYTES; and with the pool of a
thread, which is made of pieces of 64 MiB, where there is to be PADDED_BYTES of room in the one before."""

FOR_ONLINE = 1
"""Replica that is left to online requests beside those that write in the background. They share the weights."""

M_TRIM_THRESHOLD, M_TOP_PAD, M_MMAP_THRESHOLD = -1, -2, -3
"""Of malloc.h."""


class GeneratorWriter:
    """Writer on a loaded generator."""

    def __init__(
        self,
        installed: InstalledModel,
        model: ctranslate2.Generator,
        tokenizer: Tokenizer,
        *,
        end_id: int,
        foreground: Foreground,
        max_queued: int,
        batch_tokens: int,
        batches: int,
    ) -> None:
        """Use load_writer."""
        self._installed = installed
        self._model = model
        self._tokenizer = tokenizer
        self._counter = JsonTokenCounter(tokenizer)
        self._end_id = end_id
        self._foreground = foreground
        self._executor = ThreadPoolExecutor(batches + FOR_ONLINE, thread_name_prefix="writer")
        self._open: set[Generation] = set()
        self._encode_static = functools.lru_cache(maxsize=16)(self._encode)
        self._queue: Batcher[Generation, None] = Batcher(
            self._run,
            cost=lambda generation: generation.cost,
            kind=lambda generation: generation.kind,
            limits=BatcherLimits(
                max_batch_cost=batch_tokens,
                max_queued_items=max_queued,
                concurrency=batches,
                extra_for_queries=FOR_ONLINE,
            ),
        )

    @property
    def name(self) -> str:
        """See Writer."""
        return self._installed.name

    @property
    def identity(self) -> str:
        """See Writer."""
        return self._installed.identity

    @property
    def tokens(self) -> JsonTokenCounter:
        """See Writer."""
        return self._counter

    async def generate(
        self,
        static: Sequence[Message],
        messages: Sequence[Message],
        *,
        max_tokens: int,
        stops: Sequence[str] = (),
        until: Callable[[str], bool] | None = None,
        deadline: float | None = None,
        is_online: bool = False,
    ) -> Written:
        """See Writer."""
        static_tokens = self._encode_static(tuple(static)) if static else []
        prompt = [*await asyncio.to_thread(self._encode, tuple(messages)), TURN_START, *self._words("assistant\n")]
        longest = self._installed.spec.max_tokens
        if max_tokens < 1 or len(static_tokens) + len(prompt) + max_tokens > longest:
            raise InvalidInputError(
                "prompt",
                f"has {len(static_tokens) + len(prompt)} tokens, which with {max_tokens} to write are over {longest}",
                reason="PROMPT_TOO_LONG",
            )
        generation = Generation(
            static_tokens,
            prompt,
            padding=self._words("\n") * (-len(prompt) % PADDING) if static and not is_online else (),
            is_online=is_online,
            tokenizer=self._tokenizer,
            end_id=self._end_id,
            max_tokens=max_tokens,
            stops=stops,
            until=until,
            deadline=deadline,
        )
        remaining = None if deadline is None else deadline - time.monotonic()
        self._open.add(generation)
        try:
            async with asyncio.timeout(remaining):
                await self._queue.submit([generation], Priority.QUERY if is_online else Priority.PASSAGE)
        except TimeoutError:
            generation.cancel(Ending.DEADLINE)
        finally:
            generation.cancel()
            self._open.discard(generation)
        return generation.written()

    async def close(self) -> None:
        """Fail what waits with UnavailableError, end what runs at its next token, free the model. May be called twice."""
        for generation in self._open:
            generation.cancel()
        await self._queue.close()
        await asyncio.to_thread(self._executor.shutdown)
        if self._model.model_is_loaded:
            self._model.unload_model()

    async def _run(self, batch: Sequence[Generation]) -> list[None]:
        await asyncio.get_running_loop().run_in_executor(self._executor, self._generate, batch)
        return [None] * len(batch)

    def _generate(self, batch: Sequence[Generation]) -> None:
        """Write texts whose prompts have the same length."""
        wanted = [generation for generation in batch if not generation.is_over]
        for generation in batch:
            if generation.is_over:
                generation.cancel(Ending.DEADLINE)
        if not wanted:
            return
        steps = 0

        def take(result: ctranslate2.GenerationStepResult) -> bool:
            nonlocal steps
            if result.step >= steps and not wanted[0].is_online:  # once for the tokens of a step
                steps = result.step + 1
                self._foreground.wait_idle(MAX_YIELD_SECONDS)
            return wanted[int(result.batch_id)].step(result.token_id)

        try:
            self._model.generate_batch(
                [generation.prompt for generation in wanted],
                static_prompt=wanted[0].static or None,
                cache_static_prompt=True,
                include_prompt_in_result=False,
                max_length=max(generation.max_tokens for generation in wanted),
                end_token=TURN_END,
                sampling_topk=1,
                callback=take,
            )
        except (RuntimeError, ValueError) as error:
            raise ModelError(f"the model failed: {error}") from error
        finally:
            if not wanted[0].is_online:
                release_freed_memory()

    def _encode(self, messages: tuple[Message, ...]) -> list[str]:
        """ChatML, each message ended."""
        tokens: list[str] = []
        for message in messages:
            tokens += [TURN_START, *self._words(f"{message.role}\n{message.text}"), TURN_END, *self._words("\n")]
        return tokens

    def _words(self, text: str) -> list[str]:
        return list(self._tokenizer.encode(text, add_special_tokens=False).tokens)


def load_writer(
    directory: Path,
    name: str,
    *,
    threads: int = 1,
    max_queued: int = 64,
    batch_tokens: int = BATCH_TOKENS,
    batches: int = 1,
    foreground: Foreground | None = None,
    compute_type: str = "int8",
) -> GeneratorWriter:
    """Load an installed Writer. Blocking, seconds: run it in a thread. Close it when done.

    Args:
        directory: The models' folder.
        threads: Of each replica.
        max_queued: Waiting texts, beyond which callers get OverloadedError.
        batch_tokens: Of prompts and texts that are written at once in the background: what they take of memory.
        batches: How many are written at once in the background, each on `threads`.
        foreground: The online requests that background writing stands aside for.

    Raises:
        ModelNotFoundError: Not pulled.
        ModelError: Damaged, or not a Writer.
    """
    installed = read_installed(directory, name)
    if installed.spec.role is not ModelRole.WRITER:
        raise ModelError(f"{name} has the role {installed.spec.role}, not writer")
    folder = directory / name
    tokenizer = load_tokenizer(folder / TOKENIZER_FILE)
    tokenizer.encode_special_tokens = True  # what a text spells out is text
    end_id = tokenizer.token_to_id(TURN_END)
    if end_id is None:
        raise ModelError(f"the tokenizer of {name} has no {TURN_END}")
    prefer_avx512()
    with ThreadPoolExecutor(1) as loader:  # the model's threads inherit the priority of the one that makes them
        model = loader.submit(_load_generator, folder, batches + FOR_ONLINE, threads, compute_type).result()
    keep_freed_memory()
    return GeneratorWriter(
        installed,
        model,
        tokenizer,
        end_id=end_id,
        foreground=foreground or Foreground(),
        max_queued=max_queued,
        batch_tokens=batch_tokens,
        batches=batches,
    )


def keep_freed_memory() -> None:
    """Have the allocator of the process keep what is freed, see MAPPED_BYTES; nothing where it isn't glibc's."""
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    if mallopt is not None:
        mallopt(M_MMAP_THRESHOLD, MAPPED_BYTES)
        mallopt(M_TRIM_THRESHOLD, TRIMMED_BYTES)
        mallopt(M_TOP_PAD, PADDED_BYTES)


def release_freed_memory() -> None:
    """Give back what was kept. Texts that grow leave holes in the pools of their threads, none large enough for the next:
    without this a process with Qwen2.5-Coder-1.5B in two batches grew to 10.6 GB in 36 minutes; with it it takes 3.6 to 7.3."""
    trim = getattr(ctypes.CDLL(None), "malloc_trim", None)
    if trim is not None:
        trim(0)


def _load_generator(folder: Path, replicas: int, threads: int, compute_type: str) -> ctranslate2.Generator:
    if hasattr(os, "setpriority"):
        os.setpriority(os.PRIO_PROCESS, threading.get_native_id(), max(NICENESS, os.nice(0)))
    try:
        return ctranslate2.Generator(
            str(folder), device="cpu", compute_type=compute_type, inter_threads=replicas, intra_threads=threads
        )
    except (RuntimeError, ValueError) as error:
        raise ModelError(f"{folder} cannot be loaded: {error}") from error
