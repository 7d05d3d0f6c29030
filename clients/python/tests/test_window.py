from __future__ import annotations

from dataclasses import dataclass

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lightmem_client import InternalError
from lightmem_client._window import Window
from lightmem_client.pb.memory_service_pb2 import WriteRequest


@dataclass(frozen=True)
class Item:
    request: WriteRequest


def item(number: int) -> Item:
    return Item(WriteRequest(request_id=str(number)))


@given(st.lists(st.sampled_from(["add", "send", "acknowledge", "break"]), max_size=60))
def test_every_request_is_acknowledged_once_in_order_whatever_breaks(steps: list[str]) -> None:
    window: Window[Item] = Window(4)
    added, on_wire, done = 0, [], []
    for step in [*steps, "break"]:
        if step == "add" and not window.is_full:
            window.add(item(added))
            added += 1
        elif step == "send" and (taken := window.take_unsent()) is not None:
            on_wire.append(taken)
        elif step == "acknowledge" and on_wire:
            done.append(window.acknowledge(on_wire.pop(0).request.request_id))
        elif step == "break":
            on_wire.clear()
            window.rewind()
    while (taken := window.take_unsent()) is not None:
        done.append(window.acknowledge(taken.request.request_id))
    assert [int(one.request.request_id) for one in done] == list(range(added))
    assert window.is_empty


def test_window_is_full_at_its_limit() -> None:
    window: Window[Item] = Window(2)
    window.add(item(0))
    assert not window.is_full
    window.add(item(1))
    assert window.is_full


@pytest.mark.parametrize("request_id", ["1", "other"])
def test_acknowledgement_out_of_order_is_an_error(request_id: str) -> None:
    window: Window[Item] = Window(2)
    for number in range(2):
        window.add(item(number))
        window.take_unsent()
    with pytest.raises(InternalError):
        window.acknowledge(request_id)


def test_acknowledgement_of_what_was_not_sent_is_an_error() -> None:
    window: Window[Item] = Window(2)
    window.add(item(0))
    with pytest.raises(InternalError):
        window.acknowledge("0")


def test_abandon_empties_it() -> None:
    window: Window[Item] = Window(2)
    window.add(item(0))
    window.take_unsent()
    assert [one.request.request_id for one in window.abandon()] == ["0"]
    assert window.is_empty
    assert not window.has_unsent
