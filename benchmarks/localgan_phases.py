"""Updates of `LocalGanTrainer` beside those of `MleTrainer`, whole and in parts."""

import logging
import statistics
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
from datasets import Dataset
from localgan_rollout import TOKENS, Clock, make_generator
from tokenizers import Tokenizer, models
from transformers import DataCollatorForSeq2Seq, PreTrainedTokenizerFast, PrinterCallback, TrainerCallback
from workload import BATCH_SIZE, BOS, EOS, FIRST_WORD, PAD

from hf_localgan import (
    DbmConfig,
    DbmModel,
    DbmTrainer,
    DbmTrainingConfig,
    LocalGanConfig,
    LocalGanTrainer,
    MleConfig,
    MleTrainer,
    PairDiscriminator,
    PairDiscriminatorConfig,
)

MLE, GENERATOR, DISCRIMINATOR = "MLE", "generator", "discriminator"
TOPICS = 40
SHAPES = {  # of the energies that the default recipes and the paper use
    "default": {"size": 100, "visible_std": "learned", "whiten": True},
    "paper": {"size": 200, "visible_std": "unit", "whiten": False},
}
VARIANTS = {  # what is said to `LocalGanConfig`
    f"default, {TOKENS} steps": {"preset": "default", "max_soft_length": TOKENS},
    "default": {"preset": "default"},
    f"paper, {TOKENS} steps": {"preset": "paper", "max_soft_length": TOKENS},
    "paper": {"preset": "paper"},
}
ENDING = "default, answers end"  # as those of a trained generator do, after 9 words on average if there were no limit
VARIANTS[ENDING] = {"preset": "default"}
WORDS = 9
ROLLOUT, REST, OPTIMIZER = "encoder and rollout", "rest", "clipping and optimizer"
PARTS = (ROLLOUT, "discriminator", "energy", "teacher-forced loss", "backward", OPTIMIZER, REST)


def make_tokenizer(vocabulary: int) -> PreTrainedTokenizerFast:
    words = {"<pad>": PAD, "<s>": BOS, "</s>": EOS, "<unk>": 3}
    words |= {f"w{token}": token for token in range(FIRST_WORD, vocabulary)}
    return PreTrainedTokenizerFast(
        tokenizer_object=Tokenizer(models.WordLevel(words, unk_token="<unk>")), pad_token="<pad>", bos_token="<s>",
        eos_token="</s>", unk_token="<unk>", model_input_names=["input_ids", "attention_mask"],
    )  # fmt: skip


