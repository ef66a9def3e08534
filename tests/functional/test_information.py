"""AIM and DAIM: the bounded log-odds, the bound on information by enumeration, gradients by finite differences."""

import math

import pytest
import torch

from hf_localgan.functional.information import (
    add_latent_noise,
    aim_generator_loss,
    bounded_log_odds,
    cosine_scores,
    dual_loss,
    information_bound,
    latent_noise,
    paired_loss,
    query_nll,
    table_information,
)
from hf_localgan.functional.relaxation import RelaxedTokens, expected_embedding

# ---- the adversarial term ----


def test_the_printed_log_odds_are_odd_increasing_and_bounded():
    d = torch.linspace(-2, 2, 401, dtype=torch.float64)
    g = bounded_log_odds(d)
    torch.testing.assert_close(g, -bounded_log_odds(-d))
    inside = d.abs() <= 1.9
    torch.testing.assert_close(g[inside], 2 * torch.atanh(d[inside] / 2))
    assert (g.diff()[inside[1:] & inside[:-1]] > 0).all() and g.isfinite().all()


def test_slopes_of_both_forms():
    # d/dx 2 artanh(x/2) = 4 / (4 - x^2): 1 at 0 and 4 / .39 = 10.26 at 1.9, and none behind the limit.
    d = torch.tensor([0.0, 1.9, -1.9, 1.95], dtype=torch.float64, requires_grad=True)
    bounded_log_odds(d).sum().backward()
    torch.testing.assert_close(d.grad, torch.tensor([1.0, 4 / 0.39, 4 / 0.39, 0.0], dtype=torch.float64))
    # logit(x / 4.1 + .51) has slope 1 / (4.1 p (1 - p)), p its argument: 11 at -2, .98 at 0, 111 at 2.
    d = torch.tensor([-2.0, 0.0, 2.0], dtype=torch.float64, requires_grad=True)
    values = bounded_log_odds(d, "code")
    values.sum().backward()
    p = torch.tensor([-2.0, 0.0, 2.0], dtype=torch.float64) / 4.1 + 0.51
    torch.testing.assert_close(d.grad, 1 / (4.1 * p * (1 - p)))
    assert [round(slope) for slope in d.grad.tolist()] == [11, 1, 111] and round(values[1].item(), 2) == 0.04


def test_a_cosine_knows_no_scale_and_the_paired_loss_has_two_sides():
    draw = torch.Generator().manual_seed(0)
    query, real, fake = (torch.randn(4, 6, dtype=torch.float64, generator=draw) for _ in range(3))
    scores = cosine_scores(query, real), cosine_scores(query, fake)
    torch.testing.assert_close(cosine_scores(3 * query, 0.1 * real), scores[0])
    assert cosine_scores(query, torch.zeros_like(real)).tolist() == [0] * 4
    loss = paired_loss(*scores)
    torch.testing.assert_close(loss.generator, -loss.discriminator)
    torch.testing.assert_close(loss.difference, scores[0] - scores[1])
    torch.testing.assert_close(paired_loss(scores[1], scores[0]).generator, -loss.generator)  # odd
    with pytest.raises(ValueError, match=r"one cosine for each query.*\(4,\) and \(3,\)"):
        paired_loss(scores[0], scores[1][:3])


def test_the_generator_is_pulled_towards_its_query_and_the_discriminator_away():
    draw = torch.Generator().manual_seed(1)
    query, real = (torch.randn(3, 5, dtype=torch.float64, generator=draw) for _ in range(2))
    fake = torch.randn(3, 5, dtype=torch.float64, generator=draw, requires_grad=True)
    gradient = torch.autograd.grad(
        paired_loss(cosine_scores(query, real), cosine_scores(query, fake)).generator.sum(), fake
    )[0]
    moved = fake.detach() - 1e-3 * gradient
    assert (cosine_scores(query, moved) > cosine_scores(query, fake)).all()
    assert torch.autograd.gradcheck(
        lambda one: paired_loss(cosine_scores(query, real), cosine_scores(query, one)).generator, (fake,)
    )


# ---- the bound ----


