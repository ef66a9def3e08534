"""How files are read and which language is kept, from the command line and from settings files to the pairs."""

import json
import os
import warnings
from dataclasses import replace

import pytest
from datasets import Dataset, IterableDataset

from hf_localgan.data import train_tokenizer
from hf_localgan.data.histories import keep_history, tokenizer_history
from hf_localgan.recipes import DataArguments, RecipeParser
from hf_localgan.trainers.mle.config import MleConfig
from hf_localgan.turns import History

STRAY = 'query\tresponse\n"Wait\tb1\na2\tb2\na3"\tb3\n'


@pytest.mark.parametrize("quoting", ["literal", "3", 3])
def test_options_of_readers_reach_the_files_from_both_sides(tmp_path, quoting):
    (tmp_path / "train.tsv").write_bytes(STRAY.replace("b1", "café").encode("latin-1"))
    settings = tmp_path / "settings.yaml"
    settings.write_text(json.dumps({"dataset": str(tmp_path), "quoting": quoting, "encoding": "latin-1"}))
    words = ["--dataset", str(tmp_path), "--quoting", str(quoting), "--encoding", "latin-1"]
    for arguments in ([str(settings)], words):
        (data,) = RecipeParser(DataArguments).read(arguments)
        assert data.load("train")["train"]["response"][:] == ["café", "b2", "b3"]


def test_files_without_a_header_and_rows_inside_a_field(tmp_path):
    (tmp_path / "train.csv").write_text("a;b\nc;d\n")
    words = ["--dataset", str(tmp_path), "--separator", ";", "--column_names", "query", "response"]
    (data,) = RecipeParser(DataArguments).read(words)
    assert data.load("train")["train"]["query"][:] == ["a", "c"]
    path = tmp_path / "train.json"
    path.write_text(json.dumps({"rows": [{"query": "a", "response": "b"}]}))
    assert len(DataArguments(dataset=str(path), json_field="rows").load("train")["train"]) == 1


@pytest.mark.parametrize("quoting", ["some", "7", "True"])
def test_quoting_that_is_not_known_is_refused_before_anything_is_read(quoting):
    with pytest.raises(ValueError, match="`quoting` must be `minimal`"):
        DataArguments(quoting=quoting)


def test_the_language_kept_with_a_model_is_taken_unless_one_is_given(tmp_path):
    train_tokenizer(["我喜欢喝茶。"], language="zh").save_pretrained(tmp_path)
    data = DataArguments()
    data.adopt_reading(None, "/no/such/folder", str(tmp_path))
    assert data.language == "zh" and data.limits() is None
    given = DataArguments(language="en")
    given.adopt_reading(str(tmp_path))
    assert given.language == "en"
    assert DataArguments().language == "en"


def test_clauses_that_would_be_counted_as_words_are_warned_of_when_the_data_are_read(tmp_path):
    path = tmp_path / "train.jsonl"
    path.write_text(json.dumps({"query": "你好吗", "response": "我很好"}) + "\n")
    with pytest.warns(UserWarning, match="`language: zh`"):
        DataArguments(dataset=str(path)).load()
    with warnings.catch_warnings():
        warnings.simplefilter("error", UserWarning)
        DataArguments(dataset=str(path), language="zh").load()


def test_turns_kept_with_a_model_are_taken_unless_they_are_given(tmp_path):
    tokenizer = train_tokenizer(["hello # you"])
    keep_history(tokenizer, History(2, " # "))
    tokenizer.save_pretrained(tmp_path)
    for given, expected in (
        ({}, History(2, " # ")),
        ({"history_turns": 0}, History(0, " # ")),
        ({"history_turns": 1, "turn_separator": "|"}, History(1, "|")),
    ):
        data = DataArguments(**given)
        data.adopt_reading(None, str(tmp_path))
        assert data.history == expected
    assert DataArguments().history == History(0)
    with pytest.raises(ValueError, match="`history_turns` must"):
        DataArguments(history_turns=-1)


