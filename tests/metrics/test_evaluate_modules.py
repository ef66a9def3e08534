import socket
import sys
from pathlib import Path

import evaluate
import numpy as np
import pytest

from hf_localgan import metrics

GENERATIONS = ["I don't know.", "Yes, tea.", "I don't know."]
REFERENCES = [["I know.", "No."], ["Tea, please."], ["Nobody knows.", "I don't.", "Ask him."]]


class Vectors(dict):
    name, dim = "random-4", 4


def forget_cached_modules():
    for name in [name for name in sys.modules if name.split(".")[0] == "evaluate_modules"]:
        del sys.modules[name]


@pytest.fixture
def load(monkeypatch, tmp_path):
    """`metrics.load` into an empty cache, with every way into the network closed."""

    def refuse(*args, **kwargs):
        raise AssertionError(f"the network was asked for {args}")

    for name in ("create_connection", "getaddrinfo"):
        monkeypatch.setattr(socket, name, refuse)
    monkeypatch.setattr(socket.socket, "connect", refuse)
    monkeypatch.setattr(evaluate.config, "HF_MODULES_CACHE", tmp_path / "modules")
    # `evaluate` adds its cache, and finds modules through it; one of an earlier load would come first.
    monkeypatch.setattr(sys, "path", [place for place in sys.path if not (Path(place) / "evaluate_modules").is_dir()])
    forget_cached_modules()
    yield lambda name: metrics.load(name, cache_dir=str(tmp_path / "cache"))
    forget_cached_modules()


def test_every_module_is_named_and_has_its_folder():
    expected = ["distinct_n", "embedding_relevance", "entropy_n", "error_rate", "local_coverage", "response_bleu"]
    assert metrics.module_names() == expected
    with pytest.raises(ValueError, match="No metric module 'bleu'; there are distinct_n"):
        metrics.module_path("bleu")


def test_diversity_modules_equal_the_functions(load):
    tokens = [metrics.metric_tokens(text) for text in GENERATIONS]
    actual = load("distinct_n").compute(predictions=GENERATIONS, n=2)
    assert actual["distinct_2"] == metrics.distinct_n(tokens, 2)
    assert actual["mean_distinct_2"] == metrics.mean_distinct_n(tokens, 2)
    assert actual["signature"] == metrics.score_responses(GENERATIONS)["dist_2"].signature
    actual = load("entropy_n").compute(predictions=GENERATIONS)
    assert actual["entropy_4"] == metrics.entropy_n(tokens, 4)
    assert actual["signature"] == metrics.score_responses(GENERATIONS)["ent_4"].signature


def test_reference_modules_equal_the_functions(load):
    actual = load("response_bleu").compute(predictions=GENERATIONS, references=REFERENCES, lowercase=True, max_order=2)
    expected = metrics.bleu(GENERATIONS, REFERENCES, lowercase=True, max_order=2)
    assert (actual["bleu"], actual["signature"]) == (expected.score, expected.signature)

    rng = np.random.default_rng(0)
    vectors = Vectors({word: rng.normal(size=4) for word in ("i", "know", "don", "tea", "no", "yes")})
    actual = load("embedding_relevance").compute(predictions=GENERATIONS, references=REFERENCES, vectors=vectors)
    expected = metrics.score_responses(GENERATIONS, REFERENCES, vectors=vectors, resamples=0)
    assert actual["relevance_max"] == pytest.approx(expected["relevance_max"].value)
    assert "|vectors:random-4|" in actual["signature"]


def test_error_rate_module_equals_the_functions(load):
    module = load("error_rate")
    generations, references = ["AH B", "K"], ["AH P", "K T"]
    assert module.compute(predictions=generations, references=references)["per"] == pytest.approx(2 / 4)
    words = module.compute(predictions=["Yes, tea."], references=["yes tea"], unit="words", tokenization="words")
    assert words["wer"] == metrics.word_error_rate(["Yes, tea."], ["yes tea"], tokenization="words").rate
    with pytest.raises(ValueError, match='must be "phones" or "words"'):
        module.compute(predictions=["a"], references=["a"], unit="letters")


def test_local_coverage_module_equals_the_function(load):
    references, generations = [[[0.0, 0.0], [1.0, 0.0], [5.0, 0.0]], [[0.0, 0.0]]], [[[0.5, 0.0]], [[0.0, 0.0]]]
    actual = load("local_coverage").compute(predictions=generations, references=references)
    radius = metrics.reference_radius(references)
    assert (actual["coverage"], actual["precision"]) == metrics.local_coverage(references, generations, radius)[:2]
    assert f"|radius:{radius:g}|" in actual["signature"]


@pytest.mark.parametrize(
    ("inputs", "message"),
    [
        ({"predictions": "a b"}, "`predictions` must be a list with one entry per query, got str: 'a b'"),
        ({"predictions": iter(GENERATIONS)}, "`predictions` must be a list"),
        ({"predictions": ["a", None, "b"]}, r"`predictions\[1\]` holds None"),
        ({"predictions": ["a", "b\ud800", "c"]}, r"`predictions\[1\]` holds a surrogate, .* 'b\\ud800', at 1"),
        ({"references": [["a"], ["b", None], ["c"]]}, r"`references\[1\]` holds None"),
        ({"references": "abc"}, "`references` must be a list"),
        ({"references": None}, "`references` are missing. Give `predictions` and `references`"),
        ({"tokenize": "words"}, "`tokenize` must be one of"),
        ({"smooth_method": "x"}, "`smooth_method` must be one of"),
    ],
)
def test_wrong_inputs_of_a_module_are_named(load, inputs, message):
    module = load("response_bleu")
    with pytest.raises((TypeError, ValueError), match=message):
        module.compute(**{"predictions": GENERATIONS, "references": REFERENCES, **inputs})
    if not set(inputs) <= {"predictions", "references"}:
        return
    assert 0 < module.compute(predictions=GENERATIONS, references=REFERENCES)["bleu"] < 100  # nothing was kept of it
