"""Vectors of utterances and their scaler."""

import numpy as np
import pytest
import torch
from sklearn.preprocessing import StandardScaler

from hf_localgan.models import DbmConfig, DbmModel
from hf_localgan.models.dbm import FeatureScaler, WordVectorTable

IDS = torch.tensor([[5, 9, 4, 7, 2], [8, 3, 2, 0, 0], [1, 2, 0, 0, 0], [6, 6, 11, 2, 0]])
MASK = torch.tensor([[1, 1, 1, 1, 1], [1, 1, 1, 0, 0], [1, 1, 0, 0, 0], [1, 1, 1, 1, 0]])
REGULAR = range(4, 12)


@pytest.fixture
def vectors():
    return torch.randn(12, 6, generator=torch.Generator().manual_seed(0))


@pytest.fixture
def model(vectors):
    """With word vectors for 12 tokens, the first four of them special, and fitted scalers."""
    torch.manual_seed(0)
    model = DbmModel(DbmConfig(query_size=6, response_size=6, hidden_size=5, top_size=4, vocab_size=12))
    model.word_vectors.load(vectors, REGULAR)
    for seed, scaler in enumerate((model.query_scaler, model.response_scaler)):
        data = np.random.default_rng(seed).normal(seed, 1 + seed, size=(50, 6))
        scaler.load_statistics(StandardScaler().fit(data))
    return model


def test_it_standardises_as_scikit_learn_does_after_a_stream_of_chunks():
    data = np.random.default_rng(0).normal([0, 5, -300], [1, 0.01, 40], size=(1000, 3))
    fitted = StandardScaler()
    for chunk in np.array_split(data, [1, 10, 300, 950]):
        fitted.partial_fit(chunk)
    scaler = FeatureScaler(3).double().load_statistics(fitted)
    actual = scaler(torch.tensor(data))
    np.testing.assert_allclose(actual.numpy(), fitted.transform(data), rtol=1e-10, atol=1e-12)
    np.testing.assert_allclose(actual.mean(dim=0), 0, atol=1e-10)
    np.testing.assert_allclose(actual.std(dim=0, unbiased=False), 1, rtol=1e-10)
    assert int(scaler.count) == 1000
    torch.testing.assert_close(scaler.inverse(actual), torch.tensor(data))


def test_a_constant_dimension_is_shifted_and_divided_by_nothing():
    data = np.random.default_rng(0).normal(size=(40, 3))
    data[:, 1] = 0.1 + 0.2  # whose sums round
    scaler = FeatureScaler(3)
    assert not scaler.is_fitted
    scaler.load_statistics(StandardScaler().partial_fit(data[:7]).partial_fit(data[7:]))
    assert scaler.is_fitted and float(scaler.std[1]) == 1
    standardised = scaler(torch.tensor(data))
    assert standardised.isfinite().all() and standardised[:, 1].abs().max() < 1e-6
    # a value that was not seen in training stays a small number
    assert abs(float(scaler(torch.full((1, 3), 0.5))[0, 1]) - 0.2) < 1e-6


def test_a_scaler_that_was_never_fitted_changes_nothing_and_a_fitted_one_passes_gradients():
    vectors = torch.randn(4, 3, generator=torch.Generator().manual_seed(0), requires_grad=True)
    scaler = FeatureScaler(3)
    assert torch.equal(scaler(vectors), vectors)
    scaler.load_statistics(StandardScaler().fit(np.random.default_rng(0).normal(2, 4, size=(30, 3))))
    scaler(vectors).sum().backward()
    torch.testing.assert_close(vectors.grad, (1 / scaler.std).expand(4, 3))
    assert not list(scaler.parameters())
    assert scaler(vectors.bfloat16()).dtype == torch.float32


