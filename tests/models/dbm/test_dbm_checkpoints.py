"""Saving, reloading through the Auto classes, checkpoints that lack tensors, and the configuration."""

import json
import math

import numpy as np
import pytest
import torch
from huggingface_hub.errors import StrictDataclassError
from safetensors.torch import load_file, save_file
from sklearn.preprocessing import StandardScaler
from transformers import AutoConfig, AutoModel

from hf_localgan.models import DbmConfig, DbmModel

FORMS = pytest.mark.parametrize(
    "fields",
    [
        {},
        {"visible_std": "learned"},
        {"top_size": 0},
        {"energy": "rbm_pair"},
        {"energy": "printed"},
        {"query_size": 3, "vocab_size": 12},
    ],
    ids=str,
)


def filled(model: DbmModel) -> DbmModel:
    """With fitted scalers, and word vectors where there is a table for them."""
    for scaler in (model.query_scaler, model.response_scaler):
        data = np.random.default_rng(0).normal(3, 2, size=(20, len(scaler.mean)))
        scaler.load_statistics(StandardScaler().fit(data))
    if model.word_vectors is not None:
        model.word_vectors.load(torch.randn(12, 3, generator=torch.Generator().manual_seed(0)), range(4, 12))
    return model


@FORMS
def test_a_saved_model_comes_back_bit_for_bit(tiny_dbm, pairs, fields, tmp_path):
    model = filled(tiny_dbm(**fields).float())
    model.save_pretrained(tmp_path)
    reloaded = AutoModel.from_pretrained(tmp_path)
    assert type(reloaded) is DbmModel and type(AutoConfig.from_pretrained(tmp_path)) is DbmConfig
    actual, expected = reloaded.state_dict(), model.state_dict()
    assert actual.keys() == expected.keys() and any("scaler" in name for name in expected)
    for name in expected:
        assert torch.equal(actual[name], expected[name]) and actual[name].dtype == expected[name].dtype, name
    assert torch.equal(reloaded.free_energy(*pairs(model)), model.free_energy(*pairs(model)))
    if model.word_vectors is not None:
        ids = torch.tensor([[5, 7, 2]])
        assert torch.equal(reloaded.query_features(ids), model.query_features(ids))


def test_a_float64_model_comes_back_in_float64(tiny_dbm, tmp_path):
    model = filled(tiny_dbm())
    model.save_pretrained(tmp_path)
    reloaded = AutoModel.from_pretrained(tmp_path)
    assert reloaded.visible_to_hidden.dtype == torch.float64
    for name, tensor in reloaded.state_dict().items():
        assert torch.equal(tensor, model.state_dict()[name]), name


@FORMS
def test_what_a_checkpoint_lacks_is_initialised_and_the_rest_untouched(tiny_dbm, pairs, fields, tmp_path):
    model = filled(tiny_dbm(**fields).float())
    model.save_pretrained(tmp_path)
    tensors = load_file(tmp_path / "model.safetensors")
    for kept in ({"hidden_bias"}, {"visible_to_hidden", "response_scaler.mean"}, tensors.keys() - {"visible_bias"}):
        kept = {name: tensors[name] for name in kept}
        save_file(kept, tmp_path / "model.safetensors", metadata={"format": "pt"})
        reloaded = AutoModel.from_pretrained(tmp_path)
        state = reloaded.state_dict()
        for name, tensor in state.items():
            if name in kept:
                assert torch.equal(tensor, tensors[name]), name
            elif "_to_" in name:  # five deviations of the initial distribution
                assert not tensor.numel() or 0 < tensor.abs().max() < 0.05, name
            elif name.endswith("scaler.std"):
                assert (tensor == 1).all(), name
            else:
                assert not tensor.any(), name
        assert reloaded.free_energy(*pairs(model)).isfinite().all()
        assert reloaded.query_scaler.is_fitted == ("query_scaler.count" in kept)


@FORMS
def test_a_new_model_starts_small_and_neutral(fields):
    torch.manual_seed(0)
    model = DbmModel(DbmConfig(**{"query_size": 30, "response_size": 30, **fields, **{"query_size": 30}}))
    for name, parameter in model.named_parameters():
        if "_to_" in name:
            assert parameter.numel() == 0 or 0.009 < parameter.std() < 0.011, name
        else:
            assert not parameter.any(), name
    wide = DbmModel(DbmConfig(query_size=30, response_size=30, initializer_range=0.2))
    assert 0.19 < wide.visible_to_hidden.std() < 0.21


def test_the_saved_configuration_is_plain_and_complete(tiny_dbm, tmp_path):
    tiny_dbm(visible_std="learned", mean_field_steps=50).save_pretrained(tmp_path)
    saved = json.loads((tmp_path / "config.json").read_text())
    assert saved["model_type"] == "query_response_dbm" and saved["architectures"] == ["DbmModel"]
    assert (saved["query_size"], saved["top_size"], saved["visible_std"]) == (2, 3, "learned")
    assert (saved["energy"], saved["mean_field_steps"], saved["vocab_size"]) == ("dbm", 50, None)


def test_the_auto_classes_know_the_model_type():
    assert type(AutoConfig.for_model("query_response_dbm")) is DbmConfig
    assert type(AutoModel.from_config(DbmConfig(query_size=3, response_size=4))) is DbmModel


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"energy": "rbm"}, '`energy` must be one of "dbm", "printed", "rbm_pair", got "rbm"'),
        ({"visible_std": "half"}, '`visible_std` must be one of "unit", "learned", got "half"'),
        ({"query_size": 0}, "`query_size` must be at least 1, got 0"),
        ({"response_size": -1}, "`response_size` must be at least 1, got -1"),
        ({"hidden_size": 0}, "`hidden_size` must be at least 1, got 0"),
        ({"mean_field_steps": 0}, "`mean_field_steps` must be at least 1, got 0"),
        ({"top_size": -1}, '`top_size` must be at least 0 with `energy="dbm"`, got -1'),
        ({"top_size": 0, "energy": "rbm_pair"}, '`top_size` must be at least 1 with `energy="rbm_pair"`, got 0'),
        ({"mean_field_tolerance": 1.0}, r"`mean_field_tolerance` must be in \[0, 1\), got 1.0"),
        ({"mean_field_tolerance": math.nan}, r"`mean_field_tolerance` must be in \[0, 1\), got nan"),
        ({"initializer_range": -0.1}, "`initializer_range` must be at least 0 and finite, got -0.1"),
        ({"vocab_size": 0}, "`vocab_size` must be at least 1, or `None`, got 0"),
        ({"energy": "rbm_pair", "visible_std": "learned"}, '`visible_std="learned"` needs `energy="dbm"`'),
        ({"vocab_size": 9, "query_size": 3, "response_size": 4}, "got `query_size` 3 and `response_size` 4"),
    ],
)
def test_a_bad_field_is_refused_with_what_is_accepted(fields, message):
    with pytest.raises((ValueError, StrictDataclassError), match=message):
        DbmConfig(**fields)
