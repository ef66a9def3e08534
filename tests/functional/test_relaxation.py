import math

import pytest
import torch

from hf_localgan.functional.relaxation import expected_embedding, likeliest, relax_tokens

LOGITS = torch.tensor([[0.0, math.log(2.0), math.log(5.0)], [math.log(6.0), 0.0, 0.0]])  # 1:2:5 and 6:1:1


def test_softmax_by_hand():
    tokens = relax_tokens(LOGITS)
    torch.testing.assert_close(tokens.weights, torch.tensor([[1.0, 2.0, 5.0], [6.0, 1.0, 1.0]]) / 8)
    assert tokens.ids is None and tokens.best.tolist() == [2, 0]
    sharper = relax_tokens(LOGITS, temperature=0.5)
    torch.testing.assert_close(sharper.weights[0], torch.tensor([1.0, 4.0, 25.0]) / 30)


def test_the_k_best_share_the_whole_weight():
    tokens = relax_tokens(LOGITS, top_k=2)
    assert tokens.ids[0].tolist() == [2, 1]
    torch.testing.assert_close(tokens.weights[0], torch.tensor([5.0, 2.0]) / 7)
    table = torch.randn(3, 4, dtype=torch.float64)
    expected = (5 * table[2] + 2 * table[1]) / 7
    torch.testing.assert_close(expected_embedding(tokens, table)[0], expected, rtol=1e-6, atol=1e-6)
    whole = relax_tokens(LOGITS, top_k=3)
    assert whole.ids is None


@pytest.mark.parametrize("top_k", [None, 2])
@pytest.mark.parametrize("relaxation", ["softmax", "gumbel"])
def test_gradients_against_finite_differences(relaxation, top_k):
    logits = LOGITS.double() + torch.tensor([0.0, 0.1, 0.2])  # no ties, at which the choice of the k best jumps
    logits, table = logits.requires_grad_(), torch.randn(3, 4, dtype=torch.float64)

    def embed(values):
        generator = torch.Generator().manual_seed(3)
        settings = {"temperature": 0.7, "noise_scale": 0.3, "top_k": top_k, "generator": generator}
        return expected_embedding(relax_tokens(values, relaxation, **settings), table)

    torch.autograd.gradcheck(embed, (logits,))


def test_straight_through_is_one_token_forward_and_the_softmax_backward():
    logits = LOGITS.clone().requires_grad_()
    table = torch.randn(3, 4)
    tokens = relax_tokens(logits, "straight_through", temperature=0.7, noise_scale=0.0)
    assert torch.equal(tokens.weights, torch.eye(3)[[2, 0]])
    assert torch.equal(expected_embedding(tokens, table), table[[2, 0]])
    (hard,) = torch.autograd.grad(expected_embedding(tokens, table).square().sum(), logits)
    soft = relax_tokens(logits, temperature=0.7).weights
    upstream = 2 * table[[2, 0]] @ table.T  # the derivative by the weights, taken at the one-hot ones
    (expected,) = torch.autograd.grad((soft * upstream).sum(), logits)
    torch.testing.assert_close(hard, expected)


@pytest.mark.parametrize("relaxation", ["gumbel", "straight_through"])
def test_with_full_noise_the_best_token_is_a_sample_of_the_model(relaxation):
    draws = 8_000
    generator = torch.Generator().manual_seed(0)
    best = relax_tokens(LOGITS[:1].expand(draws, 3), relaxation, generator=generator).best
    counts = torch.bincount(best, minlength=3).double()
    expected = draws * torch.tensor([1.0, 2.0, 5.0]) / 8
    assert ((counts - expected) ** 2 / expected).sum() < 13.82  # chi-square, 2 degrees of freedom, error rate 0.001


def test_less_noise_lies_between_sampling_and_greedy():
    # P(best) under noise s is that of a softmax at temperature s: 25 / 30 at s = 1/2 for 1:2:5.
    draws = 8_000
    generator = torch.Generator().manual_seed(1)
    tokens = relax_tokens(LOGITS[:1].expand(draws, 3), "straight_through", noise_scale=0.5, generator=generator)
    share = (tokens.best == 2).double().mean()
    assert abs(share - 25 / 30) < 3.3 * math.sqrt(25 / 30 * 5 / 30 / draws)  # error rate 0.001


def test_bad_settings_are_refused():
    with pytest.raises(ValueError, match='relaxation.*"hard"'):
        relax_tokens(LOGITS, "hard")
    with pytest.raises(ValueError, match="temperature.*got 0"):
        relax_tokens(LOGITS, temperature=0)
    with pytest.raises(ValueError, match="noise_scale.*-1"):
        relax_tokens(LOGITS, "gumbel", noise_scale=-1)
    with pytest.raises(ValueError, match="top_k.*got 0"):
        relax_tokens(LOGITS, top_k=0)


@pytest.mark.parametrize("k", [1, 5, 64])
@pytest.mark.parametrize("vocab", [5_003, 64, 4 * 8 * 64])
def test_the_likeliest_are_those_of_topk(vocab, k):
    logits = torch.randn(7, vocab, generator=torch.Generator().manual_seed(k))
    logits[0] = torch.arange(vocab)  # the best ones in the columns behind the last whole group
    logits[1] = -torch.arange(vocab).float()
    logits[2, : vocab // 2] = float("-inf")
    assert torch.equal(likeliest(logits, k), logits.topk(k, dim=-1).indices)
    half = logits.bfloat16()  # many are equal
    assert torch.equal(likeliest(half, k), half.float().topk(k, dim=-1).indices)