def test_missing_values_and_other_scalers_are_refused():
    data, scaler = np.random.default_rng(0).normal(size=(9, 3)), FeatureScaler(3)
    with pytest.raises(ValueError, match="must be a fitted `StandardScaler`. Call its `partial_fit`"):
        scaler.load_statistics(StandardScaler())
    for settings in ({"with_std": False}, {"with_mean": False}):
        with pytest.raises(ValueError, match="must shift and scale"):
            scaler.load_statistics(StandardScaler(**settings).fit(data))
    with pytest.raises(ValueError, match="fitted on 2 dimensions, but this one has 3"):
        scaler.load_statistics(StandardScaler().fit(data[:, :2]))
    fitted = StandardScaler().fit(data)
    fitted.mean_[1] = np.nan
    with pytest.raises(ValueError, match="fitted on NaN or infinity"):
        scaler.load_statistics(fitted)
    assert not scaler.is_fitted and torch.equal(scaler.mean, torch.zeros(3))


def test_an_utterance_is_the_mean_of_its_regular_tokens(model, vectors):
    raw, found = model.word_vectors(IDS, MASK)
    expected = torch.stack([
        (vectors[5] + vectors[9] + vectors[4] + vectors[7]) / 4,
        vectors[8],
        torch.zeros(6),
        (2 * vectors[6] + vectors[11]) / 3,
    ])  # fmt: skip
    torch.testing.assert_close(raw, expected)
    assert found.tolist() == [True, True, False, True]
    standardised = model.query_features(IDS, MASK)
    torch.testing.assert_close(standardised[[0, 1, 3]], model.query_scaler(expected[[0, 1, 3]]))
    assert not standardised[2].any(), "without a regular token it lies at the scaler's mean"
    assert model.query_scaler(torch.zeros(6)).abs().min() > 0


def test_padding_and_neighbours_change_no_bit(model):
    expected = model.response_features(IDS, MASK)
    labels = torch.where(MASK == 1, IDS, -100)
    longer = torch.cat([IDS, torch.zeros(4, 9, dtype=torch.long)], dim=1)
    left = torch.cat([torch.full((4, 30), -100), labels], dim=1)
    for same in (
        model.response_features(IDS),  # the pad token is no regular token
        model.response_features(labels),
        model.response_features(longer, torch.cat([MASK, torch.zeros(4, 9)], dim=1)),
        model.response_features(left),
        torch.cat([model.response_features(row[None]) for row in labels]),
        model.response_features(labels.repeat(50, 1))[-4:],
        model.response_features(labels.flip(0)).flip(0),
    ):
        assert torch.equal(same, expected)
    hidden = model.response_features(IDS, torch.zeros_like(MASK))
    assert not hidden.any()


def test_padding_of_labels_is_no_token_even_where_the_first_token_is_regular(model, vectors):
    model.word_vectors.load(vectors, range(12))
    raw, found = model.word_vectors(torch.tensor([[-100, 0, 3, -100], [-100] * 4]))
    torch.testing.assert_close(raw, torch.stack([(vectors[0] + vectors[3]) / 2, torch.zeros(6)]))
    assert found.tolist() == [True, False]


def test_token_ids_and_vectors_give_the_same_outputs(model):
    labels = torch.where(MASK == 1, IDS, -100).flip(0)
    by_ids = model(input_ids=IDS, attention_mask=MASK, labels=labels)
    by_vectors = model(model.query_features(IDS, MASK), model.response_features(labels))
    assert torch.equal(by_ids.free_energy, by_vectors.free_energy) and by_ids.free_energy.requires_grad
    # The two scalers are two: the same tokens are another vector as a response.
    assert not torch.equal(model.query_features(IDS), model.response_features(IDS))


def test_word_vectors_are_frozen_but_saved(model):
    names = dict(model.named_parameters())
    assert not any("word_vectors" in name or "scaler" in name for name in names)
    assert {"word_vectors.vectors", "word_vectors.regular", "query_scaler.mean"} <= model.state_dict().keys()


