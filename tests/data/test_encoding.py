import json
import re
import warnings
from pathlib import Path

import pytest
from datasets import Dataset
from tokenizers import Tokenizer, models, pre_tokenizers, processors
from transformers import AutoTokenizer, PreTrainedTokenizerFast

from hf_localgan.data import check_tokenizer, encode_pairs, encoding, load_pairs, train_tokenizer
from hf_localgan.data.histories import note_history
from hf_localgan.turns import History

TEXTS = ["a b c", "d e"]
PAIRS = Dataset.from_dict({"query": ["a b", "a b c", "a"], "response": ["d", "d e", "d e a b c"], "id": [1, 2, 3]})


@pytest.fixture(scope="module")
def tokenizer():
    return train_tokenizer(TEXTS)


def bare_tokenizer(template=None, **special):
    """Ids: a 0, b 1, d 2, <s> 3, </s> 4, <pad> 5."""
    words = {word: number for number, word in enumerate(["a", "b", "d", "<s>", "</s>", "<pad>"])}
    inner = Tokenizer(models.WordLevel(words, unk_token="<pad>"))
    inner.pre_tokenizer = pre_tokenizers.Whitespace()
    if template:
        inner.post_processor = processors.TemplateProcessing(single=template, special_tokens=[("<s>", 3), ("</s>", 4)])
    return PreTrainedTokenizerFast(tokenizer_object=inner, **special)


def test_columns_by_hand(tokenizer):
    ids = tokenizer.get_vocab()
    encoded = encode_pairs(PAIRS, tokenizer)
    assert encoded.column_names == ["input_ids", "attention_mask", "labels", "length"]
    assert encoded[0] == {
        "input_ids": [ids["▁a"], ids["▁b"], 2],
        "attention_mask": [1, 1, 1],
        "labels": [ids["▁d"], 2],
        "length": 5,
    }
    assert encoded["length"][:] == [5, 4 + 3, 2 + 6]


def test_text_is_kept_on_request_and_columns_can_be_named(tokenizer):
    assert set(encode_pairs(PAIRS, tokenizer, keep_text=True).column_names) - {"query", "response"} == {
        "input_ids", "attention_mask", "labels", "length",
    }  # fmt: skip
    renamed = PAIRS.rename_columns({"query": "source", "response": "target"})
    assert encode_pairs(renamed, tokenizer, query="source", response="target")[:] == encode_pairs(PAIRS, tokenizer)[:]
    with pytest.raises(ValueError, match=r"no `query` column \(found: `source`, `target`, `id`\)"):
        encode_pairs(renamed, tokenizer)


def test_too_long_pairs_are_an_error_that_names_rows_lengths_and_choices(tokenizer):
    with pytest.raises(ValueError) as error:
        encode_pairs(PAIRS, tokenizer, max_source_length=3, max_target_length=5)
    message = str(error.value)
    assert "1 queries are longer than `max_source_length`=3" in message and "row 1: 4" in message
    assert "1 responses are longer than `max_target_length`=5" in message and "row 2: 6" in message
    assert "2 of 3 pairs" in message and 'on_long="truncate"' in message and 'on_long="drop"' in message


def test_too_long_pairs_can_be_dropped_or_cut(tokenizer):
    with pytest.warns(UserWarning, match="1 of 3 pairs.*left out"):
        dropped = encode_pairs(PAIRS, tokenizer, max_target_length=5, on_long="drop")
    assert dropped["length"][:] == [5, 7]
    cut = encode_pairs(PAIRS, tokenizer, max_source_length=3, max_target_length=4, on_long="truncate")
    assert [len(ids) for ids in cut["input_ids"]] == [3, 3, 2]
    assert [len(ids) for ids in cut["labels"]] == [2, 3, 4]
    assert all(ids[-1] == tokenizer.eos_token_id for ids in [*cut["input_ids"], *cut["labels"]])
    with pytest.raises(ValueError, match="No pair is left"):
        encode_pairs(PAIRS, tokenizer, max_source_length=2, max_target_length=2, on_long="drop")


def test_a_limit_that_just_fits_removes_nothing(tokenizer):
    assert len(encode_pairs(PAIRS, tokenizer, max_source_length=4, max_target_length=6)) == 3


@pytest.mark.parametrize("kept", [False, True])
def test_a_stream_gives_the_same_ids(tokenizer, kept):
    stream = encode_pairs(PAIRS.to_iterable_dataset(), tokenizer, keep_text=kept)
    assert list(stream) == list(encode_pairs(PAIRS, tokenizer, keep_text=kept))


