"""Times that a turn speaks of, made absolute from when it was said.

The past is slm/time_window.py's, as for queries. A turn, unlike a query, also speaks of what is to come; and what could be
either ("on Friday", "in May", "on 7 May") is left as it is, but where its sentence speaks of a plan, or of what was done.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta, tzinfo

from lightmem_server.pipeline.consolidation.lexicon import LEXICON, PASTS, TABLES
from lightmem_server.slm.time_window import EPOCH, MICROSECOND, iter_time_windows, to_micros

_DAYS = ("monday", "tuesday", "wednesday", "thursday", "friday", "saturday", "sunday")
_MONTHS = (
    "january", "february", "march", "april", "may", "june", "july", "august", "september", "october", "november", "december",
)  # fmt: skip
_COUNTS = {word: int(number) for number, words in TABLES["numbers"].items() for word in words.split()} | {
    "a": 1,
    "an": 1,
}
_COMING = re.compile(
    r"\b(?:(?P<tomorrow>(?:the\s+)?day\s+after\s+tomorrow|tomorrow)"
    rf"|next\s+(?P<next>week|weekend|month|year|{'|'.join(_DAYS)}|{'|'.join(_MONTHS)})"
    rf"|in\s+(?P<count>\d{{1,2}}|{'|'.join(_COUNTS)})\s+(?P<unit>days?|weeks?|months?|years?)(?!['\u2019]))\b",
    re.IGNORECASE,
)
_EITHER_WAY = re.compile(
    rf"^(?:on\s+(?:{'|'.join(_DAYS)})|(?:in|during)\s+(?:{'|'.join(_MONTHS)}|[a-z]{{3,4}}\.?)"
    r"|(?!.*\b(?:19|20)\d\d\b)(?!last|this|since).*\b(?:\d{1,2}(?:st|nd|rd|th)?)\b(?!\s+(?:day|week|month|year)).*)$",
    re.IGNORECASE | re.DOTALL,
)
_AHEAD = re.compile(
    rf"\b(?:in|on|for|by|until|during)\s+(?:the\s+)?(?:(?P<weekday>{'|'.join(_DAYS)})"
    rf"|(?P<first>\d{{1,2}})(?:st|nd|rd|th)?\s+(?:of\s+)?(?P<of>{'|'.join(_MONTHS)})"
    rf"|(?P<month>{'|'.join(_MONTHS)})(?:\s+(?P<second>\d{{1,2}})(?:st|nd|rd|th)?)?)\b(?!['\u2019-]|,?\s+(?:of\s+)?\d{{4}})",
    re.IGNORECASE,
)
_UNDONE = LEXICON["reporting_verbs"] | LEXICON["attempts"] | LEXICON["undone"]
"""Past forms behind which a time is often that of something else: "I promised to be there on Monday"."""
_MEANS_TO = re.compile(
    r"\b(?:going|(?:flying|driving|travell?ing|moving)\s+(?:to|back|over|out|up|down|home)|planning|hoping|plan|hope|want|intend|will|booked|planned|signed\s+up)\b"
    r"|['\u2019]ll\b",
    re.IGNORECASE,
)
_HAS_DONE = re.compile(
    rf"\b(?:I|[Ww]e)\s+(?:(?:just|also|finally|actually|already|both|all)\s+)?(?!(?:{'|'.join(_UNDONE)})\b)"
    rf"(?:{'|'.join(sorted(PASTS - _UNDONE))}|[a-z]{{2,}}ed)\b"
)
_LOOKS_BACK = re.compile(r"\b(?:was|were|had|went|did|last|ago|been|would)\b|n['\u2019]t\b", re.IGNORECASE)
_MAY_BE = re.compile(
    r"\b(?:would|could|should|might|may|had|to\s+be|if|was|were)\b|n['\u2019]t\b|['\u2019]d\b", re.IGNORECASE
)
_SENTENCE_END = re.compile(r"[.!?\n]")


LONGEST_LEAD = 200
"""Characters in front of a time in which a plan is looked for."""


@dataclass(frozen=True, slots=True)
class Span:
    """`text[at:end]` means `starts` <= t < `ends` in microseconds, written as `label`: 2023-05-06, 2023-05, 2023, "week of
    2023-05-01"."""

    at: int
    end: int
    label: str
    starts: int
    ends: int


def find_dates(text: str, said_at: int, zone: tzinfo = UTC) -> tuple[Span, ...]:
    """What in a text can be said as a date, in order, without overlap.

    Args:
        said_at: Microseconds; what the text is relative to.
        zone: Where days begin.
    """
    found: list[Span] = []
    for span in sorted(
        [*_past(text, said_at, zone), *_coming(text, said_at, zone)], key=lambda span: (span.at, -span.end)
    ):
        if not found or span.at >= found[-1].end:
            found.append(span)
    return tuple(found)


def label(starts: int, ends: int, zone: tzinfo = UTC) -> str:
    """How a span of days is written."""
    first, last = ((EPOCH + moment * MICROSECOND).astimezone(zone) for moment in (starts, ends))
    days = (last.date() - first.date()).days
    if days == 1:
        return f"{first:%Y-%m-%d}"
    if days == 7:
        return f"week of {first:%Y-%m-%d}"
    if first.day == 1 and days in (28, 29, 30, 31):
        return f"{first:%Y-%m}"
    if first.day == first.month == 1 and days in (365, 366):
        return f"{first:%Y}"
    return f"{first:%Y-%m-%d} to {last - timedelta(days=1):%Y-%m-%d}"


