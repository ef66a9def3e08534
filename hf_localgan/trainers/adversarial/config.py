"""Arguments that trainers of a generator against other players share."""

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import ClassVar

from hf_localgan.functional.relaxation import RELAXATIONS
from hf_localgan.trainers.adversarial.players import DISCRIMINATOR, GENERATOR, Schedule
from hf_localgan.trainers.base.launching import refuse_several_gpus
from hf_localgan.trainers.base.settings import METRIC_SCHEDULES, TokenLossConfig

LENGTHS = ("end", "reference", "survival")
GENERATOR_PARTS = ("all", "decoder")
DISCRIMINATOR_PARTS = ("all", "head")
# They change the Trainer's update itself, which each player has one of.
SINGLE_PLAYER_OPTIMIZERS = (
    "lomo", "adalomo", "schedule_free_adamw", "schedule_free_radam", "schedule_free_sgd", "galore_adamw_layerwise",
    "galore_adamw_8bit_layerwise", "galore_adafactor_layerwise", "apollo_adamw_layerwise",
)  # fmt: skip


@dataclass
class TwoPlayerConfig(TokenLossConfig):
    """Arguments of `TwoPlayerTrainer`, on top of `TokenLossConfig`: the players' turns, learning rates and monitor.

    `max_steps` (or the epochs) count the updates of all players, warm-up included: with one update of the
    discriminator for each of the generator, 300 steps of warm-up and 1,000 steps in all are 350 updates of the
    generator. `learning_rate`, `lr_scheduler_type` and the warm-up of the rate are the generator's. Every other player
    follows the same schedule over its own updates, with its `PLAYER_learning_rate` as the largest rate.

    Changed: the generator's learning rate is 2e-5; data parallelism sends no buffers; with `load_best_model_at_end` the
    best model has the largest `eval_quality` (see `ResponseMonitor`) unless `metric_for_best_model` names another
    metric.
    """

    constant_buffers: ClassVar[bool] = True
    unsupported: ClassVar[Mapping[str, str]] = {
        "torch_compile": "each update computes another loss, for which the model would be compiled anew",
        "auto_find_batch_size": "an update that runs out of memory comes after others have moved the players, and the "
        "training would begin anew with them",
    }

    # Players
    discriminator_steps: int = field(default=1, metadata={"help": "Updates of the discriminator in a row."})
    generator_steps: int = field(
        default=1, metadata={"help": "Updates of the generator in a row, after the discriminator's."}
    )
    discriminator_warmup_steps: int = field(
        default=300, metadata={"help": "Updates of the discriminator before the generator's first one."}
    )
    learning_rate: float = field(default=2e-5, metadata={"help": "The generator's largest learning rate."})
    discriminator_learning_rate: float = field(
        default=3e-4, metadata={"help": "The discriminator's largest learning rate."}
    )
    adversarial_weight: float = field(
        default=1.0, metadata={"help": "Weight of the adversarial term, -ln D(q, r^), in the generator's loss."}
    )
    teacher_forcing_weight: float = field(
        default=1.0,
        metadata={
            "help": "Weight of teacher forcing, the references' nats per token, in the generator's loss. It keeps the "
            "generator fluent."
        },
    )
    mismatched_weight: float = field(
        default=1.0,
        metadata={
            "help": "Weight of mismatched pairs, queries with responses to other queries, in the discriminator's loss. "
            "0 leaves them out."
        },
    )
    generator_parts: str = field(
        default="all",
        metadata={
            "help": "Layers of the generator that learn: `all`, or `decoder` without embeddings, encoder and output "
            "layer."
        },
    )
    discriminator_parts: str = field(
        default="all",
        metadata={"help": "Layers of the discriminator that learn: `all`, or the `head` on top of its body."},
    )

    # Monitor
    monitor_queries: int = field(
        default=500,
        metadata={"help": "Number of validation queries that the generator answers at each evaluation. 0: none."},
    )
    monitor_max_new_tokens: int = field(
        default=30, metadata={"help": "Longest answer to the monitored queries, in tokens."}
    )
    monitor_beams: int = field(
        default=5,
        metadata={
            "help": "Width of the beam search that answers up to 100 of these queries, too, for a warning where beams "
            "grow longer than references or repeat themselves. 0: none."
        },
    )
    beam_fault_share: float = field(
        default=0.1,
        metadata={
            "help": "Warn when more than this share of the beams' answers is longer than 99 % of the references, or "
            "when the share with a trigram twice exceeds the references' by more than it."
        },
    )
    collapse_share: float = field(
        default=0.5,
        metadata={
            "help": "Training stops when Ent-4 or Dist-2 of the monitored answers has lost this share of its highest "
            "value. 1 never stops it."
        },
    )
    collapse_length: float = field(
        default=2.0,
        metadata={"help": "Training stops when the monitored answers are this many times as long as at the start."},
    )

    def schedule(self) -> Schedule:
        """The players' turns: the discriminator's warm-up, then both players alternately."""
        return Schedule(
            warmup=((DISCRIMINATOR, self.discriminator_warmup_steps),),
            cycle=((DISCRIMINATOR, self.discriminator_steps), (GENERATOR, self.generator_steps)),
        )

    def player_learning_rate(self, player: str) -> float:
        """The largest learning rate of a player: `PLAYER_learning_rate`, or `learning_rate` for the generator."""
        return self.learning_rate if player == GENERATOR else getattr(self, f"{player}_learning_rate")

    def _settle(self):
        if self.load_best_model_at_end and self.metric_for_best_model is None:
            self.metric_for_best_model, self.greater_is_better = "eval_quality", True
        if self.greater_is_better is None and self.metric_for_best_model in ("quality", "eval_quality"):
            self.greater_is_better = True
        super()._settle()

    def _check_settled(self):
        super()._check_settled()
        for name, accepted, refused in (
            ("lr_scheduler_type", "`constant`, `linear` or `cosine`", METRIC_SCHEDULES),
            ("optim", "`adamw_torch`, `sgd` or `adafactor`", SINGLE_PLAYER_OPTIMIZERS),
        ):
            value = getattr(self, name).value
            if value in refused:
                raise ValueError(
                    f"`{name}: {value}` cannot be had for several players, whose updates it does not tell apart. Set "
                    f"{accepted}, for example."
                )
        refuse_several_gpus(self, "from which the players' losses take their means and mismatched pairs")

    def _check_values(self):
        super()._check_values()
        for name, accepted in (("generator_parts", GENERATOR_PARTS), ("discriminator_parts", DISCRIMINATOR_PARTS)):
            if getattr(self, name) not in accepted:
                raise ValueError(f'`{name}` must be one of {", ".join(accepted)}, got "{getattr(self, name)}".')
        for name in ("discriminator_steps", "generator_steps", "monitor_max_new_tokens"):
            if getattr(self, name) < 1:
                raise ValueError(f"`{name}` must be at least 1, got {getattr(self, name)}.")
        self._check_sizes(
            "adversarial_weight", "teacher_forcing_weight", "mismatched_weight", "discriminator_warmup_steps",
            "discriminator_learning_rate", "monitor_queries", "monitor_beams",
        )  # fmt: skip
        if not 0 <= self.beam_fault_share <= 1:
            raise ValueError(f"`beam_fault_share` is a share from 0 to 1, got {self.beam_fault_share}.")
        if not 0 < self.collapse_share <= 1:
            raise ValueError(f"`collapse_share` is a share above 0 and up to 1, got {self.collapse_share}.")
        if not self.collapse_length > 1:
            raise ValueError(f"`collapse_length` must be above 1, got {self.collapse_length}.")
        if self.mismatched_weight and self.per_device_train_batch_size < 2:
            raise ValueError(
                "Responses to other queries come from the same batch, so `per_device_train_batch_size` must be at "
                f"least 2, got {self.per_device_train_batch_size}. Or set `mismatched_weight` to 0."
            )
        if self.mismatched_weight and self.train_sampling_strategy in ("group_by_length", "batch_rebalance"):
            raise ValueError(
                f"`train_sampling_strategy` `{self.train_sampling_strategy}` would mismatch only responses of equal "
                "length. Leave it out, or set `mismatched_weight` to 0."
            )

    def _check_sizes(self, *names: str):
        """Refuses numbers that are negative, infinite or NaN."""
        for name in names:
            if not (getattr(self, name) >= 0 and math.isfinite(getattr(self, name))):
                raise ValueError(f"`{name}` must be finite and not negative, got {getattr(self, name)}.")


