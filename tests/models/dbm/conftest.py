"""Tiny machines whose every state can be gone through, and their sums written out."""

import itertools

import numpy as np
import pytest
import torch

from hf_localgan.models import DbmConfig, DbmModel

SIZES = {"query_size": 2, "response_size": 3, "hidden_size": 4, "top_size": 3}


@pytest.fixture(scope="session")
def tiny_dbm():
    """`tiny_dbm(seed=0, scale=0.7, **fields)`: a float64 model, all of whose parameters are drawn, with that scale."""

    def build(seed: int = 0, scale: float = 0.7, **fields) -> DbmModel:
        model = DbmModel(DbmConfig(**{**SIZES, **fields})).double().eval()
        generator = torch.Generator().manual_seed(seed)
        with torch.no_grad():
            for name, parameter in model.named_parameters():
                width = min(scale, 0.3) if name == "visible_log_std" else scale  # deviations between 1/2 and 2
                parameter.copy_(width * torch.randn(parameter.shape, generator=generator, dtype=torch.float64))
        return model

    return build


@pytest.fixture(scope="session")
def pairs():
    """`pairs(model, count=5, seed=1)`: standardised vectors of queries and responses in the model's precision."""

    def build(model: DbmModel, count: int = 5, seed: int = 1):
        generator = torch.Generator().manual_seed(seed)
        sizes = model.config.query_size, model.config.response_size
        like = model.visible_to_hidden
        return tuple(torch.randn(count, size, generator=generator, dtype=like.dtype) for size in sizes)

    return build


def all_states(units: int) -> np.ndarray:
    """Shape `(2 ** units, units)`."""
    return np.array(list(itertools.product((0.0, 1.0), repeat=units))).reshape(2**units, units)


@pytest.fixture(scope="session")
def joint_energies():
    """`joint_energies(model, query, response)`: Eq. 8 with the quadratic term, unit by unit, for every binary state.

    Returns energies of shape `(batch, 2 ** hidden, 2 ** top)` and both tables of states. Loops and numpy only.
    """

    def compute(model: DbmModel, query: torch.Tensor, response: torch.Tensor):
        p = {name: parameter.detach().numpy() for name, parameter in model.named_parameters()}
        hiddens, tops = all_states(model.config.hidden_size), all_states(model.config.top_size)
        visible = torch.cat([query, response], dim=1).numpy()
        std = np.exp(p["visible_log_std"]) if "visible_log_std" in p else np.ones(visible.shape[1])
        energies = np.empty((len(visible), len(hiddens), len(tops)))
        for (i, v), (j, hq), (k, h) in itertools.product(enumerate(visible), enumerate(hiddens), enumerate(tops)):
            energy = -hq @ p["visible_to_hidden"] @ (v / std**2)
            if model.config.energy == "rbm_pair":
                energy -= h @ p["visible_to_top"] @ v
                energy += ((v - p["top_visible_bias"]) ** 2).sum() / 2
            else:
                energy -= h @ p["hidden_to_top"] @ hq
            if model.config.energy != "printed":
                energy += ((v - p["visible_bias"]) ** 2 / (2 * std**2)).sum()
                energy -= p["hidden_bias"] @ hq + p["top_bias"] @ h
            energies[i, j, k] = energy
        return energies, hiddens, tops

    return compute
