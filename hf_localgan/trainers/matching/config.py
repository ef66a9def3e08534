"""Arguments of `MatchingTrainer`."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import ClassVar

from hf_localgan.trainers.base.launching import refuse_several_gpus
from hf_localgan.trainers.base.settings import EarlyStoppingSettings


@dataclass
class MatchingConfig(EarlyStoppingSettings):
    """Arguments of `MatchingTrainer`, on top of `TrainingArguments`.

    Changed, on top of the changes of `SharedSettings`: batches of 64 pairs and a learning rate of 1e-3; data
    parallelism sends no buffers; the best model has the best matching unless `metric_for_best_model` names another
    metric.
    """

    constant_buffers: ClassVar[bool] = True
    unsupported: ClassVar[Mapping[str, str]] = {"neftune_noise_alpha": "it perturbs the embeddings of generators"}

    negatives: int = field(
        default=4,
        metadata={"help": "Number of mismatched responses for each pair in an update, from the same batch."},
    )
    eval_negatives: int = field(
        default=1,
        metadata={"help": "Number of mismatched responses for each pair in an evaluation, from the whole split."},
    )
    eval_seed: int = field(
        default=0, metadata={"help": "Seed of the mismatched responses in evaluations, independent of `seed`."}
    )

    per_device_train_batch_size: int = field(default=64, metadata={"help": "Pairs per process and training batch."})
    per_device_eval_batch_size: int = field(
        default=256, metadata={"help": "Pairs, true and mismatched, per process and evaluation batch."}
    )
    learning_rate: float = field(default=1e-3, metadata={"help": "Largest learning rate."})

    def _settle(self):
        if (self.needs_metric or self.early_stopping_patience) and self.metric_for_best_model is None:
            self.metric_for_best_model = "eval_matching"
        super()._settle()

    def _check_settled(self):
        super()._check_settled()
        refuse_several_gpus(self, "from which mismatched responses are drawn")

    def _check_values(self):
        super()._check_values()
        for name in ("negatives", "eval_negatives"):
            if getattr(self, name) < 1:
                raise ValueError(f"`{name}` must be at least 1, got {getattr(self, name)}.")
        if self.eval_seed < 0:
            raise ValueError(f"`eval_seed` must not be negative, got {self.eval_seed}.")
        if self.per_device_train_batch_size < 2:
            raise ValueError(
                "Mismatched responses come from the same batch, so `per_device_train_batch_size` must be at least 2, "
                f"got {self.per_device_train_batch_size}."
            )
        if self.train_sampling_strategy in ("group_by_length", "batch_rebalance"):
            raise ValueError(
                f"`train_sampling_strategy` `{self.train_sampling_strategy}` would mismatch only responses of equal "
                "length, and the discriminator would not learn from the others. Leave it out."
            )
        if self.label_smoothing_factor:
            raise ValueError(
                "`label_smoothing_factor` belongs to losses over tokens, and matching has none. Leave it out."
            )
