"""The objectives of RAML on every string of at most three tokens over a vocabulary of three."""

import math
from itertools import product

import pytest
import torch
from rapidfuzz.distance import Levenshtein
from torch.func import functional_call, jacrev

from hf_localgan.functional.exponentiated import (
    direction_gap,
    entropy,
    expected_reward_loss,
    exponentiated_payoff,
    kl_divergence,
    log_partition,
    raml_loss,
)
from hf_localgan.functional.policy_gradient import policy_gradient_weights

STRINGS = [string for length in range(4) for string in product(range(3), repeat=length)]  # 1 + 3 + 9 + 27 = 40
TEMPERATURES = (0.25, 0.9, 3.0)


def edit_reward(candidate: tuple, reference: tuple) -> float:
    return -float(Levenshtein.distance(candidate, reference))


def precision_reward(candidate: tuple, reference: tuple) -> float:
    """As BLEU: clipped precision of tokens and of pairs, geometric mean, times a penalty for brevity; in [0, 1]."""
    if not candidate:
        return 0.0
    parts = []
    for n in (1, 2):
        ours, theirs = ([some[i : i + n] for i in range(len(some) - n + 1)] for some in (candidate, reference))
        matched = sum(min(ours.count(gram), theirs.count(gram)) for gram in set(ours))
        parts.append((matched + 1) / (len(ours) + 1))
    return math.sqrt(parts[0] * parts[1]) * min(1.0, math.exp(1 - len(reference) / len(candidate)))


REFERENCES = [(0, 1), (2, 2, 1), ()]
REWARDS = {"edit": edit_reward, "precision": precision_reward}


@pytest.fixture(params=REWARDS)
def rewards(request) -> torch.Tensor:
    """Of each string against each reference, shape `(3, 40)`."""
    reward = REWARDS[request.param]
    return torch.tensor([[reward(y, reference) for y in STRINGS] for reference in REFERENCES], dtype=torch.float64)


def random_scores(seed: int, *shape: int) -> torch.Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def test_the_payoff_distribution_by_hand():
    # Rewards 0, -1, -1 at tau = 1 / ln 2: weights 1, 1/2, 1/2, so Z = 2.
    rewards = torch.tensor([0.0, -1.0, -1.0])
    torch.testing.assert_close(exponentiated_payoff(rewards, 1 / math.log(2)).exp(), torch.tensor([0.5, 0.25, 0.25]))
    assert log_partition(rewards, 1 / math.log(2)).item() == pytest.approx(math.log(2))
    # H = 1/2 ln 2 + 2 * 1/4 ln 4 = 3/2 ln 2
    assert entropy(exponentiated_payoff(rewards, 1 / math.log(2))).item() == pytest.approx(1.5 * math.log(2))


def test_both_losses_by_hand():
    # p = (1/4, 3/4), r = (1, 0), tau = 2; q = (1/2, 1/2)
    log_p, half = torch.tensor([0.25, 0.75]).log(), torch.tensor([0.5, 0.5]).log()
    # -(1/2 ln 1/4 + 1/2 ln 3/4) = ln 4 - 1/2 ln 3
    assert raml_loss(half, log_p).item() == pytest.approx(math.log(4) - math.log(3) / 2)
    # H(p) = ln 4 - 3/4 ln 3;  -2 H - 1/4
    loss = expected_reward_loss(torch.tensor([1.0, 0.0]), log_p, 2.0)
    assert loss.item() == pytest.approx(-2 * (math.log(4) - 0.75 * math.log(3)) - 0.25)
    assert expected_reward_loss(torch.tensor([1.0, 0.0]), log_p).item() == pytest.approx(-0.25)


@pytest.mark.parametrize("temperature", TEMPERATURES)
def test_equation_5_the_expected_reward_is_the_divergence_from_p_to_q(rewards, temperature):
    log_p = random_scores(0, *rewards.shape).log_softmax(dim=-1)
    log_q = exponentiated_payoff(rewards, temperature)
    torch.testing.assert_close(
        expected_reward_loss(rewards, log_p, temperature),
        temperature * (kl_divergence(log_p, log_q) - log_partition(rewards, temperature)),
    )


def test_equation_6_the_likelihood_of_a_reference_is_the_divergence_from_it_alone():
    log_p = random_scores(5, 6).log_softmax(dim=-1)
    for reference in range(6):
        log_delta = torch.full_like(log_p, -math.inf)
        log_delta[reference] = 0.0
        torch.testing.assert_close(kl_divergence(log_delta, log_p), -log_p[reference])


