"""Arguments that trainers of a generator against a discriminator share."""

import math
from dataclasses import dataclass, field

from hf_localgan.functional.relaxation import RELAXATIONS
from hf_localgan.trainers.mle.config import MleConfig

LENGTHS = ("end", "reference", "survival")
GENERATOR_PARTS = ("all", "decoder")
DISCRIMINATOR_PARTS = ("all", "head")


@dataclass
class GanConfig(MleConfig):
    """Arguments of trainers of two players, on top of `MleConfig`.

    `max_steps` (or the epochs) count the updates of both players, warm-up included: with one update of the
    discriminator for each of the generator, 300 steps of warm-up and 1,000 steps in all are 350 updates of the
    generator. `learning_rate`, `lr_scheduler_type` and the warm-up of the rate are the generator's; the discriminator
    has the same schedule over its own updates.

    Changed: a generator's learning rate of 2e-5; data parallelism sends no buffers around; with
    `load_best_model_at_end` the best model is the one with the largest `eval_quality` (see `ResponseMonitor`) unless
    `metric_for_best_model` names another number.
    """

    # Players
    discriminator_steps: int = field(default=1, metadata={"help": "Updates of the discriminator in a row."})
    generator_steps: int = field(default=1, metadata={"help": "Updates of the generator in a row, after those."})
    discriminator_warmup_steps: int = field(
        default=300, metadata={"help": "Updates of the discriminator before the generator's first one."}
    )
    learning_rate: float = field(default=2e-5, metadata={"help": "The generator's largest learning rate."})
    discriminator_learning_rate: float = field(
        default=3e-4, metadata={"help": "The discriminator's largest learning rate."}
    )
    adversarial_weight: float = field(default=1.0, metadata={"help": "Of -ln D(q, r^) in the generator's objective."})
    teacher_forcing_weight: float = field(
        default=1.0, metadata={"help": "Of the nats per token of the references in the generator's objective."}
    )
    mismatched_weight: float = field(
        default=1.0,
        metadata={"help": "Of responses to other queries among what the discriminator must reject. 0: none."},
    )
    generator_parts: str = field(
        default="all",
        metadata={"help": "What of the generator learns: `all`, or `decoder`: embeddings, encoder, output layer stay."},
    )
    discriminator_parts: str = field(
        default="all", metadata={"help": "What of the discriminator learns: `all`, or the `head` on top of its body."}
    )

    # Generations with a gradient
    relaxation: str = field(
        default="straight_through", metadata={"help": f"Of generated tokens: {', '.join(RELAXATIONS)}."}
    )
    relaxation_temperature: float = field(default=1.0, metadata={"help": "Of the relaxation's softmax."})
    noise_scale: float = field(
        default=0.5,
        metadata={"help": "Of the Gumbel noise: 0 trains greedy decoding, 1 sampling; `softmax` has none."},
    )
    relaxation_top_k: int | None = field(
        default=64, metadata={"help": "Tokens that have any weight at each step, the likeliest; `none` for all."}
    )
    max_soft_length: int = field(default=20, metadata={"help": "Longest generation, in tokens."})
    soft_length: str = field(
        default="end",
        metadata={
            "help": "What of a generation counts: `end`, tokens before the end token; `reference`, no more of them "
            "than the reference has; `survival`, tokens by the probability that it is still going on."
        },
    )

    # Watching
    monitor_queries: int = field(
        default=500, metadata={"help": "Validation queries that are answered at each evaluation. 0: none."}
    )
    monitor_max_new_tokens: int = field(default=30, metadata={"help": "Longest of these answers, in tokens."})
    collapse_share: float = field(
        default=0.5,
        metadata={
            "help": "Training stops when Ent-4 or Dist-2 of these answers has lost this share of its highest value."
        },
    )
    collapse_length: float = field(
        default=2.0,
        metadata={"help": "Training stops when the answers have become this many times as long as at the start."},
    )

    def __post_init__(self):
        if self.load_best_model_at_end and self.metric_for_best_model is None:
            self.metric_for_best_model, self.greater_is_better = "eval_quality", True
        if self.greater_is_better is None and self.metric_for_best_model in ("quality", "eval_quality"):
            self.greater_is_better = True
        if self.ddp_broadcast_buffers is None:
            self.ddp_broadcast_buffers = False  # word vectors and scalers are equal on all processes, and stay so
        super().__post_init__()
        if self.n_gpu > 1:
            raise ValueError(
                f"One process for {self.n_gpu} GPUs would cut batches behind the trainer's back. Start one process for "
                "each, with `accelerate launch` or `torchrun`, or set `CUDA_VISIBLE_DEVICES`."
            )
        if self.gradient_checkpointing:
            raise ValueError(
                "`gradient_checkpointing` returns no cache in training mode, so that generations with a gradient would "
                "see their last token only. Leave it out, and save memory by `per_device_train_batch_size` with "
                "`gradient_accumulation_steps`, `relaxation_top_k` or `max_soft_length`."
            )

    def _check_values(self):
        super()._check_values()
        for name, accepted in (
            ("relaxation", RELAXATIONS), ("soft_length", LENGTHS), ("generator_parts", GENERATOR_PARTS),
            ("discriminator_parts", DISCRIMINATOR_PARTS),
        ):  # fmt: skip
            if getattr(self, name) not in accepted:
                raise ValueError(f'`{name}` must be one of {", ".join(accepted)}, got "{getattr(self, name)}".')
        for name in ("discriminator_steps", "generator_steps", "max_soft_length", "monitor_max_new_tokens"):
            if getattr(self, name) < 1:
                raise ValueError(f"`{name}` must be at least 1, got {getattr(self, name)}.")
        for name in (
            "adversarial_weight", "teacher_forcing_weight", "mismatched_weight", "noise_scale",
            "discriminator_warmup_steps", "discriminator_learning_rate", "monitor_queries",
        ):  # fmt: skip
            value = getattr(self, name)
            if not (value >= 0 and math.isfinite(value)):
                raise ValueError(f"`{name}` must be finite and not negative, got {value}.")
        if not self.relaxation_temperature > 0:
            raise ValueError(f"`relaxation_temperature` must be above 0, got {self.relaxation_temperature}.")
        if self.relaxation_top_k is not None and self.relaxation_top_k < 1:
            raise ValueError(f"`relaxation_top_k` must be at least 1, or None for all, got {self.relaxation_top_k}.")
        if not 0 < self.collapse_share <= 1:
            raise ValueError(f"`collapse_share` is a share above 0 and up to 1, got {self.collapse_share}.")
        if not self.collapse_length > 1:
            raise ValueError(f"`collapse_length` must be above 1, got {self.collapse_length}.")
        if self.mismatched_weight and self.per_device_train_batch_size < 2:
            raise ValueError(
                "Responses to other queries come from the same batch, so `per_device_train_batch_size` must be at "
                f"least 2, got {self.per_device_train_batch_size}. Or set `mismatched_weight` to 0."
            )
        if self.mismatched_weight and self.train_sampling_strategy == "group_by_length":
            raise ValueError(
                "`train_sampling_strategy` `group_by_length` would set responses of one length only against each "
                "other. Leave it out, or set `mismatched_weight` to 0."
            )
