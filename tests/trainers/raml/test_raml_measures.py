"""Base measures, similar tokens and schedules that end at 0, as the settings make them of the training rows."""

import numpy as np
import pytest
import torch
from datasets import Dataset

from hf_localgan.data.word_vectors import WordVectors
from hf_localgan.payoff.edit import EditPayoff
from hf_localgan.payoff.hamming import HammingPayoff
from hf_localgan.payoff.neighbours import Neighbours
from hf_localgan.payoff.weighted_hamming import WeightedHammingPayoff
from hf_localgan.trainers.raml.clock import TemperatureSchedule, falling_temperatures
from hf_localgan.trainers.raml.config import RamlConfig, make_payoff
from hf_localgan.trainers.raml.similarity import label_counts, similar_tokens
from hf_localgan.trainers.raml.trainer import RamlTrainer

REGULAR = list(range(4, 20))


@pytest.fixture
def made(tmp_path, tiny_tokenizer):
    """`made(rows, **fields)`: the sampler of these settings."""

    def build(rows, **fields):
        return make_payoff(RamlConfig(str(tmp_path), use_cpu=True, **fields), tiny_tokenizer, rows)

    return build


@pytest.fixture(scope="module")
def twins():
    """Rows in which label tokens 2k and 2k + 1 both translate source token k, and stand in the same places."""
    rng = np.random.default_rng(0)
    rows = []
    for _ in range(400):
        sources = rng.permutation(np.arange(4, 10))[:4]
        labels = [int(2 * token - 4 + rng.integers(2)) for token in sources]  # 4 to 15
        rows.append({"input_ids": [*sources.tolist(), 2], "labels": [*labels, 2]})
    return rows


@pytest.mark.parametrize("as_rows", [list, Dataset.from_list], ids=["list", "datasets"])
def test_unigrams_are_counted_in_the_labels(as_rows, made, twins):
    counts = label_counts(as_rows(twins), 20)
    assert counts[16:].sum() == 0 and counts.sum() == 5 * 400 and counts[2] == 400
    for payoff in (made(as_rows(twins), base_measure="unigram", temperature=3.0),
                   made(as_rows(twins), base_measure="unigram", temperature=1.5, payoff="edit"),
                   made(as_rows(twins), base_measure="unigram", temperature=0.1, payoff="importance",
                        proposal_temperature=3.0).proposal):  # fmt: skip
        drawn = {token for row in payoff.sample_batch([[18, 5, 6]] * 300, np.arange(300, dtype=np.uint64))
                 for token in row}  # fmt: skip
        assert drawn == {18, *range(4, 16)}  # tokens that no label has are never drawn
    expected = made(None, temperature=0.9)
    assert made((), base_measure="unigram", temperature=0.9).log_prob([5], [4]) == expected.log_prob([5], [4])
    with pytest.raises(ValueError, match="`base_measure: unigram` counts the training labels"):
        made(None, base_measure="unigram")


@pytest.mark.parametrize("similarity", ["translation", "context"])
def test_similar_tokens_are_found_in_the_rows(similarity, made, twins, tiny_tokenizer):
    near = similar_tokens(similarity, 1, tiny_tokenizer, REGULAR, twins)
    found = dict(zip(near.tokens.tolist(), near.ids[:, 0].tolist(), strict=True))
    if similarity == "translation":
        assert all(found[token] == token ^ 1 for token in range(4, 16))
    assert all(found[token] == -1 for token in range(16, 20))
    payoff = made(twins, payoff="weighted_hamming", similarity=similarity, neighbours=2, edit_rate=0.05)
    assert type(payoff) is WeightedHammingPayoff
    drawn = payoff.draw([row["labels"][:-1] for row in twins] * 20, np.arange(8_000, dtype=np.uint64))
    assert drawn.edits.sum() / 32_000 == pytest.approx(0.05, abs=0.006)  # five standard deviations
    np.testing.assert_allclose(payoff.replacement_probs(), 0.05)
    sharper = made(twins, payoff="weighted_hamming", similarity=similarity, edit_rate=0.05, similarity_temperature=0.01)
    assert sharper.neighbour_share() > payoff.neighbour_share()
    costs = made(twins, payoff="weighted_hamming", similarity=similarity, edit_rate=0.05, even_rate=False)
    assert np.ptp(costs.replacement_probs()) > 0.05


