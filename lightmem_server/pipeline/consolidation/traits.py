"""What somebody is, has and does by habit, as patterns: for consolidation without a Writer.

What an agent should know of a person beside their home, work and tastes: "I'm vegetarian", "I have asthma", "I don't eat pork",
"I play tennis every Tuesday", "my birthday is on 4 July". Told in the third person, in the slot "other". Strict as patterns.py
is: what is neither in a list nor said with how often it is done is left to its turn.
"""

from __future__ import annotations

import re
from collections.abc import Iterator

from lightmem_server.pipeline.consolidation.lexicon import LEXICON
from lightmem_server.pipeline.consolidation.model import Proposal, Utterance
from lightmem_server.pipeline.consolidation.patterns import CLAUSE, OCCUPATION, PLACE, THING, any_of
from lightmem_server.pipeline.consolidation.people import Number, find_people
from lightmem_server.pipeline.consolidation.words import Sentence, split_sentences, split_words

LONGEST = 160
"""Characters of a sentence's rest in which a habit ends."""
MOST_WORDS = 9

_ALSO = r"(?:(?:also|just|now|still|really|actually|currently)\s+)*"
_AM = rf"{CLAUSE}I(?:['\u2019]m|\s+am)\s+{_ALSO}"
_END = r"(?=\s*(?:[.,;!?)\u2014]|$|\b(?:and|but|so|because|since|though|although|which|who|that)\b))"
_WORDS = r"[\w\u2019'/%-]+(?:\s+[\w\u2019'/%-]+){0,5}?"
_DAYS = (
    r"(?:mondays?|tuesdays?|wednesdays?|thursdays?|fridays?|saturdays?|sundays?|days?|mornings?|evenings?|nights?|weekends?"
    r"|weekdays?)"
)
_TIMES = (
    rf"(?:every\s+(?:other\s+|single\s+)?(?:{_DAYS}|week|month|year|winter|summer|spring|autumn|fall)|daily|weekly|monthly"
    rf"|on\s+{_DAYS}(?<=s)|(?:once|twice|(?:two|three|four|five|six|\d)\s+times)\s+(?:a|per)\s+(?:day|week|month|year))"
)
_OFTEN = r"(?:always|usually|normally|mostly|often|never|rarely|generally)"
_HABIT = rf"(?:{any_of(LEXICON['habits'])})\b(?!\s+to\s+(?!(?:the|an?|my|our|church|school|work|bed|sleep)\b))"
"""Not "go to relax", of which the sentence has more to say."""

_STATE = re.compile(
    rf"{_AM}(?P<said>{any_of(LEXICON['traits'])}|(?:lactose|gluten)[\s-]intolerant)\b"
    r"(?!['\u2019-]|\s+(?:to|in|with|of|by|from|as)\b)"
)
_CONDITION = re.compile(
    rf"{CLAUSE}I(?:['\u2019]ve\s+got|\s+have|\s+suffer\s+from)\s+{_ALSO}(?P<said>(?:(?:mild|severe|bad|chronic|type\s+[12])\s+)?"
    rf"(?:{any_of(LEXICON['illnesses'])}|high\s+blood\s+pressure|celiac\s+disease|coeliac\s+disease))\b(?!['\u2019-])"
)
_AIM = re.compile(
    rf"{_AM}(?P<said>(?:training|saving|preparing|practi[cs]ing)\s+for\s+(?:an?|the|my|our)\s+{_WORDS}){_END}"
)
_BORN = re.compile(r"\bI\s+(?P<said>was\s+born\s+(?:in\s+(?:19|20)\d\d|on\s+[\w\s,]{4,20}\d{4}))\b")
_CALLED = re.compile(r"\bI\s+go\s+by\s+(?P<said>[A-Z][\w\u2019'-]+)(?=\s*(?:[.,;!?]|$))")
_OWN = re.compile(
    rf"\b[Mm]y\s+(?P<said>(?:{any_of(LEXICON['own_details'])}|time\s+zone|shoe\s+size|blood\s+type|mother\s+tongue"
    r"|native\s+language|middle\s+name)\s+(?:is|are)\s+"
    rf"(?!(?:not|gone|coming|soon|over|my|too|so|really|when|that|the)\b){_WORDS}){_END}"
)
_SKILL = re.compile(
    rf"{CLAUSE}I\s+{_ALSO}(?P<verb>play)\s+(?P<rest>(?:the\s+)?(?:{any_of(LEXICON['games'] | LEXICON['instruments'])}))\b"
    r"(?!['\u2019-]|\s+(?:with|at|for)\s+(?:it|you|him|her)\b)"
)
_TOOL = re.compile(
    rf"{CLAUSE}I\s+{_ALSO}(?:mostly\s+|mainly\s+)?(?P<verb>use|support|drive)\s+"
    r"(?P<rest>(?:an?\s+)?[A-Z][\w+#.\u2019'-]*[\w+#](?:\s+[A-Z][\w+#]+)?)"
)
_REFUSED = re.compile(
    rf"{CLAUSE}I\s+(?P<not>don['\u2019]t|do\s+not|never)\s+(?P<verb>eat|drink|smoke|drive|fly|wear|cook)"
    r"(?P<rest>(?:\s+(?!(?:much|enough|anything|that|often|well|with|for|at|in|on|to|like|because)\b)[a-z-]+){0,3}?)"
    r"(?=\s*(?:[.,;!?)\u2014]|$|\b(?:and|but|so|because|since)\b))"
)
_HABITS = (
    re.compile(rf"{CLAUSE}I\s+(?P<often>{_OFTEN}\s+)(?P<verb>{_HABIT})\b(?P<rest>(?:\s+{_WORDS})?){_END}"),
    re.compile(
        rf"{CLAUSE}I\s+(?P<often>)(?P<verb>{_HABIT})\b(?P<rest>(?:\s+{_WORDS})?\s+{_TIMES}){_END}", re.IGNORECASE
    ),
)
_OF_KIN = (
    ("works_as", re.compile(rf"\s+(?:is|works\s+as)\s+an?\s+{OCCUPATION}")),
    ("lives_in", re.compile(rf"\s+(?:lives\s+in|moved\s+to)\s+{PLACE}")),
    ("allergic_to", re.compile(rf"\s+is\s+allergic\s+to\s+{THING}")),
)
"""Behind "my sister" or "my sister Mia"."""
_POINTING = LEXICON["third_persons"] | frozenset(
    ["you", "your", "me", "myself", "one", "ones", "this", "that", "these", "those", "here", "there"]
)


