"""What says a fact in the first person, as patterns: for consolidation without a Writer.

Strict where English is ambiguous: a fact that is missed can still be found in its turn. Occupations and workplaces are lists
(english.toml), since "I'm a mess" and "I work at night" have the same shapes.
"""

from __future__ import annotations

import re
from collections.abc import Iterable

from lightmem_server.pipeline.consolidation.lexicon import LEXICON
from lightmem_server.pipeline.consolidation.people import RELATIVES


def _any_of(words: Iterable[str]) -> str:
    """An alternative of words, longer ones first."""
    return "|".join(sorted(words, key=lambda word: (-len(word), word)))


_I = r"\bI(?:['\u2019]m|['\u2019]ve|\s+am|\s+have)?\s+(?:(?:now|currently|also|just|still|really|recently|finally)\s+)?"
_PLACE = r"(?P<object>(?:the\s+)?[A-Z][\w\u2019'-]+(?:\s+[A-Z][\w\u2019'-]+){0,2})"
_THING = (
    r"(?P<object>(?:[\w\u2019'-]+\s+){0,4}?[\w\u2019'-]+)"
    r"(?=\s*(?:[.,;!?\u2014]|$|\b(?:and|but|because|so|since|when|for|at|in|now|again|these|lately)\b))"
)
_CLAUSE = r"(?:^|[.,;:!?\u2014(]\s*|\b(?:and|but|because|cause|so|why|since|though|although|that|know|think|guess|say|mean)\s+)"
"""What "I" may stand behind: behind a noun it tells of that, "the job I enjoy"."""
_LIKED = (
    r"(?P<object>(?:\w[\w\u2019'-]*\s+){0,6}?\w[\w\u2019'-]*)"
    r"(?=\s*(?:[.,;!?\u2014()[]|\s[-\u2013]\s|$|\b(?:but|because|so|since|when|now|right\s+now|again|these|lately|although|though|as|while|if)\b"
    r"|\band\s+(?:I|we|it|my|he|she|they|you|this|that|the|how|so|just|am|is)\b|\bso\s+much\b))"
)
_NUMBER = r"(?:an?|one|two|three|four|five|six|\d{1,2})"

_OCCUPATION = (
    rf"(?P<object>(?:[a-z-]+\s+){{0,2}}?(?:{_any_of(LEXICON['occupations'])}))\b(?!['\u2019-]|\s+(?:of|who|that)\b)"
)
_WORKPLACE = rf"(?P<object>(?:an?|the)\s+(?:[a-z-]+\s+){{0,2}}?(?:{_any_of(LEXICON['workplaces'])}))\b(?!['\u2019-])"
_JOB = r"(?:a|the|my)\s+(?:new\s+)?job"
_AM = r"I(?:['\u2019]m|\s+am)\s+"
_VERY = r"(?:(?:also|really|so|still|very|pretty|totally|super|just)\s+)*"
_NO_THING = r"(?!(?:to|is|you|it|them|this|that|these|those|how|when|being|also)\b)"
"""Behind a verb of liking: "I love it", "I hate to say this"."""
_NO_SUBJECT = r"(?!(?:to|how|more|about|from|that|so|tons|lots|things|a\s+(?:lot|ton))\b)"
"""Behind "learning": "I'm learning a lot"."""


def _patterns(relation: str, *sources: str) -> tuple[tuple[str, re.Pattern[str]], ...]:
    return tuple((relation, re.compile(source)) for source in sources)


PATTERNS: tuple[tuple[str, re.Pattern[str]], ...] = (
    *_patterns(
        "lives_in",
        rf"{_I}(?:live|living|based)\s+in\s+{_PLACE}",
        rf"{_I}(?:moved|relocated)\s+to\s+{_PLACE}",
    ),
    *_patterns("from", rf"{_I}(?:come\s+from|from|grew\s+up\s+in|born\s+in|was\s+born\s+in)\s+{_PLACE}"),
    *_patterns(
        "works_as",
        rf"{_I}(?:work|working|worked)\s+as\s+an?\s+{_THING}",
        rf"{_CLAUSE}{_AM}(?:still\s+)?an?\s+{_OCCUPATION}",
        rf"{_CLAUSE}(?:in\s+)?[Mm]y\s+(?:new\s+)?(?:job|position|career|work)\s+as\s+an?\s+{_OCCUPATION}",
        rf"{_I}(?:started|began)\s+(?:(?:working|out|{_JOB})\s+)?as\s+an?\s+{_OCCUPATION}",
        rf"{_I}(?:got|found|landed)\s+{_JOB}\s+as\s+an?\s+{_OCCUPATION}",
    ),
    *_patterns(
        "works_at",
        rf"{_I}(?:work|working)\s+(?:at|for)\s+{_PLACE}",
        rf"{_I}(?:work|working|(?:started|began)(?:\s+(?:working|{_JOB}))?|got\s+{_JOB})\s+(?:at|for)\s+{_WORKPLACE}",
    ),
    *_patterns(
        "studies",
        rf"{_I}(?:study|studying|majoring\s+in)\s+{_THING}",
        rf"{_I}(?:learning|taking\s+(?:lessons|classes|a\s+class|a\s+course)\s+in)\s+{_NO_SUBJECT}{_THING}",
    ),
    *_patterns("allergic_to", rf"{_I}allergic\s+to\s+{_THING}"),
    *_patterns(
        "likes",
        rf"{_CLAUSE}I\s+(?:(?:just|really|also|still)\s+)?(?:love|like|enjoy)\s+(?!(?:to|is|you|it|them|also)\b){_LIKED}",
        rf"{_CLAUSE}{_AM}{_VERY}(?:into|fond\s+of|passionate\s+about|crazy\s+about|an?\s+(?:(?:big|huge)\s+)?fan\s+of)\s+"
        rf"{_NO_THING}{_LIKED}",
        rf"\b[Mm]y\s+fav(?:ou?rite|e)\s+\w+(?:\s+\w+)?\s+(?:is|are)\s+(?!when\b|to\b){_LIKED}",
    ),
    *_patterns(
        "dislikes",
        rf"{_CLAUSE}I\s+{_VERY}(?:hate|dislike|detest|can['\u2019]t\s+stand|don['\u2019]t\s+(?:really\s+)?(?:like|enjoy))\s+"
        rf"{_NO_THING}{_LIKED}",
    ),
    *_patterns(
        "has",
        rf"\bI(?:['\u2019]ve\s+got|\s+have|\s+own|\s+adopted|\s+got)\s+"
        rf"(?P<object>{_NUMBER}\s+(?:[a-z]+\s+){{0,2}}?(?:{_any_of(RELATIVES)}))\b"
        r"(?!['\u2019-]|\s+(?:who|that|to|at|in|of|over|coming|and)\b)",
    ),
    *_patterns("speaks", rf"{_I}speak\s+{_PLACE}"),
    *_patterns("age", rf"{_I}(?P<object>\d{{1,3}}\s+years\s+old)"),
    *_patterns("other", r"\b[Mm]y\s+(?P<object>name\s+is\s+[A-Z][\w\u2019'-]+(?:\s+[A-Z][\w\u2019'-]+)?)"),
)
"""Relation and what says it, in the first person."""
