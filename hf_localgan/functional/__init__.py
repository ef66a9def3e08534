"""Equations as plain functions: tensors in, tensors out; tables of counts in numpy."""

from .adversarial import DiscriminatorLoss, accuracies, critic_loss, discriminator_loss
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
from .radial import GeneratorLoss, alpha, delta_alpha, generator_loss, radius_spread, wrong_sign_share
from .relaxation import RelaxedTokens, expected_embedding, relax_tokens

__all__ = [
    "DiscriminatorLoss",
    "GeneratorLoss",
    "RelaxedTokens",
    "accuracies",
    "alpha",
    "critic_loss",
    "delta_alpha",
    "direction_gap",
    "discriminator_loss",
    "edit_log_probs",
    "entropy",
    "expected_edit_rate",
    "expected_embedding",
    "expected_reward_loss",
    "exponentiated_payoff",
    "generator_loss",
    "hamming_replacement_prob",
    "kl_divergence",
    "leave_one_out_baseline",
    "linear_cross_entropy",
    "linear_token_nll",
    "log_edit_counts",
    "log_partition",
    "policy_gradient_weights",
    "radius_spread",
    "raml_loss",
    "regularised_rewards",
    "relax_tokens",
    "temperature_for_edit_rate",
    "wrong_sign_share",
]
