"""Measures the shipped corpus: the numbers of its README.

    python recipes/smalltalk/measure_corpus.py

Words and marks are cut and lower-cased as the metrics do it (`metric_tokens`, "words"). Two texts are near-duplicates
if rapidfuzz's ratio of their lower-cased forms is at least 85.
"""

import json
from collections import Counter
from itertools import combinations
from statistics import mean

import numpy as np
from rapidfuzz import fuzz, process

from hf_localgan.data import smalltalk_files
from hf_localgan.markdown import markdown_table
from hf_localgan.metrics import NgramCounts, metric_tokens

NEAR = 85
SAMPLE = 2_000
SEED = 0
STOCK = 5  # a response that occurs as often is one of the general ones


def near_share(texts: list[str], others: list[str] | None = None) -> float:
    """Share of texts with a near-duplicate among the others, or without `others` among each other, equal ones too."""
    lower = [text.lower() for text in texts]
    among = lower if others is None else [text.lower() for text in others]
    scores = process.cdist(lower, among, scorer=fuzz.ratio, score_cutoff=NEAR, dtype=np.uint8)
    if others is None:
        np.fill_diagonal(scores, 0)
    return float((scores.max(axis=1) >= NEAR).mean())


def measure() -> dict[str, object]:
    """Every number by its name."""
    splits = {
        split: [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]
        for split, path in smalltalk_files().items()
    }
    rows = [row for some in splits.values() for row in some]
    queries, responses = [row["query"] for row in rows], [text for row in rows for text in row["responses"]]
    tokens = [metric_tokens(text) for text in responses]
    counts = Counter(responses)
    stock = Counter({text: count for text, count in counts.items() if count >= STOCK})
    vocabulary = Counter(word for text in [*map(metric_tokens, queries), *tokens] for word in text)
    pairs = [pair for row in rows for pair in combinations([text.lower() for text in row["responses"]], 2)]
    sample = [responses[index] for index in np.random.default_rng(SEED).permutation(len(responses))[:SAMPLE]]
    words = {split: [word for row in some for word in _words(row)] for split, some in splits.items()}
    trained, known = {text for row in splits["train"] for text in row["responses"]}, set(words["train"])
    tested = [text for row in splits["test"] for text in row["responses"]]
    return {
        **{f"{split} queries": len(some) for split, some in splits.items()},
        **{f"{split} pairs": sum(len(row["responses"]) for row in some) for split, some in splits.items()},
        "fewest responses to a query": min(len(row["responses"]) for row in rows),
        "most responses to a query": max(len(row["responses"]) for row in rows),
        "mean length of a query": mean(len(metric_tokens(text)) for text in queries),
        "longest query": max(len(metric_tokens(text)) for text in queries),
        "mean length of a response": mean(map(len, tokens)),
        "longest response": max(map(len, tokens)),
        "vocabulary": len(vocabulary),
        "share of it that occurs once": sum(count == 1 for count in vocabulary.values()) / len(vocabulary),
        "share of test words that training lacks": mean(word not in known for word in words["test"]),
        "distinct-1": NgramCounts(tokens, 1).distinct(),
        "distinct-2": NgramCounts(tokens, 2).distinct(),
        "Ent-4 (nats)": NgramCounts(tokens, 4).entropy(),
        "share of distinct responses": len(counts) / len(responses),
        "share of questions among responses": mean(text.endswith("?") for text in responses),
        f"responses that occur {STOCK} times or more": len(stock),
        "share of all responses that are one of these": stock.total() / len(responses),
        "share of near-duplicates among two responses to one query": mean(fuzz.ratio(*pair) >= NEAR for pair in pairs),
        "share of queries with a near-duplicate": near_share(queries),
        "share of test queries with a near-duplicate in training": near_share(
            [row["query"] for row in splits["test"]], [row["query"] for row in splits["train"]]
        ),
        "share of sampled responses with a near-duplicate": near_share(sample),
        "share of the distinct ones among them with one": near_share(sorted(set(sample))),
        "share of test responses that training has": mean(text in trained for text in tested),
        "the same without the general ones": mean(text in trained for text in tested if text not in stock),
        **{f'"{text}"': count / len(responses) for text, count in counts.most_common(8)},
    }


def _words(row: dict) -> list[str]:
    return [word for text in (row["query"], *row["responses"]) for word in metric_tokens(text)]


if __name__ == "__main__":
    found = [(name, f"{one:#.3g}" if isinstance(one, float) else f"{one:,}") for name, one in measure().items()]
    print("\n".join(markdown_table(("of the corpus", ""), found, "<>")))