@dataclass
class SoftRolloutConfig(TwoPlayerConfig):
    """Arguments of `SoftRolloutTrainer`, on top of `TwoPlayerConfig`: the relaxation and length of generations."""

    relaxation: str = field(
        default="straight_through",
        metadata={"help": f"How generated tokens carry a gradient: {', '.join(RELAXATIONS)}."},
    )
    relaxation_temperature: float = field(default=1.0, metadata={"help": "Temperature of the relaxation's softmax."})
    noise_scale: float = field(
        default=0.5,
        metadata={
            "help": "Scale of the Gumbel noise on the logits: 0 trains greedy decoding, 1 sampling. The relaxation "
            "`softmax` has none."
        },
    )
    relaxation_top_k: int | None = field(
        default=64,
        metadata={
            "help": "Number of tokens, the likeliest ones, that have a weight at each step of a generation; `none` for "
            "all."
        },
    )
    max_soft_length: int = field(default=20, metadata={"help": "Longest generation in training, in tokens."})
    soft_length_percentile: float | None = field(
        default=None,
        metadata={
            "help": "Make the longest generation in training as long as this percentile of the training references, "
            "such as 99, in place of `max_soft_length`."
        },
    )
    soft_length: str = field(
        default="end",
        metadata={
            "help": "Tokens of a generation that count: `end`, those before the end token; `reference`, of these at "
            "most as many as the reference has; `survival`, all, by the probability that the generation has not ended."
        },
    )

    def _check_settled(self):
        super()._check_settled()
        if self.gradient_checkpointing:
            raise ValueError(
                "With `gradient_checkpointing` a model returns no cache in training mode, so that generations with a "
                "gradient would see their last token only. Leave it out, and save memory by a smaller "
                "`per_device_train_batch_size` with more `gradient_accumulation_steps`, or a smaller "
                "`relaxation_top_k` or `max_soft_length`."
            )

    def _check_values(self):
        super()._check_values()
        for name, accepted in (("relaxation", RELAXATIONS), ("soft_length", LENGTHS)):
            if getattr(self, name) not in accepted:
                raise ValueError(f'`{name}` must be one of {", ".join(accepted)}, got "{getattr(self, name)}".')
        if self.max_soft_length < 1:
            raise ValueError(f"`max_soft_length` must be at least 1, got {self.max_soft_length}.")
        if self.soft_length_percentile is not None and not 0 < self.soft_length_percentile <= 100:
            raise ValueError(
                f"`soft_length_percentile` is above 0 and up to 100, or None for `max_soft_length`, got "
                f"{self.soft_length_percentile}."
            )
        self._check_sizes("noise_scale")
        if not self.relaxation_temperature > 0:
            raise ValueError(f"`relaxation_temperature` must be above 0, got {self.relaxation_temperature}.")
        if self.relaxation_top_k is not None and self.relaxation_top_k < 1:
            raise ValueError(f"`relaxation_top_k` must be at least 1, or None for all, got {self.relaxation_top_k}.")
