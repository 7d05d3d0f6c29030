from __future__ import annotations

import math
from datetime import UTC, datetime, timedelta, timezone

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lightmem_client import (
    AllOf,
    AnyOf,
    InternalError,
    InvalidArgumentError,
    Kind,
    MemoryFilter,
    Meta,
    Not,
    Role,
    SelectorMode,
    Statement,
    Tier,
    Turn,
)
from lightmem_client import _codec as codec
from lightmem_client import _codec_calls as codec_calls
from lightmem_client.pb import memory_pb2 as pb
from lightmem_client.pb import memory_service_pb2 as service_pb

SCOPE = pb.Scope(user_id="ann")
MOMENT = datetime(2024, 5, 8, 13, 56, 0, 123456, tzinfo=timezone(timedelta(hours=2)))


@given(st.datetimes(timezones=st.timezones()))
def test_datetime_survives_the_round_trip(moment: datetime) -> None:
    back = codec.from_timestamp(codec.to_timestamp(moment, "at"))
    assert back == moment.astimezone(UTC)
    assert back.tzinfo is UTC


def test_times_before_the_epoch_have_positive_nanos() -> None:
    stamp = codec.to_timestamp(datetime(1969, 12, 31, 23, 59, 59, 500000, tzinfo=UTC), "at")
    assert (stamp.seconds, stamp.nanos) == (-1, 500_000_000)


@pytest.mark.parametrize(
    ("send", "field"),
    [
        (lambda at: codec.to_turns(Turn("x", occurred_at=at)), "turns[0].occurred_at"),
        (lambda at: codec.to_turns(["x", Turn("x", expires_at=at)]), "turns[1].expires_at"),
        (lambda at: codec.to_filter(MemoryFilter(as_of=at)), "filter.as_of"),
        (lambda at: codec_calls.to_retrieve_request(SCOPE, "q", {"asked_at": at}), "asked_at"),
        (lambda at: codec_calls.to_update_request(SCOPE, "i", {"expires_at": at}, 0), "memory.expires_at"),
        (lambda at: codec_calls.to_create_key_request("", (), False, at), "key.expires_at"),
    ],
)
def test_naive_datetime_is_refused_and_names_its_field(send, field) -> None:  # type: ignore[no-untyped-def]
    with pytest.raises(InvalidArgumentError, match="no time zone") as caught:
        send(datetime(2024, 5, 8))
    assert caught.value.field == field
    assert caught.value.reason == "NAIVE_DATETIME"


@given(
    st.one_of(
        st.text(), st.booleans(), st.integers(-(2**63), 2**63 - 1), st.floats(allow_nan=False, allow_infinity=False)
    )
)
def test_metadata_value_survives_with_its_type(value: str | int | float | bool) -> None:
    back = codec.from_scalar(codec.to_scalar(value, "m"))
    assert back == value
    assert type(back) is type(value)


@pytest.mark.parametrize("value", [math.nan, math.inf, 2**63, -(2**63) - 1, None, ["a"], {"a": 1}], ids=repr)
def test_metadata_value_that_cannot_be_sent_is_refused(value: object) -> None:
    with pytest.raises(InvalidArgumentError) as caught:
        codec.to_turns(Turn("x", metadata={"k": value}))  # type: ignore[dict-item]
    assert caught.value.field == "turns[0].metadata[k]"


def test_plain_text_is_a_turn_and_so_is_a_list_of_them() -> None:
    assert [turn.text for turn in codec.to_turns("hello")] == ["hello"]
    assert [turn.text for turn in codec.to_turns(["a", Turn("b", role=Role.ASSISTANT)])] == ["a", "b"]


def test_no_turns_are_refused() -> None:
    with pytest.raises(InvalidArgumentError, match="at least one"):
        codec.to_turns([])


def test_turn_is_sent_whole() -> None:
    (turn,) = codec.to_turns(
        Turn("hi", "Ann", Role.TOOL, MOMENT, {"a": True, "b": 1, "c": 1.5, "d": "x"}, True, MOMENT)
    )
    assert (turn.text, turn.speaker, turn.role, turn.is_pinned) == ("hi", "Ann", pb.ROLE_TOOL, True)
    assert codec.from_timestamp(turn.occurred_at) == codec.from_timestamp(turn.expires_at) == MOMENT
    assert {key: value.WhichOneof("value") for key, value in turn.metadata.items()} == {
        "a": "bool_value",
        "b": "int_value",
        "c": "double_value",
        "d": "string_value",
    }


def test_unset_times_of_a_memory_are_none() -> None:
    memory = codec.to_memory(pb.Memory(id="i", scope=SCOPE))
    assert (memory.occurred_at, memory.valid_to, memory.expires_at, memory.last_accessed_at) == (None,) * 4
    assert memory.user_id == "ann"


def test_statement_and_participants_of_derived_records() -> None:
    statement = pb.Statement(subject="Ana", relation="lives in", object="Porto")
    memory = codec.to_memory(pb.Memory(id="i", scope=SCOPE, statement=statement, participants=["Ana", "Bo"]))
    assert memory.statement == Statement("Ana", "lives in", "Porto")
    assert memory.participants == ("Ana", "Bo")
    assert codec.to_memory(pb.Memory(id="i", scope=SCOPE)).statement is None


def test_enum_numbers_of_a_newer_server_become_unspecified() -> None:
    message = pb.Memory.FromString(pb.Memory(tier=2, kind=99, role=77).SerializeToString())  # type: ignore[arg-type]
    memory = codec.to_memory(message)
    assert (memory.tier, memory.kind, memory.role) == (Tier.MTM, Kind.UNSPECIFIED, Role.UNSPECIFIED)