def test_a_stream_raises_or_drops_where_it_meets_a_long_pair(tokenizer):
    stream = PAIRS.to_iterable_dataset()
    with pytest.raises(ValueError, match="row 2: 6"):
        list(encode_pairs(stream, tokenizer, max_target_length=5))
    left = list(encode_pairs(stream, tokenizer, max_target_length=5, on_long="drop", keep_text=True))
    assert [row["query"] for row in left] == ["a b", "a b c"]
    assert [row["length"] for row in left] == [5, 7]


def test_labels_keep_the_begin_token_of_a_bart_like_tokenizer():
    bart = bare_tokenizer("<s> $A </s>", pad_token="<pad>", bos_token="<s>", eos_token="</s>")
    assert encode_pairs(PAIRS.select([0]), bart)[0]["labels"] == [3, 2, 4]


def test_labels_are_closed_where_the_tokenizer_does_not():
    open_ended = bare_tokenizer(pad_token="<pad>", eos_token="</s>")
    row = encode_pairs(PAIRS.select([0]), open_ended)[0]
    assert (row["input_ids"], row["labels"]) == ([0, 1], [2, 4])
    cut = encode_pairs(
        Dataset.from_dict({"query": ["a"], "response": ["a b d"]}), open_ended, max_target_length=3, on_long="truncate"
    )
    assert cut[0]["labels"] == [0, 1, 4]


def test_a_tokenizer_without_pad_or_eos_is_refused_with_the_remedy():
    with pytest.raises(ValueError, match=r"no `pad_token` and no `eos_token`.*\"eos_token\": \"</s>\".*resize_token"):
        check_tokenizer(bare_tokenizer())
    with pytest.raises(ValueError, match="no `eos_token`. Add"):
        encode_pairs(PAIRS, bare_tokenizer(pad_token="<pad>"))


@pytest.mark.parametrize("wrong", [{"on_long": "cut"}, {"max_source_length": 1}, {"max_target_length": 0}])
def test_settings_that_make_no_sense_are_refused(tokenizer, wrong):
    with pytest.raises(ValueError, match="`on_long`|`max_"):
        encode_pairs(PAIRS, tokenizer, **wrong)


def test_names_of_special_tokens_in_texts_are_counted(tmp_path):
    tokenizer = train_tokenizer(["a b c"])
    data = Dataset.from_dict({"query": ["a", "b </s> c", "c"], "response": ["a </s> b", "<pad>", "<s> c </s>"]})
    message = r"Of the texts in `response` 1 hold `<pad>` \(1\) and 1 hold `<s>` \(2\) and 2 hold `</s>` \(0, 2\)"
    for rows in (data, data.to_iterable_dataset()):
        with pytest.warns(UserWarning) as told:
            encoded = list(encode_pairs(rows, tokenizer))
        messages = [str(warning.message) for warning in told]
        assert any(re.search(message, text) for text in messages)
        assert any(re.search(r"Of the texts in `query` 1 hold `</s>` \(1\)", text) for text in messages)
        assert encoded[0]["labels"].count(tokenizer.eos_token_id) == 2  # why it matters
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        encode_pairs(Dataset.from_dict({"query": ["<unk> a"], "response": ["b"]}), tokenizer)


def test_ids_are_those_of_the_tokenizers_own_call(tokenizer):
    """Whether words are looked up or not, and whether or not the tokenizer closes its texts."""
    rows = load_pairs("smalltalk")["test"].select(range(300))
    known = train_tokenizer(rows, vocab_size=200)
    for encoder in (known, bare_tokenizer(pad_token="<pad>", eos_token="</s>"), train_tokenizer(rows, kind="bpe")):
        is_closed = encoder("a").input_ids[-1] == encoder.eos_token_id
        open_end = [] if is_closed else [encoder.eos_token_id]
        encoded = encode_pairs(rows, encoder)
        sources, labels = encoder(rows["query"][:]), encoder(text_target=rows["response"][:]).input_ids
        assert encoded["input_ids"][:] == sources.input_ids and encoded["attention_mask"][:] == sources.attention_mask
        assert encoded["labels"][:] == [ids + open_end for ids in labels]
    types = {name: str(feature.feature.dtype) for name, feature in encoded.features.items() if name != "length"}
    assert types == {"input_ids": "int32", "attention_mask": "int8", "labels": "int64"}
    assert encoded.format["type"] is None


def test_columns_that_hold_no_text_are_refused(tokenizer):
    numbers = Dataset.from_dict({"query": [1, 2], "response": ["a", "b"]})
    for rows in (numbers, numbers.to_iterable_dataset()):
        with pytest.raises(ValueError, match="The column `query` must hold texts, and holds int64"):
            list(encode_pairs(rows, tokenizer))


