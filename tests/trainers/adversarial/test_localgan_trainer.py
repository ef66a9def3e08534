"""LocalGAN: its losses by hand, the energy's statistics, presets, the settings of its authors, what is refused."""

import dataclasses
import logging
import math

import pytest
import torch
import torch.nn.functional as F
from datasets import Dataset

from hf_localgan.data.vocabulary import vocabulary_fingerprint
from hf_localgan.decoding import soft_rollout
from hf_localgan.functional.radial import delta_alpha
from hf_localgan.models import PairDiscriminator
from hf_localgan.trainers import GanAelConfig, LocalGanConfig, LocalGanTrainer
from hf_localgan.trainers.adversarial.localgan_config import PRESETS
from hf_localgan.trainers.adversarial.localgan_trainer import ClampHead

# ---- losses by hand ----


@pytest.mark.parametrize("name", ["rnn_seq2seq", "t5", "bart"])
@pytest.mark.parametrize(
    "settings",
    [
        {},
        {"relaxation": "softmax", "relaxation_top_k": None, "radial_scale": "abs_center", "radial_floor": 30.0},
        {"relaxation": "gumbel", "radial_scale": "center", "soft_length": "survival", "adversarial_weight": 0.25},
    ],
    ids=["default", "abs_center", "center"],
)
def test_the_generators_loss_by_hand(name, settings, family, pairs, players, losses, tiny_discriminator, token_energy):
    discriminator, energy = tiny_discriminator(), token_energy(radius_spread=2.5)
    run = players(
        family(name), pairs(8), discriminator=discriminator, energy=energy, discriminator_learning_rate=0.0,
        learning_rate=0.0, radial_weight=3.0, teacher_forcing_weight=0.7, train_sampling_strategy="sequential",
        noise_scale=1.0, relaxation_temperature=0.8, **settings,
    )  # fmt: skip
    run.train()
    run.state.global_step, run.draws.batch = 1, 0
    batch = run.data_collator(pairs(8))
    ids, mask, labels = batch["input_ids"], batch["attention_mask"], batch["labels"]
    model, args = run.model.train(), run.args
    rollout = soft_rollout(
        model, ids, mask, max_length=6, relaxation=args.relaxation, temperature=0.8, noise_scale=1.0,
        top_k=args.relaxation_top_k, generator=run.draws.generator(ids.device, 0),
    )  # fmt: skip
    places = rollout.mask * rollout.survival if args.soft_length == "survival" else rollout.mask
    logits = discriminator(
        ids, mask, response_probabilities=rollout.weights, response_ids=rollout.ids, response_mask=places
    ).logits
    query, reference = energy.query_features(ids, mask), energy.response_features(labels)
    generation = energy.soft_response_features(rollout.weights, places, rollout.ids)
    energies = [energy.free_energy(query, one) for one in (reference, generation, energy.center(query))]
    delta = delta_alpha(*energies, args.radial_scale, 2.5, args.radial_floor)
    scale = {"spread": 2.5, "abs_center": energies[2].abs().clamp(min=30.0), "center": energies[2]}[args.radial_scale]
    torch.testing.assert_close(delta, (energies[0] - energies[1]) / scale)
    nats = F.cross_entropy(model(input_ids=ids, attention_mask=mask, labels=labels).logits.transpose(1, 2), labels)
    adversarial, radial = -torch.log(torch.sigmoid(logits)).mean(), delta.clamp(min=0).mean()
    total = args.adversarial_weight * adversarial + 3.0 * radial + 0.7 * nats
    for key, value in (
        ("loss/generator", total), ("loss", None), ("loss/adversarial", adversarial), ("loss/radial", radial),
        ("loss/teacher_forcing", nats), ("gan/delta_alpha", delta.mean()),
        ("gan/phase2_fraction", (delta > 0).float().mean()), ("gan/soft_length", rollout.lengths.mean()),
    ):  # fmt: skip
        expected = total if value is None else value
        assert losses(run, key)[-1] == pytest.approx(expected.item(), rel=1e-4, abs=1e-5), key


