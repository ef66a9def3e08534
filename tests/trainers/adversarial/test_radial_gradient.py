"""The two gradients of the radial term, held against all answers that a tiny model can give."""

from typing import NamedTuple

import pytest
import torch
from scipy.stats import chisquare
from torch import Tensor

from hf_localgan.decoding.likelihood import shift_right
from hf_localgan.decoding.noisy_samples import noisy_samples
from hf_localgan.decoding.sampling import repeat_rows
from hf_localgan.decoding.soft_rollout import soft_rollout
from hf_localgan.functional.score_function import (
    chosen_log_probs,
    sample_advantages,
    score_function_loss,
    token_advantages,
)

END, TOP, LENGTH, NOISE = 2, 4, 3, 0.7  # end token; tokens among which is chosen; longest answer; temperature
QUERY = {"input_ids": torch.tensor([[5, 9, 2]]), "attention_mask": torch.ones(1, 3, dtype=torch.long)}


class Answers(NamedTuple):
    """All answers of a model to the query: tokens with -100 behind the end, `ln p` of each token, and energies."""

    labels: Tensor
    log_probs: Tensor
    energies: Tensor

    @property
    def probabilities(self) -> Tensor:
        return self.log_probs.sum(dim=1).exp()


def step_logits(model, labels: Tensor) -> Tensor:
    inputs = repeat_rows(QUERY, len(labels))
    return model(**inputs, decoder_input_ids=shift_right(model, labels), use_cache=False).logits


def all_answers(model, energy, noise: float = NOISE) -> Answers:
    """Every answer of up to three tokens, each among the four likeliest, with the model's gradient in `log_probs`."""
    rows = [[]]
    for _ in range(LENGTH):
        grown = []
        for row in rows:
            if row[-1:] == [END]:
                grown.append(row)
                continue
            with torch.no_grad():
                logits = step_logits(model, torch.tensor([[*row, END]]))[0, len(row)]
            grown += [[*row, token] for token in logits.topk(TOP).indices.tolist()]
        rows = grown
    labels = torch.tensor([row + [-100] * (LENGTH - len(row)) for row in rows])
    log_probs = chosen_log_probs(step_logits(model, labels), labels.clamp(min=0), noise, TOP)
    return Answers(labels, log_probs.masked_fill(labels == -100, 0.0), energies(energy, labels))


def energies(energy, labels: Tensor) -> Tensor:
    query = energy.query_features(**QUERY).expand(len(labels), -1)
    with torch.no_grad():
        return energy.free_energy(query, energy.response_features(labels.masked_fill(labels == END, -100)))


def gradient(model, value: Tensor) -> Tensor:
    """The gradient of a scalar for all parameters, flat."""
    parameters = [parameter for parameter in model.parameters() if parameter.requires_grad]
    parts = torch.autograd.grad(value, parameters, allow_unused=True)
    return torch.cat(
        [torch.zeros_like(p).flatten() if g is None else g.flatten() for p, g in zip(parameters, parts, strict=True)]
    )


@pytest.fixture
def policy(tiny_generator, token_energy):
    """`policy(seed)`: a tiny generator in double precision, and an energy of its tokens."""

    def build(seed: int = 0):
        return tiny_generator(seed).double(), token_energy(seed).double()

    return build


def rewards_of(answers: Answers) -> Tensor:
    """`-relu(delta_alpha)` against a reference that lies farther out than three quarters of the answers."""
    return -torch.relu((torch.quantile(answers.energies, 0.75) - answers.energies) / answers.energies.std())


def test_the_score_function_is_the_gradient_of_the_expected_reward(policy):
    model, energy = policy()
    answers = all_answers(model, energy)
    assert answers.probabilities.sum().item() == pytest.approx(1.0)  # nothing is left out
    rewards, probabilities = rewards_of(answers), answers.probabilities
    exact = gradient(model, (probabilities * rewards).sum())
    weights, mask = probabilities.detach(), (answers.labels != -100).double()

    # One sample and the mean reward of references, whatever it is.
    for constant in (0.0, -3.0):
        fresh = all_answers(model, energy)
        of_references = torch.full_like(rewards, constant)
        advantages = sample_advantages(rewards[:, None], "references", of_references)
        loss = score_function_loss(fresh.log_probs[:, None], advantages, mask[:, None])
        torch.testing.assert_close(gradient(model, -(weights * loss).sum()), exact)
    # Two samples of one query, each the other's baseline: all pairs of answers.
    number = len(rewards)
    first, second = torch.arange(number).repeat_interleave(number), torch.arange(number).repeat(number)
    pairs = torch.stack([first, second], dim=1)
    fresh = all_answers(model, energy)
    loss = score_function_loss(fresh.log_probs[pairs], sample_advantages(rewards[pairs], "samples"), mask[pairs])
    torch.testing.assert_close(gradient(model, -(weights[first] * weights[second] * loss).sum()), exact)
    # Credit by token is another gradient: what follows a token depends on it.
    fresh = all_answers(model, energy)
    content = (answers.labels != -100) & (answers.labels != END)
    without = torch.zeros_like(mask)
    for place in range(LENGTH):
        taken = answers.labels.clone()
        taken[:, place] = -100
        target, spread = torch.quantile(answers.energies, 0.75), answers.energies.std()
        without[:, place] = -torch.relu((target - energies(energy, taken)) / spread)
    credit = token_advantages(
        rewards[:, None], without[:, None], sample_advantages(rewards[:, None], "references", rewards * 0),
        content[:, None],
    )  # fmt: skip
    by_token = gradient(model, -(weights * score_function_loss(fresh.log_probs[:, None], credit, mask[:, None])).sum())
    assert by_token @ exact > 0 and not torch.allclose(by_token, exact, rtol=0.05)