@pytest.fixture
def stored(tmp_path):
    """`stored(*queries)`: pairs that were read from a file."""

    def write(*queries):
        text = "".join(json.dumps({"query": query, "response": "d e"}) + "\n" for query in queries)
        (tmp_path / "train.jsonl").write_text(text)
        return load_pairs(tmp_path / "train.jsonl")["train"]

    return write


@pytest.fixture
def counted(monkeypatch):
    """Number of batches that were encoded."""
    batches = []
    encode = encoding.PairEncoder.__call__
    monkeypatch.setattr(
        encoding.PairEncoder, "__call__", lambda self, table: batches.append(len(table)) or encode(self, table)
    )
    return batches


def test_what_was_encoded_is_not_encoded_again(tokenizer, stored, counted, tmp_path):
    first = encode_pairs(stored("a b", "c"), tokenizer, max_source_length=9, on_long="drop")
    rows = load_pairs(tmp_path / "train.jsonl")["train"]  # as in another process
    assert counted == [2]
    tokenizer.save_pretrained(tmp_path / "saved")
    loaded = AutoTokenizer.from_pretrained(tmp_path / "saved")
    loaded(["a b c"], truncation=True, max_length=2, padding=True)  # what was called last changes nothing
    again = encode_pairs(rows, loaded, max_source_length=9, on_long="drop")
    assert counted == [2] and again[:] == first[:]
    assert encode_pairs(rows, loaded, max_source_length=9, on_long="drop", num_proc=2)[:] == first[:]
    assert counted == [2]


@pytest.mark.parametrize(
    "changed",
    [
        {"max_source_length": 8}, {"max_target_length": 8}, {"on_long": "truncate"}, {"keep_text": True},
        {"query": "response", "response": "query"}, {"texts": ["a b c", "d"]}, {"texts": ["b b a c", "d e"]},
        {"lowercase": True}, {"kind": "bpe", "vocab_size": 300}, {"unk_token": "<pad>"}, {"rows": ["a b", "d"]},
    ],
)  # fmt: skip
def test_another_tokenizer_option_or_text_is_encoded_anew(stored, counted, changed):
    changed, settings, before = dict(changed), {"max_source_length": 9, "on_long": "drop"}, stored("a b", "c")
    texts, rows = changed.pop("texts", TEXTS), before
    encode_pairs(rows, train_tokenizer(TEXTS), **settings)
    encode_pairs(rows, train_tokenizer(TEXTS), **settings)
    assert counted == [2]
    if "rows" in changed:
        rows = stored(*changed.pop("rows"))
    made = {name: changed.pop(name) for name in ("lowercase", "kind", "vocab_size") if name in changed}
    tokenizer = train_tokenizer(texts, **made)
    if "unk_token" in changed:
        tokenizer.unk_token = changed.pop("unk_token")
    encoded = encode_pairs(rows, tokenizer, **{**settings, **changed})
    assert counted == [2, 2]
    assert encoded["input_ids"][:] == tokenizer(rows[changed.get("query", "query")][:]).input_ids


def test_a_history_in_the_queries_is_encoded_anew(tokenizer, stored, counted):
    rows = stored("a | b | a", "c")
    encode_pairs(rows, tokenizer, max_source_length=4, on_long="truncate")
    joined = encode_pairs(note_history(rows, History(2)), tokenizer, max_source_length=4, on_long="truncate")
    assert counted == [2, 2]
    assert [len(ids) for ids in joined["input_ids"]] == [4, 2]


def test_an_error_leaves_nothing_in_the_cache(tokenizer, stored, monkeypatch):
    rows = stored("a b", "c")
    folder = Path(rows.cache_files[0]["filename"]).parent
    before = sorted(folder.iterdir())

    def fails(self, table):
        raise RuntimeError("no memory")

    monkeypatch.setattr(encoding.PairEncoder, "__call__", fails)
    with pytest.raises(RuntimeError, match="no memory"):
        encode_pairs(rows, tokenizer)
    assert sorted(folder.iterdir()) == before


def test_several_processes_give_the_same(tokenizer, stored):
    rows = stored(*("a b c d e"[: 2 * number + 1] for number in range(5) for _ in range(3)))
    apart = encode_pairs(rows, tokenizer, max_source_length=5, on_long="drop", num_proc=2)
    together = encode_pairs(Dataset.from_list(rows.to_list()), tokenizer, max_source_length=5, on_long="drop")
    assert apart[:] == together[:] and apart.features == together.features
