"""Reward augmented maximum likelihood."""

import math
from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import TYPE_CHECKING, Any, Literal, cast

import torch
import torch.nn.functional as F
from accelerate.data_loader import DataLoaderDispatcher
from torch import Tensor
from torch.utils.data import Dataset, IterableDataset
from transformers import (
    DataCollator,
    EvalPrediction,
    PreTrainedModel,
    PreTrainedTokenizerBase,
    TrainerCallback,
    TrainingArguments,
)
from transformers.trainer_utils import has_length

from hf_localgan.hub.citations import RAML
from hf_localgan.hub.objective import Objective
from hf_localgan.models.quantization import GivenQuantization
from hf_localgan.payoff.base import Payoff, TokenPayoff
from hf_localgan.trainers.base.averaging import AveragedTrainer
from hf_localgan.trainers.base.formatting import FormattingFunction
from hf_localgan.trainers.base.given import GivenModel, GivenRows
from hf_localgan.trainers.base.streams import saved_pass
from hf_localgan.trainers.base.token_loss import weighted_number
from hf_localgan.trainers.raml.clock import TemperatureSchedule, falling_temperatures
from hf_localgan.trainers.raml.collator import RamlCollator, require_payoff, split_draws
from hf_localgan.trainers.raml.config import COLLATOR_FIELDS, PAYOFF_FIELDS, TO_ZERO, RamlConfig, listed, make_payoff

if TYPE_CHECKING:
    from peft import PeftConfig

EDIT_BINS = ("0", "1", "2", "3", "4", "5_9", "10_up")  # numbers of edits whose shares are logged


