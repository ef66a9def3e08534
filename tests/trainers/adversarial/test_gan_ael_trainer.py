"""GAN-AEL: both objectives by hand, the critic's bound, its defaults, what is refused."""

import math

import pytest
import torch
import torch.nn.functional as F
from transformers import AutoModel

from hf_localgan.decoding import soft_rollout
from hf_localgan.trainers import GanAelConfig, GanAelTrainer, LocalGanConfig


@pytest.fixture
def run_of(players, family, pairs):
    """`run_of(**arguments)`: a trained trainer whose parameters stand still, on eight pairs in order."""

    def build(name="rnn_seq2seq", **arguments):
        arguments = {
            "learning_rate": 0.0, "discriminator_learning_rate": 0.0, "discriminator_steps": 1, "weight_clip": 1e9,
            "train_sampling_strategy": "sequential", "relaxation_top_k": None, **arguments,
        }  # fmt: skip
        run = players(family(name), pairs(8), cls=GanAelTrainer, **arguments)
        run.train()
        return run, run.data_collator(pairs(8))

    return build


@pytest.mark.parametrize("objective", ["wasserstein", "log"])
@pytest.mark.parametrize("name", ["rnn_seq2seq", "t5", "bart"])
def test_the_losses_by_hand(objective, name, run_of, losses):
    run, batch = run_of(name, objective=objective, mismatched_weight=0.5, adversarial_weight=2.0)
    ids, mask, labels = batch["input_ids"], batch["attention_mask"], batch["labels"]
    rollout = soft_rollout(run.model, ids, mask, max_length=6, relaxation="softmax")
    with torch.no_grad():
        fake = run.discriminator(ids, mask, response_probabilities=rollout.weights, response_mask=rollout.mask).logits
        run.state.global_step, run.draws.batch = 0, 0
        rows, found = run._mismatches(batch)
        output = run.discriminator(ids, mask, labels, mismatches=rows)
    real, other = output.logits, output.mismatch_logits[:, 0]
    assert found.all()
    if objective == "wasserstein":
        discriminator, generator = fake.mean() - real.mean() + 0.5 * other.mean(), -fake.mean()
    else:
        discriminator = -(F.logsigmoid(real) + F.logsigmoid(-fake) + 0.5 * F.logsigmoid(-other)).mean()
        generator = -F.logsigmoid(fake).mean()
    assert losses(run, "loss/discriminator") == [pytest.approx(discriminator.item(), rel=1e-4, abs=1e-5)]
    assert losses(run, "loss/adversarial") == [pytest.approx(generator.item(), rel=1e-4, abs=1e-5)]
    assert losses(run, "loss/generator") == [pytest.approx(2 * generator.item(), rel=1e-4, abs=1e-5)]


def test_a_critics_weights_stay_within_their_bound_after_each_of_its_updates(
    players, family, pairs, tiny_discriminator
):
    for objective, bounded in (("wasserstein", True), ("log", False)):
        critic = tiny_discriminator()
        run = players(
            family("t5"), pairs(8), cls=GanAelTrainer, objective=objective, discriminator=critic, weight_clip=0.02,
            discriminator_learning_rate=1.0, discriminator_warmup_steps=1, max_steps=3,
        )  # fmt: skip
        run.train()
        largest = max(float(one.detach().abs().max()) for one in critic.parameters())
        assert (largest == pytest.approx(0.02)) == bounded


def test_frozen_weights_of_a_critic_are_not_clipped(players, family, pairs, tiny_discriminator):
    critic = tiny_discriminator()
    before = critic.body.embeddings.weight.detach().clone()
    players(
        family("t5"), pairs(8), cls=GanAelTrainer, discriminator=critic, weight_clip=0.02, discriminator_parts="head"
    ).train()
    assert torch.equal(critic.body.embeddings.weight, before)
    assert max(float(one.detach().abs().max()) for one in critic.head.parameters()) <= 0.02 + 1e-6


def test_a_critic_learns_to_score_true_pairs_higher(players, family, pairs):
    run = players(
        family("t5"), pairs(8), cls=GanAelTrainer, weight_clip=0.5, discriminator_warmup_steps=40, max_steps=40,
        discriminator_learning_rate=0.02, optim="adamw_torch",
    )  # fmt: skip
    run.train()
    rows = [row["loss/discriminator"] for row in run.state.log_history if "loss/discriminator" in row]
    assert rows[-1] < -0.5 and rows[-1] < rows[0]


def test_the_output_has_a_discriminator_and_no_energy(run_of, tmp_path):
    run, _ = run_of()
    run.save_model()
    assert isinstance(AutoModel.from_pretrained(tmp_path / "run" / "discriminator"), type(run.discriminator))
    assert not (tmp_path / "run" / "energy").exists()


def test_its_defaults_are_those_of_the_published_systems(tmp_path):
    config = GanAelConfig(str(tmp_path), use_cpu=True)
    assert (config.objective, config.relaxation, config.relaxation_top_k) == ("wasserstein", "softmax", None)
    assert (config.teacher_forcing_weight, config.mismatched_weight, config.discriminator_steps) == (0.0, 0.0, 5)


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"objective": "hinge"}, '`objective` must be one of wasserstein, log, got "hinge"'),
        ({"weight_clip": 0.0}, "`weight_clip` must be above 0, got 0.0"),
        ({"weight_clip": math.nan}, "`weight_clip` must be above 0, got nan"),
        ({"soft_length": "max"}, "`soft_length` must be one of"),
    ],
)
def test_settings_that_make_no_sense(fields, message, tmp_path):
    with pytest.raises(ValueError, match=message):
        GanAelConfig(str(tmp_path), use_cpu=True, **fields)


def test_the_arguments_of_the_other_trainer(family, tiny_discriminator, tmp_path):
    with pytest.raises(ValueError, match="`args` must be a `GanAelConfig`, got LocalGanConfig"):
        GanAelTrainer(family("t5"), LocalGanConfig(str(tmp_path), use_cpu=True), discriminator=tiny_discriminator())
