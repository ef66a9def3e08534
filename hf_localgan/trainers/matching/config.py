"""Arguments of `MatchingTrainer`."""

from dataclasses import dataclass, field

import torch
from transformers import TrainingArguments

from hf_localgan.trainers.base.launching import settle_launch
from hf_localgan.trainers.base.precision import settle_precision
from hf_localgan.trainers.base.settings import CardArguments


@dataclass
class MatchingConfig(CardArguments, TrainingArguments):
    """Arguments of `MatchingTrainer`, on top of `TrainingArguments`.

    Changed: batches of 64 pairs and a learning rate of 1e-3 by default; nothing is reported to an experiment tracker
    unless `report_to` names one; memory is pinned only where there is an accelerator that reads it; data parallelism
    sends no buffers around; the best model is the one with the best matching unless `metric_for_best_model` names
    another number.
    """

    negatives: int = field(
        default=4, metadata={"help": "Mismatched responses for each pair and update, from the same batch."}
    )
    eval_negatives: int = field(
        default=1, metadata={"help": "Mismatched responses for each pair in evaluations, from the whole split."}
    )
    eval_seed: int = field(default=0, metadata={"help": "Of their choice, which does not depend on `seed`."})

    early_stopping_patience: int = field(
        default=0,
        metadata={"help": "Evaluations without a better `metric_for_best_model` after which training stops. 0: never."},
    )
    early_stopping_threshold: float = field(
        default=0.0, metadata={"help": "How much better an evaluation must be to count as better."}
    )

    per_device_train_batch_size: int = field(default=64, metadata={"help": "Pairs per process and batch."})
    per_device_eval_batch_size: int = field(default=256, metadata={"help": "Pairs per process in evaluation."})
    learning_rate: float = field(default=1e-3, metadata={"help": "Largest learning rate."})
    report_to: None | str | list[str] = field(
        default="none", metadata={"help": "Experiment trackers: `tensorboard`, `trackio`, `wandb`, `all` or `none`."}
    )

    def __post_init__(self):
        self._check_values()
        if (self.load_best_model_at_end or self.early_stopping_patience) and self.metric_for_best_model is None:
            self.metric_for_best_model = "eval_matching"
        if self.ddp_broadcast_buffers is None:
            self.ddp_broadcast_buffers = False  # word vectors and scalers are equal on all processes, and stay so
        settle_launch(self)
        settle_precision(self)
        super().__post_init__()
        accelerator = torch.accelerator.current_accelerator(check_available=True)
        if self.use_cpu or accelerator is None or accelerator.type == "mps":
            self.dataloader_pin_memory = False  # torch warns about it at every epoch
        if self.early_stopping_patience and self.eval_strategy == "no":
            raise ValueError(
                f"`early_stopping_patience={self.early_stopping_patience}` needs evaluations. Set `eval_strategy` to "
                "`steps` or `epoch`."
            )
        if self.n_gpu > 1:
            raise ValueError(
                f"One process for {self.n_gpu} GPUs would cut batches, in which mismatched responses are looked for. "
                "Start one process for each, with `accelerate launch` or `torchrun`, or set `CUDA_VISIBLE_DEVICES`."
            )

    def _check_values(self):
        for name in ("negatives", "eval_negatives"):
            if getattr(self, name) < 1:
                raise ValueError(f"`{name}` must be at least 1, got {getattr(self, name)}.")
        for name in ("early_stopping_patience", "early_stopping_threshold", "eval_seed"):
            if getattr(self, name) < 0:
                raise ValueError(f"`{name}` must not be negative, got {getattr(self, name)}.")
        if self.per_device_train_batch_size < 2:
            raise ValueError(
                "Mismatched responses come from the same batch, so `per_device_train_batch_size` must be at least 2, "
                f"got {self.per_device_train_batch_size}."
            )
        if self.train_sampling_strategy == "group_by_length":
            raise ValueError(
                "`train_sampling_strategy` `group_by_length` would mismatch responses of one length only, so that the "
                "discriminator never learned from the others. Leave it out."
            )
        if self.label_smoothing_factor:
            raise ValueError("`label_smoothing_factor` belongs to losses over tokens. Leave it out.")