def test_enum_numbers_are_those_of_the_proto() -> None:
    for ours, theirs in ((Tier, pb.Tier), (Kind, pb.Kind), (Role, pb.Role), (SelectorMode, service_pb.SelectorMode)):
        names = {name.split("_")[-1]: number for name, number in theirs.items()}  # type: ignore[attr-defined]
        assert {member.name: member.value for member in ours} == names


def test_filter_expression_is_sent_as_it_reads() -> None:
    expression = (Meta("city") == "Rome") & ~(Meta("year") >= 2020) | Meta("tag").is_in("a", "b")
    sent = codec.to_filter(expression).metadata
    either = sent.any_of.filters
    assert either[0].all_of.filters[0].condition.values[0].string_value == "Rome"
    negated = getattr(either[0].all_of.filters[1], "not").condition
    assert (negated.key, negated.operator, negated.values[0].int_value) == ("year", 4, 2020)
    assert (either[1].condition.operator, len(either[1].condition.values)) == (7, 2)


def test_chains_stay_one_level_deep() -> None:
    a, b, c = Meta("a") == 1, Meta("b") != 2, Meta("c").contains("x")
    assert a & b & c == AllOf((a, b, c))
    assert a | b | c == AnyOf((a, b, c))
    assert ~(a & b) == Not(AllOf((a, b)))


def test_filter_refuses_python_and_or_not() -> None:
    with pytest.raises(TypeError, match="combine with &"):
        bool((Meta("a") == 1) and (Meta("b") == 2))


def test_filter_refuses_one_text_where_several_belong() -> None:
    with pytest.raises(InvalidArgumentError, match="several values"):
        codec.to_filter(MemoryFilter(session_ids="s1"))


def test_filter_fields_are_sent() -> None:
    sent = codec.to_filter(
        MemoryFilter(
            tiers=[Tier.MTM], kinds={Kind.FACT}, session_ids=["s"], occurred_from=MOMENT, include_archived=True
        )
    )
    assert list(sent.tiers) == [2]
    assert list(sent.kinds) == [3]
    assert codec.from_timestamp(sent.occurred_from) == MOMENT
    assert not sent.HasField("occurred_to")
    assert sent.include_archived


def test_retrieve_without_options_leaves_everything_to_the_server() -> None:
    request = codec_calls.to_retrieve_request(SCOPE, "where?", {})
    assert request == service_pb.RetrieveRequest(scope=SCOPE, query="where?")


def test_retrieve_options_are_sent() -> None:
    request = codec_calls.to_retrieve_request(
        SCOPE,
        "where?",
        {
            "max_memories": 3,
            "deadline_seconds": 0.25,
            "min_relevance": 0.0,
            "selector_mode": SelectorMode.OFF,
            "filter": Meta("a") == 1,
            "asked_at": MOMENT,
            "time_zone": "Europe/Berlin",
            "include_coarse": True,
            "hypothetical_queries": 2,
        },
    )
    assert (request.budget.max_memories, request.budget.max_candidates) == (3, 0)
    assert request.budget.deadline.ToMilliseconds() == 250
    assert request.HasField("min_relevance")
    assert request.selector_mode == service_pb.SELECTOR_MODE_OFF
    assert request.filter.metadata.condition.key == "a"
    assert (request.time_zone, request.include_coarse) == ("Europe/Berlin", True)
    assert request.hypothetical_queries == 2


@pytest.mark.parametrize("options", [{"max_memories": 0}, {"max_tokens": -1}, {"deadline_seconds": 0.0}], ids=str)
def test_budget_that_means_nothing_is_refused(options) -> None:  # type: ignore[no-untyped-def]
    with pytest.raises(InvalidArgumentError) as caught:
        codec_calls.to_retrieve_request(SCOPE, "q", options)
    assert caught.value.field is not None
    assert caught.value.field.startswith("budget.")


def test_update_names_what_is_given_and_only_that() -> None:
    request = codec_calls.to_update_request(SCOPE, "id", {"is_pinned": False, "expires_at": None}, 3)
    assert list(request.update_mask.paths) == ["expires_at", "is_pinned"]
    assert not request.memory.HasField("expires_at")
    assert request.expected_version == 3


def test_update_of_nothing_is_refused() -> None:
    with pytest.raises(InvalidArgumentError, match="nothing to change"):
        codec_calls.to_update_request(SCOPE, "id", {}, 0)


def test_writes_get_a_request_id_of_their_own() -> None:
    first, second = (codec_calls.to_write_request(SCOPE, "x", None).request_id for _ in range(2))
    assert first
    assert second
    assert first != second
    assert codec_calls.to_write_request(SCOPE, "x", "mine").request_id == "mine"


def test_answer_without_trace_is_an_error_not_an_empty_answer() -> None:
    part = codec_calls.to_part(service_pb.RetrieveResponse(memories=service_pb.RetrievedMemories()))
    assert part is not None
    with pytest.raises(InternalError):
        codec_calls.fold([part])


def test_relevance_that_was_not_judged_is_none_and_zero_is_zero() -> None:
    hits = [service_pb.RetrievedMemory(score=1), service_pb.RetrievedMemory(score=1, relevance=0)]
    part = codec_calls.to_part(service_pb.RetrieveResponse(coarse=service_pb.CoarseHits(hits=hits)))
    assert [hit.relevance for hit in part.hits] == [None, 0.0]  # type: ignore[union-attr]


def test_unknown_part_of_a_newer_server_is_left_out() -> None:
    assert codec_calls.to_part(service_pb.RetrieveResponse()) is None
