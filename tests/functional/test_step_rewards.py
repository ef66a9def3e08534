"""Rewards for every token: the expected gradient by exact enumeration over a recurrent generator, and each trap."""

from itertools import product

import pytest
import torch

from hf_localgan.functional.policy_gradient import (
    batch_baseline,
    discriminator_rewards,
    previous_values,
    rollout_values,
    shuffled_rewards,
    step_advantages,
    step_policy_loss,
    step_values,
)

VOCAB, LONGEST, END = 5, 3, 2
QUERY = torch.tensor([[4, 3, END]])


def every_response() -> torch.Tensor:
    """Responses that end with the token 2, or are cut after three tokens; -100 behind: 1 + 4 + 16 + 64 = 85."""
    rows = []
    for length in range(1, LONGEST + 1):
        for before in product([t for t in range(VOCAB) if t != END], repeat=length - 1):
            last = range(VOCAB) if length == LONGEST else [END]
            rows += [[*before, token, *[-100] * (LONGEST - length)] for token in last]
    return torch.tensor(rows)


class Enumeration:
    """All responses of a generator, their log-probabilities and rewards, and the exact gradient of the mean reward."""

    def __init__(self, model):
        self.model, self.responses = model, every_response()
        self.mask = self.responses != -100
        decoder = model.prepare_decoder_input_ids_from_labels(self.responses)
        query = QUERY.expand(len(decoder), -1)
        logits = model(input_ids=query, decoder_input_ids=decoder, use_cache=False).logits
        at = logits.log_softmax(-1).gather(2, self.responses.clamp(min=0)[:, :, None])[:, :, 0]
        self.log_probs = at.masked_fill(~self.mask, 0.0)
        self.p = self.log_probs.sum(1).exp().detach()
        draw = torch.Generator().manual_seed(3)
        self.rewards = torch.rand(len(decoder), dtype=torch.float64, generator=draw)

    def gradient(self, loss):
        gradients = torch.autograd.grad(loss, list(self.model.parameters()), retain_graph=True, allow_unused=True)
        return torch.cat([one.flatten() for one in gradients if one is not None])

    def exact(self):
        return self.gradient(-(self.log_probs.sum(1).exp() * self.rewards).sum())

    def values(self):
        """`E[R | y_<=t]` of every prefix of every response, exactly."""
        values = torch.zeros(self.responses.shape, dtype=torch.float64)
        for length in range(1, LONGEST + 1):
            same = (self.responses[:, None, :length] == self.responses[None, :, :length]).all(2).double()
            values[:, length - 1] = (same @ (self.p * self.rewards)) / (same @ self.p)
        return values

    def expected(self, weights):
        """The surrogate's gradient, averaged over all responses with their probabilities."""
        return self.gradient(step_policy_loss(self.log_probs, self.p[:, None] * weights) * len(self.p))


@pytest.fixture(scope="module")
def world(tiny_generator):
    return Enumeration(tiny_generator(seed=2, vocab_size=VOCAB).double())


def relative_error(actual, expected):
    return ((actual - expected).norm() / expected.norm()).item()


def test_the_responses_are_all_there_are(world):
    assert len(world.responses) == 85 and world.p.sum().item() == pytest.approx(1.0)


def test_whole_and_step_rewards_with_any_baseline_have_the_exact_gradient(world):
    values, mean = world.values(), (world.p * world.rewards).sum()
    whole = step_values(None, world.rewards, world.mask)
    step = step_values(values[:, :-1], world.rewards, world.mask)
    torch.testing.assert_close(step, values.masked_fill(~world.mask, 0.0))  # at the last token they agree
    baselines = {"none": 0.0, "constant": 7.3, "mean": mean, "previous": previous_values(step, mean)}
    for q in (whole, step):
        for name, baseline in baselines.items():
            error = relative_error(world.expected(step_advantages(q, baseline, world.mask).weights), world.exact())
            assert error < 1e-10, name


def test_the_two_common_mistakes_have_another_gradient(world):
    values, mean = world.values(), (world.p * world.rewards).sum()
    step = step_values(values, world.rewards, world.mask)
    shifted = step_advantages(previous_values(step, mean), 0.0, world.mask).weights
    assert relative_error(world.expected(shifted), world.exact()) == pytest.approx(1.0, abs=1e-6)  # nothing is left
    last = world.mask & ~torch.cat([world.mask[:, 1:], torch.zeros(len(step), 1, dtype=torch.bool)], dim=1)
    wrong = torch.where(last, previous_values(step, mean), step)
    assert relative_error(world.expected(wrong), world.exact()) > 0.3


def test_the_previous_value_is_the_best_baseline_and_a_baseline_matters_more_than_step_rewards(world):
    values, mean = world.values(), (world.p * world.rewards).sum()
    whole = step_values(None, world.rewards, world.mask)
    step = step_values(values, world.rewards, world.mask)
    exact = world.exact()

    def variance(q, baseline):
        weights = step_advantages(q, baseline, world.mask).weights
        squares = 0.0
        for row in range(len(world.p)):
            one = world.gradient(-(weights[row] * world.log_probs[row]).sum())
            squares += world.p[row] * (one - exact).square().sum()
        return (squares / exact.square().sum()).item()

    found = {
        "whole": variance(whole, 0.0), "whole, mean": variance(whole, mean), "step": variance(step, 0.0),
        "step, mean": variance(step, mean), "step, previous": variance(step, previous_values(step, mean)),
    }  # fmt: skip
    assert sorted(found, key=found.get) == ["step, previous", "step, mean", "whole, mean", "step", "whole"]
    assert found["whole"] / found["whole, mean"] > 2 * found["whole"] / found["step"]


