"""The tokenizer of a recipe: made once of pairs that lie in a cache, and the same when it is read again."""

from contextlib import nullcontext

import pytest

from hf_localgan.data import load_pairs, tokenization
from hf_localgan.recipes.settings import tokenizer as tokenizer_settings
from hf_localgan.recipes.settings.tokenizer import TokenizerArguments

LINES = ["A cup of tea, please.", "Here is a cup of tea.", "I like tea more than milk.", "Milk is what I like!"] * 3
CHINESE = ["我想喝一杯茶", "这里有一杯茶", "我更喜欢茶", "牛奶是我喜欢的"] * 3


def pairs_of(folder, lines):
    rows = "".join(f"{query}\t{response}\n" for query, response in zip(lines, lines[1:] + lines[:1], strict=True))
    folder.mkdir(exist_ok=True)
    (folder / "train.tsv").write_text("query\tresponse\n" + rows, encoding="utf-8")
    return load_pairs(folder / "train.tsv", cache_dir=str(folder / "cache"))


@pytest.fixture
def made(monkeypatch):
    """One entry for each time that texts were read for a tokenizer."""
    trainings, train = [], tokenization._train

    def counted(*given):
        trainings.append(given[2:])
        return train(*given)

    monkeypatch.setattr(tokenization, "_train", counted)
    return trainings


@pytest.mark.parametrize(
    "settings, language, lines",
    [
        ({}, "en", LINES),
        ({"lowercase": True, "min_frequency": 2}, "en", LINES),
        ({"tokenizer_kind": "bpe", "vocab_size": 280}, "en", LINES),
        ({}, "zh", CHINESE),
        ({}, "zh-words", CHINESE),
    ],
)
def test_the_second_one_is_read_and_is_the_same_to_the_byte(tmp_path, made, settings, language, lines):
    pairs, files = pairs_of(tmp_path / "data", lines), []
    for number in range(2):
        TokenizerArguments(**settings).make(pairs, language).save_pretrained(tmp_path / str(number))
        files.append({path.name: path.read_bytes() for path in (tmp_path / str(number)).iterdir()})
    assert len(made) == 1 and files[0] == files[1] and "tokenizer.json" in files[0]


def test_every_setting_and_other_pairs_have_their_own(tmp_path, made):
    pairs = pairs_of(tmp_path / "data", LINES)
    for arguments, language in (
        (TokenizerArguments(), "en"), (TokenizerArguments(), "zh"), (TokenizerArguments(vocab_size=10), "en"),
        (TokenizerArguments(lowercase=True), "en"), (TokenizerArguments(min_frequency=3), "en"),
        (TokenizerArguments(tokenizer_kind="bpe"), "en"),
    ):  # fmt: skip
        with pytest.warns(UserWarning) if language == "zh" else nullcontext():
            arguments.make(pairs, language)
    few = {"train": pairs["train"].select(range(6))}
    TokenizerArguments().make(few, "en")
    assert len(made) == 7


def test_other_rules_of_cutting_text_read_no_older_file(tmp_path, made, monkeypatch):
    pairs = pairs_of(tmp_path / "data", LINES)
    TokenizerArguments().make(pairs, "en")
    monkeypatch.setattr(tokenizer_settings, "RULES", (*tokenization.RULES, "another pattern"))
    TokenizerArguments().make(pairs, "en")
    assert len(made) == 2


def test_a_damaged_file_is_made_again_and_one_that_cannot_be_written_is_no_fault(tmp_path, made, monkeypatch):
    pairs = pairs_of(tmp_path / "data", LINES)
    whole = TokenizerArguments().make(pairs, "en").get_vocab()
    (kept,) = tmp_path.rglob("tokenizer-*.json")
    kept.write_bytes(kept.read_bytes()[:50])
    assert TokenizerArguments().make(pairs, "en").get_vocab() == whole
    assert TokenizerArguments().make(pairs, "en").get_vocab() == whole
    assert len(made) == 2
    kept.unlink()

    def refused(path):
        raise PermissionError(path)

    monkeypatch.setattr(tokenization, "replacing", refused)
    assert TokenizerArguments().make(pairs, "en").get_vocab() == whole
    assert TokenizerArguments().make({"train": pairs["train"].to_iterable_dataset()}, "en").get_vocab() == whole
    assert len(made) == 4 and not [*tmp_path.rglob("tokenizer-*.json")]


def test_the_warning_of_a_wrong_language_comes_at_every_start(tmp_path, made):
    pairs = pairs_of(tmp_path / "data", LINES)
    for _ in range(2):
        with pytest.warns(UserWarning, match="cannot be meant"):
            TokenizerArguments().make(pairs, "zh")
    assert len(made) == 1
