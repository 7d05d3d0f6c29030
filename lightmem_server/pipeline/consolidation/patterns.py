"""What says a fact in the first person, as patterns: for consolidation without a Writer.

Strict where English is ambiguous: a fact that is missed can still be found in its turn. Occupations and workplaces are lists
(english.toml), since "I'm a mess" and "I work at night" have the same shapes.
"""

from __future__ import annotations

import re
from collections.abc import Iterable

from lightmem_server.pipeline.consolidation.lexicon import LEXICON
from lightmem_server.pipeline.consolidation.people import RELATIVES


def any_of(words: Iterable[str]) -> str:
    """An alternative of words, longer ones first."""
    return "|".join(sorted(words, key=lambda word: (-len(word), word)))


_ADVERBS = r"(?:(?:now|currently|also|just|still|really|recently|finally|already|actually|all|both|then|soon|even)\s+)*"
_I = rf"\bI(?:['\u2019]m|['\u2019]ve|\s+am|\s+have)?\s+{_ADVERBS}"
_WE = rf"\b(?:I|[Ww]e)(?:['\u2019](?:m|ve|re)|\s+(?:am|have|are))?\s+{_ADVERBS}"
_HAVE = rf"\b(?:I|[Ww]e)(?:['\u2019]ve|\s+have)\s+{_ADVERBS}"
_STILL = r"(?=[^.!?;]*\b(?:for|since|all)\b)"
"""What "I've lived there" needs behind it to be so still."""
_BEFORE_AND = r"\b(?:I|[Ww]e)\b[^.!?;:,]{0,60}\band\s+(?:(?:then|now)\s+)?"
"""A subject that does two things: "we packed and moved"."""
_SOMEWHERE = r"(?:the\s+)?[A-Z][\w\u2019'-]+(?:\s+[A-Z][\w\u2019'-]+){0,2}"
_HOME = r"(?:home|house|flat|apartment|place|studio|condo|cottage|townhouse|bungalow|farmhouse|loft|room)"
PLACE = r"(?P<object>(?:the\s+)?[A-Z][\w\u2019'-]+(?:\s+[A-Z][\w\u2019'-]+){0,2})"
_NO_TOOL = rf"(?!(?:the\s+)?(?i:{any_of(LEXICON['not_places'] | LEXICON['calendar'])})\b)"
"""Behind "moved to": teams move to Slack, and meetings to Friday."""
_AT_HOME = rf"(?:an?|the|our|my)\s+(?:[a-z-]+\s+){{0,3}}?{_HOME}\s+in\s+{PLACE}"
THING = (
    r"(?P<object>(?:[\w\u2019'-]+\s+){0,4}?[\w\u2019'-]+)"
    r"(?=\s*(?:[.,;!?\u2014]|$|\b(?:and|but|because|so|since|when|for|at|in|now|again|these|lately)\b))"
)
CLAUSE = (
    r"(?:^|[.,;:!?\u2014(]\s*|\b(?i:and|but|because|cause|so|why|since|though|although|that|know|think|guess|say|mean|also|well"
    r"|yes|yeah|oh|honestly|actually)\s+)"
)
"""What "I" may stand behind: behind a noun it tells of that, "the job I enjoy"."""
_LIKED = (
    r"(?P<object>(?:\w[\w\u2019'-]*\s+){0,6}?\w[\w\u2019'-]*)"
    r"(?=\s*(?:[.,;!?\u2014()[]|\s[-\u2013]\s|$|\b(?:but|because|so|since|when|now|right\s+now|again|these|lately|although|though|as|while|if)\b"
    r"|\band\s+(?:I|we|it|my|he|she|they|you|this|that|the|how|so|just|am|is)\b|\bso\s+much\b))"
)
_NUMBER = r"(?:an?|one|two|three|four|five|six|\d{1,2})"

