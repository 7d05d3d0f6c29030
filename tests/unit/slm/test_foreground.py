"""Background work stands aside exactly while online requests are at work."""

from __future__ import annotations

import asyncio
import threading

from lightmem_server.slm.foreground import Foreground


def test_it_is_idle_until_the_last_request_has_ended() -> None:
    foreground = Foreground()
    assert foreground.wait_idle(0)
    with foreground.busy():
        with foreground.busy():
            assert foreground.is_busy
        assert not foreground.wait_idle(0)
    assert foreground.wait_idle(0)
    assert not foreground.is_busy


def test_a_request_that_fails_is_over_too() -> None:
    foreground = Foreground()
    try:
        with foreground.busy():
            raise ValueError
    except ValueError:
        pass
    assert foreground.wait_idle(0)


def test_whoever_waits_goes_on_when_it_is_idle() -> None:
    foreground = Foreground()
    went_on = threading.Event()
    with foreground.busy():
        thread = threading.Thread(target=lambda: foreground.wait_idle(60) and went_on.set())
        thread.start()
        assert not went_on.is_set()
    assert went_on.wait(60)
    thread.join()


def test_reading_is_busy_too() -> None:
    foreground = Foreground()
    with foreground.reading():
        with foreground.busy():
            assert (foreground.is_reading(), foreground.is_busy) == (True, True)
        assert foreground.is_busy
    assert (foreground.is_reading(), foreground.is_busy) == (False, False)


async def test_a_coroutine_goes_on_when_it_is_idle_and_not_before() -> None:
    foreground = Foreground()
    await foreground.idle(60)
    with foreground.busy():
        waiting = asyncio.create_task(foreground.idle(60))
        await asyncio.sleep(0)
        assert not waiting.done()
    await waiting


async def test_a_coroutine_waits_at_most_so_long() -> None:
    foreground = Foreground()
    with foreground.busy():
        await foreground.idle(0)
        assert foreground.is_busy
