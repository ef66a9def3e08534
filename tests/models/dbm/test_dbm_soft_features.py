"""Vectors of responses that are known as distributions over tokens only."""

import numpy as np
import pytest
import torch
from sklearn.preprocessing import StandardScaler

from hf_localgan.models import DbmConfig, DbmModel
from hf_localgan.models.dbm import WordVectorTable

VOCABULARY, SIZE = 9, 4
REGULAR = [3, 4, 5, 6, 8]


@pytest.fixture
def table():
    """In float64; tokens 0, 1, 2 and 7 are special, and have vectors that must not count."""
    vectors = torch.randn(VOCABULARY, SIZE, generator=torch.Generator().manual_seed(0)).double()
    return WordVectorTable(VOCABULARY, SIZE).double().load(vectors, REGULAR)


@pytest.fixture(params=[False, True], ids=["plain", "whitened"])
def model(request, table):
    """In float64, with these vectors and fitted scalers."""
    sizes = {"query_size": SIZE, "response_size": SIZE, "hidden_size": 3, "top_size": 2, "vocab_size": VOCABULARY}
    model = DbmModel(DbmConfig(**sizes, whiten=request.param)).double()
    model.word_vectors.load(table.vectors, REGULAR)
    data = np.random.default_rng(0).normal(1, 2, size=(50, SIZE))
    for scaler in (model.query_scaler, model.response_scaler):
        scaler.load_statistics(StandardScaler().fit(data), np.cov(data.T, bias=True))
    return model


def soft(rows: int = 3, time: int = 4, seed: int = 1) -> tuple[torch.Tensor, torch.Tensor]:
    """Distributions and how much each place counts."""
    draw = torch.Generator().manual_seed(seed)
    logits = torch.randn(rows, time, VOCABULARY, generator=draw).double()
    return (2 * logits).softmax(dim=2), torch.rand(rows, time, generator=draw).double()


def test_the_mean_by_hand(table):
    probabilities, mask = soft()
    vectors, found = table.soft(probabilities, mask)
    assert found.all()
    for row in range(3):
        summed, mass = np.zeros(SIZE), 0.0
        for place in range(4):
            for token in REGULAR:
                weight = float(mask[row, place] * probabilities[row, place, token])
                summed, mass = summed + weight * table.vectors[token].numpy(), mass + weight
        np.testing.assert_allclose(vectors[row].numpy(), summed / mass, rtol=1e-12)


def test_distributions_that_are_certain_give_what_their_ids_give(model):
    ids = torch.tensor([[5, 7, 3, 4, 2], [8, 3, 2, -100, -100], [2, 1, 0, -100, -100], [6, 6, 6, 2, -100]])
    certain = torch.nn.functional.one_hot(ids.clamp(min=0), VOCABULARY).double()
    mask = (ids >= 0).double()
    expected = model.response_features(ids)
    torch.testing.assert_close(model.soft_response_features(certain, mask), expected)
    torch.testing.assert_close(
        model.soft_response_features(torch.ones_like(certain[:, :, :1]), mask, ids.clamp(min=0)[:, :, None]), expected
    )
    assert not expected[2].any()  # nothing but special tokens: at the scaler's mean


def test_probabilities_of_few_tokens_are_those_of_the_vocabulary_without_the_others(model):
    probabilities, mask = soft()
    kept = probabilities.topk(3, dim=2)
    sparse = torch.zeros_like(probabilities).scatter(2, kept.indices, kept.values)
    torch.testing.assert_close(
        model.soft_response_features(kept.values, mask, kept.indices), model.soft_response_features(sparse, mask)
    )


def test_places_that_do_not_count_and_neighbours_change_nothing(model):
    probabilities, mask = soft()
    mask[:, 3] = 0.0
    expected = model.soft_response_features(probabilities, mask)
    torch.testing.assert_close(model.soft_response_features(probabilities[:, :3], mask[:, :3]), expected)
    torch.testing.assert_close(model.soft_response_features(probabilities[1:2], mask[1:2]), expected[1:2])
    torch.testing.assert_close(model.soft_response_features(probabilities, 0.25 * mask), expected)  # a mean, not a sum


def test_a_response_of_nothing_lies_at_the_mean_and_has_a_finite_gradient(model):
    probabilities, mask = soft()
    mask[0] = 0.0
    probabilities[1] = 0.0
    probabilities[1, :, 2] = 1.0  # end tokens alone
    probabilities.requires_grad_()
    features = model.soft_response_features(probabilities, mask)
    assert not features[:2].any() and features[2].all()
    features.square().sum().backward()
    assert probabilities.grad.isfinite().all() and probabilities.grad[2].any()


@pytest.mark.parametrize("few", [False, True])
def test_the_gradient_agrees_with_finite_differences(few, model):
    probabilities, mask = soft(rows=2, time=3)
    ids = None
    if few:
        probabilities, ids = probabilities.topk(3, dim=2)
    probabilities, mask = probabilities.requires_grad_(), mask.requires_grad_()
    assert torch.autograd.gradcheck(lambda p, m: model.soft_response_features(p, m, ids), (probabilities, mask))


def test_the_free_energy_of_a_generation_has_a_gradient_for_its_words(model):
    probabilities, mask = soft()
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.normal_(std=0.4, generator=torch.Generator().manual_seed(3))
    query = torch.randn(3, SIZE, generator=torch.Generator().manual_seed(5)).double()
    probabilities.requires_grad_()
    energy = model.free_energy(query, model.soft_response_features(probabilities, mask))
    (gradient,) = torch.autograd.grad(energy.sum(), probabilities)
    assert gradient[:, :, REGULAR].abs().min() > 0 and not gradient[:, :, [0, 1, 2, 7]].any()


def test_it_is_not_computed_in_half_precision(model):
    probabilities, mask = soft()
    expected = model.soft_response_features(probabilities, mask)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert torch.equal(model.soft_response_features(probabilities, mask), expected)


def test_distributions_over_other_tokens_and_a_model_without_vectors_are_refused(table):
    probabilities, mask = soft()
    with pytest.raises(ValueError, match="over 7 tokens, but there are word vectors of 9.*must have one tokenizer"):
        table.soft(probabilities[:, :, :7], mask)
    blind = DbmModel(DbmConfig(query_size=SIZE, response_size=SIZE, hidden_size=3, top_size=2))
    with pytest.raises(ValueError, match="holds no word vectors"):
        blind.soft_response_features(probabilities, mask)


def test_the_unit_of_the_radius_and_the_vocabulary_travel_with_the_model(model, tmp_path):
    model.config.radius_spread, model.config.vocabulary = 2.25, "00ff"
    model.save_pretrained(tmp_path)
    config = DbmConfig.from_pretrained(tmp_path)
    assert (config.radius_spread, config.vocabulary) == (2.25, "00ff")
    assert DbmConfig().radius_spread is None and DbmConfig().vocabulary is None