class RamlTrainer(AveragedTrainer):
    """Trains an encoder-decoder on draws from the exponentiated payoff distribution (Norouzi et al. 2016, Eq. 7 to 9).

    The loss is `TokenLossTrainer`'s; the labels are drawn by `RamlCollator` while batches are made, in the loader's
    workers if there are any. At temperature 0 it is `MleTrainer`. Evaluation uses the references only. Logged beside
    the loss, over the drawn labels since the last line: `raml/edit_rate` (edits per token of the reference),
    `raml/edits_0` to `raml/edits_10_up` (share of draws with so many edits), `raml/temperature`, and for
    importance sampling `raml/effective_sample_size`.

    Args:
        model: any encoder-decoder `PreTrainedModel`, the package's own `rnn_seq2seq` included, a PEFT model, a folder,
            or an id on the Hub.
        args (`RamlConfig`): the settings, by default their defaults; see `TokenLossTrainer`.
        payoff: the sampler, or the name of one as in `RamlConfig.payoff`, such as "edit". By default the sampler that
            `args` describe, over the tokenizer's regular tokens.
        edit_rate, temperature: how far draws lie from the references; one of the two, as in `RamlConfig`.
        data_collator: pads `input_ids` and `labels`, by default as transformers' `DataCollatorForSeq2Seq`; or a
            `RamlCollator` around such a collator, which is used as it is.
        train_dataset: rows of `input_ids`, `attention_mask` and `labels` (see `encode_pairs`), map-style or streamed;
            or pairs of text, see `TokenLossTrainer`.
        eval_dataset: the same.
        processing_class: the tokenizer.
        model_init, compute_metrics, callbacks, optimizers, preprocess_logits_for_metrics: as `Seq2SeqTrainer`.
        peft_config, model_init_kwargs, quantization_config, formatting_func: see `TokenLossTrainer`.

    Raises:
        ValueError: if `args` belong to another trainer or `payoff` is no sampler; if both a `RamlCollator` and a
            `payoff` are given; or if `args` set fields that a given sampler or collator replaces.
    """

    objective = Objective(
        "RAML", "raml",
        "Reward augmented maximum likelihood: the log-likelihood of outputs drawn around the references, in proportion "
        "to their exponentiated reward.", (RAML,),
    )  # fmt: skip
    config_class = RamlConfig
    args: RamlConfig
    reference_column: str | None = None  # of the batches; a subclass names it whose loss reads the references, too

    def __init__(
        self,
        model: GivenModel | None = None,
        args: RamlConfig | TrainingArguments | None = None,
        payoff: Payoff | str | None = None,
        data_collator: DataCollator | None = None,
        train_dataset: GivenRows | None = None,
        eval_dataset: GivenRows | dict[str, Dataset] | None = None,
        processing_class: PreTrainedTokenizerBase | None = None,
        model_init: Callable[[], PreTrainedModel] | None = None,
        compute_metrics: Callable[[EvalPrediction], dict[str, float]] | None = None,
        callbacks: list[TrainerCallback] | None = None,
        optimizers: tuple[torch.optim.Optimizer | None, torch.optim.lr_scheduler.LRScheduler | None] = (None, None),
        preprocess_logits_for_metrics: Callable[[Tensor, Tensor], Tensor] | None = None,
        *,
        peft_config: "PeftConfig | None" = None,
        model_init_kwargs: Mapping[str, Any] | None = None,
        edit_rate: float | None = None,
        temperature: float | None = None,
        quantization_config: GivenQuantization | None = None,
        formatting_func: FormattingFunction | None = None,
    ):
        settings: RamlConfig = self.check_args(args)
        named = {"payoff": payoff if isinstance(payoff, str) else None, "edit_rate": edit_rate}
        named["temperature"] = temperature
        if any(value is not None for value in named.values()):
            settings = settings.with_values(**named)
        payoff = None if isinstance(payoff, str) else payoff
        raml_collator = data_collator if isinstance(data_collator, RamlCollator) else None
        if raml_collator is not None and payoff is not None:
            raise ValueError(
                "Got a `RamlCollator`, which has a sampler, and a `payoff`. Give the plain collator with the `payoff`, "
                "or the `RamlCollator` alone."
            )
        if payoff is not None:
            require_payoff(payoff)
        _check_unread(settings, payoff, raml_collator)
        plain_collator = data_collator if raml_collator is None else cast(DataCollator, raml_collator.collator)
        super().__init__(
            model, settings, data_collator=plain_collator, train_dataset=train_dataset,
            eval_dataset=eval_dataset, processing_class=processing_class, model_init=model_init,
            compute_metrics=compute_metrics, callbacks=callbacks, optimizers=optimizers,
            preprocess_logits_for_metrics=preprocess_logits_for_metrics, peft_config=peft_config,
            model_init_kwargs=model_init_kwargs,
            quantization_config=quantization_config, formatting_func=formatting_func,
        )  # fmt: skip
        self._given = payoff, raml_collator
        self.raml_collator = raml_collator or self._make_collator(payoff, self.processing_class)
        # Since the last line: edits, tokens of the references, draws in each bin.
        self._draws = torch.zeros(2 + len(EDIT_BINS))
        self._clock_of_draws = self._replace_callback(None, self._make_clock())

    def adopt_settings(self):
        super().adopt_settings()
        payoff, collator = self._given
        _check_unread(self.args, payoff, collator)
        self.raml_collator = collator or self._make_collator(payoff, self.processing_class)
        self._clock_of_draws = self._replace_callback(self._clock_of_draws, self._make_clock())

    def _make_clock(self) -> "DrawClock":
        _, collator = self._given
        return DrawClock(self.raml_collator, collator is None and self.raml_collator.schedule is not None)

    def _make_collator(self, payoff: Payoff | None, tokenizer: PreTrainedTokenizerBase | None) -> RamlCollator:
        args = self.args
        if payoff is None:
            if tokenizer is None:
                raise ValueError("The tokens that may be drawn are unknown. Give the tokenizer as `processing_class`.")
            payoff = make_payoff(args, tokenizer, self._rows_to_count())
        schedule = None
        if args.temperature_schedule != "constant":
            curve = cast(Literal["linear", "cosine"], args.temperature_schedule.removesuffix(TO_ZERO))  # checked
            schedule = TemperatureSchedule(curve, args.temperature_start, payoff.temperature)
            if args.temperature_schedule.endswith(TO_ZERO):
                knots: tuple[float, ...] = ()
                if isinstance(payoff, TokenPayoff) and payoff.temperature:
                    knots = falling_temperatures(payoff, args.edit_rate_length)
                schedule = TemperatureSchedule(curve, payoff.temperature, 0.0, knots=knots)
        return RamlCollator(
            cast(Callable, self.data_collator), payoff, tokenizer=tokenizer, num_samples=args.num_samples,
            weighted=args.weighted, seed=args.seed if args.data_seed is None else args.data_seed, schedule=schedule,
            reference_column=self.reference_column,
        )  # fmt: skip

    def _rows_to_count(self) -> Any:
        """The training rows, for settings that look at their labels; none where nothing is trained."""
        rows = self.train_dataset
        if rows is not None and isinstance(rows, IterableDataset) and not has_length(rows):
            reads = [f"`{name}: {value}`" for name, value in self.args.changed(("base_measure", "payoff")).items()
                     if value in ("unigram", "weighted_hamming")]  # fmt: skip
            if reads:
                raise ValueError(
                    f"{' and '.join(reads)} count the labels of all training rows, and these are a stream. Give the "
                    "sampler as `payoff=`, made with counts of your own, or load the rows."
                )
        return () if rows is None else rows

    def get_train_dataloader(self):
        plain = self.data_collator
        self.data_collator = self.raml_collator  # for training alone: evaluation and the sample table see references
        try:
            return super().get_train_dataloader()
        finally:
            self.data_collator = plain

    def settings_facts(self) -> dict[str, Any]:
        """As the base class's; the settings of a given sampler, too, for they are in no argument."""
        facts = super().settings_facts()
        if self._given != (None, None):
            payoff = self.raml_collator.payoff
            settings = {name: value for name, value in vars(payoff).items() if isinstance(value, (int, float, str))}
            named = {name: value for name, value in sorted(settings.items()) if not name.startswith("_")}
            facts["sampler"] = {type(payoff).__name__: named}
        return facts

    # ---- the loss ----

    def compute_loss(self, model, inputs, return_outputs=False, num_items_in_batch=None, weights=None):
        """Nats per drawn label of the whole batch; candidates count by their weights, in the sum and in the number."""
        inputs, draws = split_draws(inputs)
        if draws and self.model.training:
            self._count_draws(draws)
        weights = draws.get("raml_weights", weights)
        return super().compute_loss(model, inputs, return_outputs, num_items_in_batch, weights)

    def _get_num_items_in_batch(self, batch_samples: list, device: torch.device) -> Tensor | int | None:
        number = super()._get_num_items_in_batch(batch_samples, device)
        if number is None or "raml_weights" not in batch_samples[0]:
            return number
        # The Trainer's number, which may already be shared out over devices, times the mean weight of a label.
        totals = (
            torch.stack(
                [
                    torch.stack(
                        [weighted_number(batch["labels"], weights) for weights in (batch["raml_weights"], None)]
                    )
                    for batch in batch_samples
                ]
            )
            .sum(dim=0)
            .to(device)
        )
        if self.args.average_tokens_across_devices and self.args.world_size > 1:
            totals = self.accelerator.reduce(totals, "sum")
        return number * (totals[0] / totals[1].clamp(min=1))

    # ---- named terms ----

    def _count_draws(self, draws: dict[str, Tensor]):
        edits, lengths = draws["raml_edits"], draws["raml_lengths"]
        weights = draws.get("raml_weights", torch.ones_like(edits, dtype=torch.float32))
        bin_counts = F.one_hot(edits.clamp(max=5) + (edits >= 10), len(EDIT_BINS)).T  # (bins, rows)
        counted = torch.cat([torch.stack([edits, lengths]), bin_counts]).to(weights.dtype) @ weights
        self._draws = self._draws.to(counted.device) + counted  # stays there until it is logged
        self.record(**{"raml/temperature": draws["raml_temperature"]})
        if "raml_effective_sample_size" in draws:
            self.record(**{"raml/effective_sample_size": draws["raml_effective_sample_size"]})

    def log(self, logs: dict[str, float], start_time: float | None = None):
        if "loss" in logs:  # a training line, which every process reaches
            sums = self.accelerator.reduce(self._draws.to(self.args.device), "sum")
            edits, tokens, *bin_counts = sums.tolist()
            if sum(bin_counts):
                logs["raml/edit_rate"] = edits / max(tokens, 1.0)
                shares = zip(EDIT_BINS, bin_counts, strict=True)
                logs |= {f"raml/edits_{name}": count / sum(bin_counts) for name, count in shares}
            self._draws = torch.zeros_like(self._draws)
        super().log(logs, start_time)

    def _prepare_for_training(self, *args, **kwargs):
        prepared = super()._prepare_for_training(*args, **kwargs)
        self._draws = torch.zeros_like(self._draws)
        return prepared


