"""Rows as people have them: other names of columns, instructions, conversations, from every source."""

import json
import re
import warnings
from pathlib import Path

import pytest
from datasets import Dataset, DatasetDict, load_from_disk

from hf_localgan.data import LengthLimits, encode_pairs, load_pairs, train_tokenizer
from hf_localgan.data.histories import noted_history, stored_history, tokenizer_history
from hf_localgan.turns import History


def message(role, content):
    return {"role": role, "content": content}


def talk(*texts):
    return [message(("user", "assistant")[place % 2], text) for place, text in enumerate(texts)]


def write(path, rows):
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return path


def in_source(tmp_path, kind, rows):
    """The rows as a source of some kind, and options of `load_pairs`."""
    data = Dataset.from_list(rows)
    if kind == "memory":
        return data, {}
    if kind == "parquet":
        data.to_parquet(tmp_path / "train.parquet")
    elif kind == "csv":  # cells of JSON
        cells = [{name: v if isinstance(v, str) else json.dumps(v) for name, v in row.items()} for row in rows]
        Dataset.from_list(cells).to_csv(tmp_path / "train.csv", index=False)
    elif kind == "json":
        (tmp_path / "train.json").write_text(json.dumps(rows))
    else:
        write(tmp_path / "train.jsonl", rows)
    return tmp_path, {"streaming": kind == "streamed"}


def pairs_of(source, **options):
    rows = load_pairs(source, **options)["train"]
    return [(row["query"], row["response"]) for row in rows]


# ---- columns ----


@pytest.mark.parametrize(
    ("row", "pair"),
    [
        ({"prompt": "q", "completion": "r"}, ("q", "r")),
        ({"question": "q", "answer": "r", "id": "1"}, ("q", "r")),
        ({"input": "q", "output": "r"}, ("q", "r")),
        ({"instruction": "q", "output": "r"}, ("q", "r")),
        ({"instruction": "q", "input": "", "output": "r", "text": "x"}, ("q", "r")),
        ({"instruction": "q", "input": "on this", "output": "r"}, ("q\non this", "r")),
        ({"instruction": "q", "context": "on this", "response": "r"}, ("q\non this", "r")),
        ({"prompt": "q", "response": "r"}, ("q", "r")),
        ({"query": "q", "response": "r", "prompt": "x", "completion": "y"}, ("q", "r")),  # the project's own first
    ],
)
@pytest.mark.parametrize("kind", ["memory", "jsonl", "csv"])
def test_columns_are_found_by_the_names_that_people_give_them(tmp_path, row, pair, kind):
    source, _ = in_source(tmp_path, kind, [row])
    assert pairs_of(source) == [pair]


def test_columns_that_can_be_read_in_two_ways_are_named_with_the_remedy(tmp_path):
    row = {"prompt": "a", "completion": "b", "messages": talk("c", "d"), "question": "e", "answer": "f"}
    with pytest.raises(
        ValueError, match=r"several ways: `prompt` with `completion` or `question` with `answer` or `me"
    ):
        load_pairs(Dataset.from_list([row]))
    for columns, pair in (
        ({"prompt": "prompt", "completion": "completion"}, ("a", "b")),
        ({"messages": "messages"}, ("c", "d")),
        ({"query": "question", "response": "answer"}, ("e", "f")),
        ({"instruction": "prompt", "input": "question", "output": "answer"}, ("a\ne", "f")),
    ):
        assert pairs_of(Dataset.from_list([row]), columns=columns) == [pair]
        assert pairs_of(write(tmp_path / "train.jsonl", [row]), columns=columns) == [pair]
    with pytest.raises(ValueError, match=r"no `completion` column \(found: `prompt`, `chosen`\).*or `messages`"):
        load_pairs(Dataset.from_list([{"prompt": "a", "chosen": "b"}]))
    with pytest.raises(ValueError, match="must map one query and one response, or `messages` alone"):
        load_pairs(Dataset.from_list([row]), columns={"messages": "messages", "query": "prompt"})


@pytest.mark.parametrize("page", ["docs/data.md", "recipes/README.md"])
def test_the_rows_of_the_pages_are_read(page, tmp_path):
    text = (Path(__file__).parents[2] / page).read_text(encoding="utf-8")
    rows = re.findall(r"^\| .* \| `(\{.*\})` \|$", text, flags=re.MULTILINE)
    assert len(rows) >= 4
    for row in rows:
        (tmp_path / "train.jsonl").write_text(f"{row}\n", encoding="utf-8")
        assert all(all(pair) for pair in pairs_of(tmp_path))


# ---- conversations ----

