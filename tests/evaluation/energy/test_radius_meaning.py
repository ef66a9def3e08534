"""What the radius measures: by hand on a tiny energy, and in the report with a generator's safe answers."""

import json
import math

import numpy as np
import pytest
import torch
from datasets import Dataset

from hf_localgan.evaluation.energy.features import pair_features, regular_words
from hf_localgan.evaluation.energy.meaning import greedy_answers, radius_meaning
from hf_localgan.evaluation.energy.measure import evaluate_energy
from hf_localgan.models import DbmConfig, DbmModel

WORDS = range(4, 20)


@pytest.fixture(scope="module")
def energy():
    with torch.random.fork_rng(), torch.no_grad():
        torch.manual_seed(0)
        config = DbmConfig(query_size=5, response_size=5, hidden_size=6, top_size=4, vocab_size=20, pooling="sqrt")
        model = DbmModel(config).eval()
        for parameter in model.parameters():
            parameter.normal_(std=0.5)
        model.word_vectors.load(torch.randn(20, 5), WORDS)
        for scaler in (model.query_scaler, model.response_scaler):
            scaler.count.fill_(9)
    return model


def rows(number: int, seed: int) -> Dataset:
    rng = np.random.default_rng(seed)
    made = []
    for row in range(number):
        query = rng.choice(WORDS, 4).tolist()
        response = [7, 8] if row % 3 == 0 else rng.choice(WORDS, rng.integers(1, 9)).tolist()
        made.append({"input_ids": [*query, 2], "attention_mask": [1] * 5, "labels": [*response, 2]})
    return Dataset.from_list(made)


def test_the_numbers_by_hand(energy):
    data = pair_features(energy, rows(30, 0))
    assert data.words[0] == [7, 8] and data.tokens[0][-1] == 2
    radii = energy.radius(data.query, data.response).detach().double().numpy()
    answers = [[7, 8], [7, 8], [9]]
    meaning = radius_meaning(energy, data.query, radii, data.words, data.words, greedy=answers, greedy_rows=[0, 1, 2])
    lengths = [len(words) for words in data.words]
    of_eight = [radius for radius, length in zip(radii, lengths, strict=True) if length == 8]
    assert meaning.by_length[8] == (len(of_eight), pytest.approx(np.mean(of_eight)))
    assert math.isnan(meaning.by_length[20].radius) and meaning.by_length[20].pairs == 0
    ranks = [np.argsort(np.argsort(values, kind="stable")) for values in (radii, lengths)]
    assert (meaning.length > 0) == (np.corrcoef(*ranks)[0, 1] > 0)
    safe = meaning.safe[0]
    assert (safe.tokens, safe.times) == ((7, 8), 10)
    given = [energy.radius(data.query[row : row + 1], energy.response_features(torch.tensor([[7, 8]]))).item()
             for row in range(30)]  # fmt: skip
    below = [(np.sum(radii < value) + np.sum(radii <= value)) / 60 for value in given]
    assert safe.percentile == pytest.approx(np.mean(below), abs=1 / 60)  # a radius that is one of them may be rounded
    assert meaning.greedy_commonest[:2] == ((7, 8), 2) and 0 <= meaning.greedy <= 1
    assert meaning.safe_percentile == meaning.greedy
    assert meaning._replace(greedy=math.nan).safe_percentile == np.median([one.percentile for one in meaning.safe])


def test_the_report_says_what_the_radius_measures(energy, tiny_generator, tmp_path):
    generator, train, test = tiny_generator(), rows(40, 1), rows(20, 2)
    queries = [row["input_ids"] for row in test]
    answers = greedy_answers(generator, queries, max_new_tokens=5)
    assert answers == [greedy_answers(generator, [query], max_new_tokens=5)[0] for query in queries]
    report = evaluate_energy(
        energy, train, test, generator=generator, curvature_queries=2, clusters=1, ais_chains=2, ais_temperatures=4,
        resamples=4, others=2,
    )  # fmt: skip
    assert report.meaning.greedy_commonest.times >= 1
    assert regular_words(energy, [[2, 7, -100, 8]]) == [[7, 8]]
    text = report.to_markdown()
    assert "## What the radius measures" in text and report.meaning.verdict() in text and "| 7 8 |" in text
    report.write(tmp_path, plots=False)
    facts = json.loads((tmp_path / "energy.json").read_text())["radius_meaning"]
    assert facts["ranks_safe_lowest"] is report.meaning.ranks_safe_lowest
    assert facts["safe"][0]["answer"] == "7 8" and facts["by_length"]["20"]["pairs"] == 0
