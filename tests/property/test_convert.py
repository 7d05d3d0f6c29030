"""What goes out through convert comes back in as it was."""

from hypothesis import given
from hypothesis import strategies as st

from lightmem_server.config import load
from lightmem_server.pb import memory_pb2 as pb
from lightmem_server.service import convert
from lightmem_server.types import Role, Scalar

SETTINGS = load(environment={})
micros = st.integers(convert.MIN_SECONDS * convert.MICROS, (convert.MAX_SECONDS + 1) * convert.MICROS - 1)
texts = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"), min_size=1).filter(str.strip)
names = st.text(st.characters(exclude_categories=["Cs", "Cc"]), max_size=60)
scalars = st.booleans() | st.integers(-(2**63), 2**63 - 1) | st.floats(allow_nan=False, allow_infinity=False) | texts
metadata = st.dictionaries(names.filter(lambda key: 1 <= len(key.encode()) <= 64), scalars, max_size=5)


@given(micros)
def test_times(value: int) -> None:
    assert convert.to_micros(convert.from_micros(value), "t") == value


@given(st.floats(0, 1e6))
def test_durations_to_the_microsecond(value: float) -> None:
    assert abs(convert.to_seconds(convert.from_seconds(value), "d") - value) < 1e-6


@given(scalars)
def test_scalars_keep_value_and_type(value: Scalar) -> None:
    back = convert.to_scalar(convert.from_scalar(value), "s")
    assert (type(back), back) == (type(value), value)


@given(texts, names, st.sampled_from([Role.USER, Role.ASSISTANT, Role.TOOL]), micros, metadata)
def test_turns_keep_every_character(
    text: str, speaker: str, role: Role, occurred_at: int, values: dict[str, Scalar]
) -> None:
    message = pb.Turn(
        text=text, speaker=speaker, role=pb.Role.ValueType(role), occurred_at=convert.from_micros(occurred_at)
    )
    for key, value in values.items():
        message.metadata[key].CopyFrom(convert.from_scalar(value))
    turn = convert.to_turn(pb.Turn.FromString(message.SerializeToString()), "turn", SETTINGS)
    assert (turn.text, turn.speaker, turn.role, turn.occurred_at) == (text, speaker, role, occurred_at)
    assert dict(turn.metadata) == values
