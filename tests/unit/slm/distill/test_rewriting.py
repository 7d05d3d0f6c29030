"""Questions in the first and the second person."""

from __future__ import annotations

import pytest

from lightmem_server.slm.distill.rewriting import rewrite


@pytest.mark.parametrize(
    ("question", "first", "second"),
    [
        ("What did Ross tell Emily?", "What did I tell Emily?", "What did you tell Emily?"),
        ("Who lied to Ross?", "Who lied to me?", "Who lied to you?"),
        ("Who is Ross's sister?", "Who is my sister?", "Who is your sister?"),
        ("Who is Ross 's sister?", "Who is my sister?", "Who is your sister?"),
        ("Where is Ross going?", "Where am I going?", "Where are you going?"),
        ("Does Ross like tea?", "Do I like tea?", "Do you like tea?"),
        ("Was Ross late?", "Was I late?", "Were you late?"),
        ("What has Ross lost?", "What have I lost?", "What have you lost?"),
    ],
)
def test_the_named_one_becomes_i_or_you(question: str, first: str, second: str) -> None:
    assert rewrite(question, "Ross", is_first_person=True) == first
    assert rewrite(question, "Ross", is_first_person=False) == second


@pytest.mark.parametrize(
    "question",
    ["Who is late?", "Why does Ross think that Ross is late?", "What did Ross and Emily buy?", "Ross said what?"],
)
def test_where_it_cannot_be_told_there_is_no_rewriting(question: str) -> None:
    assert rewrite(question, "Ross", is_first_person=True) is None
