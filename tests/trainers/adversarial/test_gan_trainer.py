"""Two players in one trainer: who moves when, accumulated batches, what is logged, files."""

import math

import pytest
import torch
from transformers import AutoModel, AutoModelForSeq2SeqLM, TrainerCallback, pipeline

from hf_localgan.models import PairDiscriminator
from hf_localgan.pipelines import register_pipeline
from hf_localgan.trainers import GanAelTrainer, LocalGanConfig, LocalGanTrainer

register_pipeline()

FAMILIES = ("rnn_seq2seq", "t5", "bart")


class Snapshots(TrainerCallback):
    """The parameters of all parts after each update, the first entry before any."""

    def __init__(self, read):
        self.read, self.taken = read, []

    def on_train_begin(self, args, state, control, **kwargs):
        self.taken.append(self.read())

    on_step_end = on_train_begin


@pytest.fixture
def watched(players, parameters):
    """`watched(model, rows, **arguments)`: a trained trainer, and for each update which parameters it moved."""

    def train(model, rows, **arguments):
        run = players(model, rows, **arguments)
        parts = {"generator": run.model, "discriminator": run.discriminator, "energy": run.energy}
        snapshots = Snapshots(lambda: {name: parameters(part) for name, part in parts.items()})
        run.add_callback(snapshots)
        run.train()
        moved = [
            {name: {key for key in old[name] if not torch.equal(old[name][key], new[name][key])} for name in parts}
            for old, new in zip(snapshots.taken, snapshots.taken[1:], strict=False)
        ]
        return run, moved

    return train


# ---- who moves ----


@pytest.mark.parametrize("name", FAMILIES)
@pytest.mark.parametrize("optimizer", ["sgd", "adamw_torch"])
def test_one_player_moves_at_a_time_and_the_energy_never(name, optimizer, family, pairs, watched):
    cycle = {"discriminator_warmup_steps": 2, "discriminator_steps": 2, "generator_steps": 1}
    run, moved = watched(
        family(name, dropout=True), pairs(16), max_steps=8, optim=optimizer, weight_decay=0.1, max_grad_norm=1.0,
        gradient_accumulation_steps=2, per_device_train_batch_size=4, learning_rate=0.01, **cycle,
    )  # fmt: skip
    players = [run.schedule.player(step) for step in range(8)]
    assert players.count("generator") == 2 and len(moved) == 8
    for player, changed in zip(players, moved, strict=True):
        other = {"generator": "discriminator", "discriminator": "generator"}[player]
        assert changed[player] and not changed[other] and not changed["energy"]
    assert not any(one.grad is not None for one in run.energy.parameters())
    assert not run.energy.training


@pytest.mark.parametrize("name", FAMILIES)
def test_frozen_parts_stand_still_and_the_others_do_not(name, family, pairs, watched):
    run, moved = watched(family(name), pairs(8), generator_parts="decoder", discriminator_parts="head", max_steps=4)
    generator, discriminator = (set().union(*(one[part] for one in moved)) for part in ("generator", "discriminator"))
    frozen = {run.model.get_input_embeddings().weight, run.model.get_output_embeddings().weight}
    frozen |= set(run.model.get_encoder().parameters())
    names = {key for key, parameter in run.model.named_parameters() if parameter in frozen}
    assert names and generator and not names & generator
    assert all("decoder" in key for key in generator)
    assert discriminator and all(key.startswith("head.") for key in discriminator)
    assert run.model.get_decoder().get_input_embeddings().weight.grad is None


def test_adapters_learn_and_their_base_does_not(adapted_t5, pairs, watched):
    _, moved = watched(adapted_t5(), pairs(8), max_steps=4)
    assert moved[1]["generator"] and all("lora_" in key for one in moved for key in one["generator"])
    assert moved[0]["discriminator"]


@pytest.mark.parametrize("relaxation", ["softmax", "gumbel", "straight_through"])
@pytest.mark.parametrize("top_k", [None, 5])
@pytest.mark.parametrize("length", ["end", "reference", "survival"])
def test_every_relaxation_trains_by_the_discriminator_alone(relaxation, top_k, length, family, pairs, watched):
    _, moved = watched(
        family("rnn_seq2seq"), pairs(8), relaxation=relaxation, relaxation_top_k=top_k, soft_length=length,
        teacher_forcing_weight=0.0, radial_weight=0.0,
    )  # fmt: skip
    assert moved[0]["discriminator"] and moved[1]["generator"]