def _past(text: str, said_at: int, zone: tzinfo) -> Iterator[Span]:
    for window in iter_time_windows(text, said_at, zone):
        if not _EITHER_WAY.match(window.text):
            name = label(window.start, window.end, zone)
            yield Span(window.at, window.at + len(window.text), name, window.start, window.end)


def _coming(text: str, said_at: int, zone: tzinfo) -> Iterator[Span]:
    try:
        now = (EPOCH + said_at * MICROSECOND).astimezone(zone)
    except OverflowError:
        return
    today = now.replace(hour=0, minute=0, second=0, microsecond=0)
    told = ((match, _direction(text, match.start())) for match in _AHEAD.finditer(text))
    known = ((match, resolve) for match, resolve in told if resolve is not None)
    for match, resolve in (*((each, _resolve) for each in _COMING.finditer(text)), *known):
        try:
            starts, ends = resolve(match, today)
        except (OverflowError, ValueError):  # beyond the years that a datetime can hold; no such day
            continue
        moments = to_micros(starts), to_micros(ends)
        yield Span(match.start(), match.end(), label(*moments, zone), *moments)


def _direction(text: str, at: int) -> Callable[[re.Match[str], datetime], tuple[datetime, datetime]] | None:
    """Where the sentence, up to a place, looks: ahead, where it speaks of what somebody means to do, back, where of what was
    done; None: unclear."""
    start = max((match.end() for match in _SENTENCE_END.finditer(text, max(0, at - LONGEST_LEAD), at)), default=0)
    lead = text[max(start, at - LONGEST_LEAD) : at]
    if _MEANS_TO.search(lead) is not None:
        return _ahead if _LOOKS_BACK.search(lead) is None else None
    return _back if _HAS_DONE.search(lead) is not None and _MAY_BE.search(lead) is None else None


def _back(match: re.Match[str], today: datetime) -> tuple[datetime, datetime]:
    """The last such day before today, or month; of a month that has begun, this one."""
    if match["weekday"]:
        day = today - timedelta(days=(today.weekday() - _DAYS.index(match["weekday"].lower()) - 1) % 7 + 1)
        return day, day + timedelta(days=1)
    month = _MONTHS.index((match["of"] or match["month"]).lower()) + 1
    number = match["first"] or match["second"]
    if number:
        day = today.replace(month=month, day=int(number))
        day = day if day <= today else day.replace(year=day.year - 1)
        return day, day + timedelta(days=1)
    starts = today.replace(year=today.year - (month > today.month), month=month, day=1)
    return starts, _next_month(starts)


def _ahead(match: re.Match[str], today: datetime) -> tuple[datetime, datetime]:
    """The next such day or month; of a month that has begun, this one."""
    if match["weekday"]:
        day = today + timedelta(days=(_DAYS.index(match["weekday"].lower()) - today.weekday() - 1) % 7 + 1)
        return day, day + timedelta(days=1)
    month = _MONTHS.index((match["of"] or match["month"]).lower()) + 1
    number = match["first"] or match["second"]
    if number:
        day = today.replace(month=month, day=int(number))
        day = day if day >= today else day.replace(year=day.year + 1)
        return day, day + timedelta(days=1)
    starts = today.replace(year=today.year + (month < today.month), month=month, day=1)
    return starts, _next_month(starts)


def _resolve(match: re.Match[str], today: datetime) -> tuple[datetime, datetime]:
    if match["tomorrow"]:
        day = today + timedelta(days=2 if "after" in match["tomorrow"].lower() else 1)
        return day, day + timedelta(days=1)
    if match["count"]:
        count = _COUNTS.get(match["count"].lower()) or int(match["count"])
        return _later(today, count, match["unit"].lower().rstrip("s"))
    what = match["next"].lower()
    if what == "weekend":
        saturday = today + timedelta(days=7 - today.weekday() + 5)
        return saturday, saturday + timedelta(days=2)
    if what in _DAYS:
        # "next Friday" on a Monday is this week's to some and next week's to others: it is one of the two.
        first = today + timedelta(days=(_DAYS.index(what) - today.weekday() - 1) % 7 + 1)
        is_clear = first.isocalendar().week != today.isocalendar().week
        return first, first + timedelta(days=1 if is_clear else 8)
    if what in _MONTHS:
        month = _MONTHS.index(what) + 1
        starts = today.replace(year=today.year + (month <= today.month), month=month, day=1)
        return starts, _next_month(starts)
    return _later(today, 1, what)


def _later(today: datetime, count: int, unit: str) -> tuple[datetime, datetime]:
    if unit == "day":
        day = today + timedelta(days=count)
        return day, day + timedelta(days=1)
    if unit == "week":
        monday = today + timedelta(days=7 * count - today.weekday())
        return monday, monday + timedelta(days=7)
    if unit == "month":
        months = today.month - 1 + count
        starts = today.replace(year=today.year + months // 12, month=months % 12 + 1, day=1)
        return starts, _next_month(starts)
    starts = today.replace(year=today.year + count, month=1, day=1)
    return starts, starts.replace(year=starts.year + 1)


def _next_month(first: datetime) -> datetime:
    return (first + timedelta(days=31)).replace(day=1)
