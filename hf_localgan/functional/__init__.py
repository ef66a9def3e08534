"""Equations as plain functions: tensors in, tensors out; tables of counts in numpy."""

from .cross_entropy import linear_cross_entropy, linear_token_nll
from .exponentiated import (
    direction_gap,
    entropy,
    expected_reward_loss,
    exponentiated_payoff,
    kl_divergence,
    log_partition,
    raml_loss,
)
from .payoff import (
    edit_log_probs,
    expected_edit_rate,
    hamming_replacement_prob,
    log_edit_counts,
    temperature_for_edit_rate,
)
from .policy_gradient import leave_one_out_baseline, policy_gradient_weights, regularised_rewards

__all__ = [
    "direction_gap",
    "edit_log_probs",
    "entropy",
    "expected_edit_rate",
    "expected_reward_loss",
    "exponentiated_payoff",
    "hamming_replacement_prob",
    "kl_divergence",
    "leave_one_out_baseline",
    "linear_cross_entropy",
    "linear_token_nll",
    "log_edit_counts",
    "log_partition",
    "policy_gradient_weights",
    "raml_loss",
    "regularised_rewards",
    "temperature_for_edit_rate",
]