OCCUPATION = (
    rf"(?P<object>(?:[a-z-]+\s+){{0,2}}?(?:{any_of(LEXICON['occupations'])}))\b(?!['\u2019-]"
    r"|\s+(?:of|who|that|once|at\s+heart|in\s+(?:the|a|my|this)\s+(?:game|play|movie|film|show|dream|story))\b)"
)
_A_JOB = OCCUPATION.replace("?P<object>", "?:")
_GRAVE = r"(?:bad|severe|serious|mild|slight|strong|terrible|nasty|new|food|skin|weird|strange|seasonal|chronic)"
_WORKPLACE = rf"(?P<object>(?:an?|the)\s+(?:[a-z-]+\s+){{0,2}}?(?:{any_of(LEXICON['workplaces'])}))\b(?!['\u2019-])"
_JOB = r"(?:a|the|my)\s+(?:new\s+)?job"
_NOT_OF_WORK = r"^(?!.*\b(?:work|job|team|position|role|department|company|firm|career|hired)\b)"
"""Of a sentence: "I moved from Bosch to Siemens" is no move of house."""
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
        rf"{_WE}(?:been\s+living|live|living|based|reside|residing|settled(?:\s+down)?)\s+in\s+{PLACE}",
        rf"{_WE}(?:live|living)\s+with\s+[^.,;:!?]{{1,40}}?\s+in\s+{PLACE}",
        rf"{_HAVE}lived\s+in\s+{PLACE}{_STILL}",
        rf"{_WE}(?:(?:moved|relocated)|had\s+to\s+move)\s+(?:(?:back|here|over)\s+)?to\s+{_NO_TOOL}{PLACE}",
        rf"{_BEFORE_AND}moved\s+to\s+{_NO_TOOL}{PLACE}",
        rf"{_NOT_OF_WORK}.*?{_WE}moved\s+(?:here\s+)?from\s+{_SOMEWHERE}\s+to\s+{_NO_TOOL}{PLACE}",
        rf"{_WE}moved\s+(?:out\s+of\s+{_SOMEWHERE}\s+and\s+)?into\s+{_AT_HOME}",
        rf"{_WE}bought\s+{_AT_HOME}\s+and\s+(?:just\s+)?moved\s+in\b",
        rf"\b(?:[Mm]y|[Oo]ur)\s+(?:new\s+)?{_HOME}\s+is\s+(?:now\s+)?in\s+{PLACE}",
    ),
    *_patterns("from", rf"{_I}(?:come\s+from|from|grew\s+up\s+in|born\s+in|was\s+born\s+in)\s+{PLACE}"),
    *_patterns(
        "works_as",
        rf"{_I}(?:work|working|worked)\s+as\s+an?\s+{THING}",
        rf"{CLAUSE}{_AM}{_ADVERBS}an?\s+{OCCUPATION}",
        rf"{CLAUSE}I(?:['\u2019]ve|\s+have)\s+{_ADVERBS}been\s+an?\s+{OCCUPATION}{_STILL}",
        rf"{_I}(?:(?:was|got|been)\s+)?(?:hired|employed)\s+as\s+an?\s+{OCCUPATION}",
        rf"\b[Tt]hey\s+{_ADVERBS}(?:hired|employed)\s+me\s+as\s+an?\s+{OCCUPATION}",
        rf"{_I}(?:became|become|retrained\s+as|earn\s+my\s+(?:living|money)\s+as)\s+an?\s+{OCCUPATION}",
        rf"{_BEFORE_AND}(?:became|retrained\s+as)\s+an?\s+{OCCUPATION}",
        rf"{CLAUSE}(?:in\s+)?[Mm]y\s+(?:new\s+)?(?:job|position|career|work)\s+as\s+an?\s+{OCCUPATION}",
        rf"{_I}(?:started|began)\s+(?:(?:working|out|{_JOB})\s+)?as\s+an?\s+{OCCUPATION}",
        rf"{_I}(?:got|found|landed|took|accepted)\s+{_JOB}\s+as\s+an?\s+{OCCUPATION}",
    ),
    *_patterns(
        "works_at",
        rf"{_I}(?:(?:been|started|began)\s+)?(?:work|working|employed)\s+(?:at|for|by)\s+{PLACE}",
        rf"{_I}(?:started|began|got|found|landed|took|accepted)\s+{_JOB}\s+(?:at|with)\s+{PLACE}",
        rf"{CLAUSE}{_AM}{_ADVERBS}an?\s+{_A_JOB}\s+(?:at|for|with)\s+{PLACE}",
        rf"{_BEFORE_AND}work\s+(?:at|for)\s+{PLACE}",
        rf"{_I}(?:joined|started\s+at)\s+{PLACE}\s+as\s+an?\s+{_A_JOB}",
        rf"{_I}(?:work|working|(?:started|began)(?:\s+(?:working|{_JOB}))?|got\s+{_JOB})\s+(?:at|for)\s+{_WORKPLACE}",
    ),
    *_patterns(
        "studies",
        rf"{_I}(?:study|studying|majoring\s+in)\s+{THING}",
        rf"{_I}(?:learning|taking\s+(?:lessons|classes|a\s+class|a\s+course)\s+in)\s+{_NO_SUBJECT}{THING}",
    ),
    *_patterns(
        "allergic_to",
        rf"{_I}(?:been\s+)?(?:(?:very|quite|[a-z]+ly)\s+)?allergic\s+to\s+{THING}",
        rf"{_I}(?:(?:have|got|developed)\s+)?an\s+allergy\s+to\s+{THING}",
        rf"{_I}(?:(?:have|got|developed)\s+)?an?\s+(?:{_GRAVE}\s+)?(?P<object>(?!{_GRAVE}\b)[a-z]+)\s+allergy\b",
        rf"\b[Mm]y\s+(?:{_GRAVE}\s+)?(?P<object>(?!{_GRAVE}\b)[a-z]+)\s+allergy\s+(?:means|acts|acted|flared)\b",
    ),
    *_patterns(
        "likes",
        rf"{CLAUSE}I\s+(?:(?:just|really|also|still)\s+)?(?:love|like|enjoy)\s+(?!(?:to|is|you|it|them|also)\b){_LIKED}",
        rf"{CLAUSE}{_AM}{_VERY}(?:into|fond\s+of|passionate\s+about|crazy\s+about|an?\s+(?:(?:big|huge)\s+)?fan\s+of)\s+"
        rf"{_NO_THING}{_LIKED}",
        rf"\b[Mm]y\s+fav(?:ou?rite|e)\s+\w+(?:\s+\w+)?\s+(?:is|are)\s+(?!when\b|to\b){_LIKED}",
        r"^(?P<object>(?!(?:That|This|It|He|She|They|What|Which|Who|Where|Here|There|One|Yours?)\b)[A-Z][\w\u2019'-]*(?:\s+[\w\u2019'-]+){0,2})"
        r"\s+(?:is|are)\s+my\s+(?:all-time\s+|absolute\s+)?fav(?:ou?rites?|es?)\b",
        rf"{CLAUSE}I\s+{_VERY}prefer\s+(?!to\b|it\b|that\b|this\b|when\b|if\b|not\b|the\b)(?P<object>[\w\u2019'-]+(?:\s+[\w\u2019'-]+){{0,2}}?)"
        r"(?=\s+(?:to|over)\b|\s*(?:[.,;!?]|$))",
    ),
    *_patterns(
        "dislikes",
        rf"{CLAUSE}I\s+{_VERY}(?:hate|dislike|detest|can['\u2019]t\s+stand|don['\u2019]t\s+(?:really\s+)?(?:like|enjoy))\s+"
        rf"{_NO_THING}{_LIKED}",
        rf"{CLAUSE}{_AM}not\s+(?:(?:really|exactly|much\s+of)\s+)?(?:an?\s+(?:(?:big|huge)\s+)?fan|fond)\s+of\s+{_NO_THING}{_LIKED}",
        rf"{CLAUSE}I\s+don['\u2019]t\s+(?:really\s+)?care\s+for\s+{_NO_THING}{_LIKED}",
    ),
    *_patterns(
        "has",
        rf"{CLAUSE}(?:I|[Ww]e)(?:['\u2019]ve)?\s+{_ADVERBS}(?:got|have|own|adopted|bought)\s+(?P<object>an?\s+(?:[a-z-]+\s+){{0,2}}?"
        rf"(?:{any_of(LEXICON['pets'] | LEXICON['possessions'])}))"
        r"(?=\s*(?:[.,;!?)\u2014]|$|\b(?:and|but|because|so|since|when|for|at|in|now|again|last|this|yesterday|today|to|from|with|called|named|as"
        r"|who|that|which)\b))",
        rf"{CLAUSE}(?:I|[Ww]e)(?:['\u2019]ve\s+got|\s+have)\s+(?P<object>twins|triplets|kids|children)\b",
        rf"\bI(?:['\u2019]ve\s+got|\s+have|\s+own|\s+adopted|\s+got)\s+"
        rf"(?P<object>{_NUMBER}\s+(?:[a-z]+\s+){{0,2}}?(?:{any_of(RELATIVES)}))\b"
        r"(?!['\u2019-]|\s+(?:who|that|to|at|in|of|over|coming|and)\b)",
    ),
    *_patterns(
        "speaks",
        rf"{_I}speak\s+(?:(?:a\s+little|a\s+bit\s+of|some|fluent|good|basic|native)\s+)?{PLACE}",
        rf"{_AM}(?:fluent|bilingual)\s+in\s+{PLACE}",
    ),
    *_patterns(
        "age",
        rf"{_I}(?P<object>\d{{1,3}}\s+years\s+old)",
        rf"{_I}(?:just\s+)?turned\s+(?P<object>\d{{2}})(?=\s*(?:[.,;!?]|$|\b(?:last|this|on|in|yesterday|today)\b))",
        rf"{_AM}(?:already\s+|now\s+)?(?P<object>[1-9]\d)(?=\s*(?:[.,;!?]|$))",
    ),
    *_patterns("other", r"\b[Mm]y\s+(?P<object>name\s+is\s+[A-Z][\w\u2019'-]+(?:\s+[A-Z][\w\u2019'-]+)?)"),
)
"""Relation and what says it, in the first person."""
