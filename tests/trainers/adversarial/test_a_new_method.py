"""A third adversarial method, written here and entered nowhere: it has all that the package's own have.

It follows the checklist "How to add a method" of CONTRIBUTING.md.
"""

import json
import math
from dataclasses import dataclass, field
from functools import partial
from types import MappingProxyType

import pytest
import torch
import torch.nn.functional as F
from huggingface_hub import ModelCard
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from hf_localgan.data import WordVectors
from hf_localgan.decoding import Decoding
from hf_localgan.evaluation import evaluate_generator
from hf_localgan.evaluation.runs import Run, compare_runs
from hf_localgan.hub.export import merge_adapter
from hf_localgan.hub.objective import Objective
from hf_localgan.models import PairDiscriminator
from hf_localgan.recipes import finish_adversarial_training
from hf_localgan.trainers import TwoPlayerConfig, TwoPlayerTrainer, card_of_folder
from hf_localgan.trainers.adversarial.players import GENERATOR, Schedule
from hf_localgan.trainers.matching.mismatches import draw_mismatches, matching_loss

PAPER = "@misc{nobody2026judges,\n  title = {Two Judges}\n}"


@dataclass
class TwoJudgesConfig(TwoPlayerConfig):
    """Arguments of `TwoJudgesTrainer`."""

    judge_steps: int = field(default=1, metadata={"help": "Updates of the second judge in a row."})
    judge_learning_rate: float = field(default=1e-2, metadata={"help": "The second judge's largest learning rate."})
    sharpness: float = field(default=1.0, metadata={"help": "How strongly the judges weigh references."})

    def schedule(self) -> Schedule:
        return Schedule(
            warmup=(("discriminator", self.discriminator_warmup_steps),),
            cycle=(("discriminator", 1), ("judge", self.judge_steps), (GENERATOR, self.generator_steps)),
        )


class TwoJudgesTrainer(TwoPlayerTrainer):
    """The generator learns references by the weight that two discriminators give them."""

    objective = Objective("two judges", "two-judges", "References, weighed by two judges.", (PAPER,))
    config_class = TwoJudgesConfig
    part_roles = MappingProxyType(
        {"discriminator": "the first judge", "judge": "the second judge", "energy": "it only looks on"}
    )

    def __init__(self, model=None, args=None, *, discriminator, judge, energy, **others):
        parts = {"discriminator": discriminator, "judge": judge, "energy": energy}
        super().__init__(model, args, parts=parts, **others)

    def player_loss(self, player, inputs, prepared, num_items_in_batch=None):
        if player == GENERATOR:
            with torch.no_grad():
                logits = sum(self.score(self.parts[name], inputs) for name in ("discriminator", "judge"))
            weights = F.softplus(self.args.sharpness * logits)
            self.record(**{"gan/weight": weights})
            return self.compute_loss(self.model, inputs, num_items_in_batch=num_items_in_batch, weights=weights)
        generator = self.draws.generator("cpu", 0)
        rows, found = draw_mismatches(inputs["input_ids"], inputs["labels"], 1, generator)
        others = self.score(self.parts[player], inputs, rows[:, 0])
        losses = matching_loss(self.score(self.parts[player], inputs), others[:, None])
        self.record(**{f"loss/{player}": losses})
        return (losses * found).mean() / self.current_gradient_accumulation_steps

    def score(self, judge: PairDiscriminator, inputs, rows=slice(None)):
        query = judge.query_features(inputs["input_ids"], inputs.get("attention_mask"))
        return judge.score(query, judge.response_features(inputs["labels"][rows]))


SETTINGS = {
    "config": TwoJudgesConfig, "discriminator_warmup_steps": 2, "judge_steps": 2, "learning_rate": 1e-2,
    "collapse_share": 1.0, "monitor_queries": 0,
}  # fmt: skip


@pytest.fixture
def method(tiny_discriminator, token_energy):
    """`method(model, args, ...)`: the trainer with fresh parts, all noise on."""

    def build(model, args, **others):
        judges = {
            name: tiny_discriminator(seed=seed, dropout=0.2) for seed, name in enumerate(("discriminator", "judge"))
        }
        return TwoJudgesTrainer(model, args, **judges, energy=token_energy(), **others)

    return build


def history(run, *names) -> list:
    return [[row[name] for name in names] for row in run.state.log_history if all(name in row for name in names)]


def test_every_player_moves_in_its_turn_and_what_looks_on_does_not(method, family, pairs, trainer, parameters):
    run = trainer(family("t5"), pairs(16), cls=method, max_steps=7, per_device_train_batch_size=4, **SETTINGS)
    before = {name: parameters(part) for name, part in {GENERATOR: run.model, **run.parts}.items()}
    turns = [run.schedule.player(step) for step in range(7)]
    assert turns == ["discriminator"] * 3 + ["judge"] * 2 + [GENERATOR, "discriminator"]
    run.train()
    moved = {
        name: any(not torch.equal(value, before[name][key]) for key, value in parameters(part).items())
        for name, part in {GENERATOR: run.model, **run.parts}.items()
    }
    assert moved == {GENERATOR: True, "discriminator": True, "judge": True, "energy": False}
    logged = {name for row in run.state.log_history for name in row}
    assert {"gan/judge_grad_norm", "gan/discriminator_grad_norm", "gan/generator_grad_norm", "loss/judge"} <= logged
    assert run.schedule.updates(7) == {"discriminator": 4, "judge": 2, GENERATOR: 1}
    assert [rate for (rate,) in history(run, "learning_rate")][3] == run.args.judge_learning_rate