def test_the_discriminators_loss_by_hand(family, pairs, players, losses, tiny_discriminator):
    discriminator = tiny_discriminator()
    run = players(
        family("bart"), pairs(8), discriminator=discriminator, discriminator_learning_rate=0.0, max_steps=1,
        train_sampling_strategy="sequential", noise_scale=1.0, mismatched_weight=0.5,
    )  # fmt: skip
    run.train()
    run.state.global_step, run.draws.batch = 0, 0
    batch = run.data_collator(pairs(8))
    ids, mask, labels = batch["input_ids"], batch["attention_mask"], batch["labels"]
    with torch.no_grad():
        rollout = run.roll_out(batch)
        rows, found = run._mismatches(batch)
        others = discriminator(ids, mask, labels, mismatches=rows).mismatch_logits[:, 0]
        real = discriminator(ids, mask, labels).logits
        fake = discriminator(ids, mask, rollout.best.masked_fill(rollout.mask == 0, -100)).logits
    assert found.all()
    expected = -F.logsigmoid(real).mean() - F.logsigmoid(-fake).mean() - 0.5 * F.logsigmoid(-others).mean()
    assert losses(run, "loss/discriminator") == [pytest.approx(expected.item(), rel=1e-5)]
    for name, right in (("real", real > 0), ("fake", fake < 0), ("mismatched", others < 0)):
        assert losses(run, f"gan/{name}_accuracy") == [pytest.approx(right.float().mean().item())], name


def test_the_radial_term_alone_moves_generations_away_from_the_centre(family, pairs, players):
    run = players(
        family("rnn_seq2seq"), pairs(8), max_steps=60, adversarial_weight=0.0, teacher_forcing_weight=0.0,
        relaxation="softmax", relaxation_top_k=None, discriminator_learning_rate=0.0, optim="adamw_torch",
        learning_rate=0.03, train_sampling_strategy="sequential",
    )  # fmt: skip
    run.train()
    rows = [row["loss/radial"] for row in run.state.log_history if "loss/radial" in row]
    assert rows[0] > 0.05 and rows[-1] < rows[0] / 2


def test_the_ratio_of_lengths_by_hand(family, pairs, players, losses):
    run = players(family("t5"), pairs(8), length_ratio=True, adversarial_weight=2.0, radial_weight=0.0)
    labels = torch.tensor([[4, 5, 6, 7, 2], [4, 5, 6, 7, 2], [2, -100, -100, -100, -100]])
    batch = {"input_ids": torch.tensor([[5, 2]] * 3), "attention_mask": torch.ones(3, 2).long(), "labels": labels}
    rollout = run.roll_out(batch)
    mask = torch.zeros_like(rollout.mask)
    mask[0, :1], mask[1, :6], mask[2, :2] = 1.0, 1.0, 1.0  # 1 token of 4, more than 4, and 2 of none
    rollout = rollout._replace(mask=mask)
    adversarial = F.softplus(-run.generation_logits(batch, rollout, mask))
    run.energy.config.radius_spread = 1.0
    terms = run.generator_terms(batch, rollout, mask)
    # 1 - relu(4 - 1) / 4 = 1/4; longer generations are not divided.
    torch.testing.assert_close(terms, 2.0 * adversarial * torch.tensor([4.0, 1.0, 1.0]))
    nothing = rollout._replace(mask=torch.zeros_like(mask))
    assert run.generator_terms(batch, nothing, nothing.mask).isfinite().all()


# ---- the energy's statistics ----


@pytest.mark.parametrize("kind", ["list", "data set", "stream"])
def test_the_spread_is_that_of_the_training_references(kind, family, pairs, players, token_energy):
    rows = pairs(20)
    energy = token_energy()
    radii = [
        energy.radius(
            energy.query_features(torch.tensor([row["input_ids"]])),
            energy.response_features(torch.tensor([row["labels"]])),
        ).item()
        for row in rows
    ]
    wide = Dataset.from_list([{**row, "text": "a"} for row in rows])
    data = {"list": rows, "data set": wide, "stream": wide.to_iterable_dataset()}[kind]
    run = players(family("t5"), data, energy=energy, max_steps=1, per_device_eval_batch_size=7)
    run.train()
    assert energy.config.radius_spread == pytest.approx(torch.tensor(radii).double().std().item(), rel=1e-5)


def test_a_spread_that_is_known_is_not_measured_again(family, pairs, players, token_energy):
    run = players(family("t5"), pairs(8), energy=token_energy(radius_spread=7.0), max_steps=1)
    run.train()
    assert run.energy.config.radius_spread == 7.0