TALKS = [
    {"messages": talk("hi", "hello", "how are you", "fine"), "id": 1},
    {"messages": [message("assistant", "welcome"), *talk("thanks", "sure", "bye")], "id": 2},
]
EXPECTED = {
    0: [("hi", "hello"), ("how are you", "fine"), ("thanks", "sure")],
    1: [("hi", "hello"), ("hello | how are you", "fine"), ("welcome | thanks", "sure")],
    5: [("hi", "hello"), ("hi | hello | how are you", "fine"), ("welcome | thanks", "sure")],
}


@pytest.mark.parametrize("turns", EXPECTED)
@pytest.mark.parametrize("kind", ["memory", "parquet", "csv", "json", "jsonl", "streamed"])
def test_conversations_give_a_row_for_each_answer_from_every_source(tmp_path, kind, turns):
    source, options = in_source(tmp_path, kind, TALKS)
    rows = load_pairs(source, history_turns=turns, **options)["train"]
    assert [(row["query"], row["response"]) for row in rows] == EXPECTED[turns]
    assert noted_history(rows) == (History(turns) if turns else None)


def test_of_a_conversational_prompt_the_completion_alone_is_learnt(tmp_path):
    row = {"prompt": talk("a", "b", "c"), "completion": [message("assistant", "d")]}
    for source in (Dataset.from_list([row]), write(tmp_path / "train.jsonl", [row])):
        assert pairs_of(source, history_turns=2) == [("a | b | c", "d")]
        assert pairs_of(source) == [("c", "d")]
    mixed = [{"prompt": "q", "completion": talk("x", "r")[1:]}, {"prompt": "p", "completion": "s"}]
    assert pairs_of(write(tmp_path / "mixed.jsonl", mixed)) == [("q", "r"), ("p", "s")]
    for prompt, completion, reason in (
        (talk("a", "b"), talk("x", "r")[1:], "`prompt` must end with a turn of the user"),
        (talk("a"), talk("b"), "`completion` must begin with a turn of the assistant"),
        (talk("a"), [], "`completion`: the list of messages is empty"),
    ):
        with pytest.raises(ValueError, match=reason):
            load_pairs(write(tmp_path / "bad.jsonl", [{"prompt": prompt, "completion": completion}]))


def test_conversations_that_cannot_be_read_are_named_with_their_place_or_dropped(tmp_path):
    rows = [
        {"messages": talk("a", "b")}, {"messages": []}, {"messages": talk("a")}, {"messages": "hello"},
        {"messages": [message("assistant", "hi")]}, {"messages": talk("\ud800", "b")}, {"messages": None},
    ]  # fmt: skip
    path = write(tmp_path / "train.jsonl", rows)
    with pytest.raises(
        ValueError, match=r"6 rows have a conversation that cannot be read \(1, 2, 3, 4, 5, 6\)"
    ) as told:
        load_pairs(path)
    assert '"train.jsonl", line 2: `messages`: the list of messages is empty; "train.jsonl", line 3: ' in str(
        told.value
    )
    assert "has no turn of the assistant" in str(told.value) and "and 3 more" in str(told.value)
    with pytest.warns(UserWarning, match="Their pairs are left out"):
        pairs = load_pairs(path, on_bad="drop")
    assert pairs["train"][:] == {"query": ["a"], "response": ["b"]} and pairs.report.splits["train"].bad_rows == 6
    with pytest.raises(ValueError, match=r"row 1: `messages`: a list of messages must stand there, got None"):
        load_pairs(Dataset.from_list([rows[0], rows[6]]))
    with pytest.raises(ValueError, match="line 2: `messages`: the list of messages is empty"):
        list(load_pairs(path, streaming=True)["train"])
    with pytest.raises(ValueError, match=r'1 row has a response that is empty or not text \(0\).*"q.jsonl", line 1: 3'):
        load_pairs(write(tmp_path / "q.jsonl", [{"instruction": "q", "input": "x", "output": 3}]))


def test_what_is_left_out_or_replaced_is_told_each_time(tmp_path):
    rows = [{"messages": [message("system", "be nice"), *talk("a | b", "c", "d", "e"), message("tool", "x")]}]
    path = write(tmp_path / "train.jsonl", rows)
    for _ in range(2):  # the second time from the cache
        with pytest.warns(UserWarning) as told:
            assert pairs_of(path, history_turns=2) == [("a b", "c"), ("a b | c | d", "e")]
        texts = [str(warning.message) for warning in told]
        assert any("2 messages of the system or of tools are left out" in text for text in texts)
        assert any("2 queries have a turn with ' | ' in it" in text for text in texts)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert (
            pairs_of(path.parent / write(tmp_path / "x.jsonl", [{"messages": talk("a | b", "c")}]).name)[0][0]
            == "a | b"
        )
    with pytest.warns(UserWarning, match="no query has an earlier turn, so `history_turns=2` joins nothing"):
        load_pairs(Dataset.from_list([{"query": "a", "response": "b"}]), history_turns=2)