@pytest.mark.parametrize("temperature", TEMPERATURES)
def test_equation_8_the_raml_loss_is_the_divergence_from_q_to_p(rewards, temperature):
    log_p = random_scores(1, *rewards.shape).log_softmax(dim=-1)
    log_q = exponentiated_payoff(rewards, temperature)
    torch.testing.assert_close(raml_loss(log_q, log_p), kl_divergence(log_q, log_p) + entropy(log_q))


def test_the_two_divergences_differ_are_positive_and_both_vanish_at_the_payoff_distribution(rewards):
    log_q, log_p = exponentiated_payoff(rewards, 0.9), random_scores(2, *rewards.shape).log_softmax(dim=-1)
    forward, backward = kl_divergence(log_p, log_q), kl_divergence(log_q, log_p)
    assert (forward > 0.01).all() and (backward > 0.01).all() and ((forward - backward).abs() > 1e-3).all()
    assert kl_divergence(log_q, log_q).abs().max() < 1e-15
    # Every other model has more of both losses.
    assert (raml_loss(log_q, log_p) > raml_loss(log_q, log_q)).all()
    assert (expected_reward_loss(rewards, log_p, 0.9) > expected_reward_loss(rewards, log_q, 0.9)).all()


def test_at_a_low_temperature_the_payoff_distribution_is_the_reference_and_the_loss_its_likelihood():
    rewards = torch.tensor([edit_reward(y, (0, 1)) for y in STRINGS], dtype=torch.float64)
    log_q, log_p = exponentiated_payoff(rewards, 0.01), random_scores(3, 40).log_softmax(dim=-1)
    at_reference = log_p[STRINGS.index((0, 1))]
    torch.testing.assert_close(raml_loss(log_q, log_p), -at_reference)


def test_excluded_outputs_count_nothing_and_a_missing_one_costs_infinitely_much():
    log_q = exponentiated_payoff(torch.tensor([0.0, 0.0, -math.inf]), 1.0)  # (1/2, 1/2, 0)
    log_p = torch.tensor([0.5, 0.5, 0.0]).log().requires_grad_()
    loss = raml_loss(log_q, log_p)
    loss.backward()
    assert loss.item() == pytest.approx(math.log(2)) == entropy(log_q).item()
    assert log_p.grad.tolist() == [-0.5, -0.5, 0.0]
    assert kl_divergence(log_q, log_p).item() == pytest.approx(0.0, abs=1e-7)
    assert kl_divergence(log_q, torch.tensor([1.0, 0.0, 0.0]).log()).item() == math.inf


# ---- Proposition 2 ----


@pytest.mark.parametrize("temperature", TEMPERATURES)
@pytest.mark.parametrize("scale", [0.1, 1.0, 3.0])
def test_proposition_2_the_directions_differ_by_two_variances_in_between(rewards, temperature, scale):
    for seed in range(5):
        scores = scale * random_scores(seed, *rewards.shape)
        gap = direction_gap(scores, rewards, temperature)
        log_p, log_q = (exponentiated_payoff(some, temperature) for some in (scores, rewards))
        difference = kl_divergence(log_p, log_q) - kl_divergence(log_q, log_p)
        torch.testing.assert_close(gap.difference, difference)
        expected = (gap.variance_a - gap.variance_b) / (4 * temperature**2)
        torch.testing.assert_close(expected, difference, atol=1e-12, rtol=1e-9)
        # The positions are where they should be, and the variances are what they are said to be.
        assert ((0 <= gap.position_a) & (gap.position_a <= 0.5) & (0.5 <= gap.position_b) & (gap.position_b <= 1)).all()
        for position, variance in ((gap.position_a, gap.variance_a), (gap.position_b, gap.variance_b)):
            mixed = ((1 - position)[:, None] * scores + position[:, None] * rewards) / temperature
            probs, values = mixed.softmax(dim=-1), scores - rewards
            mean = (probs * values).sum(dim=-1)
            torch.testing.assert_close(variance, (probs * values**2).sum(dim=-1) - mean**2, atol=1e-9, rtol=1e-7)


@pytest.mark.parametrize("temperature", TEMPERATURES)
def test_proposition_2_the_difference_is_bounded_by_the_squared_distance(rewards, temperature):
    scores = torch.stack([(0.1 + seed / 5) * random_scores(seed, *rewards.shape) for seed in range(40)])
    rewards = rewards.expand_as(scores)  # (40, 3, 40)
    gap = direction_gap(scores, rewards, temperature)
    assert (gap.difference.abs() < gap.bound).all()
    for constant in (0.0, -0.7, 4.0):
        squared_distance = (scores - rewards + constant).square().sum(dim=-1)
        assert (gap.bound <= squared_distance / (8 * temperature**2)).all()
    assert (gap.difference / gap.bound).max() > 0.05  # the bound is no empty one