@pytest.mark.parametrize("name", ["marian", "encoder_decoder"])
def test_other_families_train(name, family, pairs, watched):
    _, moved = watched(family(name), pairs(8))
    assert moved[1]["generator"]


# ---- the sizes of losses and gradients ----


@pytest.mark.parametrize("name", FAMILIES)
def test_accumulated_batches_count_as_one_batch(name, family, pairs, players, parameters, losses):
    runs = []
    for size, accumulated in ((8, 1), (4, 2)):
        run = players(
            family(name), pairs(16), noise_scale=0.0, mismatched_weight=0.0, max_steps=4,
            per_device_train_batch_size=size, gradient_accumulation_steps=accumulated, max_grad_norm=1.0,
            train_sampling_strategy="sequential",
        )  # fmt: skip
        run.train()
        runs.append(run)
    for part in ("model", "discriminator"):
        whole, parts = (parameters(getattr(run, part)) for run in runs)
        for key in whole:
            torch.testing.assert_close(parts[key], whole[key], atol=2e-6, rtol=1e-5)
    for key in ("loss", "grad_norm", "loss/generator", "loss/discriminator", "loss/teacher_forcing", "gan/soft_length"):
        if key != "loss/teacher_forcing":  # a mean over batches that have different numbers of labels
            assert losses(runs[1], key) == pytest.approx(losses(runs[0], key), abs=2e-5), key


def test_the_last_update_of_an_epoch_may_have_fewer_and_smaller_batches(family, pairs, players, losses):
    # 7 pairs: 2 + 2, then 2 + 1; the pair that is alone has no response of another query.
    run = players(
        family("t5"), pairs(7), per_device_train_batch_size=2, gradient_accumulation_steps=2, num_train_epochs=2,
        max_steps=-1, train_sampling_strategy="sequential", learning_rate=0.0, discriminator_learning_rate=0.0,
    )  # fmt: skip
    run.train()
    assert run.state.global_step == 4
    assert all(math.isfinite(value) for key in ("loss", "grad_norm", "loss/generator") for value in losses(run, key))


def test_one_pair_alone_has_no_mismatch_and_its_loss_is_that_of_true_and_generated(family, pairs, players):
    run = players(family("t5"), pairs(4))
    batch = run.data_collator(pairs(1))
    rollout = run.roll_out(batch)
    found = run.discriminator_loss(batch, rollout)
    run.args.mismatched_weight = 0.0
    assert found.item() == pytest.approx(run.discriminator_loss(batch, rollout).item())
    same = run.data_collator([dict(row) for row in pairs(1) * 3])  # one query three times: nothing is mismatched either
    run.args.mismatched_weight = 1.0
    assert run.discriminator_loss(same, run.roll_out(same)).isfinite()
    assert run._terms["gan/mismatched_accuracy"] == (pytest.approx(1.0), 2)  # 1/2 and 1/2: chance


def test_generations_follow_seed_update_batch_and_process(family, pairs, players, monkeypatch):
    run = players(family("t5"), pairs(4), noise_scale=5.0, seed=3)
    batch = run.data_collator(pairs(4))
    first = run.roll_out(batch).best
    assert torch.equal(run.roll_out(batch).best, first)
    for owner, key in ((run.args, "seed"), (run.state, "global_step"), (run.draws, "batch")):
        before = getattr(owner, key)
        setattr(owner, key, before + 1)
        other = run.roll_out(batch).best
        assert other.shape != first.shape or not torch.equal(other, first), key
        setattr(owner, key, before)
    assert torch.equal(run.roll_out(batch).best, first)
    monkeypatch.setattr(LocalGanConfig, "process_index", property(lambda self: 1))
    other = run.roll_out(batch).best
    assert other.shape != first.shape or not torch.equal(other, first)


def test_a_second_training_draws_as_the_first(family, pairs, players, losses):
    run = players(
        family("t5"), pairs(8), noise_scale=1.0, learning_rate=0.0, discriminator_learning_rate=0.0, max_steps=1,
        gradient_accumulation_steps=2, per_device_train_batch_size=4, train_sampling_strategy="sequential",
    )  # fmt: skip
    run.train()
    first = losses(run, "loss/discriminator")
    run.train()
    assert losses(run, "loss/discriminator") == first


# ---- generations as the discriminator reads them ----


