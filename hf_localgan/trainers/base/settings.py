"""Settings that all trainers share: precedence of values, cards, trackers, early stopping."""

import copy
import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any, ClassVar, Self

import torch
from transformers import Seq2SeqTrainingArguments, TrainingArguments

from hf_localgan.trainers.base.bounds import check_framework_settings
from hf_localgan.trainers.base.launching import settle_launch, warn_once
from hf_localgan.trainers.base.precision import as_yaml, settle_precision

HEAD_DTYPES = ("auto", "float32", "bfloat16")
METRIC_SCHEDULES = ("reduce_lr_on_plateau", "greedy")  # learning rates that follow a metric of the validation
LOWER_IS_BETTER = ("loss", "perplexity", "per", "wer", "cer")  # ends of metrics' names


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
UNSHAPING_PREFIXES = ("card_", "completions_", "sample_", "early_stopping_", "monitor_", "collapse_", "ais_", "eval_")


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

    A setting that the user gives and that would do nothing beside the others is warned of. With a learning rate that
    follows a metric (`reduce_lr_on_plateau`, `greedy`), the metric rises or falls for the better as
    `greater_is_better` says.

    Subclasses override four methods, and each calls its parent's: `_check_values` refuses single values, `_settle`
    sets defaults that follow from other settings, `_check_settled` refuses combinations, devices included, and
    `_idle_settings` names settings that do nothing.

    Attributes:
        presets: for each name that `preset` accepts, the values of the fields that the user did not give.
        unsupported: fields of `TrainingArguments` that are refused if they are set, and the reason for each.
        constant_buffers: whether the models' buffers are equal on all processes and stay so, as word vectors and
            scalers do. Data parallelism then does not send them before every forward pass.
    """

    _argument_alternatives: ClassVar[tuple[tuple[str, ...], ...]] = (("max_steps", "num_train_epochs"),)

    presets: ClassVar[Mapping[str, Mapping[str, Any]]] = {}
    unsupported: ClassVar[Mapping[str, str]] = {}
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

    _user_fields: ClassVar[frozenset[str]]  # of each object, see `__new__`; no field of the dataclass

    stream_buffer_size: int = field(
        default=10_000,
        metadata={
            "help": "Rows of a training stream that are held in memory and drawn from at random, anew in each pass. "
            "`train_sampling_strategy: sequential` keeps the stream's order."
        },
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
        if self.lr_scheduler_type in METRIC_SCHEDULES and self.greater_is_better:
            assert not isinstance(self.lr_scheduler_kwargs, str)  # `TrainingArguments` has parsed a text
            self.lr_scheduler_kwargs = {"mode": "max", **(self.lr_scheduler_kwargs or {})}  # torch's default is "min"
        self._check_settled()
        self._warn_of_idle_settings()

    def check(self):
        """Refuses values that are not accepted or do not fit together, after some were changed.

        Raises:
            ValueError: as the constructor.
        """
        self._check_values()
        self._check_settled()

    def with_values(self, **values: Any) -> Self:
        """A copy of the settings with some values that a trainer got beside them, such as its `payoff` by name.

        Args:
            values: by names of fields; `None` stands for a value that was not given.

        Raises:
            ValueError: for values that these settings have otherwise, or that do not fit them.
        """
        given = {name: value for name, value in values.items() if value is not None}
        twice = [name for name in given if name in self._user_fields and getattr(self, name) != given[name]]
        if twice:
            raise ValueError(
                f"`{twice[0]}` is {given[twice[0]]!r}, but `args` set it to {getattr(self, twice[0])!r}. Give it once."
            )
        settings = copy.copy(self)
        for name, value in given.items():
            setattr(settings, name, value)
        object.__setattr__(settings, "_user_fields", self._user_fields | set(given))
        settings.check()
        return settings

    def _apply_preset(self):
        if not self.presets:
            return
        if self.preset not in self.presets:
            raise ValueError(f'`preset` must be one of {", ".join(self.presets)}, got "{self.preset}".')
        for name, value in self.presets[self.preset].items():
            if name not in self._user_fields:
                setattr(self, name, value)

    @property
    def needs_metric(self) -> bool:
        """Whether a metric of the validation decides on something: the model that is kept, or the learning rate."""
        schedule = getattr(self.lr_scheduler_type, "value", self.lr_scheduler_type)
        save = getattr(self.save_strategy, "value", self.save_strategy)
        return self.load_best_model_at_end or save == "best" or schedule in METRIC_SCHEDULES

    def _check_values(self):
        """Refuses single values, before other settings are derived from them."""
        if self.max_steps == 0 or self.max_steps < -1:
            raise ValueError(
                f"`max_steps` must be at least 1, or -1 to train `num_train_epochs`, got {self.max_steps}. To score a "
                "model without training it, use `hf-localgan evaluate`, or `evaluate` of the trainer."
            )
        if self.max_steps == -1 and not 0 < self.num_train_epochs < math.inf:
            raise ValueError(
                f"`num_train_epochs` must be a number above 0, got {self.num_train_epochs}; a part of an epoch, such "
                "as 0.1, will do. To score a model without training it, use `hf-localgan evaluate`, or `evaluate` of "
                "the trainer."
            )
        for setting in fields(self):  # the command line looks at these, transformers itself does not
            accepted, value = setting.metadata.get("choices"), getattr(self, setting.name)
            if accepted and value is not None and value not in accepted and setting.name != "ddp_backend":
                raise ValueError(f'`{setting.name}` must be one of {", ".join(accepted)}, got "{value}".')
        if (self.neftune_noise_alpha or 0) < 0:
            raise ValueError(f"`neftune_noise_alpha` must not be negative, got {self.neftune_noise_alpha}.")
        if self.stream_buffer_size < 1:
            raise ValueError(
                f"`stream_buffer_size` must be at least 1, got {self.stream_buffer_size}. To keep a stream's order set "
                "`train_sampling_strategy: sequential`."
            )

    def _settle(self):
        """Sets the defaults that follow from other settings."""
        if self.greater_is_better is None and (self.metric_for_best_model or "").endswith(LOWER_IS_BETTER):
            self.greater_is_better = False  # for transformers only names that end in `loss` count as such

    def _check_settled(self):
        """Refuses combinations, once all settings and the devices are known."""
        for name, reason in self.unsupported.items():
            if getattr(self, name, None):
                raise ValueError(f"`{name}` is not supported: {reason}. Leave it out.")
        if self.torch_compile and self.torch_compile_mode is not None:
            from torch._inductor import list_mode_options  # slow to import, and few runs need it

            modes = list_mode_options()
            if self.torch_compile_mode not in modes:
                raise ValueError(
                    f'`torch_compile_mode` must be one of {", ".join(modes)}, got "{self.torch_compile_mode}".'
                )

    def _idle_settings(self) -> Iterator[tuple[str, str]]:
        """Names of settings that do nothing beside the others, each with the reason and the remedy."""
        if self.max_steps > 0:
            yield "num_train_epochs", f"training ends after `max_steps` {self.max_steps}. Give one of the two"
        for event in ("eval", "save", "logging"):
            strategy = getattr(self, f"{event}_strategy").value
            if strategy != "steps" and not (event == "logging" and self.eval_steps == self.logging_steps):
                yield f"{event}_steps", f"`{event}_strategy` is `{strategy}`. Set it to `steps`"
        if self.eval_strategy == "no":
            yield "eval_delay", "`eval_strategy` is `no`. Set it to `steps` or `epoch`"
        if self.lr_scheduler_type == "constant":
            yield "warmup_steps", "`lr_scheduler_type` is `constant`. Set it to `constant_with_warmup`"
        elif self.lr_scheduler_type in METRIC_SCHEDULES:
            yield "warmup_steps", f"`lr_scheduler_type: {as_yaml(self.lr_scheduler_type)}` has no warm-up. Leave it out"
        if not self.push_to_hub:
            names = ["hub_strategy", "hub_always_push", "hub_revision"]
            if getattr(self, "completions_to", None) is None:  # whose repository is as private as the model's
                names.append("hub_private_repo")
            for name in names:
                yield name, "nothing is uploaded. Set `push_to_hub: true`"

    def _warn_of_idle_settings(self):
        defaults = {setting.name: setting.default for setting in fields(self)}
        for name, reason in self._idle_settings():
            value = getattr(self, name)
            if name in self._user_fields and value != defaults[name]:
                warn_once(f"`{name}: {as_yaml(value)}` does nothing: {reason}.")


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

    def _idle_settings(self) -> Iterator[tuple[str, str]]:
        yield from super()._idle_settings()
        if not self.early_stopping_patience:
            yield "early_stopping_threshold", "`early_stopping_patience` is 0. Set it, or leave the threshold out"


@dataclass
class TokenLossConfig(EarlyStoppingSettings, Seq2SeqTrainingArguments):
    """Arguments of `TokenLossTrainer`, on top of `Seq2SeqTrainingArguments`.

    Changed, on top of the changes of `SharedSettings`: early stopping, `save_strategy: best` and learning rates that
    follow a metric go by `eval_loss` unless `metric_for_best_model` names another.
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
    sample_max_new_tokens: int | None = field(
        default=None,
        metadata={
            "help": "Longest generation in the sample table, in tokens. By default 30, and for a recogniser of speech "
            "the limit of all its transcripts."
        },
    )

    # Generations on the Hub
    completions_to: str | None = field(
        default=None,
        metadata={
            "help": "Upload the generations of the test split to this data set on the Hub (`owner/name`), private "
            "unless `hub_private_repo` is false."
        },
    )
    completions_license: str | None = field(
        default=None,
        metadata={
            "help": "Licence of the texts that `completions_to` publishes, in the Hub's spelling. Needed where neither "
            "the package nor the data set's card on the Hub says it; `unknown` publishes without."
        },
    )

    def _settle(self):
        if (self.early_stopping_patience or self.needs_metric) and not self.metric_for_best_model:
            self.metric_for_best_model, self.greater_is_better = "eval_loss", False
        super()._settle()

    def _idle_settings(self) -> Iterator[tuple[str, str]]:
        yield from super()._idle_settings()
        yield "sortish_sampler", "transformers has no such sampler. Set `train_sampling_strategy: group_by_length`"
        yield "use_cache", "the losses are computed without a cache. Leave it out"
        if self.completions_to is None:
            yield "completions_license", "no generations are uploaded. Set `completions_to`"
        if self.label_names != ["labels"]:
            yield "label_names", "the losses read the column `labels`. Rename yours, and leave it out"
        if not self.fast_loss:
            yield "head_dtype", "`fast_loss` is false, and full logits have the model's precision. Leave it out"
        if not self.predict_with_generate:
            for name in ("generation_max_length", "generation_num_beams"):
                yield name, "validation measures the likelihood alone. Set `predict_with_generate: true`"

    def _check_values(self):
        super()._check_values()
        if self.head_dtype not in HEAD_DTYPES:
            raise ValueError(f'`head_dtype` must be one of {", ".join(HEAD_DTYPES)}, got "{self.head_dtype}".')
        if self.sample_rows < 0:
            raise ValueError(f"`sample_rows` must not be negative, got {self.sample_rows}. 0 turns it off.")
        if self.sample_max_new_tokens is not None and self.sample_max_new_tokens < 1:
            raise ValueError(
                f"`sample_max_new_tokens` must be at least 1, got {self.sample_max_new_tokens}. To turn the table off, "
                "set `sample_rows` to 0."
            )
        if not 0 <= self.label_smoothing_factor < 1:
            raise ValueError(
                f"`label_smoothing_factor` must be in [0, 1), got {self.label_smoothing_factor}. 0 turns it off, 0.1 "
                "is usual."
            )
