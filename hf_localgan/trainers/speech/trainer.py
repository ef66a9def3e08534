"""Training on speech: adds CTC, guided attention, measures of the attention and samples in phones to a trainer."""

import json
from collections.abc import Callable, Mapping
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np
import torch
from torch import Tensor, nn
from torch.utils.data import Dataset
from transformers import (
    DataCollator,
    EvalPrediction,
    PreTrainedModel,
    ProcessorMixin,
    TrainerCallback,
    TrainingArguments,
)

from hf_localgan.data.speech_collator import CTC_LABELS, SpeechCollator
from hf_localgan.decoding.transcripts import longest_transcript
from hf_localgan.functional.attention import attention_forward, attention_peak, guided_attention
from hf_localgan.models.quantization import GivenQuantization
from hf_localgan.models.recognisers import load_recogniser
from hf_localgan.models.rnn_seq2seq.encoder_speech_rnn_seq2seq import encoder_lengths
from hf_localgan.trainers.base.formatting import FormattingFunction
from hf_localgan.trainers.base.given import GivenModel, GivenRows
from hf_localgan.trainers.base.launching import warn_once
from hf_localgan.trainers.base.sample_table import LONGEST, SampleTableCallback, TableTrainer, decode_tokens
from hf_localgan.trainers.base.settings import TokenLossConfig
from hf_localgan.trainers.base.token_loss import TokenLossTrainer
from hf_localgan.trainers.mle.trainer import MleTrainer
from hf_localgan.trainers.raml.collator import DRAW_KEY, PREFIX
from hf_localgan.trainers.raml.trainer import RamlTrainer

if TYPE_CHECKING:
    from peft import PeftConfig

CTC_LABEL_SOURCES = ("reference", "drawn")


