"""A run of two players that is stopped and resumed trains as one that was not: to the last bit, in every part."""

import math
import shutil
from functools import partial

import pytest
import torch
from safetensors.torch import load_file, save_file
from transformers import TrainerCallback

from hf_localgan.trainers import GanAelConfig, GanAelTrainer, LocalGanConfig, LocalGanTrainer, ResponseMonitor

LOGGED = (
    "loss/generator", "loss/adversarial", "loss/radial", "loss/teacher_forcing", "loss/discriminator",
    "gan/real_accuracy", "gan/fake_accuracy", "gan/mismatched_accuracy", "gan/soft_length", "gan/generator_updates",
    "gan/generator_grad_norm", "gan/discriminator_grad_norm", "eval_ent_4", "eval_dist_2", "eval_length",
)  # fmt: skip


@pytest.fixture
def both(interrupted, tiny_discriminator, token_energy, tiny_tokenizer):
    """`both(model, rows, held_out, stop, **arguments)`: a whole run, a resumed one and its start; all noise is on."""

    def build(cls, monitored, model, args, **kwargs):
        parts = {"discriminator": tiny_discriminator(dropout=0.2, embedding_dropout=0.2)}
        if monitored:
            parts["monitor"] = ResponseMonitor(
                ["hello how are you", "what is your name"], [["i am fine"], ["my name is"]], tiny_tokenizer,
                max_new_tokens=5,
            )  # fmt: skip
        if cls is LocalGanTrainer:
            parts["energy"] = token_energy()
        return cls(model, args, **parts, **kwargs)

    def run(*given, cls=LocalGanTrainer, monitored=False, **arguments):
        config = LocalGanConfig if cls is LocalGanTrainer else GanAelConfig
        arguments = {
            "discriminator_warmup_steps": 3, "discriminator_steps": 2, "generator_steps": 2, "max_soft_length": 5,
            "noise_scale": 1.0, "relaxation_top_k": 8, "discriminator_learning_rate": 2e-2, "collapse_length": 100.0,
            "collapse_share": 1.0, "learning_rate": 2e-3, "config": config, **arguments,
        }  # fmt: skip
        return interrupted(*given, cls=partial(build, cls, monitored), **arguments)

    return run


@pytest.fixture
def assert_equal_players(assert_equal_runs):
    """`assert_equal_players(first, second)`: as `assert_equal_runs`, and every other part, its state and its lines."""

    def compare(first, second):
        assert_equal_runs(first, second)
        for part in ("discriminator", "energy"):
            states = [getattr(run, part).state_dict() for run in (first, second) if hasattr(run, part)]
            for name in states[0] if states else ():
                assert torch.equal(states[0][name], states[1][name]), f"{part} {name}"
        if hasattr(first, "energy"):
            assert first.energy.config.radius_spread == second.energy.config.radius_spread
        assert first.lr_scheduler.state_dict() == second.lr_scheduler.state_dict()
        assert set(first.optimizer.state_dict()) == {"generator", "discriminator"}
        assert first.guard.state() == second.guard.state()
        lines = [
            [{name: row[name] for name in LOGGED if name in row} for row in run.state.log_history]
            for run in (first, second)
        ]
        assert lines[0] == lines[1]

    return compare


@pytest.mark.parametrize(
    ("name", "settings"),
    [
        ("rnn_seq2seq", {"monitored": True}),
        ("t5", {"relaxation": "gumbel", "teacher_forcing_weight": 0.0}),
        pytest.param(
            "bart",
            {"relaxation": "softmax", "relaxation_top_k": None, "soft_length": "survival", "monitored": True},
            marks=pytest.mark.slow,
        ),
        ("rnn_seq2seq", {"bf16": True}),
        pytest.param("t5", {"bf16": True, "head_dtype": "float32"}, marks=pytest.mark.slow),
        ("bart", {"cls": GanAelTrainer, "relaxation": "straight_through", "mismatched_weight": 1.0}),
        ("t5", {"preset": "authors_code", "lr_scheduler_type": "cosine"}),
        (
            "rnn_seq2seq",
            {
                "radial_gradient": "score",
                "radial_target": "cluster",
                "radial_measure": "distance",
                "radial_baseline": "references",
                "radial_credit": "token",
                "soft_length_percentile": 90.0,
            },
        ),
    ],
    ids=["rnn", "t5-gumbel", "bart-softmax", "rnn-bf16", "t5-bf16", "gan-ael", "authors_code", "score"],
)
def test_a_run_resumed_inside_an_epoch_and_a_cycle(name, settings, family, pairs, both, assert_equal_players):
    # 24 pairs in batches of 2 x 2: 6 updates an epoch; resumed from 8, after ddd ddgg d: the second of a cycle.
    whole, resumed, start = both(
        partial(family, name, dropout=True),
        pairs(24),
        pairs(3, seed=1),
        9,
        num_train_epochs=2,
        save_steps=8,
        **settings,
    )
    assert start == 8 and whole.state.global_step == 12
    assert_equal_players(whole, resumed)
    assert (whole.guard.first_length is not None) == settings.get("monitored", False)
    assert len({row["loss"] for row in whole.state.log_history if "loss" in row}) == 12