@pytest.mark.parametrize("streaming", [False, True])
def test_turns_reach_the_rows_and_the_tokenizer(tmp_path, streaming):
    talk = [{"role": role, "content": text} for role, text in zip(("user", "assistant") * 2, "abcd", strict=True)]
    for split in ("train", "validation", "test"):
        (tmp_path / f"{split}.jsonl").write_text(json.dumps({"messages": talk}) + "\n")
    data = DataArguments(dataset=str(tmp_path), history_turns=2, streaming=streaming)
    pairs = data.load("train", "test")
    assert [row["query"] for row in pairs["train"]] == [row["query"] for row in pairs["test"]] == ["a", "a | b | c"]
    for split in ("train", "test"):
        tokenizer = train_tokenizer(pairs["test"])
        assert len(list(data.encode(pairs[split], tokenizer))) == 2
        assert tokenizer_history(tokenizer) == History(2)
    turned = DataArguments(dataset=str(tmp_path), history_turns=2, swap_sides=True)
    rows = turned.load("train")["train"]
    tokenizer = train_tokenizer(rows)
    turned.encode(rows, tokenizer)
    assert rows["response"][:] == ["a", "a | b | c"] and tokenizer_history(tokenizer) is None  # what it reads has none
    forgets = DataArguments(dataset=str(tmp_path), history_turns=0)
    keep_history(tokenizer, History(2))
    forgets.encode(forgets.load("train")["train"], tokenizer)
    assert tokenizer_history(tokenizer) == History(0)


@pytest.fixture
def overlapping(tmp_path):
    """A corpus whose training split shares a query with two others, of which one is not evaluated."""
    splits = {
        "train": ["Tea?", "milk ?", "water ?", "juice ?"], "validation": ["tea ?", "soup ?"],
        "test": ["rice ?", "fish ?"], "test_other": ["WATER"],
    }  # fmt: skip
    for split, queries in splits.items():
        rows = [{"query": query, "response": f"of {split}"} for query in queries]
        (tmp_path / f"{split}.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    return str(tmp_path)


def test_a_stream_leaves_out_what_loaded_pairs_leave_out(overlapping):
    loaded, streamed = (
        DataArguments(overlapping, on_shared="drop", streaming=streaming).load("train") for streaming in (False, True)
    )
    assert [row["query"] for row in loaded["train"]] == ["milk ?", "juice ?"]
    assert {name: list(rows) for name, rows in streamed.items()} == {name: list(rows) for name, rows in loaded.items()}
    assert isinstance(streamed["train"], IterableDataset) and isinstance(streamed["test"], Dataset)


def test_a_stream_warns_of_shared_queries_or_refuses_them(overlapping):
    rows = DataArguments(overlapping, streaming=True).load("train")["train"]
    with pytest.warns(UserWarning, match=r"2 of the pairs 0 to 3 of split `train` \(0, 2\) have a query that also"):
        assert len(list(rows)) == 4
    rows = DataArguments(overlapping, streaming=True, on_shared="error").load("train")["train"]
    with pytest.raises(ValueError, match='on_shared="drop" takes them out'):
        list(rows)


@pytest.mark.parametrize("swap", [False, True])
def test_one_split_is_divided_alike_streamed_or_loaded(tmp_path, swap, capsys):
    rows = [{"query": f"query {n} ?", "response": f"answer {n % 7}"} for n in range(40)]
    (tmp_path / "pairs.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    loaded, streamed = (
        DataArguments(str(tmp_path / "pairs.jsonl"), streaming=streaming, swap_sides=swap).load("train", "test")
        for streaming in (False, True)
    )
    assert {name: list(rows) for name, rows in streamed.items()} == {name: list(rows) for name, rows in loaded.items()}
    said = capsys.readouterr().out.splitlines()
    assert "Its 40 pairs are divided by query" in said[0]
    assert "Its pairs are divided by query" in said[1] and "the others as `train`, a stream, 4 of 4 queries" in said[1]


def test_a_stream_needs_a_number_of_updates(tmp_path):
    data, args = DataArguments(streaming=True), MleConfig(output_dir=str(tmp_path), use_cpu=True)
    with pytest.raises(ValueError, match="^Stage mle: `streaming: true` needs `max_steps`: how many pairs"):
        data.check_steps(args, "Stage mle: ")
    data.check_steps(replace(args, max_steps=3))
    DataArguments().check_steps(args)


def test_several_processes_encode_the_same(overlapping):
    pairs = DataArguments(overlapping).load("train")
    tokenizer = train_tokenizer(pairs["train"])
    environment = os.environ  # which `datasets` replaces
    two, one = (
        DataArguments(overlapping, num_proc=number).encode(pairs["train"], tokenizer)[:] for number in (2, None)
    )
    assert one == two and os.environ is environment
    stream = DataArguments(overlapping, streaming=True, num_proc=2)
    assert list(stream.encode(stream.load("train")["train"], tokenizer))[0]["labels"] == one["labels"][0]
    with pytest.raises(ValueError, match="`num_proc` must be a whole number of at least 1"):
        DataArguments(num_proc=0)
