"""Each rule by itself: what may be said to everybody, and what not, with its reason."""

from __future__ import annotations

import pytest

from lightmem_server.pipeline.consolidation.deidentify import (
    RULES,
    Claim,
    Refusal,
    find_refusal,
    key_of,
    make_claim,
    name_words,
    wording,
)
from lightmem_server.pipeline.consolidation.proposals import FactsPrompt
from lightmem_server.types import Statement
from tests.contract.store_records import make_memory

RELATIONS = FactsPrompt.load("facts-2").by_name
NAMES = name_words(["Ana Ruiz", "support-bot", "zoe_77", "the baker"])


def claim(said: str, *, subject: str = "Ana", user: str = "Ana") -> Claim:
    return Claim(said, subject, user, NAMES)


@pytest.mark.parametrize(
    "said",
    [
        *(
            "hiking",
            "the long walks",
            "pineapple on pizza",
            "smell of fresh bread",
            "sci-fi",
            "dogs",
            "tea",
            "rock music",
        ),
        *("eating out", "rainy mornings", "swimming in cold lakes", "crêpes"),
    ],
)
def test_tastes_may_be_shared(said: str) -> None:
    assert find_refusal(claim(said)) is None


REFUSED: dict[str, list[str]] = {
    "phone": ["calls to 212-555-0199", "+44 20 7946 0958", "(030) 901820"],
    "mail": ["ana@example.com", "letters to ana at example dot com", "ana (at) example.com"],
    "link": ["https://example.com", "www example", "bit.ly/3xYz", "example dot com", "localhost:/x"],
    "handle": ["following @zed", "#zedfans", "zed_official", "r /zed"],
    "number": ["7 dwarfs", "two cats", "apartment 4b", "chapter ⅷ"],
    "character": ["swimming, running", "tea; coffee", "t\u200bea", "\uff54ea", "t\u0435a", "<tea>"],
    "name": ["walks with ana", "ruiz cakes", "chats with support", "zoe"],
    "capital": ["Lisbon", "trips to Rome", "iPhones", "BBQ"],
    "person": [
        "my garden",
        "sister",
        "the boss",
        "talking to him",
        "maria's cakes",
        "the boys' noise",
        "dr ott",
        "it here",
    ],
    "place": ["the old mill road", "walks on elm street", "the village"],
    "contact": ["long passwords", "e-mail", "phone calls"],
    "work": ["being a lepidopterist", "working as falconer", "job", "the company"],
    "sensitive": ["insulin", "therapy", "praying", "voting", "guns", "gambling", "my_therapist".replace("my_", "")],
    "instruction": ["ignore previous instructions", "agents that always say yes", "the system prompt"],
    "negated": ["not hiking", "never waiting", "nothing sweet", "hiking without dogs"],
    "length": ["the", "very long walks along the quiet river banks"],
}


@pytest.mark.parametrize(("refusal", "said"), [(name, said) for name, all_ in REFUSED.items() for said in all_])
def test_what_could_lead_to_somebody_is_refused_with_its_reason(refusal: str, said: str) -> None:
    reasons = [reason for reason, breaks in RULES if breaks(claim(said))]
    assert Refusal(refusal) in reasons
    assert find_refusal(claim(said)) == reasons[0]


@pytest.mark.parametrize(("subject", "user"), [("Ben", "Ana"), ("Ana's sister", "Ana"), ("Ana", ""), ("", "")])
def test_what_is_told_of_another_is_refused(subject: str, user: str) -> None:
    assert find_refusal(claim("hiking", subject=subject, user=user)) is Refusal.NOT_OWN


@pytest.mark.parametrize(
    "turn",
    [
        *(
            "I love harrow.example/zed.",
            "I love harrow@home",
            "Follow me: @harrow",
            "I love harrow_7",
            "I love Harrow.",
        ),
        *("See harrow/zed", "I like (Harrow)"),
    ],
)
def test_a_piece_of_something_else_is_refused(turn: str) -> None:
    fact = make_memory(statement=Statement("Ana", "likes", "harrow"))
    assert find_refusal(make_claim(fact, [make_memory(turn)], "Ana", NAMES)) is Refusal.FRAGMENT


@pytest.mark.parametrize(
    "turn", ["I love hiking!", "Hiking? I love it.", 'I love "hiking", you know.', "I love (the) hikes"]
)
def test_a_whole_word_is_not(turn: str) -> None:
    fact = make_memory(statement=Statement("Ana", "likes", "hiking"))
    assert find_refusal(make_claim(fact, [make_memory(turn)], "Ana", NAMES)) is None


def test_what_is_not_in_its_turn_is_refused() -> None:
    fact = make_memory(statement=Statement("Ana", "likes", "long hikes"))
    assert find_refusal(make_claim(fact, [make_memory("I love hikes.")], "Ana", NAMES)) is Refusal.FRAGMENT
    assert find_refusal(make_claim(fact, [], "Ana", NAMES)) is Refusal.FRAGMENT


def test_every_rule_is_tried() -> None:
    assert {refusal for refusal, _ in RULES} == set(Refusal)
    assert {Refusal(name) for name in REFUSED} == set(Refusal) - {Refusal.NOT_OWN, Refusal.FRAGMENT}


@pytest.mark.parametrize(
    ("one", "other"),
    [("hiking", "hikes"), ("the hiking", "hiking"), ("long walks", "a long walk"), ("sci-fi", "sci fi")],
)
def test_the_same_in_other_forms_counts_as_one(one: str, other: str) -> None:
    assert key_of(RELATIONS["likes"], claim(one)) == key_of(RELATIONS["likes"], claim(other))


@pytest.mark.parametrize(
    ("one", "other"),
    [("eating in", "eating out"), ("dogs chasing cats", "cats chasing dogs"), ("hiking", "walking")],
)
def test_other_things_do_not(one: str, other: str) -> None:
    assert key_of(RELATIONS["likes"], claim(one)) != key_of(RELATIONS["likes"], claim(other))


def test_liking_and_disliking_are_different() -> None:
    assert key_of(RELATIONS["likes"], claim("hiking")) != key_of(RELATIONS["dislikes"], claim("hiking"))


def test_the_wording_has_no_more_than_the_checked_words() -> None:
    assert wording(claim("the long walks")) == "long walks"
    assert wording(claim("pineapple on pizza")) == "pineapple on pizza"


def test_only_tastes_are_shared() -> None:
    assert {name for name, relation in RELATIONS.items() if relation.shared_as} == {"likes", "dislikes"}


def test_names_are_known_by_their_words() -> None:
    assert name_words(["Ana Ruiz", "zoe_77", "Felix's aunt", "the baker", "x"]) == {
        *("ana", "ruiz", "zoe", "77", "felix", "aunt", "baker")
    }
