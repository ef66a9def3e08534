"""The shipped corpus: its size, its splits, its variety, and what its README says of it."""

import importlib.util
import json
import re
from collections import Counter
from pathlib import Path

import pytest

from hf_localgan.data import load_pairs, load_smalltalk, smalltalk_files

ROOT = Path(__file__).parents[2]
README = smalltalk_files()["train"].with_name("README.md")


@pytest.fixture(scope="module")
def splits() -> dict[str, list[dict]]:
    return {
        split: [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]
        for split, path in smalltalk_files().items()
    }


@pytest.fixture(scope="module")
def rows(splits) -> list[dict]:
    return [row for some in splits.values() for row in some]


@pytest.fixture(scope="module")
def measured() -> dict[str, object]:
    """What the corpus's own script measures."""
    path = ROOT / "recipes" / "smalltalk" / "measure_corpus.py"
    spec = importlib.util.spec_from_file_location("measure_corpus", path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module.measure()


def normalized(text: str) -> str:
    return re.sub(r"[\W_]+", "", text.casefold())


def test_it_is_large_enough_to_learn_from_and_small_enough_to_ship(splits, rows):
    assert len(splits["train"]) >= 2_000 and len(splits["validation"]) >= 300 and len(splits["test"]) >= 500
    assert sum(path.stat().st_size for path in smalltalk_files().values()) < 3_000_000
    assert all(set(row) == {"query", "responses"} for row in rows)


def test_every_query_has_four_or_more_different_responses(rows):
    assert min(len({normalized(text) for text in row["responses"]}) for row in rows) >= 4
    assert all(len(set(row["responses"])) == len(row["responses"]) for row in rows)


def test_no_query_stands_twice_in_one_split_or_in_two(rows):
    counts = Counter(normalized(row["query"]) for row in rows)
    assert not [query for query, count in counts.items() if count > 1]


def test_every_text_is_plain_ascii_of_natural_length(rows):
    for row in rows:
        for text in (row["query"], *row["responses"]):
            assert text.isascii() and text.isprintable() and text == text.strip() and "  " not in text, text
            assert re.search("[A-Za-z]", text) and 1 <= len(text.split()) <= 30, text


def test_near_duplicates_are_rare(measured):
    assert measured["share of near-duplicates among two responses to one query"] < 0.001
    assert measured["share of queries with a near-duplicate"] < 0.02
    assert measured["share of test queries with a near-duplicate in training"] < 0.02
    assert measured["share of the distinct ones among them with one"] < 0.05


def test_it_is_varied_and_has_its_share_of_general_responses(measured):
    assert measured["distinct-2"] > 0.2 and measured["share of distinct responses"] > 0.8
    assert 1 / 12 < measured["share of all responses that are one of these"] < 1 / 6
    assert all(value < 0.02 for name, value in measured.items() if name.startswith('"'))


def test_the_readme_says_what_is_measured(measured):
    lines = re.findall(r"^\| (.+) \| ([\d.,e-]+) \|$", README.read_text(encoding="utf-8"), re.MULTILINE)
    shown = {name: f"{value:#.3g}" if isinstance(value, float) else f"{value:,}" for name, value in measured.items()}
    assert dict(lines) == shown


def test_the_example_of_the_readme_is_in_the_corpus(rows):
    example = json.loads(re.search(r"```json\n(.*?)\n```", README.read_text(encoding="utf-8"), re.DOTALL)[1])
    assert example in rows


def test_it_loads_as_pairs_without_a_warning_and_as_written(splits, recwarn):
    pairs = load_pairs("smalltalk")
    assert not [warning for warning in recwarn if "quer" in str(warning.message)]
    corpus = load_smalltalk()
    for split, some in splits.items():
        assert len(pairs[split]) == sum(len(row["responses"]) for row in some)
        assert pairs.grouped[split].to_list() == some == corpus[split].to_list()