def test_a_constant_reward_trains_nothing(world):
    ones = torch.full_like(world.rewards, 2.0)
    q = step_values(None, ones, world.mask)
    advantages = step_advantages(q, batch_baseline(ones), world.mask)
    assert advantages.weights.abs().max() == 0 and advantages.std == 0
    scaled = step_advantages(q, batch_baseline(ones), world.mask, scale="batch_std")
    assert scaled.weights.isfinite().all() and scaled.weights.abs().max() == 0
    # Without a baseline every single sample would be made more probable by it.
    assert (step_advantages(q, 0.0, world.mask).weights[world.mask] > 0).all()


def test_rollouts_are_averaged_by_name_not_by_luck():
    # The reward of a continuation names its response and prefix: 100 b + 10 t + {0, 2}, with the mean 100 b + 10 t + 1.
    rewards = torch.tensor([100.0 * b + 10 * t + 2 * n for b in range(3) for t in range(4) for n in range(2)])
    values = rollout_values(rewards, batch=3, steps=4, samples=2)
    assert values.tolist() == [[100.0 * b + 10 * t + 1 for t in range(4)] for b in range(3)]
    with pytest.raises(ValueError, match=r"have 24 rewards, shape \(24,\), got \(23,\)"):
        rollout_values(rewards[1:], 3, 4, 2)


def test_step_values_by_hand():
    mask = torch.tensor([[1, 1, 1], [1, 0, 0]])
    prefix = torch.tensor([[0.1, 0.2, 9.0], [float("nan"), 9.0, 9.0]])  # what is not read may be anything
    expected = torch.tensor([[0.1, 0.2, 0.7], [0.4, 0, 0]])
    rewards = torch.tensor([0.7, 0.4])
    torch.testing.assert_close(step_values(prefix, rewards, mask), expected)
    torch.testing.assert_close(step_values(prefix[:, :2], rewards, mask), expected)
    torch.testing.assert_close(previous_values(expected, 0.5), torch.tensor([[0.5, 0.1, 0.2], [0.5, 0.4, 0]]))
    # Advantages 1 and -1 about the mean; per token of two.
    weights = step_advantages(torch.tensor([[3.0, 1.0]]), 2.0, torch.ones(1, 2), by_length=True).weights
    assert weights.tolist() == [[0.5, -0.5]]


def test_scaled_advantages_have_deviation_one_whatever_the_rewards():
    values = torch.rand(6, 4, generator=torch.Generator().manual_seed(0)) * 1e-3
    mask = torch.arange(4) < torch.tensor([4, 3, 2, 1, 4, 2])[:, None]
    advantages = step_advantages(values, values[mask].mean(), mask, scale="batch_std")
    assert advantages.weights[mask].std(correction=0).item() == pytest.approx(1.0, abs=1e-5)
    assert advantages.std.item() == pytest.approx(values[mask].std(correction=0).item())


def test_forms_of_the_reward():
    logits = torch.tensor([0.0, 2.0, -50.0, 2.0])
    torch.testing.assert_close(discriminator_rewards(logits), logits.sigmoid())
    assert discriminator_rewards(logits, "logit").tolist() == logits.tolist()
    # of three others: one below; two below and one equal; none
    torch.testing.assert_close(discriminator_rewards(logits, "rank"), torch.tensor([1, 2.5, 0, 2.5]) / 3)
    torch.testing.assert_close(discriminator_rewards(100 * logits - 7, "rank"), torch.tensor([1, 2.5, 0, 2.5]) / 3)
    assert discriminator_rewards(torch.zeros(1), "rank").tolist() == [0.5]


def test_shuffled_rewards_are_the_same_and_nobody_keeps_its_own():
    rewards = torch.arange(7.0)
    seen = set()
    for seed in range(30):
        shuffled = shuffled_rewards(rewards, torch.Generator().manual_seed(seed))
        assert (shuffled != rewards).all() and shuffled.sort().values.tolist() == rewards.tolist()
        seen.add(tuple(shuffled.tolist()))
    assert len(seen) > 20
    with pytest.raises(ValueError, match="cannot be shuffled"):
        shuffled_rewards(rewards[:1])


def test_what_is_refused():
    mask, rewards = torch.ones(2, 3), torch.zeros(2)
    with pytest.raises(ValueError, match="a token behind a place without one"):
        step_values(None, rewards, torch.tensor([[1, 0, 1], [1, 1, 1]]))
    with pytest.raises(ValueError, match=r"`prefix_values` must have the shape \(2, 3\) or \(2, 2\), got \(3, 2\)"):
        step_values(torch.zeros(3, 2), rewards, mask)
    with pytest.raises(ValueError, match="must be finite, got nan"):
        step_values(torch.full((2, 3), float("nan")), rewards, mask)
    with pytest.raises(ValueError, match='"none" or "batch_std", got "std"'):
        step_advantages(torch.zeros(2, 3), 0.0, mask, scale="std")
    with pytest.raises(ValueError, match="`form` must be one of probability, logit, rank"):
        discriminator_rewards(rewards, "cosine")