def test_the_bound_lies_below_the_mutual_information_and_meets_it_at_the_posterior():
    draw = torch.Generator().manual_seed(0)
    joint = torch.rand(3, 3, dtype=torch.float64, generator=draw) ** 3
    joint = joint / joint.sum()
    # I = sum p log p / (p_q p_r), by its definition
    truth = (joint * (joint / (joint.sum(1, keepdim=True) * joint.sum(0))).log()).sum()
    posterior = joint / joint.sum(0)
    torch.testing.assert_close(table_information(joint), truth)
    torch.testing.assert_close(table_information(joint, posterior), truth)
    for _ in range(200):
        phi = torch.randn(3, 3, dtype=torch.float64, generator=draw).softmax(dim=0)
        # What is missing is the mean divergence of the posteriors.
        gap = (joint * (posterior / phi).log()).sum()
        torch.testing.assert_close(truth - table_information(joint, phi), gap)
        assert gap > 0


def test_the_bound_of_samples_is_that_of_the_table():
    # Every pair as often as its probability says: 8 samples of a table of eighths.
    joint = torch.tensor([[3, 1], [1, 3]], dtype=torch.float64) / 8
    phi = torch.tensor([[0.6, 0.2], [0.4, 0.8]], dtype=torch.float64)
    log_probs = torch.cat([phi[q, r].log().repeat(int(8 * joint[q, r])) for q in range(2) for r in range(2)])
    torch.testing.assert_close(information_bound(log_probs, math.log(2)), table_information(joint, phi))


def test_independent_sides_have_no_information_and_equal_ones_all():
    assert abs(table_information(torch.full((4, 4), 1 / 16)).item()) < 1e-6
    assert table_information(torch.eye(4) / 4).item() == pytest.approx(math.log(4))
    with pytest.raises(ValueError, match="probabilities that sum to 1"):
        table_information(torch.ones(2, 2))


def test_reading_the_query_back_by_hand():
    # p = 1/2 and 1/4 at the two labels, one place of padding: (ln 2 + ln 4) / 2 nats per token
    logits = torch.tensor([[[1, 1, 0.0], [1, 2, 1], [5, 5, 5]]]).log()
    labels = torch.tensor([[0, 2, -100]])
    torch.testing.assert_close(query_nll(logits, labels), torch.tensor([1.5 * math.log(2)]))
    assert query_nll(logits, torch.full((1, 3), -100)).item() == 0


@pytest.mark.parametrize("name", ["tiny_generator", "tiny_bart"])  # T5 rounds to float32 inside
def test_the_query_is_read_back_from_soft_tokens_as_from_their_ids_and_with_a_right_gradient(request, name):
    model = request.getfixturevalue(name)().double()
    labels, ids = torch.tensor([[4, 5, 2], [6, 2, -100]]), torch.tensor([[7, 8, 9], [3, 11, 2]])
    mask = torch.tensor([[1, 1, 1], [1, 1, 0]])
    table = model.get_encoder().get_input_embeddings().weight

    def nll(weights):
        embeds = torch.stack(
            [expected_embedding(RelaxedTokens(weights[:, t], None, ids[:, t]), table) for t in range(3)], dim=1
        )
        return query_nll(model(inputs_embeds=embeds, attention_mask=mask, labels=labels).logits, labels)

    hard = torch.nn.functional.one_hot(ids, 20).double()
    expected = query_nll(model(input_ids=ids, attention_mask=mask, labels=labels).logits, labels)
    torch.testing.assert_close(nll(hard), expected)
    draw = torch.Generator().manual_seed(0)
    soft = torch.randn(2, 3, 20, dtype=torch.float64, generator=draw).softmax(-1).requires_grad_()
    gradient = torch.autograd.grad(nll(soft).sum(), soft)[0]
    assert gradient[1, 2].abs().max() == 0  # masked
    for _ in range(3):
        direction = torch.randn(soft.shape, dtype=torch.float64, generator=draw)
        with torch.no_grad():
            slope = (nll(soft + 1e-6 * direction) - nll(soft - 1e-6 * direction)).sum() / 2e-6
        torch.testing.assert_close((gradient * direction).sum(), slope, rtol=1e-5, atol=1e-8)


# ---- objectives ----


def test_both_mixtures_by_hand():
    terms = torch.tensor([2.0]), torch.tensor([4.0]), torch.tensor([10.0])
    # 2 + .1 * 4 + .5 * 10 = 7.4; convex .9 * (.5 * 10 + .5 * 2) + .1 * 4 = 5.8
    assert aim_generator_loss(*terms, supervised_weight=0.5).total.item() == pytest.approx(7.4)
    mixed = aim_generator_loss(*terms, supervised_weight=0.5, convex=True)
    assert mixed.total.item() == pytest.approx(5.8) and mixed[1:] == (*terms,)
    with pytest.raises(ValueError, match="from 0 to 1 where terms are mixed convexly, got 2"):
        aim_generator_loss(*terms, supervised_weight=2, convex=True)
    with pytest.raises(ValueError, match=r"one value for each example.*\(1,\), \(2,\)"):
        aim_generator_loss(terms[0], torch.zeros(2))


