"""Splits that are held out of the only one: by query, by seed, and the same after rows were added."""

import hashlib

import pytest
from datasets import Dataset, IterableDataset

from hf_localgan.data import load_pairs
from hf_localgan.data.holding_out import LARGEST, hold_out
from hf_localgan.data.pairs import count_queries
from hf_localgan.text import equality_key


def corpus(queries, responses=2):
    rows = [{"query": f"query {q} ?", "response": f"answer {r}"} for r in range(responses) for q in range(queries)]
    return load_pairs({"train": Dataset.from_list(rows)})


def held(pairs, size=0.1, seed=0, splits=("validation", "test")):
    return hold_out(pairs, splits, size, seed)


@pytest.mark.parametrize(("size", "queries"), [(0.1, 4), (0.01, 2), (3, 3)])
def test_each_split_has_whole_queries_and_nothing_is_lost(size, queries):
    whole = corpus(40)
    parts = held(whole, size)
    assert list(parts) == ["train", "validation", "test"] and list(parts.report.splits) == list(parts)
    asked = [set(rows["query"]) for rows in parts.values()]
    assert [len(split) for split in asked[1:]] == [queries, queries]
    assert sum(map(len, asked)) == 40 == len(set.union(*asked))
    rows = [row for split in parts.values() for row in split.to_list()]
    assert sorted(map(str, rows)) == sorted(map(str, whole["train"].to_list()))
    for name, split in parts.items():
        assert len(split) == parts.report.splits[name].pairs == parts.report.splits[name].rows
    assert all(len(row["responses"]) == 2 for row in parts.grouped["test"])


def test_the_seed_chooses_and_the_order_and_further_rows_do_not():
    first = set(held(corpus(60), 6)["test"]["query"])
    assert first == set(held(corpus(60), 6)["test"]["query"]) != set(held(corpus(60), 6, seed=1)["test"]["query"])
    backwards = load_pairs({"train": Dataset.from_list(corpus(60)["train"].to_list()[::-1])})
    assert set(held(backwards, 6)["test"]["query"]) == first
    # Five queries more take the place of one held-out query or two, by their rank.
    kept = set.union(*(set(rows["query"]) for name, rows in held(corpus(65), 6).items() if name != "train"))
    assert len(kept & set.union(*(set(held(corpus(60), 6)[name]["query"]) for name in ("validation", "test")))) >= 9


def test_the_queries_with_the_smallest_hashes_are_taken():
    rows = [{"query": f"{word}, {n}?", "response": "x"} for n in range(50) for word in ("Tea", "tea", "Kaffee", "茶")]
    keys = {equality_key(row["query"]) for row in rows}
    ranked = sorted(keys, key=lambda key: hashlib.sha256(f"7\n{key}".encode()).digest())
    parts = held(load_pairs({"train": Dataset.from_list(rows)}), 20, seed=7)
    taken = [[row["query"] for row in rows if equality_key(row["query"]) in ranked[at : at + 20]] for at in (0, 20)]
    assert [parts["validation"]["query"][:], parts["test"]["query"][:]] == taken
    assert [count_queries(split) for split in parts.values()] == [len(group) for group in parts.grouped.values()]


def test_of_a_stream_the_same_queries_are_taken():
    whole = corpus(30)
    stream = load_pairs({"train": whole["train"].to_iterable_dataset()}, streaming=True)
    loaded, streamed = held(whole, 4, seed=3), held(stream, 4, seed=3)
    assert isinstance(streamed["train"], IterableDataset) and isinstance(streamed["test"], Dataset)
    assert {name: list(rows) for name, rows in streamed.items()} == {
        name: rows.to_list() for name, rows in loaded.items()
    }
    with pytest.raises(ValueError, match="30 different queries are too few"):
        held(stream, 15)


def test_queries_that_differ_in_case_alone_stay_together():
    rows = [{"query": text.format(n), "response": "x"} for n in range(20) for text in ("Tea {}?", "tea {} ?")]
    parts = held(load_pairs({"train": Dataset.from_list(rows)}), 4)
    assert [len(rows) for rows in parts.values()] == [24, 8, 8]
    load_pairs(dict(parts.items()), on_shared="error")


def test_a_share_has_an_end_and_few_queries_are_refused():
    assert len(held(corpus(3 * LARGEST, responses=1), 0.5)["test"]) == LARGEST
    assert len(held(corpus(4), 0.1)["train"]) == 4  # of two queries; each other split has one
    with pytest.raises(ValueError, match="2 different queries are too few to hold out 1 for each of `validation` and"):
        held(corpus(2))
    with pytest.raises(ValueError, match="40 different queries are too few to hold out 20"):
        held(corpus(40), 20)
