"""Following runs: from now to the end, the newest counts, and the server may drain."""

from __future__ import annotations

import pytest

from lightmem_server.errors import UnavailableError
from lightmem_server.pipeline.consolidation.progress import Ending, Progress, ProgressBoard
from lightmem_server.types import Partition
from tests.contract.store_records import USER

BOB = Partition("default", "bob")


def at(done: int, ending: Ending | None = None) -> Progress:
    return Progress(None, "facts", done, 9, ending=ending)


async def test_a_late_follower_first_learns_how_far_it_is() -> None:
    board = ProgressBoard()
    board.post(USER, at(1))
    board.post(USER, at(2))
    with board.follow(USER) as posts:
        assert await anext(posts) == at(2)
        board.post(BOB, at(7))
        board.post(USER, at(3))
        board.post(USER, at(4))
        assert await anext(posts) == at(4)
        board.post(USER, at(5, Ending.DONE))
        assert [post async for post in posts] == [at(5, Ending.DONE)]
    assert not board.is_at_work(USER)
    assert board.is_at_work(BOB)


async def test_two_follow_one_run_and_the_next_run_is_another() -> None:
    board = ProgressBoard()
    with board.follow(USER) as first, board.follow(USER) as second:
        board.post(USER, at(1, Ending.FAILED))
        assert [post async for post in first] == [post async for post in second] == [at(1, Ending.FAILED)]
    with board.follow(USER) as third:
        board.post(USER, at(2, Ending.DONE))
        assert await anext(third) == at(2, Ending.DONE)


async def test_a_draining_server_ends_the_following() -> None:
    board = ProgressBoard()
    with board.follow(USER) as before:
        board.post(USER, at(1))
        board.close()
        with pytest.raises(UnavailableError):
            [post async for post in before]
    with board.follow(BOB) as after, pytest.raises(UnavailableError):
        await anext(after)