def test_limits_are_those_of_the_last_turn(tmp_path):
    rows = [{"messages": talk("one two three", "four", "five", "six")}]
    pairs = load_pairs(Dataset.from_list(rows), history_turns=2, limits=LengthLimits(max_query=1))
    assert pairs["train"]["query"][:] == ["one two three | four | five"]
    assert pairs.report.splits["train"].removed == {"query too long": 1}


# ---- splits ----


def test_a_conversation_in_two_splits_is_found_whole_and_an_equal_last_turn_is_not():
    shared = {"messages": talk("where is rome", "in italy", "ok", "good", "and paris", "in france")}
    other = {"messages": talk("do you like tea", "very much", "ok", "then come")}
    source = DatasetDict(train=Dataset.from_list([other, shared]), test=Dataset.from_list([shared]))
    with pytest.warns(UserWarning, match=r"3 queries of split `test` also stand in `train` \(rows of `test`: 0"):
        load_pairs(source, history_turns=2)
    pairs = load_pairs(source, history_turns=2, on_shared="drop")
    assert pairs["train"]["query"][:] == ["do you like tea", "do you like tea | very much | ok"]
    assert pairs.report.splits["train"].shared_dropped == 3
    assert load_pairs(source, on_shared="drop")["train"]["query"][:] == [
        "do you like tea"
    ]  # without history "ok" is it


def test_a_conversation_that_lacks_its_beginning_elsewhere_is_found():
    whole, rest = talk("where is rome", "in italy", "and paris", "in france"), talk("And Paris?", "in France")
    source = DatasetDict(
        train=Dataset.from_list([{"messages": whole}]), test=Dataset.from_list([{"messages": rest}])
    )  # fmt: skip
    with pytest.warns(UserWarning) as told:
        assert load_pairs(source, history_turns=2).report.shared[0].queries == 1
        assert load_pairs(source, history_turns=2, on_shared="drop")["train"]["query"][:] == ["where is rome"]
    assert any("1 queries of split `test` also stand in `train`" in str(warning.message) for warning in told)


# ---- tokens ----


def test_the_tokenizer_keeps_the_turns_that_a_model_is_trained_on(tmp_path, recwarn):
    pairs = load_pairs(Dataset.from_list(TALKS), history_turns=2, turn_separator=" # ")
    pairs["train"].save_to_disk(tmp_path / "rows")
    rows = load_from_disk(tmp_path / "rows").select([0, 1]).shuffle(seed=0)
    tokenizer = train_tokenizer(rows)
    encode_pairs(load_pairs(DatasetDict(train=rows))["train"], tokenizer)  # as trainers read rows of text
    assert tokenizer_history(tokenizer) == History(2, " # ")
    tokenizer.save_pretrained(tmp_path / "model")
    assert stored_history(str(tmp_path / "model")) == History(2, " # ")
    assert stored_history(str(tmp_path / "none")) is None
    encode_pairs(load_pairs(Dataset.from_list([{"query": "hi", "response": "fine"}]))["train"], tokenizer)
    assert tokenizer_history(tokenizer) == History(2, " # ")  # pairs without turns say nothing
    assert not [warning for warning in recwarn if "no token for the sign" in str(warning.message)]


@pytest.mark.parametrize("streaming", [False, True])
@pytest.mark.parametrize("on_long", ["error", "drop", "truncate"])
def test_a_long_history_loses_its_oldest_turns_before_a_pair_is_too_long(on_long, streaming):
    rows = [{"messages": talk("hello how are you", "fine thanks", "what is your name", "my name")}]
    source = DatasetDict(train=Dataset.from_list(rows))
    pairs = load_pairs(source, history_turns=2, turn_separator=" . ", streaming=streaming)["train"]
    tokenizer = train_tokenizer(text for row in rows for text in [part["content"] for part in row["messages"]] + ["."])
    encoded = list(encode_pairs(pairs, tokenizer, max_source_length=9, on_long=on_long))
    texts = [tokenizer.decode(row["input_ids"], skip_special_tokens=True) for row in encoded]
    assert texts == ["hello how are you", "fine thanks . what is your name"]


def test_a_sign_between_turns_that_the_tokenizer_does_not_know_is_told(tiny_tokenizer):
    pairs = load_pairs(Dataset.from_list(TALKS), history_turns=1)["train"]
    with pytest.warns(UserWarning, match=r"no token for the sign between turns, ' \| '.*such as ' </s> '"):
        encode_pairs(pairs, tiny_tokenizer)
