from __future__ import annotations

from lightmem_client._lazy import LazySequence


def test_items_are_decoded_together_and_once_when_one_is_looked_at() -> None:
    decoded: list[str] = []

    def decode(text: str) -> int:
        decoded.append(text)
        return int(text)

    numbers = LazySequence(["1", "2", "3"], decode)
    assert len(numbers) == 3
    assert decoded == []
    assert numbers[1] == 2
    assert list(numbers) == [1, 2, 3]
    assert numbers[:2] == (1, 2)
    assert decoded == ["1", "2", "3"]


def test_it_equals_what_holds_the_same() -> None:
    numbers = LazySequence(["1", "2"], int)
    assert numbers == (1, 2)
    assert numbers == LazySequence(["01", "02"], int)
    assert hash(numbers) == hash((1, 2))
    assert numbers != (1,)
    assert numbers != [1, 2], "as a tuple does not"
    assert repr(numbers) == "(1, 2)"