@pytest.mark.parametrize("top_k", [None, 6])
@pytest.mark.parametrize("length", ["end", "reference", "survival"])
def test_ids_and_one_hot_weights_have_equal_logits(top_k, length, family, pairs, players):
    run = players(family("bart"), pairs(8), relaxation_top_k=top_k, soft_length=length, noise_scale=1.0)
    batch = run.data_collator(pairs(8))
    soft = run.roll_out(batch)
    with torch.no_grad():
        hard = run.roll_out(batch)
        ids = run.generation_logits(batch, hard, run.places(hard, batch["labels"]))
    logits = run.generation_logits(batch, soft, run.places(soft, batch["labels"]))
    assert logits.requires_grad and torch.equal(soft.best, hard.best)
    torch.testing.assert_close(ids, logits.detach(), atol=1e-6, rtol=1e-6)


@pytest.mark.parametrize("relaxation", ["softmax", "straight_through"])
@pytest.mark.parametrize("top_k", [None, 6])
def test_a_generator_with_more_logits_than_its_tokenizer_has_tokens(relaxation, top_k, tiny_t5, pairs, players):
    model = tiny_t5(vocab_size=24, tie_word_embeddings=False)
    with torch.no_grad():
        model.lm_head.weight.normal_(std=0.3)
    run = players(model, pairs(8), relaxation=relaxation, relaxation_top_k=top_k, noise_scale=1.0)
    batch = run.data_collator(pairs(8))
    soft = run.roll_out(batch)
    if relaxation == "straight_through":  # with noise: some of the tokens are not the tokenizer's
        assert (soft.best >= 20).any() and (soft.best < 20).any()
    with torch.no_grad():
        hard = run.roll_out(batch)
        ids = run.generation_logits(batch, hard, hard.mask)
    torch.testing.assert_close(run.generation_logits(batch, soft, soft.mask).detach(), ids, atol=1e-6, rtol=1e-6)
    run.train()
    assert run.state.global_step == 2


def test_the_places_of_a_generation_that_count(family, pairs, players):
    run = players(family("t5"), pairs(8), noise_scale=1.0, max_soft_length=5)
    labels = torch.tensor([[7, 8, 2, -100], [2, -100, -100, -100], [5, 6, 7, 8]])
    batch = {"input_ids": torch.tensor([[5, 2]] * 3), "attention_mask": torch.ones(3, 2), "labels": labels}
    assert run.reference_lengths(labels).tolist() == [2, 0, 4]
    rollout = run.roll_out(batch)
    best = torch.tensor([[4, 5, 6, 7, 8], [4, 5, 6, 7, 8], [4, 2, 6, 7, 8]])
    ends = torch.tensor([[0.5, 0.0, 0.5, 0.0, 1.0]] * 3)
    mask = torch.tensor([[1.0] * 5, [1.0] * 5, [1.0, 0, 0, 0, 0]])
    rollout = rollout._replace(best=best, end_probabilities=ends, mask=mask)
    expected = {
        "end": mask.tolist(),
        "reference": [[1, 1, 0, 0, 0], [0] * 5, [1, 0, 0, 0, 0]],
        "survival": [[0.5, 0.5, 0.25, 0.25, 0], [0.5, 0.5, 0.25, 0.25, 0], [0.5, 0, 0, 0, 0]],
    }
    for length, places in expected.items():
        run.args.soft_length = length
        assert run.places(rollout, labels).tolist() == places, length


@pytest.mark.parametrize("length", ["end", "reference", "survival"])
def test_generations_without_a_token_are_safe(length, family, pairs, players, losses):
    model = family("bart")
    with torch.no_grad():
        model.final_logits_bias[0, 2] = 1e4  # the end token comes first, always
    run = players(model, pairs(8), soft_length=length, max_steps=4)
    run.train()
    assert losses(run, "gan/soft_length") == [0.0, 0.0]
    assert all(torch.isfinite(one).all() for part in (run.model, run.discriminator) for one in part.parameters())
    assert all(math.isfinite(value) for value in losses(run, "loss/generator"))


@pytest.mark.parametrize("cls", [LocalGanTrainer, GanAelTrainer])
def test_a_discriminator_that_has_won_still_teaches(cls, family, pairs, players, tiny_discriminator, losses):
    discriminator = tiny_discriminator()
    with torch.no_grad():
        discriminator.head[-1].bias.fill_(-1e4)
    settings = {"objective": "log", "discriminator_steps": 1} if cls is GanAelTrainer else {"radial_weight": 0.0}
    run = players(
        family("t5"), pairs(8), cls=cls, discriminator=discriminator, discriminator_learning_rate=0.0,
        teacher_forcing_weight=0.0, learning_rate=1e-3, **settings,
    )  # fmt: skip
    run.train()
    # -ln D of a logit x far below 0 is -x, with the slope 1 for x.
    assert losses(run, "loss/adversarial")[0] == pytest.approx(1e4, rel=0.01)
    norm = losses(run, "gan/generator_grad_norm")[0]
    assert math.isfinite(norm) and norm > 1e-4