def test_a_long_split_is_looked_at_in_evenly_spaced_rows(family, pairs, players, monkeypatch):
    monkeypatch.setattr("hf_localgan.trainers.adversarial.localgan_trainer.SPREAD_ROWS", 4)
    rows = pairs(11)
    some = players(family("t5"), rows).measure_radii()
    assert some == players(family("t5"), [rows[index] for index in (0, 2, 5, 8)]).measure_radii()
    assert some != players(family("t5"), rows[:4]).measure_radii()


def test_references_of_one_radius_have_no_spread(family, pairs, players):
    with pytest.raises(ValueError, match="radii of 8 references .* above .*, which rounding makes of equal radii"):
        players(family("t5"), pairs(1) * 8).train()


def test_the_printed_scale_is_told_where_its_sign_is_wrong(family, pairs, players, token_energy, caplog):
    for bias, told in ((60.0, True), (-60.0, False)):
        caplog.clear()
        energy = token_energy(radius_spread=1.0)
        with torch.no_grad():  # a free energy falls by nearly a unit's bias where the unit is on
            energy.hidden_bias.fill_(bias)
            energy.top_bias.fill_(bias)
            energy.visible_bias[:5] += 0.0 if told else 40.0  # and rises with the distance of the query
        batch = players(family("t5"), pairs(8)).data_collator(pairs(8))
        query = energy.query_features(batch["input_ids"], batch["attention_mask"])
        assert ((energy.free_energy(query, energy.center(query)) < 0) == told).all()
        with caplog.at_level(logging.WARNING, "hf_localgan"):
            players(family("t5"), pairs(8), energy=energy, radial_scale="center", max_steps=1).train()
        assert ("F(q, rc) is negative for 100.0% of the queries" in caplog.text) == told


# ---- presets ----


def config(tmp_path, **fields) -> LocalGanConfig:
    return LocalGanConfig(str(tmp_path), use_cpu=True, **fields)


def test_presets_set_what_is_left_open_and_what_is_said_wins(tmp_path):
    plain = config(tmp_path)
    assert plain.radial_scale == "spread" and plain.relaxation == "straight_through" and plain.radial_weight == 1
    for name in ("paper", "authors_code"):
        chosen = config(tmp_path, preset=name)
        changed = {
            field.name
            for field in dataclasses.fields(LocalGanConfig)
            if getattr(chosen, field.name) != getattr(plain, field.name)
        }
        assert changed - {"preset"} == set(PRESETS[name])
        assert all(getattr(chosen, key) == value for key, value in PRESETS[name].items())
    paper = config(tmp_path, preset="paper", radial_weight=2.0, max_soft_length=7, discriminator_learning_rate=1e-4)
    assert (paper.radial_weight, paper.max_soft_length, paper.discriminator_learning_rate) == (2.0, 7, 1e-4)
    assert (paper.radial_scale, paper.teacher_forcing_weight, paper.max_grad_norm) == ("center", 0.0, 10.0)
    code = config(tmp_path, preset="authors_code", clamp_warmup=0.5, generator_steps=2)
    assert (code.clamp_warmup, code.generator_steps, code.length_ratio, code.radial_weight) == (0.5, 2, True, 10.0)


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"preset": "code"}, '`preset` must be one of default, paper, authors_code, got "code"'),
        ({"radial_scale": "std"}, '`radial_scale` must be one of spread, abs_center, center, got "std"'),
        ({"radial_weight": -1.0}, "`radial_weight` must be finite and not negative, got -1.0"),
        ({"radial_floor": math.nan}, "`radial_floor` must be finite and not negative, got nan"),
        ({"clamp_warmup": 0.0}, "`clamp_warmup` must be above 0, or None for no bound, got 0.0"),
    ],
)
def test_settings_that_make_no_sense(fields, message, tmp_path):
    with pytest.raises(ValueError, match=message):
        config(tmp_path, **fields)