def test_the_straight_through_gradient_is_biased_and_the_score_function_moves_radii_as_it_says(policy):
    model, energy = policy()
    answers = all_answers(model, energy)
    target, spread = torch.quantile(answers.energies, 0.75), answers.energies.std()
    exact = gradient(model, (answers.probabilities * rewards_of(answers)).sum())
    query, rows = energy.query_features(**QUERY), 300
    inputs, shares = repeat_rows(QUERY, rows), []
    for seed in range(6):
        rollout = soft_rollout(
            model, inputs["input_ids"], inputs["attention_mask"], max_length=LENGTH, relaxation="straight_through",
            noise_scale=NOISE, top_k=TOP, generator=torch.Generator().manual_seed(seed),
        )  # fmt: skip
        features = energy.soft_response_features(rollout.weights, rollout.mask, rollout.ids)
        radial = torch.relu((target - energy.free_energy(query.expand(rows, -1), features)) / spread)
        shares.append((gradient(model, -radial.mean()) @ exact / (exact @ exact)).item())
    shares = torch.tensor(shares)
    # An unbiased estimator would have the share 1 of the exact gradient along itself; this one has less than a fifth.
    assert shares.mean() + 10 * shares.std() / len(shares) ** 0.5 < 0.2
    # A step along the score function raises the expected radius of samples, and of all but greedy ones.
    for noise in (NOISE, 0.1):
        before = all_answers(model, energy, noise)
        rise = gradient(model, (before.probabilities * before.energies).sum()) @ exact / exact.norm()
        assert rise > 1.0, noise


def test_noisy_samples_are_of_the_policy_and_know_their_log_probabilities(policy):
    model, energy = policy()
    answers = all_answers(model, energy)
    drawn = noisy_samples(
        model, QUERY, samples=3000, max_length=LENGTH, temperature=NOISE, top_k=TOP,
        generator=torch.Generator().manual_seed(0),
    )  # fmt: skip
    numbers = {tuple(row): number for number, row in enumerate(answers.labels.tolist())}
    width = LENGTH - drawn.labels.shape[1]
    found = torch.tensor([numbers[(*row, *[-100] * width)] for row in drawn.labels.tolist()])
    torch.testing.assert_close(drawn.log_probs, answers.log_probs[found][:, : drawn.labels.shape[1]])
    torch.testing.assert_close(drawn.content > 0, (drawn.labels != -100) & (drawn.labels != END))
    expected = answers.probabilities.detach() * 3000
    assert (expected > 5).all()  # so that the statistic has the distribution it is held against
    counts = torch.bincount(found, minlength=len(expected)).double()
    assert chisquare(counts.numpy(), expected.numpy()).pvalue > 1e-4  # fails once in 10,000 seeds


def test_scaled_advantages_and_their_errors():
    rewards = torch.tensor([[1.0, 3.0], [0.0, 0.0]])
    torch.testing.assert_close(sample_advantages(rewards), torch.tensor([[-2.0, 2.0], [0.0, 0.0]]))
    others = (4.0 - rewards) / 3  # of the batch's four rewards the other three
    torch.testing.assert_close(sample_advantages(rewards, "batch"), rewards - others)
    scaled = sample_advantages(rewards, scaled=True)
    assert (
        scaled.square().mean().item() == pytest.approx(1.0) and sample_advantages(rewards * 0, scaled=True).sum() == 0
    )
    for settings, message in (
        ({"baseline": "none"}, "`baseline` must be one of"), ({"baseline": "references"}, r"must have shape \(2,\)"),
    ):  # fmt: skip
        with pytest.raises(ValueError, match=message):
            sample_advantages(rewards, **settings)
    with pytest.raises(ValueError, match="above 0, got 0: a choice without noise is no sample"):
        chosen_log_probs(torch.zeros(1, 3), torch.tensor([0]), 0)


# ---- in the trainer ----


