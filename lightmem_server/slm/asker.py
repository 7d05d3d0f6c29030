"""Who "I" is in a query. What is known of a user is kept under their name, "Ana lives in Porto", and their own turns say "I" of
many things: with the name in it, "Where do I live?" finds the fact."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable

from lightmem_server.types import Memory, Role

UNNAMED = "User"
"""What a user is called in what is known of them who never gave a name."""

MOST_NAMED, LONGEST_NAME = 8, 64
"""A pasted text says "I" a thousand times, and a name may be long: what is searched for must not become a megabyte."""

_I = r"I(?![\w'\u2019.])"
_RULES: tuple[tuple[re.Pattern[str], str], ...] = tuple(
    (re.compile(pattern, re.IGNORECASE), made)
    for pattern, made in (
        (rf"\bam\s+{_I}", "is {name}"),
        (rf"\bdo\s+{_I}", "does {name}"),
        (rf"\bdon['\u2019]t\s+{_I}", "doesn't {name}"),
        (rf"\bhave\s+{_I}", "has {name}"),
        (rf"\bhaven['\u2019]t\s+{_I}", "hasn't {name}"),
        (r"\bI(?:['\u2019]m|\s+am)\b", "{name} is"),
        (r"\bI(?:['\u2019]ve|\s+have)\b", "{name} has"),
        (r"\bI(?:['\u2019]ll)\b", "{name} will"),
        (r"\bI(?:['\u2019]d)\b", "{name} would"),
        (r"\bI\s+don['\u2019]t\b", "{name} doesn't"),
        (r"\b(?:my|mine)\b|\bthe\s+user['\u2019]s\b", "{name}'s"),
        (r"\bmyself\b|\bthe\s+user\b(?![-'\u2019])", "{name}"),
        (r"(?<!\btell\s)(?<!\bremind\s)(?<!\bshow\s)(?<!\bgive\s)(?<!\bhelp\s)(?<!\blet\s)\bme\b", "{name}"),
        (rf"\b{_I}", "{name}"),
    )
)
"""Of a wording, what it becomes; the earlier ones take what the later ones would."""


def find_asker(turns: Iterable[Memory]) -> str:
    """The name of the one user who speaks in some turns, beside assistants and tools; "" where there are several, or none."""
    names = {" ".join(turn.speaker.split()) or UNNAMED for turn in turns if turn.role is Role.USER}
    return names.pop() if len(names) == 1 else ""


def speaks_of_asker(query: str) -> bool:
    """Whether a query says "I", "my" or "the user" of whom it is asked for; "tell me" does not."""
    return any(pattern.search(query) for pattern, _ in _RULES)


def name_asker(query: str, name: str) -> str:
    """A query with the name of whom it is asked for in place of "I", "my" and "the user", each at most MOST_NAMED times.

    >>> name_asker("Where do I live, and what's my job?", "Ana")
    "Where does Ana live, and what's Ana's job?"
    >>> name_asker("Tell me what the user is allergic to", "Ana")
    'Tell me what Ana is allergic to'
    """
    name = name[:LONGEST_NAME].strip()
    for pattern, made in _RULES:
        query = pattern.sub(_always(made.format(name=name)), query, count=MOST_NAMED)
    return query


def _always(text: str) -> Callable[[re.Match[str]], str]:
    """Puts a text as it stands, whatever signs a name has."""
    return lambda _: text