class SpeechMixin(TokenLossTrainer):
    """Makes a trainer of generators train a recogniser of speech by the same objective; it is the first of the bases.

    It adds to the loss `ctc_weight` times CTC, where the model's configuration has it, and `guided_attention_weight`
    times the attention off the diagonal. All terms of an example are sums, and the batch's sum is divided by the number
    of the decoder's labels. CTC is trained on the batch's `ctc_labels`, and on `labels` where it has none; guided
    attention on `labels`, for it is about the steps of the decoder. It logs `loss/ctc` (nats per label of its own),
    `loss/guided_attention` (per label),
    `speech/attention_forward` (share of steps whose attention peak moves on by 1 to `forward_reach` encoder steps) and
    `speech/attention_peak` (mean weight of the peak). The last two rise when the model begins to align, long after the
    loss has begun to fall.

    Args:
        model (`RnnSpeechForConditionalGeneration`): the recogniser, a folder, or an id on the Hub.
        processing_class (`RnnSpeechProcessor`): extractor and tokenizer, both saved with every checkpoint; by default
            those of a recogniser that is given by its name.
        guided_attention_weight: weight of `functional.attention.guided_attention` in the loss. 0: none.
        data_collator: collator of the batches, by default a `SpeechCollator`.
        method_arguments: further arguments of the method's trainer, such as the `payoff` of `RamlTrainer`.

    Other arguments are those of `TokenLossTrainer`.

    Raises:
        ValueError: for a `processing_class` that is no processor, and a negative weight.
    """

    processor: ProcessorMixin
    role = "recogniser"
    loader = staticmethod(load_recogniser)
    forward_reach = 8

    def __init__(
        self,
        model: GivenModel | None = None,
        args: TokenLossConfig | TrainingArguments | None = None,
        *,
        processing_class: ProcessorMixin | None = None,
        guided_attention_weight: float = 0.0,
        data_collator: DataCollator | None = None,
        train_dataset: GivenRows | None = None,
        eval_dataset: GivenRows | dict[str, Dataset] | None = None,
        model_init: Callable[[], PreTrainedModel] | None = None,
        compute_metrics: Callable[[EvalPrediction], dict[str, float]] | None = None,
        callbacks: list[TrainerCallback] | None = None,
        optimizers: tuple[torch.optim.Optimizer | None, torch.optim.lr_scheduler.LRScheduler | None] = (None, None),
        preprocess_logits_for_metrics: Callable[[Tensor, Tensor], Tensor] | None = None,
        peft_config: "PeftConfig | None" = None,
        model_init_kwargs: Mapping[str, Any] | None = None,
        quantization_config: GivenQuantization | None = None,
        formatting_func: FormattingFunction | None = None,
        **method_arguments: Any,
    ):
        model, processing_class = self.load_given(
            model, processing_class, model_init_kwargs, peft_config, quantization_config
        )
        if formatting_func is not None:
            raise ValueError(
                "`formatting_func` makes pairs of text, and a recogniser reads speech. Leave it out, and make rows of "
                "`input_features` and `labels` by `hf_localgan.data.encode_speech`."
            )
        if not isinstance(processing_class, ProcessorMixin):
            raise ValueError(
                "`processing_class` must be the processor of the speech, with its feature extractor and its tokenizer, "
                f"got {type(processing_class).__name__}."
            )
        if not guided_attention_weight >= 0:
            raise ValueError(f"`guided_attention_weight` must not be negative, got {guided_attention_weight}.")
        self.processor, self.guided_attention_weight = processing_class, guided_attention_weight
        collator = SpeechCollator(processing_class) if data_collator is None else data_collator
        super().__init__(
            model, args, data_collator=collator, train_dataset=train_dataset, eval_dataset=eval_dataset,
            processing_class=processing_class.tokenizer, model_init=model_init, compute_metrics=compute_metrics,
            callbacks=callbacks, optimizers=optimizers, preprocess_logits_for_metrics=preprocess_logits_for_metrics,
            **method_arguments,
        )  # fmt: skip
        if self.args.head_dtype != "auto":
            warn_once(
                f"`head_dtype: {self.args.head_dtype}` does nothing: recognisers are trained on full logits, in "
                "the model's precision. Leave it out."
            )
        if self.args.label_names is None:
            self.label_names = ["labels"]  # not `ctc_labels`, which the trainer gives to the forward
        if self.args.sample_rows and self.eval_dataset is not None:
            self.add_callback(SpeechSampleCallback(self, self._first_utterances(self.args.sample_rows)))

    def _first_rows(self, number: int) -> list[dict]:
        return []  # rows of text, see `SpeechSampleCallback`

    def _first_utterances(self, number: int) -> list[dict]:
        dataset: Any = self.eval_dataset
        dataset = next(iter(dataset.values())) if isinstance(dataset, dict) else dataset
        return [row for row in islice(dataset, number) if "input_features" in row]

    def _set_signature_columns_if_needed(self):
        super()._set_signature_columns_if_needed()
        # No arguments of the model: the keys are the collator's, the lengths are what batches are grouped by.
        more = [name for name in (DRAW_KEY, self.args.length_column_name) if name not in self._signature_columns]
        self._signature_columns = [*self._signature_columns, *more]

    def token_loss(
        self, model: nn.Module, inputs: dict[str, Any], divisor: Tensor | int, weights: Tensor | None = None
    ) -> Tensor:
        labels, ctc_weight = inputs["labels"], getattr(self.model.config, "ctc_weight", 0.0)
        inputs = self._without_labels(inputs)
        ctc_labels = inputs.pop(CTC_LABELS, labels)
        outputs = model(**inputs, output_attentions=True, **({"ctc_labels": ctc_labels} if ctc_weight else {}))
        loss = self._loss_of_logits(outputs.logits, labels, divisor, weights)
        counted, terms = labels != -100, {}
        number = counted.sum().clamp(min=1)
        if ctc_weight:
            # An example's labels count equally here, so its weight is theirs on average.
            nll = outputs.ctc_nll if weights is None else outputs.ctc_nll * _weights_by_example(weights, labels)
            loss = loss + ctc_weight * nll.sum() / divisor
            terms["loss/ctc"] = outputs.ctc_nll.sum() / (ctc_labels != -100).sum().clamp(min=1)
        if outputs.cross_attentions:
            attention = outputs.cross_attentions[-1].float().mean(dim=1)  # (batch, time, steps)
            if self.guided_attention_weight:
                off = guided_attention(attention, counted, self._encoder_lengths(inputs, attention))
                off = off if weights is None else off * _weights_by_example(weights, labels)[:, None]
                loss = loss + self.guided_attention_weight * off.sum() / divisor
                terms["loss/guided_attention"] = off.sum() / number
            with torch.no_grad():
                terms["speech/attention_forward"] = attention_forward(attention, counted, self.forward_reach)
                terms["speech/attention_peak"] = attention_peak(attention, counted)
        if self.model.training:
            self.record(**terms)
        return loss

    def _encoder_lengths(self, inputs: dict, attention: Tensor) -> Tensor:
        if inputs.get("attention_mask") is None:
            return torch.full(attention.shape[:1], attention.shape[2], device=attention.device)
        return encoder_lengths(inputs["attention_mask"], self.model.config.reduction)

    def _save_extra(self, folder: Path):
        super()._save_extra(folder)
        self.processor.save_pretrained(folder)

    def identity_facts(self) -> dict[str, Any]:
        extractor = getattr(self.processor, "feature_extractor", None)
        features = None if extractor is None else json.loads(extractor.to_json_string())
        return {**super().identity_facts(), "features": features}

    def settings_facts(self) -> dict[str, Any]:
        return {**super().settings_facts(), "guided_attention_weight": self.guided_attention_weight}


def _weights_by_example(weights: Tensor, labels: Tensor) -> Tensor:
    """One weight per example, shape `(batch,)`, from weights per example or per label."""
    if weights.dim() == 1:
        return weights
    counted = labels != -100
    return (weights * counted).sum(dim=1) / counted.sum(dim=1).clamp(min=1)