def test_the_score_term_of_a_cluster_by_hand(family, pairs, players, losses, token_energy):
    energy, rows = token_energy(radius_spread=2.5, pooling="distinct_sqrt"), pairs(8)
    for row in (1, 2):  # three responses to the first query
        rows[row]["input_ids"], rows[row]["attention_mask"] = rows[0]["input_ids"], rows[0]["attention_mask"]
    run = players(
        family("rnn_seq2seq"), rows, energy=energy, learning_rate=0.0, discriminator_learning_rate=0.0,
        radial_gradient="score", radial_target="cluster", radial_samples=3, radial_weight=2.0, max_steps=2,
        teacher_forcing_weight=0.0, train_sampling_strategy="sequential", radial_baseline="references",
        radial_credit="token", radial_scaled=True,
    )  # fmt: skip
    run.train()
    batch = run.data_collator(rows)
    with torch.no_grad():
        query = energy.query_features(batch["input_ids"], batch["attention_mask"])
        reference = energy.free_energy(query, energy.response_features(batch["labels"]))
        reference[:3] = reference[:3].mean()
        torch.testing.assert_close(run.clusters.means(batch), reference)
        own = energy.free_energy(query, energy.response_features(batch["labels"]))[:3]
        wanted = -torch.relu((reference[0] - own) / 2.5).mean()
        torch.testing.assert_close(run._reference_rewards(batch)[:3], wanted.expand(3))
        run.state.global_step, run.draws.batch = 1, 0
        delta, _ = run.score_terms(batch)
    assert delta.shape == (8, 3)
    assert losses(run, "loss/radial")[-1] == pytest.approx(torch.relu(delta).mean().item(), rel=1e-4)
    assert losses(run, "gan/phase2_fraction")[-1] == pytest.approx((delta > 0).float().mean().item())
    batch["input_ids"] = batch["input_ids"] + 1
    with pytest.raises(ValueError, match="none of the training split's"):
        run.clusters.means(batch)


@pytest.mark.parametrize("settings", [{"radial_credit": "answer"}, {"radial_measure": "distance"}])
def test_the_score_function_alone_moves_samples_outwards(settings, family, pairs, players, token_energy):
    run = players(
        family("rnn_seq2seq"), pairs(8), max_steps=60, adversarial_weight=0.0, teacher_forcing_weight=0.0,
        discriminator_learning_rate=0.0, optim="adamw_torch", learning_rate=0.03, radial_gradient="score",
        radial_samples=8, noise_scale=1.0, train_sampling_strategy="sequential", **settings,
    )  # fmt: skip
    run.train()
    rows = [row["loss/radial"] for row in run.state.log_history if "loss/radial" in row]
    assert rows[0] > 0.05 and sum(rows[-5:]) / 5 < rows[0] / 2
    if "radial_measure" in settings:
        assert run.energy.config.distance_spread > 0


def test_the_longest_generation_follows_the_references(family, pairs, players):
    run = players(family("t5"), pairs(8), soft_length_percentile=99, max_soft_length=2)
    assert run.rollout_length == max(len(row["labels"]) for row in pairs(8)) > 2
    assert run.roll_out(run.data_collator(pairs(8))).best.shape[1] > 2
    assert players(family("t5"), pairs(8), max_soft_length=2).rollout_length == 2


def test_an_energy_that_ranks_safe_answers_high_is_warned_of(family, pairs, players, caplog):
    run = players(family("rnn_seq2seq"), pairs(8), max_steps=2)
    run.train()
    meaning = run.check_safe_answers()
    said = [record.message for record in caplog.records if "not one to train on" in record.message]
    assert (meaning.ranks_safe_lowest is False) == bool(said)
    low = meaning._replace(greedy=0.05, length=0.2, information=0.9)
    assert low.ranks_safe_lowest and "The radius ranks safe answers lowest" in low.verdict()
    high = low._replace(greedy=0.16, length=-0.56, information=0.54)
    assert high.ranks_safe_lowest is False and "above 16.0% of the references" in high.verdict()
    assert low._replace(information=float("nan")).ranks_safe_lowest is None
    unlucky = players(family("rnn_seq2seq"), pairs(8), max_steps=2, radial_weight=0.0)
    caplog.clear()
    unlucky.train()
    assert not [record for record in caplog.records if "not one to train on" in record.message]


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"radial_gradient": "score", "relaxation": "softmax"}, "needs samples"),
        ({"radial_gradient": "score", "noise_scale": 0.0}, "needs samples"),
        ({"radial_gradient": "score", "radial_samples": 1}, "`radial_samples` of at least 2, got 1"),
        ({"radial_measure": "distance", "radial_scale": "center"}, "alone, got .center"),
        ({"radial_target": "mean"}, "`radial_target` must be one of reference, cluster"),
        ({"soft_length_percentile": 0.0}, "above 0 and up to 100"),
        ({"beam_fault_share": 2.0}, "a share from 0 to 1"),
    ],
)
def test_wrong_settings_of_the_radial_term_are_refused(settings, message, tmp_path):
    from hf_localgan.trainers import LocalGanConfig

    with pytest.raises(ValueError, match=message):
        LocalGanConfig(str(tmp_path), use_cpu=True, **settings)