def find_traits(utterance: Utterance) -> Iterator[Proposal]:
    """What a turn tells of its speaker's ways, and of their people's home, work and allergies."""
    for sentence in split_sentences(utterance.text):
        found: list[str] = []
        for said in _traits(sentence.text):
            is_said = any(said in other for other in found)  # "plays tennis" beside "plays tennis every Tuesday"
            is_clear = not {word.base for word in split_words(said)} & _POINTING and len(said.split()) <= MOST_WORDS
            if is_clear and not is_said:
                found.append(said)
                yield Proposal(utterance.speaker, "other", said, "", (utterance.id,), line=sentence.text)
        yield from _of_kin(utterance, sentence)


def _traits(text: str) -> Iterator[str]:
    for match in _STATE.finditer(text):
        yield f"is {match['said']}"
    for match in _AIM.finditer(text[:LONGEST]):
        yield f"is {match['said']}"
    for match in _CONDITION.finditer(text):
        yield f"has {match['said']}"
    for match in _CALLED.finditer(text):
        yield f"goes by {match['said']}"
    for pattern in (_BORN, _OWN):
        for match in pattern.finditer(text):
            yield match["said"]
    for pattern in _HABITS:
        for match in pattern.finditer(text[:LONGEST]):
            yield f"{match['often']}{in_third_person(match['verb'].lower())}{match['rest']}"
    for pattern in (_SKILL, _TOOL):
        for match in pattern.finditer(text):
            yield f"{in_third_person(match['verb'])} {match['rest']}"
    for match in _REFUSED.finditer(text):
        said = f"{match['verb']}{match['rest']}"
        yield f"never {in_third_person(match['verb'])}{match['rest']}" if match["not"] == "never" else f"doesn't {said}"


def _of_kin(utterance: Utterance, sentence: Sentence) -> Iterator[Proposal]:
    for person in find_people(sentence.text):
        for relation, pattern in _OF_KIN:
            match = pattern.match(sentence.text, person.end)
            if match is not None and person.number is not Number.PLURAL:
                subject = person.described(utterance.speaker)
                yield Proposal(subject, relation, match["object"], "", (utterance.id,), line=sentence.text)


def in_third_person(verb: str) -> str:
    """A verb as it stands behind "she".

    >>> in_third_person("play"), in_third_person("go"), in_third_person("fly"), in_third_person("practise")
    ('plays', 'goes', 'flies', 'practises')
    """
    if verb.endswith(("s", "sh", "ch", "x", "o")):
        return f"{verb}es"
    return f"{verb[:-1]}ies" if verb.endswith("y") and verb[-2] not in "aeiou" else f"{verb}s"