class SpeechTableTrainer(TableTrainer, Protocol):
    """What a table of transcripts needs from its trainer."""

    processor: ProcessorMixin


class SpeechSampleCallback(SampleTableCallback):
    """Transcribes the same utterances greedily at each evaluation while training; the query is the utterance's name.

    Args:
        trainer: the trainer, whose model transcribes.
        examples: rows of `input_features`, `labels` and, for their names, `id`.
    """

    trainer: SpeechTableTrainer

    @torch.no_grad()
    def answer(self, args: TokenLossConfig) -> list[dict[str, str]]:
        """Name, reference and greedy transcript of each utterance, as text."""
        trainer, tokenizer = self.trainer, self.trainer.processing_class
        assert tokenizer is not None
        model = trainer.accelerator.unwrap_model(trainer.model)
        batch = SpeechCollator(trainer.processor)([{"input_features": row["input_features"]} for row in self.examples])
        batch = {name: value.to(model.device) for name, value in batch.items()}
        training = model.training
        model.eval()
        limit, longest = model.generation_config, args.sample_max_new_tokens
        if longest is None and limit.max_length is None and limit.max_new_tokens is None:
            longest = LONGEST
        given = {} if longest is None else longest_transcript(model, longest)
        generated = model.generate(**batch, **given, do_sample=False, num_beams=1)
        model.train(training)
        return [
            {
                "query": str(row.get("id", number)),
                "reference": decode_tokens(tokenizer, np.asarray(row["labels"]).tolist()),
                "generation": decode_tokens(tokenizer, tokens[1:]),  # behind the start token
            }
            for number, (row, tokens) in enumerate(zip(self.examples, generated, strict=True))
        ]


class SpeechMleTrainer(SpeechMixin, MleTrainer):
    """Trains a recogniser of speech by maximum likelihood. Arguments as `MleTrainer`, see `SpeechMixin`."""


class SpeechRamlTrainer(SpeechMixin, RamlTrainer):
    """Trains a recogniser of speech by reward augmented maximum likelihood. Arguments as `RamlTrainer`.

    The decoder is trained on drawn labels, and guided attention is about them: it is the decoder's attention while it
    reads them. CTC is trained on the references by default, as in training by maximum likelihood: the paper changes the
    decoder's targets alone, and an aid that differs would be compared along with them. At temperature 0 it is
    `SpeechMleTrainer`.

    Args:
        ctc_labels: labels of CTC, "reference" or "drawn": the decoder's.

    Raises:
        ValueError: for other `ctc_labels`, and for a given `RamlCollator` that does not keep the references.
    """

    def __init__(self, *args: Any, ctc_labels: str = "reference", **arguments: Any):
        if ctc_labels not in CTC_LABEL_SOURCES:
            raise ValueError(f"`ctc_labels` must be one of {', '.join(CTC_LABEL_SOURCES)}, got {ctc_labels!r}.")
        self.ctc_labels = ctc_labels
        self.reference_column = CTC_LABELS if ctc_labels == "reference" else None
        super().__init__(*args, **arguments)
        if self._has_ctc() and self.raml_collator.reference_column != self.reference_column:
            raise ValueError(
                f"CTC is trained on `ctc_labels: {ctc_labels}`, but the given `RamlCollator` has `reference_column: "
                f"{self.raml_collator.reference_column}`. Make it with {self.reference_column!r}, or change "
                "`ctc_labels`."
            )
        if not self._has_ctc() and ctc_labels != "reference":
            warn_once(f"`ctc_labels: {ctc_labels}` does nothing: the recogniser has no CTC. Leave it out.")

    def compute_loss(self, model, inputs, return_outputs=False, num_items_in_batch=None, weights=None):
        """As `RamlTrainer`'s.

        Raises:
            ValueError: where draws have come without the references that CTC needs.
        """
        drawn = any(name.startswith(PREFIX) for name in inputs)
        if drawn and self._has_ctc() and self.reference_column and CTC_LABELS not in inputs:
            raise ValueError(
                f"The batch has no `{CTC_LABELS}`, the references of CTC (found: "
                f"{', '.join(f'`{name}`' for name in inputs)}). Let `data_collator` pad that column as it pads "
                "`labels`, or set `ctc_labels` to drawn."
            )
        return super().compute_loss(model, inputs, return_outputs, num_items_in_batch, weights)

    def _has_ctc(self) -> bool:
        return bool(getattr(self.model.config, "ctc_weight", 0.0))

    def settings_facts(self) -> dict[str, Any]:
        return {**super().settings_facts(), "ctc_labels": self.ctc_labels}


__all__ = ["SpeechMixin", "SpeechMleTrainer", "SpeechRamlTrainer", "SpeechSampleCallback"]
