"""What protocols.Writer promises, held by the fake, by the real code on a tiny random model, and by the smallest real Writer
where it has been pulled."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Protocol

import pytest

from lightmem_server.errors import InvalidInputError, OverloadedError
from lightmem_server.slm import protocols
from lightmem_server.slm.fakes import ScriptedWriter
from lightmem_server.slm.foreground import Foreground
from lightmem_server.slm.models import ModelState, default_models_dir, list_models
from lightmem_server.slm.protocols import Ending, Message
from lightmem_server.slm.writer import FOR_ONLINE, NICENESS, GeneratorWriter, load_writer
from tests.unit.slm import tiny_gguf

REAL = "smollm2-135m-instruct"
BACKENDS = ["fake", "tiny", pytest.param("real", marks=pytest.mark.models)]
SYSTEM = [Message("system", "You count.")]
ASK = [Message("user", "Count from one to a hundred, in words.")]


class Writer(protocols.Writer, Protocol):
    async def close(self) -> None: ...


def load(name: str, folder: Path, foreground: Foreground | None = None, max_queued: int = 64) -> GeneratorWriter:
    if name == "tiny":
        tiny_gguf.install(folder, "tiny")
        return load_writer(folder, "tiny", foreground=foreground, max_queued=max_queued)
    directory = default_models_dir()
    state = {status.name: status.state for status in list_models(directory)}[REAL]
    if state is not ModelState.INSTALLED:
        pytest.skip(f"{REAL} is {state} in {directory}: run `lightmem models pull {REAL}`")
    return load_writer(directory, REAL, foreground=foreground)


@pytest.fixture(params=BACKENDS)
async def writer(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[Writer]:
    backend: Writer
    if request.param == "fake":
        backend = ScriptedWriter(lambda prompt: "one, two, three, " * 100)
    else:
        backend = load(request.param, tmp_path)
    yield backend
    await backend.close()


async def test_a_text_ends_at_its_longest(writer: Writer) -> None:
    written = await writer.generate(SYSTEM, ASK, max_tokens=5)
    assert written.ending is Ending.MAX_TOKENS
    assert (written.tokens, written.text != "") == (5, True)
    assert written.prompt_tokens > 0


async def test_the_same_prompt_gives_the_same_text_kept_front_or_not(writer: Writer) -> None:
    first = await writer.generate(SYSTEM, ASK, max_tokens=8)
    again = await writer.generate(SYSTEM, ASK, max_tokens=8)
    assert again == first
    whole = await writer.generate([], [*SYSTEM, *ASK], max_tokens=8)
    assert whole.prompt_tokens == first.prompt_tokens


async def test_in_float32_the_text_is_the_same_however_the_prompt_is_divided(tmp_path: Path) -> None:
    tiny_gguf.install(tmp_path, "tiny")
    writer = load_writer(tmp_path, "tiny", compute_type="float32")
    whole = await writer.generate([], [*SYSTEM, *ASK], max_tokens=20)
    for _ in range(2):
        assert await writer.generate(SYSTEM, ASK, max_tokens=20, is_online=True) == whole
    await writer.close()


async def test_a_stop_ends_the_text_and_is_no_part_of_it(writer: Writer) -> None:
    whole = await writer.generate(SYSTEM, ASK, max_tokens=8)
    stop = whole.text[2:4]
    written = await writer.generate(SYSTEM, ASK, max_tokens=8, stops=["never said", stop])
    assert written.ending is Ending.STOP
    assert written.text == whole.text[: whole.text.index(stop)].strip()


async def test_who_has_enough_is_asked_no_more(writer: Writer) -> None:
    seen: list[str] = []
    written = await writer.generate(SYSTEM, ASK, max_tokens=8, until=lambda text: bool(seen.append(text)) or True)
    assert len(seen) <= 1
    assert (written.ending is Ending.ENOUGH) is bool(seen)


async def test_many_texts_at_once_are_each_their_callers(writer: Writer) -> None:
    asks = [[Message("user", f"Say {word} twice.")] for word in ("one", "two", "three", "four", "five")]
    alone = [await writer.generate(SYSTEM, ask, max_tokens=6) for ask in asks]
    together = await asyncio.gather(*(writer.generate(SYSTEM, ask, max_tokens=6) for ask in asks))
    assert [each.prompt_tokens for each in together] == [each.prompt_tokens for each in alone]
    assert all(0 < each.tokens <= 6 for each in together)


async def test_texts_written_together_are_those_written_alone(tmp_path: Path) -> None:
    tiny_gguf.install(tmp_path, "tiny")
    writer = load_writer(tmp_path, "tiny", compute_type="float32")
    asks = [([Message("user", f"Say {word}.")], length) for word, length in (("one", 20), ("two", 3), ("eleven", 9))]
    alone = [await writer.generate(SYSTEM, ask, max_tokens=length) for ask, length in asks]
    together = await asyncio.gather(*(writer.generate(SYSTEM, ask, max_tokens=length) for ask, length in asks))
    assert together == alone
    assert together[1].ending is Ending.MAX_TOKENS
    await writer.close()


async def test_one_of_many_that_leaves_takes_nobody_along(tmp_path: Path) -> None:
    writer = load("tiny", tmp_path)
    tasks = [asyncio.create_task(writer.generate(SYSTEM, ASK, max_tokens=20)) for _ in range(4)]
    await asyncio.sleep(0)
    tasks[2].cancel()
    made = await asyncio.gather(*tasks, return_exceptions=True)
    assert isinstance(made[2], asyncio.CancelledError)
    assert [one.tokens for one in made if isinstance(one, protocols.Written)] != []
    await writer.close()


async def test_a_past_deadline_writes_nothing_and_returns_at_once(writer: Writer) -> None:
    written = await writer.generate(SYSTEM, ASK, max_tokens=100, deadline=time.monotonic() - 1)
    assert (written.ending, written.text, written.tokens) == (Ending.DEADLINE, "", 0)


async def test_a_cancelled_caller_leaves_the_writer_working(writer: Writer) -> None:
    task = asyncio.create_task(writer.generate(SYSTEM, ASK, max_tokens=100))
    await asyncio.sleep(0)
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)
    assert (await writer.generate(SYSTEM, ASK, max_tokens=3)).tokens == 3


async def test_online_and_background_callers_are_all_answered(writer: Writer) -> None:
    made = await asyncio.gather(
        *(writer.generate(SYSTEM, ASK, max_tokens=3, is_online=bool(number % 2)) for number in range(6))
    )
    assert [written.text for written in made] == [written.text for written in made[:2]] * 3


async def test_the_writer_says_who_it_is(writer: Writer) -> None:
    assert writer.name
    assert writer.identity.startswith(writer.name)
    assert writer.tokens.count("") == 0
    assert writer.tokens.count("the") == 1


@pytest.fixture
def tiny(tmp_path: Path) -> GeneratorWriter:
    return load("tiny", tmp_path)


async def test_a_prompt_that_is_too_long_is_refused(tiny: GeneratorWriter) -> None:
    with pytest.raises(InvalidInputError, match="are over 256"):
        await tiny.generate(SYSTEM, [Message("user", "x" * 300)], max_tokens=1)
    with pytest.raises(InvalidInputError, match="are over 256"):
        await tiny.generate(SYSTEM, ASK, max_tokens=240)
    await tiny.close()


async def test_a_control_token_in_a_text_is_text(tiny: GeneratorWriter) -> None:
    forged = "<|im_end|>"
    spelled = await tiny.generate([], [Message("user", forged)], max_tokens=1)
    empty = await tiny.generate([], [Message("user", "")], max_tokens=1)
    assert spelled.prompt_tokens - empty.prompt_tokens == len(forged), "one token per byte, none for the whole"
    await tiny.close()


async def test_a_full_queue_refuses_at_once(tmp_path: Path) -> None:
    writer = load("tiny", tmp_path, max_queued=1)
    calls = [asyncio.create_task(writer.generate(SYSTEM, ASK, max_tokens=50)) for _ in range(8)]
    made = await asyncio.gather(*calls, return_exceptions=True)
    assert any(isinstance(one, OverloadedError) for one in made)
    assert any(isinstance(one, protocols.Written) for one in made)
    await writer.close()


async def test_background_writing_stands_aside_while_online_writing_goes_on(tmp_path: Path) -> None:
    foreground = Foreground()
    writer = load("tiny", tmp_path, foreground)
    with foreground.busy():
        background = asyncio.create_task(writer.generate(SYSTEM, ASK, max_tokens=2))
        await asyncio.sleep(0)
        online = await writer.generate(SYSTEM, ASK, max_tokens=100, is_online=True)
        assert not background.done(), "held between its two tokens, while many were written beside it"
    assert ((await background).tokens, online.tokens > 0) == (2, True)
    await writer.close()


async def test_a_deadline_returns_what_was_written_until_then(tmp_path: Path) -> None:
    foreground = Foreground()
    writer = load("tiny", tmp_path, foreground)
    with foreground.busy():  # so that it is held after its first token
        written = await writer.generate(SYSTEM, ASK, max_tokens=100, deadline=time.monotonic() + 0.5)
    assert written.ending is Ending.DEADLINE
    assert written.tokens < 100
    await writer.close()


async def test_closing_ends_what_runs(tiny: GeneratorWriter) -> None:
    task = asyncio.create_task(tiny.generate(SYSTEM, ASK, max_tokens=100))
    await asyncio.sleep(0)
    await tiny.close()
    await tiny.close()
    await asyncio.gather(task, return_exceptions=True)
    assert task.done()


async def test_the_models_threads_have_a_lower_priority_than_the_servers(tiny: GeneratorWriter) -> None:
    niceness = thread_niceness()
    assert max(niceness) >= NICENESS
    assert niceness.count(max(niceness)) >= 1 + FOR_ONLINE
    await tiny.close()


def thread_niceness() -> list[int]:
    """Of every thread of this process; the 19th value of /proc/PID/stat."""
    stats = [path.read_text("utf-8") for path in Path("/proc/self/task").glob("*/stat")]
    return [int(line.rpartition(")")[2].split()[16]) for line in stats]
