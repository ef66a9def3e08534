"""Weights of the policy gradient."""

import math

import pytest
import torch

from hf_localgan.functional.policy_gradient import (
    leave_one_out_baseline,
    policy_gradient_weights,
    regularised_rewards,
)


def test_the_baseline_of_a_sample_is_the_mean_of_the_others():
    # (2 + 6) / 2, (1 + 6) / 2, (1 + 2) / 2
    assert leave_one_out_baseline(torch.tensor([[1.0, 2.0, 6.0]])).tolist() == [[4.0, 3.5, 1.5]]
    assert leave_one_out_baseline(torch.tensor([[1.0, 2.0], [0.0, 0.0]])).tolist() == [[2.0, 1.0], [0.0, 0.0]]


def test_weights_by_hand():
    # r - tau log p = 1 + 2 * 0.5 = 2 and 0 + 2 * 1 = 2.5 - 0.5; each minus the other
    rewards, log_probs = torch.tensor([[1.0, 0.5]]), torch.tensor([[-0.5, -1.0]])
    assert regularised_rewards(rewards, log_probs, 2.0).tolist() == [[2.0, 2.5]]
    assert policy_gradient_weights(rewards, log_probs, 2.0).tolist() == [[-0.5, 0.5]]
    assert policy_gradient_weights(rewards, log_probs, 2.0, baseline=0.25).tolist() == [[1.75, 2.25]]
    # A baseline of each example; without the entropy the log-probabilities do not matter.
    both = torch.tensor([[1.0, 0.5], [0.0, 2.0]])
    weights = policy_gradient_weights(both, -both, 0.0, baseline=torch.tensor([[0.5], [1.0]]))
    assert weights.tolist() == [[0.5, 0.0], [-1.0, 1.0]]


def test_weights_carry_no_gradient():
    rewards, log_probs = torch.ones(2, 3, requires_grad=True), torch.full((2, 3), -1.0, requires_grad=True)
    assert not policy_gradient_weights(rewards, log_probs, 0.5).requires_grad


def test_leave_one_out_weights_of_an_example_sum_to_zero():
    draw = torch.Generator().manual_seed(0)
    rewards, log_probs = torch.rand(5, 4, generator=draw), -torch.rand(5, 4, generator=draw)
    torch.testing.assert_close(
        policy_gradient_weights(rewards, log_probs, 0.3).sum(dim=1), torch.zeros(5), atol=1e-6, rtol=0
    )


@pytest.mark.parametrize("shape", [(3, 1), (3,), (2, 2, 2)])
def test_leaving_one_out_needs_two_samples(shape):
    with pytest.raises(ValueError, match=r"at least 2 samples, got \("):
        leave_one_out_baseline(torch.zeros(shape))


def test_what_is_refused():
    ones = torch.ones(2, 2)
    with pytest.raises(ValueError, match=r"one shape, got \(2, 2\) and \(2,\)"):
        policy_gradient_weights(ones, torch.ones(2))
    for temperature in (-0.1, math.nan, math.inf):
        with pytest.raises(ValueError, match=r"`temperature` must be a number of at least 0, got"):
            policy_gradient_weights(ones, ones, temperature)
    with pytest.raises(ValueError, match=r"`rewards` must be finite, got nan"):
        policy_gradient_weights(torch.tensor([[1.0, math.nan]]), torch.zeros(1, 2))
    with pytest.raises(ValueError, match=r"`log_probs` must be finite, got -inf"):
        policy_gradient_weights(torch.zeros(1, 2), torch.tensor([[0.0, -math.inf]]))
