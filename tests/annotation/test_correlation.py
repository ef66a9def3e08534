"""Metrics against people: known correlations come out, own references are left out, real data are read."""

import json
import os
from pathlib import Path

import numpy as np
import pyarrow
import pyarrow.parquet as parquet
import pytest
from scipy.stats import kendalltau

from hf_localgan.annotation import JudgedResponses, correlate_metrics, read_judged_responses
from hf_localgan.annotation.correlation import _correlate_responses, _correlate_rows, _correlations
from hf_localgan.data import WordVectors, load_word_vectors

WORDS = "tea milk cup rain sun wind bus train boat red blue green and how is nice".split()
CONTEXTS = 40


def vectors():
    return WordVectors(WORDS, np.random.default_rng(0).normal(size=(len(WORDS), 6)), name="random")


def judged(people=False) -> JudgedResponses:
    """Four systems that repeat more or less of a reference; people's score is the number of words repeated."""
    rng = np.random.default_rng(0)
    references = [[" ".join(rng.choice(WORDS, size=6)) for _ in range(3)] for _ in range(CONTEXTS)]
    responses, scores = [], []
    for share in (0.1, 0.35, 0.6, 0.85):
        kept = rng.random((CONTEXTS, 6)) < share
        responses.append(
            [
                " ".join(word if keep else "xyz" for word, keep in zip(some[0].split(), row, strict=True))
                for some, row in zip(references, kept, strict=True)
            ]
        )
        scores.append(kept.sum(axis=1))
    systems = ["a", "b", "c", "d"]
    if people:
        responses.append([some[1].upper() + " ." for some in references])
        scores.append(np.full(CONTEXTS, 6.0))
        systems.append("people")
    return JudgedResponses(
        [str(at) for at in range(CONTEXTS)], references, systems, responses, {"score": np.array(scores, float)}, {}
    )


@pytest.fixture(scope="module")
def worth():
    return correlate_metrics(judged(people=True), vectors=vectors(), resamples=30)


def test_a_metric_that_measures_what_people_do_correlates_and_leads(worth):
    bleu = worth.find("bleu_2", "score", "response", "spearman")
    assert bleu.value > 0.7 and bleu.low < bleu.value < bleu.high and bleu.count == 4 * CONTEXTS
    assert worth.find("bleu_2", "score", "system", "kendall").value == 1
    assert worth.find("word_error_rate_min", "score", "response", "spearman").value < -0.8
    # the length is always six words: nothing correlates with it
    assert np.isnan(worth.find("mean_length", "score", "response", "pearson").value)
    # Dist-2 has a value of a whole set only
    assert worth.find("dist_2", "score", "response", "spearman") is None
    assert worth.find("dist_2", "score", "system", "kendall") is not None
    leading = worth.leading("score")
    assert {"bleu_2", "word_error_rate_min", "average_first"} <= set(leading)
    assert "mean_length" not in leading and "dist_2" not in leading
    assert {"relevance_max", "local_coverage", "ent_4", "bleu_4", "greedy_mean"} <= set(worth.ranking("score"))


def test_the_reference_that_is_the_response_is_left_out(worth):
    assert worth.drawn == ["people"] and worth.contexts == CONTEXTS
    # random words share little with the two other references; with its own a response would reach 100
    assert worth.values["people"]["bleu_4"] < 20 and worth.values["people"]["relevance_max"] < 2.9
    assert worth.find("bleu_2", "score", "system", "kendall", "all").count == 5
    named = correlate_metrics(judged(people=True), drawn=[], resamples=2)
    assert named.drawn == [] and named.values["people"]["bleu_4"] > 50
    with pytest.raises(ValueError, match="`drawn` must be among a, b, c, d, people, got 'human'"):
        correlate_metrics(judged(people=True), drawn=["human"])
    with pytest.raises(ValueError, match="needs at least 3, got 2 besides a, b, people, who draw"):
        correlate_metrics(judged(people=True), drawn=["a", "b", "people"])


def test_all_draws_at_once_are_each_draw_by_scipy():
    rng = np.random.default_rng(0)
    metric, human = rng.integers(4, size=(2, 50, 6)).astype(float)
    human[0] = 1
    for row, found in enumerate(_correlate_rows(metric, human)):
        np.testing.assert_allclose(found, _correlations(metric[row], human[row]), atol=1e-12)


def test_values_are_those_of_scipy():
    data = judged()
    worth = correlate_metrics(data, resamples=2)
    means = [worth.values[name]["bleu_2"] for name in data.systems]
    people = data.human["score"].mean(axis=1)
    assert worth.find("bleu_2", "score", "system", "kendall").value == kendalltau(means, people).statistic


def test_noise_does_not_correlate_and_its_intervals_hold_0():
    rng = np.random.default_rng(1)
    outside = 0
    for _ in range(20):
        rows = _correlate_responses(*rng.normal(size=(2, 4, CONTEXTS)), resamples=60, seed=0)
        outside += not rows[1][2] <= 0 <= rows[1][3]
    assert outside <= 5  # 20 intervals at 95 %; more than five outside has a probability of 0.0003