def make_rows(vocabulary: int, number: int) -> Dataset:
    """Pairs of 15 tokens with Zipf's frequencies, half of whose words are of a topic that both sides have."""
    rng = np.random.default_rng(1)
    ranks = np.arange(1, vocabulary - FIRST_WORD + 1)
    words = FIRST_WORD + rng.choice(len(ranks), (2, number, TOKENS), p=(1 / ranks) / (1 / ranks).sum())
    topics = rng.integers(TOPICS, size=number)[:, None]
    on_topic = np.minimum(words // TOPICS * TOPICS + topics, vocabulary - 1).clip(FIRST_WORD)
    words = np.where(rng.random(words.shape) < 0.5, on_topic, words)
    words[:, :, -1] = EOS
    return Dataset.from_dict({
        "input_ids": words[0].tolist(), "attention_mask": np.ones_like(words[0]).tolist(), "labels": words[1].tolist(),
    })  # fmt: skip


def make_vectors(vocabulary: int, size: int) -> torch.Tensor:
    """Word vectors around those of the topics."""
    noise = torch.Generator().manual_seed(1)
    topics = torch.randn(TOPICS, size, generator=noise)
    return topics[torch.arange(vocabulary) % TOPICS] + torch.randn(vocabulary, size, generator=noise)


@dataclass
class Setting:
    """What all trainers of one measurement share.

    Attributes:
        vocabulary: words.
        device: "cpu" or "cuda".
        folder: that trainers may write to.
        steps: updates of a player that count in each round.
        energy_steps: updates of an energy before anything is timed.
    """

    vocabulary: int
    device: str
    folder: str
    steps: int
    energy_steps: int

    def arguments(self, **others) -> dict:
        return {
            "output_dir": self.folder, "use_cpu": self.device == "cpu", "save_strategy": "no", "logging_strategy": "no",
            "disable_tqdm": True, **others,
        }  # fmt: skip


def make_energy(setting: Setting, shape: str, tokenizer) -> tuple[DbmModel, float]:
    """An energy that has learned for a while, and the mean number of steps that its mean field takes."""
    own = dict(SHAPES[shape])
    size = own.pop("size")
    torch.manual_seed(1)
    energy = DbmModel(DbmConfig(query_size=size, response_size=size, vocab_size=setting.vocabulary, **own))
    energy.word_vectors.load(make_vectors(setting.vocabulary, size), range(FIRST_WORD, setting.vocabulary))
    rows = make_rows(setting.vocabulary, 4096)
    args = setting.arguments(max_steps=setting.energy_steps, final_log_likelihood=False)
    trainer = DbmTrainer(energy, DbmTrainingConfig(**args), train_dataset=rows, processing_class=tokenizer)
    trainer.remove_callback(PrinterCallback)
    trainer.train()
    energy = energy.cpu().eval()
    with torch.no_grad():
        batch = rows[:BATCH_SIZE]
        query = energy.query_features(torch.tensor(batch["input_ids"]), torch.tensor(batch["attention_mask"]))
        steps = energy.mean_field(query, energy.response_features(torch.tensor(batch["labels"]))).steps
    return energy, steps.float().mean().item()


class Timed(TrainerCallback):
    """A trainer and the seconds of its updates; with `by_parts` a stopwatch goes along."""

    def __init__(self, trainer: MleTrainer | LocalGanTrainer, clock: Clock):
        self.trainer, self.clock = trainer, clock
        self.by_parts, self.open, self.since = False, [], 0.0
        self.updates: list[dict] = []
        trainer.remove_callback(PrinterCallback)
        trainer.add_callback(self)
        self._wrap(trainer, "compute_loss", "teacher-forced loss")
        self._wrap(trainer.accelerator, "backward", "backward")
        self._wrap(trainer, "_clip_grad_norm", OPTIMIZER)
        if isinstance(trainer, LocalGanTrainer):
            self._wrap(trainer.model.get_encoder(), "forward", ROLLOUT)
            self._wrap(trainer, "roll_out", ROLLOUT)
            self._wrap(trainer, "generation_logits", "discriminator")
            self._wrap(trainer, "discriminator_loss", "discriminator")
            self._wrap(trainer, "radial_difference", "energy")

    def train(self, by_parts: bool) -> dict[str, dict[str, float]]:
        """Means over the updates of each player, the first of each left out.

        Returns:
            Seconds by the player's name: "update" from its beginning to its end, "period" to the beginning of the next
            one, with the loader and the collator, and each of `PARTS`.
        """
        self.by_parts = by_parts
        self.updates.clear()
        self.trainer.train()
        for update, following in zip(self.updates, self.updates[1:], strict=False):
            update["period"] = following["began"] - update["began"]
        means = {}
        for player in dict.fromkeys(update["player"] for update in self.updates):
            counted = [update for update in self.updates if update["player"] == player and "period" in update][1:]
            means[player] = {
                name: statistics.mean(update[name] for update in counted)
                for name in ("update", "period", *(PARTS if by_parts else ()))
            }
        return means

    def on_step_begin(self, args, state, control, **kwargs):
        began = self.since = self.clock()
        player = getattr(self.trainer, "player", MLE)
        self.updates.append({"player": player, "began": began, **dict.fromkeys(PARTS, 0.0)})
        self.open = [REST]

    def on_step_end(self, args, state, control, **kwargs):
        self._charge()
        self.open = []
        self.updates[-1]["update"] = self.clock() - self.updates[-1]["began"]

    def on_pre_optimizer_step(self, args, state, control, **kwargs):
        self._enter(OPTIMIZER)

    def on_optimizer_step(self, args, state, control, **kwargs):
        self._leave()

    def _wrap(self, owner, name: str, part: str):
        method: Callable = getattr(owner, name)

        def timed(*args, **kwargs):
            if not self.open:  # outside of an update
                return method(*args, **kwargs)
            self._enter(part)
            try:
                return method(*args, **kwargs)
            finally:
                self._leave()

        setattr(owner, name, timed)

    def _enter(self, part: str):
        self._charge()
        self.open.append(part)

    def _leave(self):
        self._charge()
        self.open.pop()

    def _charge(self):
        """Adds the time since the last change to the innermost part."""
        if self.by_parts and self.open:
            now = self.clock()
            self.updates[-1][self.open[-1]] += now - self.since
            self.since = now


def make_trainers(setting: Setting, clock: Clock) -> tuple[dict[str, Timed], dict[str, float]]:
    """All trainers, each with a generator of its own, and the steps of the mean field of each energy."""
    logging.getLogger("hf_localgan").setLevel(logging.ERROR)  # an energy of invented pairs has centres of any sign
    tokenizer, energies, steps = make_tokenizer(setting.vocabulary), {}, {}
    for shape in SHAPES:
        energies[shape], steps[shape] = make_energy(setting, shape, tokenizer)
    count = setting.steps + 2  # the first one warms up, the last has no period
    given = {"data_collator": DataCollatorForSeq2Seq(tokenizer), "processing_class": tokenizer}
    shared = setting.arguments(
        per_device_train_batch_size=BATCH_SIZE, per_device_eval_batch_size=512, num_train_epochs=1, sample_rows=0
    )
    timed = {
        MLE: Timed(
            MleTrainer(
                make_generator(setting.vocabulary, setting.device), MleConfig(**shared, learning_rate=1e-5), **given,
                train_dataset=make_rows(setting.vocabulary, count * BATCH_SIZE),
            ),
            clock,
        )
    }  # fmt: skip
    rows = make_rows(setting.vocabulary, 2 * count * BATCH_SIZE)
    for name, own in VARIANTS.items():
        shape = own["preset"]
        if shape == "paper":
            discriminator = PairDiscriminator.from_energy(energies[shape])
        else:
            size = SHAPES[shape]["size"]
            config = PairDiscriminatorConfig(
                vocab_size=setting.vocabulary, vector_size=size, embedding_size=size, share_filters=True,
                pad_token_id=PAD, bos_token_id=BOS, eos_token_id=EOS,
            )  # fmt: skip
            discriminator = PairDiscriminator(config).load_vectors(make_vectors(setting.vocabulary, size))
        generator = make_generator(setting.vocabulary, setting.device)
        if name == ENDING:
            generator.generation_config.eos_token_id = [EOS, *range(FIRST_WORD, setting.vocabulary, WORDS)]
        trainer = LocalGanTrainer(
            generator,
            LocalGanConfig(**shared, discriminator_warmup_steps=0, **own),
            discriminator=discriminator, energy=energies[shape], train_dataset=rows, **given,
        )  # fmt: skip
        timed[name] = Timed(trainer, clock)
    return timed, steps


def measure_phases(setting: Setting, clock: Clock, rounds: int) -> dict:
    """Seconds of updates in each round, by trainer and player; all trainers take turns.

    The parts are measured in rounds of their own, a third as many, as reading the clock makes an accelerator wait.
    """
    timed, steps = make_trainers(setting, clock)
    found: dict[str, dict[str, dict[str, list[float]]]] = {"whole": {}, "parts": {}}
    for number in range(-1, rounds + max(1, rounds // 3)):  # one round warms up
        kind = "whole" if number < rounds else "parts"
        for name, trainer in timed.items():
            for player, seconds in trainer.train(by_parts=kind == "parts").items():
                kept = found[kind].setdefault(name, {}).setdefault(player, {}) if number >= 0 else {}
                for measure, value in seconds.items():
                    kept.setdefault(measure, []).append(value)
    lengths = {name: one.trainer.args.max_soft_length for name, one in timed.items() if name != MLE}
    return {**found, "mean_field_steps": steps, "lengths": lengths}
