"""Counting and cutting tokens."""

from __future__ import annotations

import io
from pathlib import Path

import pytest
import sentencepiece
from hypothesis import given
from hypothesis import strategies as st
from tokenizers import Tokenizer, models, pre_tokenizers

from lightmem_server.errors import ModelError
from lightmem_server.slm import tokens
from lightmem_server.slm.tokens import INLINE_CHARACTERS, load_input_tokenizer, load_token_counter, load_tokenizer
from tests.unit.slm import tiny_bert


@pytest.fixture
def tokenizer(tmp_path: Path) -> Path:
    path = tmp_path / "tokenizer.json"
    tiny_bert.make_tokenizer(path)
    return path


@pytest.fixture(scope="session")
def tokenizer_of_session(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("tokens") / "tokenizer.json"
    tiny_bert.make_tokenizer(path)
    return path


@pytest.mark.parametrize(
    ("text", "expected"),
    [("", 0), ("the cat", 2), ("Cats SAT!", 4), ("the cat " * 100, 200)],
    ids=["empty", "words", "pieces", "long"],
)
def test_json_counter_counts_without_special_tokens_padding_or_truncation(
    tokenizer: Path, text: str, expected: int
) -> None:
    assert load_token_counter(tokenizer).count(text) == expected


@given(
    lines=st.lists(
        st.one_of(st.sampled_from(["the cat", "Cats SAT!", "sat", "[SEP]", ""]), st.text(max_size=12)), max_size=6
    )
)
def test_text_has_the_tokens_of_its_lines_and_is_counted_the_same_again(
    lines: list[str], tokenizer_of_session: Path
) -> None:
    plain = load_tokenizer(tokenizer_of_session)
    counter = load_token_counter(tokenizer_of_session)
    text = "\n".join(lines)
    expected = len(plain.encode(text, add_special_tokens=False))
    assert [counter.count(text), counter.count(text)] == [expected, expected]
    assert sum(counter.count(line + "\n") for line in lines) == expected


def test_counts_stay_right_when_more_lines_were_counted_than_are_remembered(
    tokenizer: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tokens, "REMEMBERED_LINES", 2)
    counter = load_token_counter(tokenizer)
    assert [counter.count(text) for text in ("the", "the cat", "the cat sat", "the")] == [1, 2, 3, 1]


def test_line_feeds_count_where_the_tokenizer_makes_tokens_of_them(tmp_path: Path) -> None:
    tokenizer = Tokenizer(models.WordLevel({"[UNK]": 0, "cat": 1, "\n": 2}, unk_token="[UNK]"))
    tokenizer.pre_tokenizer = pre_tokenizers.Split("\n", "isolated")
    path = tmp_path / "tokenizer.json"
    tokenizer.save(str(path))
    assert load_token_counter(path).count("cat\ncat\n") == 4


def test_sentencepiece_models_count_too(tmp_path: Path) -> None:
    model = io.BytesIO()
    sentencepiece.SentencePieceTrainer.train(
        sentence_iterator=iter(["the cat sat on the mat", "the dog likes the cat"] * 10),
        model_writer=model,
        vocab_size=20,
        minloglevel=2,
    )
    path = tmp_path / "spiece.model"
    path.write_bytes(model.getvalue())
    counter = load_token_counter(path)
    assert counter.count("") == 0
    assert counter.count("the cat sat") >= 3


@pytest.mark.parametrize("name", ["tokenizer.json", "spiece.model"])
@pytest.mark.parametrize("content", [None, b"{}", b"\x00\xff"], ids=["missing", "empty-json", "bytes"])
def test_what_is_no_tokenizer_is_a_model_error_that_names_the_file(
    tmp_path: Path, name: str, content: bytes | None
) -> None:
    path = tmp_path / name
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(ModelError, match=name.replace(".", r"\.")):
        load_token_counter(path)


async def test_inputs_are_cut_to_the_longest_input_and_not_padded(tokenizer: Path) -> None:
    inputs = load_input_tokenizer(tokenizer, max_tokens=8)
    short, long = await inputs.encode(["the cat", "the cat sat on the mat " * 50])
    assert (len(short), len(long)) == (4, 8)
    assert (short.ids[0], short.ids[-1], long.ids[-1]) == (2, 3, 3), "[CLS] and [SEP] stay"
    await inputs.close()


async def test_a_huge_text_gives_what_its_front_gives(tokenizer: Path) -> None:
    inputs = load_input_tokenizer(tokenizer, max_tokens=8)
    front, huge = await inputs.encode(
        ["the cat sat on the mat on the moon", "the cat sat on the mat on the moon " * 10_000]
    )
    assert huge.ids == front.ids
    await inputs.close()


async def test_pairs_say_which_token_is_whose_and_lose_of_the_longer_text(tokenizer: Path) -> None:
    inputs = load_input_tokenizer(tokenizer, max_tokens=10)
    (pair,) = await inputs.encode([("who likes tea", "anna drinks tea on the mat in paris")])
    assert len(pair) == 10
    assert pair.type_ids == [0, 0, 0, 0, 0, 1, 1, 1, 1, 1]
    await inputs.close()


async def test_long_texts_in_a_thread_give_the_same_as_short_ones_here(tokenizer: Path) -> None:
    inputs = load_input_tokenizer(tokenizer, max_tokens=24)
    (alone,) = await inputs.encode(["anna likes tea"])
    many = await inputs.encode(["anna likes tea"] * (1 + INLINE_CHARACTERS // 14))
    assert {tuple(encoding.ids) for encoding in many} == {tuple(alone.ids)}
    await inputs.close()
    await inputs.close()