def test_a_run_resumed_inside_the_warm_up(family, pairs, both, assert_equal_players):
    whole, resumed, start = both(
        partial(family, "t5", dropout=True), pairs(24), None, 3, num_train_epochs=1, save_steps=2, eval_strategy="no",
        clamp_warmup=0.1,
    )  # fmt: skip
    assert start == 2
    assert_equal_players(whole, resumed)


def test_a_run_resumed_between_two_epochs_of_uneven_updates(family, pairs, both, assert_equal_players):
    # 13 pairs: batches of 2, the last of one; 4 updates an epoch, the last of one batch.
    whole, resumed, start = both(
        partial(family, "bart", dropout=True), pairs(13), None, 5, num_train_epochs=3, save_steps=4, eval_strategy="no"
    )
    assert start == 4 and whole.state.global_step == 12
    assert_equal_players(whole, resumed)


@pytest.mark.parametrize("name", ["t5", "bart"])
def test_adapters_resume(name, adapted, pairs, both, assert_equal_players):
    whole, resumed, start = both(
        partial(adapted, name), pairs(16), None, 7, max_steps=8, save_steps=6, eval_strategy="no"
    )
    assert start == 6
    assert_equal_players(whole, resumed)


@pytest.fixture
def adapted(family):
    """`adapted(name)`: a model of the family with dropout and LoRA adapters, the same at each call."""
    from peft import LoraConfig, get_peft_model

    def build(name: str):
        targets = ["q", "v"] if name == "t5" else ["q_proj", "v_proj"]
        config = LoraConfig(task_type="SEQ_2_SEQ_LM", r=2, target_modules=targets, lora_dropout=0.1)
        with torch.random.fork_rng():
            torch.manual_seed(0)
            return get_peft_model(family(name, dropout=True), config)

    return build


def test_a_resumed_run_takes_the_parts_of_the_checkpoint(family, pairs, players, tiny_discriminator, token_energy):
    first = players(family("t5"), pairs(8), save_strategy="steps", save_steps=1, max_steps=1)
    first.train()
    other, energy = tiny_discriminator(seed=5), token_energy(seed=5, radius_spread=123.0)
    second = players(
        family("t5"), pairs(8), discriminator=other, energy=energy, max_steps=1, save_strategy="steps", save_steps=1
    )
    second.train(resume_from_checkpoint=True)
    for part in ("discriminator", "energy"):
        wanted, found = getattr(first, part), getattr(second, part)
        assert all(torch.equal(value, found.state_dict()[name]) for name, value in wanted.state_dict().items())
    assert energy.config.radius_spread == first.energy.config.radius_spread != 123.0


# ---- damaged checkpoints ----


@pytest.fixture
def saved(family, pairs, players, tmp_path):
    """A checkpoint, and `resume()`."""
    arguments = {"save_strategy": "steps", "save_steps": 1, "max_steps": 2}
    players(family("t5"), pairs(8), **arguments).train()

    def resume(**others):
        players(family("t5"), pairs(8), **arguments, **others).train(resume_from_checkpoint=str(folder))

    folder = tmp_path / "run" / "checkpoint-1"
    return folder, resume


