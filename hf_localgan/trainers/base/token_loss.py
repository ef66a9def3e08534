"""The base of all trainers of generators: the token loss, named terms over processes, exact evaluation."""

import copy
import logging
import math
import time
from collections.abc import Callable, Mapping
from itertools import islice
from typing import TYPE_CHECKING, Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.utils.data import DataLoader, Dataset
from transformers import (
    DataCollator,
    EvalPrediction,
    PreTrainedModel,
    PreTrainedTokenizerBase,
    Seq2SeqTrainer,
    TrainerCallback,
    TrainingArguments,
)
from transformers.trainer_utils import EvalLoopOutput

from hf_localgan.data.encoding import check_tokenizer
from hf_localgan.decoding.sampling import encoder_inputs
from hf_localgan.functional.cross_entropy import linear_cross_entropy, linear_token_nll
from hf_localgan.hub.citations import SEQ2SEQ
from hf_localgan.hub.objective import Objective
from hf_localgan.models.adapter_checks import check_adapters, describe_unread, unread_layers
from hf_localgan.models.output_head import finish_inside, head_is_separable
from hf_localgan.models.quantization import GivenQuantization
from hf_localgan.trainers.base.checkpoints import CheckpointMixin
from hf_localgan.trainers.base.data_order import DataOrderMixin
from hf_localgan.trainers.base.early_stopping import early_stopping
from hf_localgan.trainers.base.formatting import FormattingFunction
from hf_localgan.trainers.base.given import GivenModel, GivenRows, default_collator, settle_rows
from hf_localgan.trainers.base.launching import check_sharding
from hf_localgan.trainers.base.sample_table import SampleTableCallback
from hf_localgan.trainers.base.settings import TokenLossConfig
from hf_localgan.trainers.base.tracking import TrackingMixin

if TYPE_CHECKING:
    from peft import PeftConfig

MAXIMUM_LIKELIHOOD = Objective(
    "maximum likelihood", "maximum-likelihood", "The log-likelihood of the references, token by token.", (SEQ2SEQ,)
)

logger = logging.getLogger(__name__)