@pytest.mark.parametrize("kind", ["dbm", "rbm_pair"])
@pytest.mark.parametrize("parts", ["all", "head"])
def test_a_discriminator_made_of_the_energy_trains_and_leaves_the_energy_alone(
    kind, parts, family, pairs, players, token_energy, parameters
):
    energy = token_energy(energy=kind)
    discriminator = PairDiscriminator.from_energy(energy, head_size=5, dropout=0.0)
    before, wanted = parameters(discriminator), parameters(energy)
    run = players(
        family("rnn_seq2seq"), pairs(9), energy=energy, discriminator=discriminator, discriminator_parts=parts,
        max_steps=4, noise_scale=1.0,
    )  # fmt: skip
    run.train()  # nine pairs in batches of eight: one stands alone
    moved = {name for name, value in parameters(discriminator).items() if not torch.equal(value, before[name])}
    assert any(name.startswith("head.") for name in moved)
    assert any(name.startswith("body.") for name in moved) == (parts == "all")
    assert all(torch.equal(value, wanted[name]) for name, value in parameters(energy).items())
    batch = run.data_collator(pairs(8))
    soft = run.roll_out(batch)
    with torch.no_grad():
        hard = run.roll_out(batch)
        ids = run.generation_logits(batch, hard, hard.mask)
    torch.testing.assert_close(run.generation_logits(batch, soft, soft.mask).detach(), ids, atol=1e-6, rtol=1e-5)


@pytest.mark.parametrize("preset", ["paper", "authors_code"])
@pytest.mark.parametrize("energy", ["dbm", "rbm_pair"])
def test_presets_train_and_tell_what_does_not_fit(preset, energy, family, pairs, players, token_energy, caplog):
    with caplog.at_level(logging.WARNING, "hf_localgan"):
        run = players(
            family("rnn_seq2seq"), pairs(8), preset=preset, energy=token_energy(energy=energy), max_steps=3,
            discriminator_learning_rate=0.1,
        )  # fmt: skip
    told = 'The preset "authors_code" is meant for `energy="rbm_pair"`' in caplog.text
    assert told == (preset == "authors_code" and energy == "dbm")
    run.train()
    assert run.state.global_step == 3


def test_the_head_is_bounded_while_it_is_warmed_up_and_not_afterwards(family, pairs, players, tiny_discriminator):
    discriminator = tiny_discriminator()
    largest = []

    class Looking(ClampHead):
        def on_step_end(self, args, state, control, **kwargs):
            largest.append(max(float(one.detach().abs().max()) for one in self.discriminator.head.parameters()))

    run = players(
        family("t5"), pairs(8), discriminator=discriminator, clamp_warmup=0.05, discriminator_warmup_steps=3,
        discriminator_learning_rate=1.0, max_steps=4,
    )  # fmt: skip
    run.add_callback(Looking(discriminator, 0.0, 0))
    run.train()
    assert largest[:3] == [pytest.approx(0.05)] * 3 and largest[3] > 0.06
    assert max(float(one.detach().abs().max()) for one in discriminator.body.parameters()) > 0.05


# ---- what is refused ----


def test_energies_that_do_not_fit(family, pairs, players, token_energy, tiny_discriminator, tiny_tokenizer):
    untrained = token_energy()
    untrained.response_scaler.count.zero_()
    for energy, message in (
        (None, r"`energy` must be a `DbmModel`, got NoneType\. Train one by `DbmTrainer`"),
        (tiny_discriminator(), "`energy` must be a `DbmModel`, got PairDiscriminator"),
        (token_energy(energy="printed"), 'has no lowest point, so no centre. Train one with `energy="dbm"`'),
        (untrained, "scalers are not fitted, so it was not trained. Train it by `DbmTrainer`"),
        (token_energy(vocab_size=None), "energy holds no word vectors.*Train it on token ids"),
        (token_energy(vocab_size=21), r"energy knows 21 tokens, the generator's tokenizer has 20\. Train the energy"),
        (token_energy(vocabulary="00ff"), "The energy was made with another tokenizer.*fingerprints 00ff and"),
    ):
        with pytest.raises(ValueError, match=message):
            players(family("t5"), pairs(4), energy=energy)
    players(family("t5"), pairs(4), energy=token_energy(vocabulary=vocabulary_fingerprint(tiny_tokenizer)))


def test_the_arguments_of_the_other_trainer(family, pairs, players, tmp_path, token_energy, tiny_discriminator):
    with pytest.raises(ValueError, match="`args` must be a `LocalGanConfig`, got GanAelConfig"):
        LocalGanTrainer(
            family("t5"), GanAelConfig(str(tmp_path), use_cpu=True), discriminator=tiny_discriminator(),
            energy=token_energy(),
        )  # fmt: skip
