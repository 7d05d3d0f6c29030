from datetime import UTC, datetime
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lightmem_server.pipeline.consolidation.dates import find_dates
from lightmem_server.pipeline.consolidation.model import ResolutionKind, Utterance
from lightmem_server.pipeline.consolidation.normalise import normalise, speaker_of
from lightmem_server.slm.time_window import EPOCH, MICROSECOND, to_micros
from lightmem_server.types import Role
from tests.unit.pipeline.consolidation.conversation import SAID_AT, turn, turns


def resolved(utterance: Utterance, kind: ResolutionKind) -> list[tuple[str, str]]:
    """What was understood, with the words that it was understood from."""
    return [(utterance.text[each.start : each.end], each.value) for each in utterance.resolutions if each.kind is kind]


def said(line: str, kind: ResolutionKind = ResolutionKind.SPEAKER) -> list[tuple[str, str]]:
    return resolved(normalise([turn(line)])[0], kind)


@pytest.mark.parametrize(
    ("line", "words"),
    [
        ("Ana: I told Ben that my dog likes us, it's mine.", ["I", "my", "us", "mine"]),
        ("Ana: I'm here and we've met", ["I'm", "we've"]),
        ('Ana: He said "I am late" and I laughed', ["I"]),
        ("Ana: He said \u201cmy train is late\u201d to me", ["me"]),
        ("Ana: The US joined World War I and the coal mine closed", []),
        ("Ana: medium, Imogen, army, dome", []),
    ],
)
def test_the_first_person_is_the_speaker_outside_of_quotations(line: str, words: list[str]) -> None:
    assert said(line) == [(word, "Ana") for word in words]


def test_an_assistants_i_is_the_assistant() -> None:
    assert said("Assistant: I can help.") == [("I", "Assistant")]
    nameless = turn(": I can help.", role=Role.USER)
    assert speaker_of(nameless) == "User"


@pytest.mark.parametrize(
    ("text", "words", "label"),
    [
        ("I moved yesterday.", "yesterday", "2022-04-10"),
        ("We met last week.", "last week", "week of 2022-04-04"),
        ("It was last month!", "last month", "2022-03"),
        ("I quit last Friday", "last Friday", "2022-04-08"),
        ("two years ago I left", "two years ago", "2020"),
        ("We went last weekend.", "last weekend", "2022-04-09 to 2022-04-10"),
        ("I start tomorrow", "tomorrow", "2022-04-12"),
        ("See you the day after tomorrow", "the day after tomorrow", "2022-04-13"),
        ("She comes next week", "next week", "week of 2022-04-18"),
        ("It starts next Monday.", "next Monday", "2022-04-18"),
        ("in two months we move", "in two months", "2022-06"),
        ("next year I retire", "next year", "2023"),
        ("next March I retire", "next March", "2023-03"),
        ("It was on 7 May 2021", "7 May 2021", "2021-05-07"),
    ],
)
def test_a_relative_date_is_made_absolute(text: str, words: str, label: str) -> None:
    assert said(f"Ana: {text}", ResolutionKind.DATE) == [(words, label)]


@pytest.mark.parametrize(
    ("text", "words", "label"),
    [
        ("I'm going to Oslo in March.", "in March", "2023-03"),
        ("We're planning a trip for April.", "for April", "2022-04"),
        ("I will be back on Monday", "on Monday", "2022-04-18"),
        ("We'll fly on the 3rd of May", "on the 3rd of May", "2022-05-03"),
        ("We booked a flight for April 10", "for April 10", "2023-04-10"),
        ("I went to Oslo in March.", "in March", "2022-03"),
        ("We moved in December", "in December", "2021-12"),
        ("I passed the exam on Monday.", "on Monday", "2022-04-04"),
        ("I ran it on April 12th", "on April 12th", "2021-04-12"),
    ],
)
def test_a_day_or_month_lies_where_its_sentence_looks(text: str, words: str, label: str) -> None:
    assert said(f"Ana: {text}", ResolutionKind.DATE) == [(words, label)]