class TokenLossTrainer(TrackingMixin, CheckpointMixin, DataOrderMixin, Seq2SeqTrainer):
    """A `Seq2SeqTrainer` whose token loss is correct for every encoder-decoder, and fast.

    The loss is the cross-entropy per label of the whole batch: of all accumulated batches and all processes. (The stock
    trainer divides twice or not at all for T5, BART and others, which ignore `num_items_in_batch`.) It is computed from
    the decoder's last hidden states at labelled positions (`functional.linear_cross_entropy`) if the model's output
    layer is a plain linear layer, and from the logits otherwise. Evaluation is exact: the negative log-likelihood per
    token of the whole set, without smoothing, the same for any batch size and number of processes.

    Args:
        model: any encoder-decoder `PreTrainedModel`, a PEFT model around one, a folder, or an id on the Hub. An adapter
            that could not be read back as it is trained is refused, see `models.adapter_checks`.
        args (`TokenLossConfig`): the settings, by default their defaults. Of plain `Seq2SeqTrainingArguments` the
            values that differ from their defaults are taken over.
        data_collator: pads `input_ids` and `labels`, by default as transformers' `DataCollatorForSeq2Seq`.
        train_dataset: rows of `input_ids`, `attention_mask` and `labels` (see `encode_pairs`), map-style or streamed;
            or pairs of text, which are encoded whole: `Pairs`, of which the split `train` is taken, rows with text
            columns as `load_pairs` finds them, or the name of a file or folder or of a data set on the Hub.
        eval_dataset: the same, or several by name. Of `Pairs` the split `validation` is taken.
        processing_class: the tokenizer, by default that of a model that is given by its name; checked for padding and
            end tokens.
        model_init, compute_metrics, callbacks, optimizers, preprocess_logits_for_metrics: as `Seq2SeqTrainer`.
        peft_config: makes adapters of the model, such as `peft.LoraConfig(...)`, which alone are trained and saved.
        model_init_kwargs: arguments of `load_generator` for a model that is given by its name, such as `revision`.
        quantization_config: quantizes the weights of a model that is given by its name, as in `from_pretrained`, such
            as `BitsAndBytesConfig(load_in_4bit=True)`. Needs a `peft_config`; the adapter that is saved names the base
            model, which is read back in its own precision.
        formatting_func: makes a pair of text of each row of both data sets: `{"query": ..., "response": ...}`,
            `{"source": ..., "target": ...}`, or a tuple of two texts.

    Raises:
        ValueError: for arguments that do not fit, with what is accepted.
        ImportError: for a library of the quantization that is missing.
    """

    objective = MAXIMUM_LIKELIHOOD
    config_class = TokenLossConfig
    args: TokenLossConfig
    measured = frozenset({"loss", "perplexity", "tokens"})

    def __init__(
        self,
        model: GivenModel | None = None,
        args: TokenLossConfig | TrainingArguments | None = None,
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
        quantization_config: GivenQuantization | None = None,
        formatting_func: FormattingFunction | None = None,
    ):
        settings = self.check_args(args)
        model, processing_class = self.load_given(
            model, processing_class, model_init_kwargs, peft_config, quantization_config
        )
        if processing_class is not None:
            check_tokenizer(processing_class)
        datasets: dict[str, Any] = {"train_dataset": train_dataset, "eval_dataset": eval_dataset}
        for name, dataset in datasets.items():
            _refuse_empty(name, dataset)
            datasets[name] = settle_rows(
                name, dataset, processing_class, data_collator, model, formatting_func=formatting_func
            )
        super().__init__(
            model, settings, data_collator=data_collator, **datasets, processing_class=processing_class,
            model_init=model_init, compute_metrics=compute_metrics, callbacks=callbacks, optimizers=optimizers,
            preprocess_logits_for_metrics=preprocess_logits_for_metrics,
        )  # fmt: skip
        if data_collator is None:
            self.data_collator = default_collator(self.processing_class, self.model)
        if not getattr(self.model.config, "is_encoder_decoder", False):
            raise ValueError(
                f"{type(self.model).__name__} is no encoder-decoder. Give a model of `AutoModelForSeq2SeqLM`: "
                "`rnn_seq2seq`, T5, BART, Marian or an `EncoderDecoderModel`."
            )
        check_adapters(self.model, self.args.output_dir)
        if unread := unread_layers(self.model):
            logger.warning(describe_unread(unread, self.model))
        self.model_accepts_loss_kwargs = True  # the Trainer then counts the labels of all accumulated batches
        self._separable: bool | None = None if self.args.fast_loss else False
        self._terms: dict[str, tuple[Tensor, int]] = {}
        self._labels_since_log = torch.zeros((), dtype=torch.long)
        self._clock, self._not_training = time.perf_counter(), 0.0
        self._evaluated = torch.zeros(2, dtype=torch.float64)  # summed nats, labels
        self._early_stopping = self._replace_callback(None, early_stopping(self.args))
        if self.args.sample_rows and self.processing_class is not None and self.eval_dataset is not None:
            self.add_callback(SampleTableCallback(self, self._first_rows(self.args.sample_rows)))

    def adopt_settings(self):
        super().adopt_settings()
        self._separable = None if self.args.fast_loss else False
        self._early_stopping = self._replace_callback(self._early_stopping, early_stopping(self.args))

    def _first_rows(self, number: int) -> list[dict]:
        """The first rows with different queries, for data with several responses to a query repeat it row by row."""
        dataset: Any = self.eval_dataset
        if isinstance(dataset, dict):
            dataset = next(iter(dataset.values()))
        rows: dict[tuple[int, ...], dict] = {}
        for row in islice(dataset, 100 * number):
            if "input_ids" in row and "labels" in row:
                rows.setdefault(tuple(map(int, row["input_ids"])), row)
            if len(rows) == number:
                break
        return list(rows.values())

    # ---- the loss ----

    def compute_loss(
        self,
        model: nn.Module,
        inputs: dict[str, Any],
        return_outputs: bool = False,
        num_items_in_batch: Tensor | int | None = None,
        weights: Tensor | None = None,
    ) -> Any:
        """Nats per label of the whole batch, a scalar; subclasses may add terms.

        With `weights` (see `token_loss`) each label counts by its weight, in the sum and in the number of labels.

        Returns:
            The loss, or with `return_outputs` the loss and the model's outputs.

        Raises:
            ValueError: for a batch without `labels`.
        """
        if inputs.get("labels") is None:
            raise ValueError(
                f"The batch has no `labels` (found: {', '.join(f'`{name}`' for name in inputs)}). Make the data set by "
                "`encode_pairs`, and let a collator such as `DataCollatorForSeq2Seq` pad it."
            )
        labels = inputs["labels"]
        number = weighted_number(labels, weights) if num_items_in_batch is None else num_items_in_batch
        divisor = torch.as_tensor(number).clamp(min=1)
        if self.model.training:
            self._labels_since_log = self._labels_since_log + (labels != -100).sum()  # on the device until it is logged
        if return_outputs:
            outputs = model(**self._without_labels(inputs))
            loss = self._loss_of_logits(outputs.logits, labels, divisor, weights)
        else:
            loss = self.token_loss(model, inputs, divisor, weights)
        if num_items_in_batch is not None and self.args.average_tokens_across_devices:
            loss = loss * self.accelerator.num_processes  # data parallelism averages gradients; the divisor is global
        return (loss, outputs) if return_outputs else loss

    def token_loss(
        self, model: nn.Module, inputs: dict[str, Any], divisor: Tensor | int, weights: Tensor | None = None
    ) -> Tensor:
        """Summed cross-entropy of `inputs["labels"]`, in nats, divided by `divisor`; with label smoothing in training.

        Args:
            model: the model as the trainer wrapped it.
            inputs: a batch with `labels`, shape `(batch, time)`.
            divisor: number that the sum is divided by, such as the number of labels.
            weights: constants of any sign that multiply the loss of each example, shape `(batch,)`, or of each label,
                shape `(batch, time)`. By default all are 1.

        Returns:
            A scalar.
        """
        labels, inputs = inputs["labels"], self._without_labels(inputs)
        if weights is not None:
            weights = _for_each_label(weights, labels)
        if not self._head_is_separable(inputs):
            return self._loss_of_logits(model(**inputs).logits, labels, divisor, weights)

        def finish(hidden: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
            return linear_cross_entropy(
                hidden, weight, labels, bias=bias, weights=weights, divisor=divisor,
                label_smoothing=self._smoothing(), matmul_dtype=self._head_dtype(hidden),
            )  # fmt: skip

        return finish_inside(model, self.model, inputs, finish)

    def _loss_of_logits(
        self, logits: Tensor, labels: Tensor, divisor: Tensor | int, weights: Tensor | None = None
    ) -> Tensor:
        nll = F.cross_entropy(
            logits.flatten(0, 1).float(), labels.flatten(), ignore_index=-100,
            reduction="sum" if weights is None else "none", label_smoothing=self._smoothing(),
        )  # fmt: skip
        return (nll if weights is None else (nll * _for_each_label(weights, labels).flatten()).sum()) / divisor

    def _smoothing(self) -> float:
        return self.args.label_smoothing_factor if self.model.training else 0.0

    def _head_dtype(self, hidden: Tensor) -> torch.dtype | None:
        if self.args.head_dtype == "auto":
            return torch.bfloat16 if self.args.bf16 else hidden.dtype
        return getattr(torch, self.args.head_dtype)

    def _without_labels(self, inputs: dict[str, Any]) -> dict[str, Any]:
        """The inputs of a forward pass that computes no loss of its own and keeps no cache."""
        inputs = {**inputs, "use_cache": False}
        labels = inputs.pop("labels")
        if "decoder_input_ids" not in inputs and "decoder_inputs_embeds" not in inputs:
            shift = getattr(self.model, "prepare_decoder_input_ids_from_labels", self._shift_right)
            inputs["decoder_input_ids"] = shift(labels=labels)
        return inputs

    def _shift_right(self, labels: Tensor) -> Tensor:
        """Decoder inputs for models without a method that makes them: Blenderbot, M2M100, NLLB."""
        config = self.model.config
        shifted = torch.cat([torch.full_like(labels[:, :1], config.decoder_start_token_id), labels[:, :-1]], dim=1)
        return shifted.masked_fill(shifted == -100, config.pad_token_id)

    def _head_is_separable(self, inputs: dict[str, Any]) -> bool:
        if self._separable is None:
            if self.is_fsdp_enabled or self.is_deepspeed_enabled or self.args.torch_compile or self.args.n_gpu > 1:
                # Hooks on the layer's own forward gather sharded output layers, and would not run. A compiled model
                # would be compiled anew for every replaced forward.
                self._separable = False
            else:
                self._separable = head_is_separable(self.model, _first_examples(inputs, 2))
            if not self._separable:
                logger.info("The token loss is computed from full logits for this model and setting.")
                if self.args.head_dtype != "auto":
                    logger.warning(
                        f"`head_dtype: {self.args.head_dtype}` does nothing: for this model and setting the token loss "
                        "is computed from full logits, which have the model's precision. Leave it out."
                    )
        return self._separable

    # ---- evaluation ----

    def prediction_step(
        self,
        model: nn.Module,
        inputs: dict[str, Any],
        prediction_loss_only: bool,
        ignore_keys: list[str] | None = None,
        **gen_kwargs: Any,
    ) -> tuple[Any, Any, Any]:
        if inputs.get("labels") is None:  # `DataCollatorForSeq2Seq` sets it to `None` where there are none
            inputs = {name: value for name, value in inputs.items() if name != "labels"}
            return super().prediction_step(model, inputs, prediction_loss_only, ignore_keys=ignore_keys, **gen_kwargs)
        inputs = self._prepare_inputs(inputs)
        with torch.no_grad(), self.compute_loss_context_manager():
            nll = self.example_nll(model, inputs)
        # Gathering drops the examples that were repeated to fill the last batch of all processes.
        self._evaluated += self.accelerator.gather_for_metrics(nll).cpu().double().sum(dim=0)
        totals = nll.sum(dim=0)
        loss = (totals[0] / totals[1].clamp(min=1)).float()
        if prediction_loss_only or self.args.prediction_loss_only:
            return loss, None, None
        labels = inputs["labels"]
        if self.args.predict_with_generate:
            # Without labels, so that the model does not compute a second loss.
            inputs = encoder_inputs(inputs)
        # The stock step writes all defaults of `generate` into the model's configuration, which is saved with it.
        settings = vars(self.model.generation_config)
        original = copy.copy(settings)
        try:
            _, predictions, _ = super().prediction_step(model, inputs, False, ignore_keys=ignore_keys, **gen_kwargs)
        finally:
            settings.clear()
            settings.update(original)
        return loss, predictions, labels

    def example_nll(self, model: nn.Module, inputs: dict[str, Any]) -> Tensor:
        """Summed negative log-likelihood in nats and number of labels of each example, shape `(batch, 2)`.

        Args:
            model: the model as the trainer wrapped it.
            inputs: a batch with `labels`, shape `(batch, time)`.
        """
        labels, inputs = inputs["labels"], self._without_labels(inputs)

        def finish(hidden: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
            return linear_token_nll(hidden, weight, labels, bias=bias)

        if self._head_is_separable(inputs):
            nll = finish_inside(model, self.model, inputs, finish)
        else:
            logits = model(**inputs).logits.float()
            nll = F.cross_entropy(logits.transpose(1, 2), labels, ignore_index=-100, reduction="none")
        nll = nll.sum(dim=1)
        return torch.stack([nll, (labels != -100).sum(dim=1).to(nll.dtype)], dim=1)

    def evaluation_loop(
        self,
        dataloader: DataLoader,
        description: str,
        prediction_loss_only: bool | None = None,
        ignore_keys: list[str] | None = None,
        metric_key_prefix: str = "eval",
    ) -> EvalLoopOutput:
        self._evaluated.zero_()
        # `Seq2SeqTrainer` keeps the examples that were repeated to fill the last batch of all processes.
        self.gather_function = self.accelerator.gather_for_metrics
        output = super().evaluation_loop(dataloader, description, prediction_loss_only, ignore_keys, metric_key_prefix)
        assert output.metrics is not None
        nats, labels = self._evaluated.tolist()
        if labels:
            output.metrics[f"{metric_key_prefix}_loss"] = nats / labels
            output.metrics[f"{metric_key_prefix}_perplexity"] = math.exp(min(nats / labels, 700.0))
            output.metrics[f"{metric_key_prefix}_tokens"] = int(labels)
        return output

    def evaluate(
        self,
        eval_dataset: Any = None,
        ignore_keys: list[str] | None = None,
        metric_key_prefix: str = "eval",
        **gen_kwargs: Any,
    ) -> dict[str, float]:
        started, pause = time.perf_counter(), self._not_training
        # The Trainer calls this method again for each of several data sets.
        metrics = super().evaluate(eval_dataset, ignore_keys, metric_key_prefix, **gen_kwargs)
        self._not_training = pause + time.perf_counter() - started
        return metrics

    def _save_checkpoint(self, model: nn.Module, trial):
        started = time.perf_counter()
        super()._save_checkpoint(model, trial)
        self._not_training += time.perf_counter() - started

    # ---- named terms ----

    def record(self, **terms: Tensor):
        """Adds the mean of each term over its batch to the next log line.

        Args:
            terms: tensors of any shape by their logged keys, such as `loss/radial`.
        """
        for name, value in terms.items():
            total, times = self._terms.get(name, (torch.zeros((), device=value.device), 0))
            self._terms[name] = (total + value.detach().float().mean(), times + 1)

    def log(self, logs: dict[str, float], start_time: float | None = None):
        if "loss" in logs:  # a training line, which every process reaches
            labels = self.accelerator.reduce(self._labels_since_log.to(self.args.device), "sum").item()
            now = time.perf_counter()
            logs["tokens_per_second"] = labels / max(now - self._clock - self._not_training, 1e-9)
            self._labels_since_log.zero_()
            self._clock, self._not_training = now, 0.0
            for name, (total, times) in self._terms.items():
                logs[name] = self.accelerator.reduce(total / times, "mean").item()
            self._terms.clear()
        super().log(logs, start_time)

    def _prepare_for_training(self, *args, **kwargs):
        check_sharding(self, self.args.sample_rows)
        prepared = super()._prepare_for_training(*args, **kwargs)
        self._clock, self._not_training = time.perf_counter(), 0.0
        self._labels_since_log.zero_()
        self._terms.clear()
        return prepared


def weighted_number(labels: Tensor, weights: Tensor | None = None) -> Tensor:
    """Number of labels, each counted by its weight (see `TokenLossTrainer.token_loss`); a scalar."""
    is_label = labels != -100
    return is_label.sum() if weights is None else (is_label * _for_each_label(weights, labels)).sum()


def _for_each_label(weights: Tensor, labels: Tensor) -> Tensor:
    return weights[:, None].expand_as(labels) if weights.dim() == 1 else weights


def _first_examples(inputs: dict[str, Any], number: int) -> dict[str, Any]:
    return {name: value[:number] if isinstance(value, Tensor) else value for name, value in inputs.items()}


def _refuse_empty(name: str, dataset: Any):
    for split in dataset.values() if isinstance(dataset, dict) else [dataset]:
        if hasattr(split, "__len__") and len(split) == 0:
            raise ValueError(
                f"`{name}` is empty. Look in the report of `load_pairs` for the reasons why pairs were left out, and "
                "widen its limits."
            )
