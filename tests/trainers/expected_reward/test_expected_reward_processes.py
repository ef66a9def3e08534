"""`ExpectedRewardTrainer` in two processes under torchrun, against one. One launch for all of it."""

import pytest
import torch

SCRIPT = "expected_reward_processes.py"  # of the fixtures `one` and `two`
MODELS = ["t5", "bart", "rnn_seq2seq"]


@pytest.mark.parametrize("name", MODELS)
def test_two_processes_equal_one_with_the_same_samples(name, one, two):
    # Both the part of the samples and that of the references, two forwards of the wrapped model to one backward.
    alone, first, second = (measured[f"fixed {name}"] for measured in (one, *two))
    assert first["parameters"] == second["parameters"]
    torch.testing.assert_close(torch.tensor(first["parameters"]), torch.tensor(alone["parameters"]), atol=1e-6, rtol=0)
    assert first["logged"] == second["logged"]
    torch.testing.assert_close(torch.tensor(first["logged"]), torch.tensor(alone["logged"]), atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("name", MODELS)
def test_processes_draw_different_samples_and_stay_equal(name, two):
    first, second = (measured[f"sampled {name}"] for measured in two)
    assert first["parameters"] == second["parameters"]
    assert first["logged"] == second["logged"]
    # The running mean is that of both: of reward + temperature * entropy, where each update keeps 0.95 of the old ones.
    values = [reward + 0.02 * entropy for _, reward, _, entropy in first["logged"]]
    shares = [0.95 ** (len(values) - 1 - i) for i in range(len(values))]
    mean = sum(share * value for share, value in zip(shares, values, strict=True)) / sum(shares)
    assert first["running_mean"] == second["running_mean"] == pytest.approx(mean, abs=1e-6)
    assert len(first["samples"]) == len(second["samples"]) == 8  # 4 updates of 2 batches
    assert all(ours != theirs for ours, theirs in zip(first["samples"], second["samples"], strict=True))