def test_bad_tables_and_ids_are_refused(model, vectors):
    table = WordVectorTable(12, 6)
    with pytest.raises(ValueError, match=r"`vectors` must have shape \(12, 6\), got \(6, 12\)"):
        table.load(vectors.T, REGULAR)
    with pytest.raises(ValueError, match="`vectors` must be finite"):
        table.load(vectors / 0, REGULAR)
    for ids in ([], [3, 12], [-1]):
        with pytest.raises(
            ValueError, match=f"`regular_tokens` must be ids from 0 to 11, at least one, got {len(ids)} ids"
        ):
            table.load(vectors, ids)
    for wrong in (12, -7):
        with pytest.raises(ValueError, match=f"ids outside the vocabulary of 12 tokens, such as {wrong}"):
            model.query_features(torch.tensor([[4, wrong, 2]]))
    with pytest.raises(ValueError, match="holds no word vectors"):
        DbmModel(DbmConfig(query_size=3, response_size=3, hidden_size=2)).query_features(IDS)
    assert model.query_features(IDS[:0]).shape == (0, 6) and not model.query_features(IDS[:, :0]).any()


def correlated(rows: int, seed: int = 0) -> np.ndarray:
    rng = np.random.default_rng(seed)
    return rng.normal(size=(rows, 4)) @ rng.normal(size=(4, 4)) * [1, 5, 0.1, 2] + [0, 3, -2, 9]


def test_whitening_takes_correlations_out_and_changes_least():
    data = correlated(500)
    fitted, covariance = StandardScaler().fit(data), np.cov(data.T, bias=True)
    scaler = FeatureScaler(4, whiten=True).double().load_statistics(fitted, covariance)
    white = scaler(torch.tensor(data))
    np.testing.assert_allclose(np.cov(white.numpy().T, bias=True), np.eye(4), atol=1e-9)
    # Of all whitenings the symmetric one lies nearest the standardised vectors.
    standardised = fitted.transform(data)
    distance = ((white.numpy() - standardised) ** 2).sum()
    rotation = torch.linalg.qr(torch.randn(4, 4, generator=torch.Generator().manual_seed(0)))[0].double()
    assert distance < (((white @ rotation).numpy() - standardised) ** 2).sum()
    torch.testing.assert_close(scaler.whitening, scaler.whitening.T)
    torch.testing.assert_close(scaler.inverse(white), torch.tensor(data))


def test_a_direction_without_variance_is_not_blown_up():
    data = correlated(300)
    data[:, 3] = data[:, 0] + data[:, 1]  # a combination of others
    data[:, 2] = 7.0  # constant
    scaler = FeatureScaler(4, whiten=True).double()
    scaler.load_statistics(StandardScaler().fit(data), np.cov(data.T, bias=True))
    white = scaler(torch.tensor(data))
    assert white.isfinite().all() and float(white.std(dim=0).max()) < 1.01
    # Half a standard deviation off the plane of the others is at most 0.5 / sqrt(1e-3) away.
    moved = scaler(torch.tensor(data[:1]) + torch.tensor([[0.0, 0.0, 0.5, 0.0]]))
    assert float((moved - white[:1]).norm()) < 0.5 / 1e-3**0.5 + 1e-6


def test_a_whitening_model_keeps_its_statistics(tmp_path):
    model = DbmModel(DbmConfig(query_size=4, response_size=4, hidden_size=3, top_size=2, whiten=True))
    data = correlated(100)
    model.query_scaler.load_statistics(StandardScaler().fit(data), np.cov(data.T, bias=True))
    model.save_pretrained(tmp_path)
    again = DbmModel.from_pretrained(tmp_path)
    assert torch.equal(again.query_scaler.whitening, model.query_scaler.whitening)
    assert torch.equal(again.response_scaler.whitening, torch.eye(4))


def test_whitening_without_a_covariance_is_refused():
    fitted = StandardScaler().fit(correlated(10))
    with pytest.raises(ValueError, match=r"covariance.*\(4, 4\), got None"):
        FeatureScaler(4, whiten=True).load_statistics(fitted)
    with pytest.raises(ValueError, match=r"got \(3, 3\)"):
        FeatureScaler(4, whiten=True).load_statistics(fitted, np.eye(3))
    with pytest.raises(ValueError, match="finite"):
        FeatureScaler(4, whiten=True).load_statistics(fitted, np.full((4, 4), np.nan))
