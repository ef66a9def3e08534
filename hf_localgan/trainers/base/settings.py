"""Settings that all trainers share: precedence of values, cards, trackers, early stopping."""

import math
from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any, ClassVar

import torch
from transformers import Seq2SeqTrainingArguments, TrainingArguments

from hf_localgan.trainers.base.bounds import check_framework_settings
from hf_localgan.trainers.base.launching import settle_launch
from hf_localgan.trainers.base.precision import settle_precision

HEAD_DTYPES = ("auto", "float32", "bfloat16")


# Of transformers' arguments, those that shape a training's result.
SHAPING = (
    "learning_rate", "optim", "optim_args", "weight_decay", "adam_beta1", "adam_beta2", "adam_epsilon", "max_grad_norm",
    "lr_scheduler_type", "lr_scheduler_kwargs", "warmup_steps", "per_device_train_batch_size",
    "gradient_accumulation_steps", "seed", "data_seed", "label_smoothing_factor", "train_sampling_strategy",
    "dataloader_drop_last", "neftune_noise_alpha", "average_tokens_across_devices", "ignore_data_skip",
)  # fmt: skip
# Of this package's arguments, those that do not: they choose values of others, evaluate, watch, stop and show.
UNSHAPING = {
    "preset", "report_to", "fast_loss", "head_dtype", "final_log_likelihood", "matching_pairs", "free_energy_bound",
    "reconstruction_factor", "min_chain_spread",
}  # fmt: skip
UNSHAPING_PREFIXES = ("card_", "sample_", "early_stopping_", "monitor_", "collapse_", "ais_", "eval_")


def shaping_settings(config: type[TrainingArguments]) -> list[str]:
    """Names of the arguments that shape a training's result: the method's own, and those of the optimisation.

    Args:
        config: class of the arguments.
    """
    stock = {setting.name for setting in fields(Seq2SeqTrainingArguments)}
    names = [setting.name for setting in fields(config) if setting.init]
    own = [name for name in names if name not in stock | UNSHAPING and not name.startswith(UNSHAPING_PREFIXES)]
    return [*own, *(name for name in SHAPING if name in names)]


def output_folder(args: TrainingArguments) -> Path:
    """A run's `output_dir` as a path; where nobody named a folder, `TrainingArguments` has set one."""
    assert args.output_dir is not None
    return Path(args.output_dir)


@dataclass
class SharedSettings(TrainingArguments):
    """Fields and rules of every configuration of the package, on top of `TrainingArguments`.

    A value that the user gives wins, whatever it equals. Then comes the value of the `preset`, then the default of the
    field. A configuration remembers which arguments its constructor got: `dataclasses.replace` therefore gives all of
    them.

    Changed: nothing is reported to an experiment tracker unless `report_to` names one; memory is pinned only where
    there is an accelerator that reads it.

    Subclasses override three methods, and each calls its parent's: `_check_values` refuses single values, `_settle`
    sets defaults that follow from other settings, `_check_settled` refuses combinations, devices included.

    Attributes:
        presets: for each name that `preset` accepts, the values of the fields that the user did not give.
        constant_buffers: whether the models' buffers are equal on all processes and stay so, as word vectors and
            scalers do. Data parallelism then does not send them before every forward pass.
    """

    presets: ClassVar[Mapping[str, Mapping[str, Any]]] = {}
    constant_buffers: ClassVar[bool] = False

    card_language: None | str | list[str] = field(
        default=None,
        metadata={
            "help": "Languages on the model card, such as `en`. Recipes of dialogue set the language of their data."
        },
    )
    card_license: str | None = field(
        default=None,
        metadata={"help": "Licence of the weights on the model card, in the Hub's spelling, such as `cc-by-4.0`."},
    )
    card_datasets: None | str | list[str] = field(
        default=None, metadata={"help": "Data sets on the model card, by their ids on the Hub."}
    )
    report_to: None | str | list[str] = field(
        default="none", metadata={"help": "Experiment trackers: `tensorboard`, `trackio`, `wandb`, `all` or `none`."}
    )

    def __new__(cls, *args: Any, **kwargs: Any):
        settings = super().__new__(cls)
        names = [setting.name for setting in fields(cls) if setting.init]
        object.__setattr__(settings, "_user_fields", frozenset([*names[: len(args)], *kwargs]))
        return settings

    def __post_init__(self):
        self._apply_preset()
        self._check_values()
        check_framework_settings(self)
        self._settle()
        if self.constant_buffers and self.ddp_broadcast_buffers is None:
            self.ddp_broadcast_buffers = False
        settle_launch(self)
        settle_precision(self)
        super().__post_init__()
        accelerator = torch.accelerator.current_accelerator(check_available=True)
        if self.use_cpu or accelerator is None or accelerator.type == "mps":
            self.dataloader_pin_memory = False  # torch warns about it at every epoch
        self._check_settled()

    def _apply_preset(self):
        if not self.presets:
            return
        if self.preset not in self.presets:
            raise ValueError(f'`preset` must be one of {", ".join(self.presets)}, got "{self.preset}".')
        for name, value in self.presets[self.preset].items():
            if name not in self._user_fields:
                setattr(self, name, value)

    def _check_values(self):
        """Refuses single values, before other settings are derived from them."""

    def _settle(self):
        """Sets the defaults that follow from other settings."""

    def _check_settled(self):
        """Refuses combinations, once all settings and the devices are known."""