@pytest.mark.parametrize("convex", [False, True])
def test_phases_of_the_dual_objective_lose_no_gradient(convex):
    # theta answers (adversarial, supervised) and reads responses back; phi asks and reads queries back. Every term is
    # a function of both, as a rollout is read by the other model.
    theta, phi = (torch.tensor([value], dtype=torch.float64, requires_grad=True) for value in (0.3, -0.7))

    def objective(theta, phi, theta_reads, phi_reads):
        weights = {"information_weight": 0.2, "supervised_weight": 0.4, "convex": convex}
        answered = aim_generator_loss(theta.sin(), (theta * phi_reads).exp(), theta**2, **weights)
        asked = aim_generator_loss(phi.cos(), (phi * theta_reads).exp(), phi**4, **weights)
        return dual_loss(answered, asked, information_weight=0.2, convex=convex)

    joint = torch.autograd.grad(objective(theta, phi, theta, phi).total, (theta, phi))
    # In its phase theta has gradients, phi none.
    own = torch.autograd.grad(objective(theta, phi.detach(), theta, phi.detach()).forward, theta)[0]
    other = torch.autograd.grad(objective(theta.detach(), phi, theta.detach(), phi).backward, phi)[0]
    torch.testing.assert_close((own, other), joint)


def test_swapping_the_directions_of_the_dual_objective_swaps_its_phases():
    draw = torch.Generator().manual_seed(0)
    first, second = (aim_generator_loss(*torch.rand(3, 4, generator=draw)) for _ in range(2))
    one, two = (dual_loss(*pair, backward_weight=1.0) for pair in ((first, second), (second, first)))
    torch.testing.assert_close((one.forward, one.backward, one.total), (two.backward, two.forward, two.total))
    alone = dual_loss(first, second, backward_weight=0.0)
    torch.testing.assert_close(alone.forward, first.total.mean())  # AIM


# ---- noise ----


def test_noise_is_uniform_and_repeated_by_its_generator():
    drawn = [latent_noise(20_000, 3, generator=torch.Generator().manual_seed(5)) for _ in range(2)]
    torch.testing.assert_close(*drawn, rtol=0, atol=0)
    assert drawn[0].abs().max() <= 1
    # Mean 0 and variance 1/3 within five standard errors: sqrt(1/3/60,000) = .0024 and sqrt(4/45/60,000) = .0012.
    assert abs(drawn[0].mean()) < 0.012 and abs(drawn[0].square().mean() - 1 / 3) < 0.006
    with pytest.raises(ValueError, match="at least 1, got 0"):
        latent_noise(2, 0)


def test_added_noise_is_one_vector_for_all_places_in_units_of_the_states():
    states = torch.tensor([[[3.0, 4.0], [0, 5], [7, 7]]])
    mask, noise = torch.tensor([[1, 1, 0]]), torch.tensor([[1.0, -0.5]])
    # mean square of the four numbers that count: (9 + 16 + 0 + 25) / 4
    size = math.sqrt(12.5)
    moved = add_latent_noise(states, noise, mask, 2.0) - states
    expected = torch.tensor([2 * size, -size])
    torch.testing.assert_close(moved[0], torch.stack([expected, expected, torch.zeros(2)]))
    assert add_latent_noise(states, noise, mask, 0.0) is states
    with pytest.raises(ValueError, match=r"must have the shape \(1, 2\)"):
        add_latent_noise(states, torch.zeros(1, 3))


def test_what_is_refused():
    with pytest.raises(ValueError, match='"artanh" or "code", got "tanh"'):
        bounded_log_odds(torch.zeros(1), "tanh")
    with pytest.raises(ValueError, match="above 0 and below 2"):
        bounded_log_odds(torch.zeros(1), limit=2.0)
    with pytest.raises(ValueError, match=r"`logits` \(2, 3, 5\) must have the shape of `labels` \(2, 4\)"):
        query_nll(torch.zeros(2, 3, 5), torch.zeros(2, 4, dtype=torch.long))
    losses = [aim_generator_loss(torch.zeros(1), torch.zeros(1))] * 2
    with pytest.raises(ValueError, match="`backward_weight` must be finite and at least 0, got -1"):
        dual_loss(*losses, backward_weight=-1)