def test_a_resumed_run_is_the_whole_one(method, family, pairs, interrupted, assert_equal_runs):
    whole, resumed, start = interrupted(
        partial(family, "rnn_seq2seq", dropout=True), pairs(24), None, 9, cls=method, num_train_epochs=2, save_steps=8,
        eval_strategy="no", **SETTINGS,
    )  # fmt: skip
    assert start == 8
    assert_equal_runs(whole, resumed)
    for name in whole.parts:
        for key, value in whole.parts[name].state_dict().items():
            assert torch.equal(value, resumed.parts[name].state_dict()[key]), f"{name} {key}"
    assert history(whole, "loss/judge") == history(resumed, "loss/judge")


def test_its_card_tracker_report_and_comparison(
    method, family, pairs, trainer, tiny_tokenizer, tmp_path, monkeypatch, drawn_curves
):
    vectors = WordVectors(["hello", "fine", "name", "you", "i"], torch.randn(5, 3).numpy(), name="random")
    score = partial(
        evaluate_generator, queries=["hello you", "how are you ?", "what is your name ?"],
        references=[["i am fine"], ["fine !"], ["my name is hello"]], vectors=vectors, resamples=9, max_new_tokens=5,
        decodings=[Decoding.greedy(), Decoding.sampling(0.5), Decoding.sampling(1.5)],
    )  # fmt: skip
    run = trainer(
        family("rnn_seq2seq"), pairs(8), pairs(4, seed=1), cls=method, max_steps=6, report_to="tensorboard",
        per_device_train_batch_size=4, **SETTINGS,
    )  # fmt: skip
    start = family("rnn_seq2seq")
    run.train()
    run.save_model()
    folder = tmp_path / "run"
    about = {"model": "run", "dataset": "smalltalk", "split": "test", "seed": 0}
    report = finish_adversarial_training(run, pairs(4, seed=2), score, about, start=start, permutations=9)

    # Files and card.
    assert {path.parent.name for path in folder.glob("*/config.json")} == {"discriminator", "judge", "energy"}
    assert json.loads((folder / "training_args.json").read_text())["trainer"] == "TwoJudgesTrainer"
    for card in (ModelCard.load(folder / "README.md"), ModelCard.load(card_of_folder(folder))):
        assert "Objective: **two judges**. References, weighed by two judges." in card.text and PAPER in card.text
        assert "`judge/` (the second judge), `energy/` (it only looks on)" in card.text
        assert "two-judges" in card.data.tags and "By `TwoJudgesTrainer`" in card.text
        assert "| `judge_steps` | 2 |" in card.text

    # Tracker.
    (place,) = (folder / "runs").iterdir()
    tags = EventAccumulator(str(place), size_guidance={"tensors": 0}).Reload().Tags()
    assert {"judge_config/text_summary", "energy_config/text_summary"} <= set(tags["tensors"])
    assert "train/gan/weight" in tags["scalars"]

    # Its picture shows each player's own loss, and the warm-up of the first judge as no generator's.
    panels = drawn_curves["training.png"]
    assert list(panels) == [
        "nats per token", "loss of the\ngenerator", "loss of the\ndiscriminator", "loss of the\njudge"
    ]  # fmt: skip
    turns = [run.schedule.player(step) for step in range(6)]
    for player in ("discriminator", "judge", GENERATOR):
        steps = [step + 1 for step in range(6) if turns[step] == player]
        values = [row[f"loss/{player}"] for row in run.state.log_history if f"loss/{player}" in row]
        assert panels[f"loss of the\n{player}"] == {"training": (steps, values)}
    generator = turns.index(GENERATOR)
    assert history(run, "loss/generator")[0] == history(run, "loss")[generator]  # recorded though it does not

    # Report and comparison.
    assert report.objective == "two judges" and "radii" in json.loads((folder / "adversarial.json").read_text())
    assert (folder / "adversarial.md").read_text().startswith("# two judges against its start\n")
    compared = compare_runs(Run.read(folder), Run.read(folder / "start"), "greedy", ["dist_2"], permutations=9)
    assert math.isfinite(compared["dist_2"].test.difference)


def test_adapters_and_what_stands_beside_them_are_merged(
    method, adapted_t5, family, pairs, trainer, tiny_tokenizer, tmp_path
):
    run = trainer(adapted_t5(), pairs(8), cls=method, max_steps=6, per_device_train_batch_size=4, **SETTINGS)
    run.train()
    run.save_model()
    base = tmp_path / "base"
    family("t5").save_pretrained(base)
    whole = merge_adapter(tmp_path / "run", tmp_path / "whole", tiny_tokenizer, base_model=base)
    assert {path.parent.name for path in whole.glob("*/config.json")} == {"discriminator", "judge", "energy"}


def test_parts_and_arguments_that_are_not_its_own(family, tiny_discriminator, token_energy, tmp_path):
    parts = {"discriminator": tiny_discriminator(), "energy": token_energy()}
    with pytest.raises(ValueError, match="`TwoJudgesTrainer` has `discriminator`, `judge`, `energy` beside"):
        TwoPlayerTrainer.__init__(
            TwoJudgesTrainer.__new__(TwoJudgesTrainer), family("t5"), TwoJudgesConfig(str(tmp_path), use_cpu=True),
            parts=parts,
        )  # fmt: skip
    with pytest.raises(ValueError, match="`args` must be a `TwoJudgesConfig`, got TwoPlayerConfig"):
        TwoJudgesTrainer(
            family("t5"), TwoPlayerConfig(str(tmp_path), use_cpu=True), judge=tiny_discriminator(), **parts
        )