@dataclass
class EarlyStoppingSettings(SharedSettings):
    """Fields of the configurations whose trainers stop early."""

    early_stopping_patience: int = field(
        default=0,
        metadata={
            "help": "Training stops after this many evaluations without a better `metric_for_best_model`. 0 turns it "
            "off."
        },
    )
    early_stopping_threshold: float = field(
        default=0.0, metadata={"help": "Smallest improvement of the metric that counts as better."}
    )

    def _check_values(self):
        super()._check_values()
        for name in ("early_stopping_patience", "early_stopping_threshold"):
            if not 0 <= getattr(self, name) < math.inf:
                raise ValueError(f"`{name}` must not be negative, got {getattr(self, name)}. 0 turns it off.")

    def _check_settled(self):
        super()._check_settled()
        if self.early_stopping_patience and self.eval_strategy == "no":
            raise ValueError(
                f"`early_stopping_patience={self.early_stopping_patience}` needs evaluations. Set `eval_strategy` to "
                "`steps` or `epoch`."
            )


@dataclass
class TokenLossConfig(EarlyStoppingSettings, Seq2SeqTrainingArguments):
    """Arguments of `TokenLossTrainer`, on top of `Seq2SeqTrainingArguments`.

    Changed, on top of the changes of `SharedSettings`: a lower perplexity is better unless `greater_is_better` is set.
    """

    # Token loss
    fast_loss: bool = field(
        default=True,
        metadata={"help": "Compute the token loss in chunks at labelled positions, without logits of the whole batch."},
    )
    head_dtype: str = field(
        default="auto",
        metadata={
            "help": "Precision of the products with the output layer in the fast loss: `auto` (bfloat16 if `bf16` is "
            "set), `float32`, or `bfloat16`, which becomes float32 where the processor has no instructions for it. "
            "bfloat16 is faster; gradients agree within 1 %."
        },
    )

    # Sample table
    sample_rows: int = field(
        default=8,
        metadata={"help": "Number of queries whose greedy generation each evaluation shows. 0 turns the table off."},
    )
    sample_max_new_tokens: int = field(
        default=30, metadata={"help": "Longest generation in the sample table, in tokens."}
    )

    def _settle(self):
        super()._settle()
        if self.early_stopping_patience and not self.metric_for_best_model:
            self.metric_for_best_model, self.greater_is_better = "eval_loss", False
        if self.greater_is_better is None and (self.metric_for_best_model or "").endswith("perplexity"):
            self.greater_is_better = False  # by default only names that end in `loss` count as such

    def _check_values(self):
        super()._check_values()
        if self.head_dtype not in HEAD_DTYPES:
            raise ValueError(f'`head_dtype` must be one of {", ".join(HEAD_DTYPES)}, got "{self.head_dtype}".')
        if self.sample_rows < 0:
            raise ValueError(f"`sample_rows` must not be negative, got {self.sample_rows}. 0 turns it off.")
        if self.sample_max_new_tokens < 1:
            raise ValueError(
                f"`sample_max_new_tokens` must be at least 1, got {self.sample_max_new_tokens}. To turn the table off, "
                "set `sample_rows` to 0."
            )
        if not 0 <= self.label_smoothing_factor < 1:
            raise ValueError(
                f"`label_smoothing_factor` must be in [0, 1), got {self.label_smoothing_factor}. 0 turns it off, 0.1 "
                "is usual."
            )
