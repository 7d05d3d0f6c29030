from datetime import UTC, datetime
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lightmem_server.slm import time_window
from lightmem_server.slm.time_window import EPOCH, MICROSECOND, find_time_window, speaks_of_time, to_micros

ASKED_AT = to_micros(datetime(2023, 10, 15, 12, tzinfo=UTC))  # a Sunday


def window(query: str, zone: str = "UTC") -> tuple[str, str] | None:
    found = find_time_window(query, ASKED_AT, ZoneInfo(zone))
    if found is None:
        return None
    start, end = (EPOCH + moment * MICROSECOND for moment in (found.start, found.end))
    return f"{start:%Y-%m-%d %H}", f"{end:%Y-%m-%d %H}"


@pytest.mark.parametrize(
    ("query", "start", "end"),
    [
        ("What did we do yesterday?", "2023-10-14 00", "2023-10-15 00"),
        ("What did we do the day before yesterday?", "2023-10-13 00", "2023-10-14 00"),
        ("What did Ana cook last night?", "2023-10-14 00", "2023-10-15 00"),
        ("Who called on 7 May 2023?", "2023-05-07 00", "2023-05-08 00"),
        ("Who called on May 7th, 2023?", "2023-05-07 00", "2023-05-08 00"),
        ("Who called on 2023-05-07?", "2023-05-07 00", "2023-05-08 00"),
        ("Where was he in May 2021?", "2021-05-01 00", "2021-06-01 00"),
        ("Where did they go last May?", "2023-05-01 00", "2023-06-01 00"),
        ("Where did they go in November?", "2022-11-01 00", "2022-12-01 00"),
        ("What happened in 2019?", "2019-01-01 00", "2020-01-01 00"),
        ("What did she plan last week?", "2023-10-02 00", "2023-10-09 00"),
        ("What did she plan two weeks ago?", "2023-09-25 00", "2023-10-02 00"),
        ("What did she plan last Tuesday?", "2023-10-10 00", "2023-10-11 00"),
        ("What did he read last month?", "2023-09-01 00", "2023-10-01 00"),
        ("What did he read last year?", "2022-01-01 00", "2023-01-01 00"),
        ("What has he read in the past 10 days?", "2023-10-05 00", "2023-10-16 00"),
        ("Where were we last weekend?", "2023-10-14 00", "2023-10-16 00"),
    ],
)
def test_a_window_is_understood(query: str, start: str, end: str) -> None:
    assert window(query) == (start, end)


@pytest.mark.parametrize(
    "query",
    ["Where does Ana live?", "May I ask who called?", "Who will march?", "May 32nd", "2023-99-99", "section 2019b", ""],
)
def test_what_is_no_time_gives_none(query: str) -> None:
    assert window(query) is None


def test_days_begin_in_the_users_zone() -> None:
    assert window("What did I say today?", "Asia/Tokyo") == ("2023-10-14 15", "2023-10-15 15")


def test_the_words_are_kept_for_the_trace() -> None:
    found = find_time_window("Where did they go last May, and why?", ASKED_AT)
    assert found is not None
    assert found.text == "last May"


WORDS = [
    "last",
    "May",
    "in",
    "2023",
    "31",
    "February",
    "ago",
    "days",
    "999",
    "years",
    "on",
    "Tuesday",
    "9999",
    "past",
    "three",
]


@given(query=st.lists(st.sampled_from(WORDS), max_size=6).map(" ".join), asked_at=st.integers(-(2**62), 2**62))
def test_any_query_at_any_time_gives_a_window_or_none(query: str, asked_at: int) -> None:
    found = find_time_window(query, asked_at)
    assert found is None or found.start < found.end


@pytest.mark.parametrize(
    "text",
    [
        "I went there yesterday.",
        "See you next month!",
        "It was on 7 May.",
        "we met two weeks ago",
        "Since 2019 I run.",
        "It was last weekend",
        "on Friday she left",
        "Back in March we moved",
        "in july we travel",
    ],
)
def test_a_text_that_says_when_speaks_of_time(text: str) -> None:
    assert speaks_of_time(text)


@pytest.mark.parametrize("text", ["I may come.", "They march on.", "It takes time.", "One day at a museum? No.", ""])
def test_a_text_that_does_not_say_when_does_not(text: str) -> None:
    assert not speaks_of_time(text)


@given(st.from_regex(time_window._TIME, fullmatch=True))
def test_whatever_is_an_expression_of_time_is_looked_at(expression: str) -> None:
    assert speaks_of_time(expression)


@pytest.mark.parametrize(
    "text",
    [
        *(
            "tonight",
            "last night",
            "this morning",
            "this evening",
            "this afternoon",
            "Tomorrow",
            "the other day",
            "Sundays",
        ),
        *(
            "recently",
            "just now",
            "2023-05-08",
            "in 1999",
            "in 2023",
            "a week ago",
            "next month",
            "few years",
            "in Jan",
        ),
        *(
            "4 Feb",
            "by March",
            "early apr",
            "of May",
            "late Jun",
            "July 2",
            "in august",
            "in Sep",
            "oct 1",
            "mid-November",
        ),
        "in Dec",
    ],
)
def test_expressions_of_time_are_seen(text: str) -> None:
    assert speaks_of_time(text)