def test_contexts_are_drawn_whole():
    # Five copies of each response add nothing; drawn one by one they would narrow the interval to .45 of its width.
    rng = np.random.default_rng(0)
    metric = rng.normal(size=(4, CONTEXTS))
    human = metric + rng.normal(size=metric.shape)
    once, copied = (
        _correlate_responses(np.tile(metric, (copies, 1)), np.tile(human, (copies, 1)), resamples=60, seed=0)[1]
        for copies in (1, 5)
    )
    assert copied[1:4] == pytest.approx(once[1:4]) and copied[4] == 5 * once[4]


def test_files_are_written_whole(worth, tmp_path):
    files = worth.write(tmp_path)
    assert [path.name for path in files] == [f"metrics_against_people.{suffix}" for suffix in ("json", "md", "png")]
    stored = json.loads(files[0].read_text())
    assert stored["leading"]["score"] == worth.leading("score") and stored["drawn_from_references"] == ["people"]
    assert len(stored["correlations"]) == len(worth.correlations)
    text = files[1].read_text()
    assert "## score" in text and "| bleu_2 |" in text and "4 generators, and people, who draw" in text


def write(folder, **changed) -> Path:
    rows = {
        "id": ["x", "y", "x", "y"], "system": ["a", "a", "b", "b"], "response": ["one", "two", "three", "four"],
        "score": [1.0, 2.0, 3.0, 4.0], "references": [["r"], ["s"], ["r"], ["s"]], **changed,
    }  # fmt: skip
    path = folder / "responses.parquet"
    parquet.write_table(pyarrow.table({name: column for name, column in rows.items() if column is not None}), path)
    return path


def test_files_are_read_with_contexts_inside_or_beside(tmp_path):
    inside = read_judged_responses(write(tmp_path))
    assert inside.responses == [["one", "two"], ["three", "four"]] and inside.references == [["r"], ["s"]]
    assert inside.human["score"].tolist() == [[1, 2], [3, 4]]
    beside = tmp_path / "contexts.parquet"
    parquet.write_table(pyarrow.table({"id": ["y", "x"], "references": [["s"], []]}), beside)
    found = read_judged_responses(write(tmp_path, references=None), beside)
    assert found.contexts == ["y"] and found.left_out["without a reference"] == 1
    missing = read_judged_responses(write(tmp_path, score=[1.0, None, 3.0, 4.0]))
    assert missing.contexts == ["x"] and missing.left_out["not answered or not judged for every system"] == 1


@pytest.mark.parametrize(
    ("changed", "human", "message"),
    [
        ({"system": None}, None, "has no column `system`"),
        ({"references": None}, None, "has no column `references`"),
        ({"score": None}, None, "no column of floating-point numbers"),
        ({}, ["fun"], "has no column `fun`"),
        ({}, ["response"], "`response` of .* must hold numbers"),
        ({"id": ["x", "x", "x", "y"]}, None, "has two responses of a to 'x'"),
        ({"id": ["x", "y", "v", "w"]}, None, "no context that every system answered"),
    ],
)
def test_what_is_not_such_a_file_is_refused(tmp_path, changed, human, message):
    with pytest.raises(ValueError, match=message):
        read_judged_responses(write(tmp_path, **changed), human=human)


def test_two_systems_are_too_few(tmp_path):
    with pytest.raises(ValueError, match="needs at least 3, got 2"):
        correlate_metrics(read_judged_responses(write(tmp_path)))
    with pytest.raises(ValueError, match="There is no file"):
        read_judged_responses(tmp_path / "none.parquet")
    (tmp_path / "text.parquet").write_text("no parquet")
    with pytest.raises(ValueError, match="cannot be read as parquet"):
        read_judged_responses(tmp_path / "text.parquet")


@pytest.mark.corpora
def test_embedding_relevance_follows_people_and_diversity_does_not_on_real_systems():
    folder = Path(os.environ["HF_LOCALGAN_DATA"])
    data = folder / "metric_inputs"
    judged = read_judged_responses(
        data / "dstc7_system_outputs.parquet", data / "dstc7_contexts.parquet", ["human_score"]
    )
    vectors = load_word_vectors(folder / "word_vectors" / "glove_6b_50d_top40k.parquet")
    worth = correlate_metrics(judged, vectors=vectors, resamples=20)
    assert worth.drawn == ["Human"] and worth.contexts > 900
    for metric in ("relevance_mean", "bleu_2", "average_mean"):
        found = worth.find(metric, "human_score", "response", "spearman")
        assert 0.05 < found.low < found.value < 0.25
    assert worth.find("relevance_first", "human_score", "system", "kendall").value > 0.4
    for metric in ("dist_1", "dist_2", "ent_4"):
        assert worth.find(metric, "human_score", "system", "kendall").value < 0.2