@pytest.mark.parametrize("temperature", TEMPERATURES)
def test_the_two_objectives_are_related_with_the_constant_that_section_3_leaves_out(rewards, temperature):
    # s = tau log p + anything: the proposition does not depend on the constant.
    log_p = (2 * random_scores(7, *rewards.shape)).log_softmax(dim=-1)
    log_q = exponentiated_payoff(rewards, temperature)
    gap = direction_gap(temperature * log_p + 5.0, rewards, temperature)
    left_out = temperature * (entropy(log_q) + log_partition(rewards, temperature))
    without = temperature * raml_loss(log_q, log_p) + (gap.variance_a - gap.variance_b) / (4 * temperature)
    torch.testing.assert_close(expected_reward_loss(rewards, log_p, temperature), without - left_out)
    assert (left_out.abs() > 0.05).all()


def test_the_variances_are_equal_where_model_and_payoff_are():
    rewards = torch.tensor([[0.0, -1.0, -2.0]], dtype=torch.float64)
    gap = direction_gap(rewards + 3.0, rewards, 0.5)
    assert gap.difference.item() == gap.bound.item() == 0.0
    assert gap.variance_a.item() == pytest.approx(0.0, abs=1e-15) == gap.variance_b.item()


# ---- gradients ----


@pytest.fixture(scope="module")
def model() -> torch.nn.Module:
    """Log-probabilities of the 40 strings, from 6 parameters in a curve, so that no gradient is trivial."""

    class Curve(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.weight = torch.nn.Parameter(random_scores(10, 6))
            self.features = random_scores(11, 40, 6)

        def forward(self) -> torch.Tensor:
            return (self.features @ self.weight + (self.features @ self.weight).sin()).log_softmax(dim=-1)

    return Curve()


def log_prob_gradients(model: torch.nn.Module) -> torch.Tensor:
    """`grad log p(y)` of each string, shape `(40, 6)`."""
    return jacrev(lambda weight: functional_call(model, {"weight": weight}, ()))(model.weight.detach())


@pytest.mark.parametrize("temperature", TEMPERATURES)
def test_equation_9_is_the_gradient_of_the_raml_loss(rewards, model, temperature):
    log_q = exponentiated_payoff(rewards, temperature)
    (gradient,) = torch.autograd.grad(raml_loss(log_q, model()).sum(), model.weight)
    estimator = -log_prob_gradients(model)  # of the drawn string
    torch.testing.assert_close(torch.einsum("by,yd->d", log_q.exp(), estimator), gradient)


@pytest.mark.parametrize("temperature", (0.0, *TEMPERATURES))
@pytest.mark.parametrize("baseline", [0.0, 1.7, -30.0])
def test_equation_10_is_the_gradient_of_the_expected_reward_for_every_baseline(rewards, model, temperature, baseline):
    log_p = model().expand_as(rewards)
    (gradient,) = torch.autograd.grad(expected_reward_loss(rewards, log_p, temperature).sum(), model.weight)
    log_p = log_p.detach()
    weights = policy_gradient_weights(rewards, log_p, temperature, baseline)  # of each string, had it been drawn
    estimated = torch.einsum("by,by,yd->d", log_p.exp(), -weights, log_prob_gradients(model))
    torch.testing.assert_close(estimated, gradient)


def test_both_gradients_vanish_at_the_payoff_distribution():
    rewards = torch.tensor([edit_reward(y, (0, 1)) for y in STRINGS], dtype=torch.float64)
    scores = (rewards / 0.9).requires_grad_()
    for loss in (
        raml_loss(exponentiated_payoff(rewards, 0.9), scores.log_softmax(dim=-1)),
        expected_reward_loss(rewards, scores.log_softmax(dim=-1), 0.9),
    ):
        (gradient,) = torch.autograd.grad(loss, scores)
        assert gradient.abs().max() < 1e-15


# ---- what is refused ----


@pytest.mark.parametrize("temperature", [0.0, -1.0, math.nan])
def test_a_temperature_that_is_not_positive(temperature):
    rewards = torch.zeros(2)
    for call in (exponentiated_payoff, log_partition, lambda some, tau: direction_gap(some, some, tau)):
        with pytest.raises(ValueError, match=r"`temperature` must be positive, got"):
            call(rewards, temperature)
    if temperature != 0:
        with pytest.raises(ValueError, match=r"`temperature` must be at least 0, got"):
            expected_reward_loss(rewards, rewards, temperature)


def test_scores_that_are_infinite_or_of_another_shape():
    with pytest.raises(ValueError, match=r"one shape, got \(2,\) and \(3,\)"):
        direction_gap(torch.zeros(2), torch.zeros(3), 1.0)
    with pytest.raises(ValueError, match=r"must be finite.*Leave outputs of probability 0 out"):
        direction_gap(torch.tensor([0.0, -math.inf]), torch.zeros(2), 1.0)