# ---- log lines ----


def test_what_is_logged_and_when(family, pairs, players, losses):
    run = players(
        family("t5"), pairs(8), max_steps=7, discriminator_warmup_steps=2, generator_steps=2, learning_rate=0.02,
        lr_scheduler_type="linear", discriminator_learning_rate=0.04,
    )  # fmt: skip
    run.train()
    rows = [row for row in run.state.log_history if "loss" in row]
    turns = [run.schedule.player(step) for step in range(7)]  # d d d g g d g
    of_generator = {
        "loss/generator", "loss/adversarial", "loss/radial", "loss/teacher_forcing", "gan/phase2_fraction",
        "gan/delta_alpha", "gan/soft_length", "gan/generator_grad_norm",
    }  # fmt: skip
    of_discriminator = {
        "loss/discriminator", "gan/real_accuracy", "gan/fake_accuracy", "gan/mismatched_accuracy",
        "gan/discriminator_grad_norm",
    }  # fmt: skip
    for player, row in zip(turns, rows, strict=True):
        own, other = (of_generator, of_discriminator) if player == "generator" else (of_discriminator, of_generator)
        assert own <= set(row) and not other & set(row)
        assert row["loss"] == pytest.approx(row[f"loss/{player}"]) and row[f"gan/{player}_grad_norm"] > 0
        assert row["grad_norm"] == pytest.approx(row[f"gan/{player}_grad_norm"])
    assert losses(run, "gan/generator_updates") == [0, 0, 0, 1, 2, 2, 3]
    # Linear from the largest rate to 0 over each player's own updates: 4 and 3.
    rates = [0.04, 0.03, 0.02, 0.02, 0.02 * 2 / 3, 0.01, 0.02 / 3]
    assert losses(run, "learning_rate") == pytest.approx(rates)


@pytest.mark.parametrize("schedule", ["linear", "cosine", "polynomial"])
def test_a_run_that_is_all_warm_up_has_a_schedule(schedule, family, pairs, watched):
    run, moved = watched(
        family("t5"),
        pairs(8),
        discriminator_warmup_steps=2,
        lr_scheduler_type=schedule,
        discriminator_learning_rate=0.1,
    )
    assert run.state.global_step == 2 and all(one["discriminator"] and not one["generator"] for one in moved)


def test_a_line_over_several_updates_has_the_means_of_each_player(family, pairs, players, losses):
    each, all_ = (
        players(family("t5"), pairs(16), max_steps=4, learning_rate=0.01, logging_steps=steps) for steps in (1, 4)
    )
    each.train()
    all_.train()
    for key in ("loss/generator", "loss/discriminator", "gan/soft_length", "gan/real_accuracy", "loss"):
        wanted = losses(each, key)
        assert losses(all_, key) == [pytest.approx(sum(wanted) / len(wanted))], key


# ---- files ----


@pytest.mark.parametrize("name", FAMILIES)
def test_checkpoints_and_output_hold_every_part(name, family, pairs, players, parameters, tmp_path):
    run = players(family(name), pairs(8), max_steps=3, save_strategy="steps", save_steps=2)
    run.train()
    run.save_model()
    for folder, final in ((tmp_path / "run", True), (tmp_path / "run" / "checkpoint-2", False)):
        parts = {"discriminator": run.discriminator, "energy": run.energy}
        loaded = {part: AutoModel.from_pretrained(folder / part) for part in parts}
        assert isinstance(loaded["discriminator"], PairDiscriminator)
        assert loaded["energy"].config.radius_spread == run.energy.config.radius_spread > 0
        for part, model in parts.items():
            if final or part == "energy":
                assert all(
                    torch.equal(value, loaded[part].state_dict()[key]) for key, value in model.state_dict().items()
                )
            assert (folder / part / "tokenizer.json").is_file()
        generator = AutoModelForSeq2SeqLM.from_pretrained(folder)
        assert type(generator) is type(run.model)
        if final:
            assert all(torch.equal(value, parameters(generator)[key]) for key, value in parameters(run.model).items())
            answer = pipeline("text2text-generation", model=str(folder), device="cpu")(
                "hello how are you", max_new_tokens=3
            )
            assert isinstance(answer[0]["generated_text"], str)
    assert not list((tmp_path / "run").rglob("*training_args.bin"))