@pytest.mark.parametrize(
    "text",
    [
        "I promised to be there on Monday",
        "I said I'd come on Monday",
        "I packed so that we could leave on Monday",
        "I was going to fly in May",
        "She moved in May",
        "I wanted to go on Friday",
        "I'm going to fly on the 31st of June",
        "I went there. In May it rains",
    ],
)
def test_what_does_not_say_where_it_lies_is_left(text: str) -> None:
    assert said(f"Ana: {text}", ResolutionKind.DATE) == []


@pytest.mark.parametrize("text", ["I go on Friday", "in May", "on 7 May", "may I ask", "one day", "soon", "in a while"])
def test_what_may_be_past_or_to_come_is_left(text: str) -> None:
    assert said(f"Ana: {text}", ResolutionKind.DATE) == []


def test_a_weekday_that_is_this_weeks_or_nexts_is_one_of_the_two() -> None:
    (span,) = find_dates("next Friday", SAID_AT)
    assert span.label == "2022-04-15 to 2022-04-22"


def test_days_begin_in_the_users_zone() -> None:
    late = to_micros(datetime(2022, 4, 11, 23, 30, tzinfo=UTC))
    assert [span.label for span in find_dates("yesterday", late)] == ["2022-04-10"]
    (span,) = find_dates("yesterday", late, ZoneInfo("Europe/Rome"))
    assert span.label == "2022-04-11"
    assert EPOCH + span.starts * MICROSECOND == datetime(2022, 4, 10, 22, tzinfo=UTC)


PERSON = ResolutionKind.PERSON


def test_a_pronoun_is_resolved_where_one_person_can_be_meant() -> None:
    first, second = normalise(turns("Ana: My sister Mia called. She sings.", "Ben: I like her!"))
    assert resolved(first, PERSON) == [("She", "Ana's sister Mia")]
    assert resolved(second, PERSON) == [("her", "Ana's sister Mia")]
    assert first.annotated == "My sister Mia called. She [Ana's sister Mia] sings."


@pytest.mark.parametrize(
    "lines",
    [
        ["Ana: My sister met my mother. She sang."],
        ["Ana: My sister came. He sang."],
        ["Ana: My friend met Tom. He sang."],
        ["Ana: She sang. My sister clapped."],
        ["Ana: My sister came. They sang."],
        ["Ana: She sang."],
        ['Ana: My sister said: "She sang."'],
    ],
    ids=["two", "other gender", "a stranger", "before", "number", "nobody", "quoted"],
)
def test_a_pronoun_that_may_mean_another_is_left(lines: list[str]) -> None:
    assert [resolved(each, PERSON) for each in normalise(turns(*lines))] == [[]] * len(lines)


def test_a_person_is_forgotten_after_a_few_turns() -> None:
    lines = ["Ana: My sister is here.", "Ben: Hm.", "Ana: Yes.", "Ben: Well.", "Ana: She sings."]
    assert resolved(normalise(turns(*lines))[-1], PERSON) == []


@given(st.lists(st.text(max_size=200), max_size=4), st.integers(-(2**62), 2**62))
def test_no_text_breaks_it_and_the_original_stays(texts: list[str], at: int) -> None:
    originals = [turn(f"Ana: {text}", place=place, at=at) for place, text in enumerate(texts)]
    utterances = normalise(originals)
    assert [each.turn for each in utterances] == originals
    check_spans(utterances)


PIECES = [
    "I",
    "my sister",
    "She",
    "yesterday",
    "next week",
    '"',
    "in 9 years",
    "Tom",
    ".",
    "\u201c",
    "2 years ago",
    "they",
    "\n",
]


@given(st.lists(st.sampled_from(PIECES), max_size=12).map(" ".join))
def test_spans_are_in_order_and_within_the_text(text: str) -> None:
    check_spans(normalise([turn(f"Ana: {text}")]))


def check_spans(utterances: tuple[Utterance, ...]) -> None:
    for each in utterances:
        at = 0
        for resolution in each.resolutions:
            assert at <= resolution.start < resolution.end <= len(each.text)
            assert resolution.value
            at = resolution.end
        remaining = each.annotated
        for character in each.text:  # what is added is added, nothing is taken away
            assert character in remaining
            remaining = remaining[remaining.index(character) + 1 :]