def test_similar_tokens_come_from_texts_tables_vectors_and_models(tmp_path, tiny_tokenizer, tiny_generator):
    def near(similarity, number=2):
        found = similar_tokens(str(similarity), number, tiny_tokenizer, REGULAR, [])
        return {token: [other for other in ids if other >= 0]
                for token, ids in zip(found.tokens.tolist(), found.ids.tolist(), strict=True)}  # fmt: skip

    texts = tiny_tokenizer.convert_ids_to_tokens(REGULAR)
    assert set(near("prefix")) == set(REGULAR)
    rows = [(texts[0], texts[1], 0.5), (texts[0], texts[2], 0.75), (texts[3], "no such word", 0.5)]
    (tmp_path / "near.tsv").write_text(
        "token\tneighbour\tsimilarity\n" + "".join(f"{a}\t{b}\t{c}\n" for a, b, c in rows)
    )
    assert near(tmp_path / "near.tsv") == {4: [6, 5]} and near(tmp_path / "near.tsv", 1) == {4: [6]}
    (tmp_path / "bad.csv").write_text(f"token,neighbour,similarity\n{texts[0]},{texts[1]},much\n")
    with pytest.raises(ValueError, match='Line 2 of ".*bad.csv" must hold a token'):
        near(tmp_path / "bad.csv")
    bare = [text.lstrip("▁Ġ") for text in texts[:3]]
    WordVectors(bare, np.array([[1, 0, 0], [1, 0.2, 0], [0, 0, 1]])).save(tmp_path / "words.parquet")
    assert near(tmp_path / "words.parquet")[4] == [5] and near(tmp_path / "words.parquet")[6] == []
    model = tiny_generator()
    with torch.no_grad():
        model.get_output_embeddings().weight[4:20] = torch.eye(16, 8) + 1e-3
    model.save_pretrained(tmp_path / "model")
    tiny_tokenizer.save_pretrained(tmp_path / "model")
    assert 12 not in near(tmp_path / "model") or near(tmp_path / "model", 15)[12]
    with pytest.raises(ValueError, match='one of context, translation, prefix, or a file or folder .* "glove"'):
        near("glove")


SAMPLERS = {
    "hamming": HammingPayoff.for_edit_rate(tokens=range(4, 8_000), edit_rate=0.05),
    "edit": EditPayoff.for_edit_rate(tokens=range(4, 8_000), edit_rate=0.05, length=12),
    **{name: WeightedHammingPayoff.for_edit_rate(
        tokens=range(4, 204), edit_rate=0.05, even_rate=name == "weighted",
        neighbours=Neighbours.of_vectors(range(4, 204), np.random.default_rng(0).normal(size=(200, 6)), 5),
    ) for name in ("weighted", "weighted by costs")},
}  # fmt: skip


@pytest.mark.parametrize("name", SAMPLERS)
def test_edits_per_token_fall_evenly_to_0(name):
    payoff = SAMPLERS[name]
    knots = falling_temperatures(payoff, 12)
    schedule = TemperatureSchedule("linear", payoff.temperature, 0.0, total_steps=1_000, knots=knots)
    steps = np.arange(0, 980, 35)  # in the last sixty-fourth there are fewer edits
    rates = [payoff.edit_rate(12, temperature=schedule(step)) for step in steps.tolist()]
    np.testing.assert_allclose(rates, 0.05 * (1 - steps / 1_000), atol=2e-4)
    assert schedule(0) == payoff.temperature and schedule(1_000) == schedule(5_000) == 0
    cosine = TemperatureSchedule("cosine", payoff.temperature, 0.0, total_steps=1_000, knots=knots)
    assert payoff.edit_rate(12, temperature=cosine(500)) == pytest.approx(0.025, abs=2e-4)
    assert payoff.edit_rate(12, temperature=cosine(250)) > 0.042
    with pytest.raises(ValueError, match="`knots` must go from `start`"):
        TemperatureSchedule("linear", 0.9, 0.0, knots=knots)


def test_a_training_ends_on_its_references(family, pairs, trainer):
    run = trainer(
        family("t5"), pairs(40), cls=RamlTrainer, config=RamlConfig, per_device_train_batch_size=4, num_train_epochs=2,
        learning_rate=0.0, payoff="edit", edit_rate=0.6, edit_rate_length=6, temperature_schedule="linear_to_zero",
    )  # fmt: skip
    run.train()
    logged = [row for row in run.state.log_history if "raml/edit_rate" in row]
    rates, temperatures = ([row[f"raml/{name}"] for row in logged] for name in ("edit_rate", "temperature"))
    assert len(rates) == 20 and temperatures == sorted(temperatures, reverse=True) and temperatures[-1] > 0
    assert np.mean(rates[:5]) > 0.35 > np.mean(rates[5:15]) > 0.15 > np.mean(rates[15:])
    reward = trainer(
        family("t5"), pairs(8), cls=RamlTrainer, config=RamlConfig, per_device_train_batch_size=4, num_train_epochs=2,
        payoff="importance", temperature=0.4, temperature_schedule="linear_to_zero",
    )  # fmt: skip
    reward.train()
    logged = [row["raml/temperature"] for row in reward.state.log_history if "raml/temperature" in row]
    assert logged == pytest.approx([0.4, 0.3, 0.2, 0.1])


def test_streams_have_no_labels_to_count(family, pairs, trainer):
    stream = Dataset.from_list(pairs(8)).to_iterable_dataset()
    with pytest.raises(ValueError, match="`base_measure: unigram` count the labels of all training rows.* a stream"):
        trainer(family("t5"), stream, cls=RamlTrainer, config=RamlConfig, max_steps=2, base_measure="unigram")
    run = trainer(family("t5"), stream, cls=RamlTrainer, config=RamlConfig, max_steps=2, base_measure="batch",
                  temperature=1.5)  # fmt: skip
    run.train()