def _check_unread(args: RamlConfig, payoff: Payoff | None, collator: RamlCollator | None):
    """Refuses settings that a given sampler or collator replaces, for nothing would read them."""
    if payoff is None and collator is None:
        return
    unread = args.changed((*PAYOFF_FIELDS, *COLLATOR_FIELDS) if payoff is None else PAYOFF_FIELDS)
    if unread:
        replacement = "RamlCollator" if payoff is None else type(payoff).__name__
        raise ValueError(
            f"`args` set {listed(unread)}, but the given {replacement} has its own settings. Make the {replacement} "
            "with these values, and leave them out of `args`."
        )


class DrawClock(TrainerCallback):
    """Sets a collator's epoch and optimizer step before the loader of an epoch starts.

    Args:
        collator: the collator.
        sets_total: whether to make the collator's schedule end with the training.
    """

    def __init__(self, collator: RamlCollator, sets_total: bool):
        self.collator, self.sets_total = collator, sets_total

    def on_train_begin(self, args, state, control, train_dataloader=None, **kwargs):
        if self.sets_total:
            assert self.collator.schedule is not None
            self.collator.schedule = replace(self.collator.schedule, total_steps=max(1, state.max_steps))
        steps_per_epoch = max(1, state.max_steps)  # of a stream without a length
        if has_length(train_dataloader):
            steps_per_epoch = max(1, math.ceil(len(train_dataloader) / args.gradient_accumulation_steps))
        self.epoch, trained = divmod(state.global_step, steps_per_epoch)
        last = saved_pass(state)
        if last is not None:  # passes over a stream are epochs of no fixed length
            self.epoch, trained = last.number, state.global_step - last.first_step
        dispatches = isinstance(train_dataloader, DataLoaderDispatcher) and not train_dataloader.split_batches
        self.batches_per_step = args.world_size if dispatches else 1
        # A resumed stream makes its earlier batches again and throws them away; other data sets skip them.
        streams = isinstance(getattr(train_dataloader, "dataset", None), IterableDataset)
        skipped = trained * args.gradient_accumulation_steps * self.batches_per_step
        self.discarded = skipped if streams and not args.ignore_data_skip else 0

    def on_epoch_begin(self, args, state, control, **kwargs):
        self.collator.start_epoch(
            self.epoch, state.global_step, self.discarded, args.gradient_accumulation_steps, self.batches_per_step
        )
        self.epoch, self.discarded = self.epoch + 1, 0