@pytest.mark.parametrize("part", ["discriminator", "energy"])
def test_a_part_that_is_missing_truncated_or_another(part, saved):
    folder, resume = saved
    path = folder / part / "model.safetensors"
    whole = path.read_bytes()
    path.write_bytes(whole[: len(whole) // 2])
    with pytest.raises(ValueError, match=f'{part}" cannot be read .*truncated or damaged. Resume from an earlier'):
        resume()
    path.write_bytes(whole)
    state = load_file(path)
    name = next(iter(state))
    save_file({("other" if key == name else key): value for key, value in state.items()}, path, {"format": "pt"})
    with pytest.raises(ValueError, match=rf"does not fit .*missing \['{name}'\], unknown \['other'\]\. Resume with"):
        resume()
    path.unlink()
    with pytest.raises(ValueError, match=rf"no checkpoint of `LocalGanTrainer`: it has no {part}/model\.safetensors"):
        resume()
    shutil.rmtree(folder / part)
    with pytest.raises(ValueError, match=f"no checkpoint of `LocalGanTrainer`: it has no {part}/"):
        resume()


def test_a_discriminator_of_another_shape_than_that_of_the_checkpoint(saved, tiny_discriminator):
    _, resume = saved
    with pytest.raises(
        ValueError,
        match=r"does not fit this PairDiscriminator: of another shape .*weight.*Resume with the discriminator that",
    ):
        resume(discriminator=tiny_discriminator(filters=7))


def test_an_energys_configuration_that_is_missing_or_truncated(saved):
    folder, resume = saved
    path = folder / "energy" / "config.json"
    path.write_text(path.read_text()[:20])
    with pytest.raises(ValueError, match="cannot be read .*truncated or damaged"):
        resume()
    path.unlink()
    with pytest.raises(ValueError, match=r"it has no energy/config\.json"):
        resume()


def test_a_checkpoint_of_one_player(saved, trainer, family, pairs, tmp_path):
    _, resume = saved
    folder = tmp_path / "alone"
    trainer(family("t5"), pairs(8), output_dir=str(folder), save_strategy="steps", save_steps=1, max_steps=1).train()
    shutil.rmtree(saved[0])
    shutil.copytree(folder / "checkpoint-1", saved[0])
    with pytest.raises(ValueError, match="no checkpoint of `LocalGanTrainer`: it has no discriminator/"):
        resume()


# ---- the best model ----


class Scoring(TrainerCallback):
    """Remembers the parameters at each evaluation."""

    def __init__(self, read):
        self.read, self.seen = read, {}

    def on_evaluate(self, args, state, control, **kwargs):
        self.seen[state.global_step] = self.read()


@pytest.mark.parametrize("name", ["rnn_seq2seq", "bart"])
def test_the_best_model_comes_back_with_its_discriminator(name, family, pairs, players, parameters, fake_monitor):
    run = players(
        family(name), pairs(8), pairs(2), max_steps=6, monitor=fake_monitor([1.0, 3.0, 2.0]), eval_strategy="steps",
        eval_steps=2, save_strategy="steps", save_steps=2, load_best_model_at_end=True,
    )  # fmt: skip
    scoring = Scoring(lambda: (parameters(run.model), parameters(run.discriminator)))
    run.add_callback(scoring)
    run.train()
    assert run.state.best_global_step == 4 and run.state.best_metric == 3.0
    for kept, last, part in zip(scoring.seen[4], scoring.seen[6], (run.model, run.discriminator), strict=True):
        assert any(not torch.equal(kept[key], last[key]) for key in kept)
        assert all(torch.equal(kept[key], value) for key, value in parameters(part).items())


@pytest.fixture
def fake_monitor():
    """`fake_monitor(qualities)`: one of them at each evaluation."""

    class Fake:
        scores_relevance = True
        names = frozenset({"ent_4", "dist_2", "length", "quality"})

        def __init__(self, values):
            self.values = iter(values)

        def measure_once(self, model, accelerator):
            return {"quality": next(self.values), "ent_4": 1.0, "dist_2": 1.0, "length": 3.0}

    return Fake


def test_adapters_come_back_with_the_discriminator(adapted, pairs, players, parameters, fake_monitor):
    run = players(
        adapted("t5"), pairs(8), pairs(2), max_steps=4, monitor=fake_monitor([3.0, 2.0]), eval_strategy="steps",
        eval_steps=2, save_strategy="steps", save_steps=2, load_best_model_at_end=True,
    )  # fmt: skip
    scoring = Scoring(lambda: (parameters(run.model), parameters(run.discriminator)))
    run.add_callback(scoring)
    run.train()
    assert run.state.best_global_step == 2 and math.isfinite(run.state.best_metric)
    for kept, part in zip(scoring.seen[2], (run.model, run.discriminator), strict=True):
        assert all(torch.equal(kept[key], value) for key, value in parameters(part).items())
