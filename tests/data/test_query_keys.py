"""Keys of equal texts, and the comparison of splits by them against sets of texts, loaded and streamed."""

import random
import warnings
from itertools import combinations

import pyarrow as pa
import pytest
from datasets import Dataset

from hf_localgan.data import load_pairs
from hf_localgan.data import query_keys as keys_module
from hf_localgan.data.checks import apart_from
from hf_localgan.data.query_keys import among, joined_keys, text_keys
from hf_localgan.text import equality_key
from hf_localgan.turns import History

WORDS = ["tea", "Tea", "TEE", "straße", "STRASSE", "é", "e\u0301", "?!", "!", "", "茶", "👍🏽", "τέλος", "ΤΈΛΟΣ"]
SEPARATOR = " | "


def test_texts_have_equal_keys_where_their_forms_are_equal(monkeypatch):
    monkeypatch.setattr(keys_module, "BATCH", 3)
    texts = pa.chunked_array([[*WORDS[:5], None], WORDS[5:], [WORDS[0], None]], pa.string())
    keys, forms = text_keys(texts).to_pylist(), [t if t is None else equality_key(t) for t in texts.to_pylist()]
    assert [key is None for key in keys] == [form is None for form in forms]
    assert all((a == b) == (c == d) for (a, c), (b, d) in combinations(zip(keys, forms, strict=True), 2))
    assert len(set(text_keys(texts, str).drop_null().to_pylist())) == len(WORDS)


@pytest.mark.parametrize("number", [2, 9])
def test_a_key_is_among_others_whichever_side_is_larger(number):
    some, others = ([str(place) for place in range(first, 9, step)] for first, step in ((0, 2), (0, 3)))
    some, others = some[:number], [*others, None, *others][: 20 - 2 * number]
    found = among(text_keys(pa.array([*some, None])), text_keys(pa.array(others, pa.string())))
    assert found.tolist() == [*(text in others for text in some), False]


def test_a_joined_key_is_of_both_sides_in_order():
    first, second = (text_keys(pa.chunked_array([side])) for side in (["a", "b", "a", None], ["b", "a", "b", "x"]))
    one, other, again, none = joined_keys(first, second).to_pylist()
    assert one == again != other and none is None


def conversations(rng, number):
    def talk():
        texts = [" ".join(rng.choice(WORDS[:9]) or "x" for _ in range(rng.randint(1, 2))) for _ in range(4)]
        first = rng.choice((0, 2))
        roles = ("user", "assistant") * 2
        return [{"role": role, "content": text} for role, text in zip(roles[first:], texts[first:], strict=True)]

    return Dataset.from_list([{"messages": talk()} for _ in range(number)])


def plain(rows, history):
    """What of each pair is compared, as texts: its query, and its last turn with the response."""
    queries = [equality_key(query) for query in rows["query"]]
    if not history:
        return queries, [None] * len(queries)
    last = [equality_key(query.split(SEPARATOR)[-1]) for query in rows["query"]]
    return queries, list(zip(last, map(equality_key, rows["response"]), strict=True))


@pytest.mark.parametrize("history", [0, 2])
@pytest.mark.parametrize("seed", range(4))
def test_splits_are_compared_as_sets_of_texts_would_be(seed, history):
    rng = random.Random(seed)
    sizes = {"train": 60, "validation": 6, "test": 6}
    source = {split: conversations(rng, size) for split, size in sizes.items()}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        whole = load_pairs(source, history_turns=history)
        dropped = load_pairs(source, history_turns=history, on_shared="drop")
    compared = {split: plain(rows, history) for split, rows in whole.items()}

    def shared(split, others):
        queries, pairs = ({value for other in others for value in compared[other][side]} - {None} for side in (0, 1))
        return [query in queries or pair in pairs for query, pair in zip(*compared[split], strict=True)]

    expected = {
        (first, second): {query for query, is_shared in zip(compared[second][0], shared(second, [first]), strict=True)
                          if is_shared}
        for first, second in combinations(sizes, 2)
    }  # fmt: skip
    assert {(s.first, s.second): s.queries for s in whole.report.shared} == {
        splits: len(queries) for splits, queries in expected.items() if queries
    }
    left = [row for row, out in zip(whole["train"], shared("train", ["validation", "test"]), strict=True) if not out]
    assert 0 < len(left) < len(whole["train"]) and dropped["train"].to_list() == left

    stream = whole["train"].to_iterable_dataset()
    others = {split: whole[split] for split in ("validation", "test")}
    assert list(apart_from(stream, "train", others, "drop", History(history))) == left
    with pytest.warns(UserWarning, match=r"of split `train` \(.*\) have a query that also stands in `validation` or"):
        assert list(apart_from(stream, "train", others, "warn", History(history))) == whole["train"].to_list()
    with pytest.raises(ValueError, match='on_shared="drop" takes them out'):
        list(apart_from(stream, "train", others, "error", History(history)))
    lone = {"test": Dataset.from_dict({"query": ["nowhere"], "response": ["else"]})}
    assert list(apart_from(stream, "train", lone, "error", History(history))) == whole["train"].to_list()
