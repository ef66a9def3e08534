"""What training on speech adds to a trainer: CTC, how the attention moves, samples in phones."""

import torch
from torch import Tensor
from transformers import ProcessorMixin

from hf_localgan.metrics.alignment import attention_forward, attention_peak
from hf_localgan.trainers.base.token_loss import TokenLossTrainer
from hf_localgan.trainers.mle.trainer import MleTrainer
from hf_localgan.trainers.raml.trainer import RamlTrainer


class SpeechMixin(TokenLossTrainer):
    """Put before a trainer of generators, it trains a recogniser of speech by the same objective.

    The loss gets `ctc_weight` times CTC, where the model's configuration has it. Logged beside it: `loss/ctc` (nats per
    label), `speech/attention_forward` (share of steps whose attention peak moves on by 1 to `forward_reach` encoder
    steps) and `speech/attention_peak` (mean weight of the peak), which rise when the model begins to align, long after
    the loss has begun to fall.

    Args:
        processing_class (`RnnSpeechProcessor`): extractor and tokenizer, both saved with every checkpoint.
    """

    forward_reach = 8

    def __init__(self, model=None, args=None, *, processing_class=None, **kwargs):
        if not isinstance(processing_class, ProcessorMixin):
            raise ValueError(
                "`processing_class` must be the processor of the speech, with its feature extractor and its tokenizer, "
                f"got {type(processing_class).__name__}."
            )
        self.processor = processing_class
        super().__init__(model, args, processing_class=processing_class.tokenizer, **kwargs)

    def token_loss(self, model, inputs, divisor: Tensor | int, weights: Tensor | None = None) -> Tensor:
        labels, weight = inputs["labels"], getattr(self.model.config, "ctc_weight", 0.0)
        inputs = self._without_labels(inputs)
        outputs = model(**inputs, output_attentions=True, **({"ctc_labels": labels} if weight else {}))
        loss = self._loss_of_logits(outputs.logits, labels, divisor, weights)
        if weight:
            nll = outputs.ctc_nll
            if weights is not None:
                nll = nll * (weights if weights.dim() == 1 else weights.mean(dim=1))
            loss = loss + weight * nll.sum() / divisor
        if self.model.training:
            self._record_speech(outputs, labels)
        return loss

    @torch.no_grad()
    def _record_speech(self, outputs, labels: Tensor):
        counted = labels != -100
        terms = {}
        if getattr(outputs, "ctc_nll", None) is not None:
            terms["loss/ctc"] = outputs.ctc_nll.sum() / counted.sum().clamp(min=1)
        if outputs.cross_attentions:
            attention = outputs.cross_attentions[-1].float().mean(dim=1)  # (batch, time, steps)
            terms["speech/attention_forward"] = attention_forward(attention, counted, self.forward_reach)
            terms["speech/attention_peak"] = attention_peak(attention, counted)
        self.record(**terms)

    def _save(self, output_dir: str | None = None, state_dict: dict | None = None):
        super()._save(output_dir, state_dict=state_dict)
        if self.args.should_save:
            self.processor.save_pretrained(output_dir or self.args.output_dir)


class SpeechMleTrainer(SpeechMixin, MleTrainer):
    """Trains a recogniser of speech by maximum likelihood. Arguments as `MleTrainer`, see `SpeechMixin`."""


class SpeechRamlTrainer(SpeechMixin, RamlTrainer):
    """Trains a recogniser of speech by reward augmented maximum likelihood. Arguments as `RamlTrainer`.

    Drawn labels are those of both losses: CTC sees the same draws as the decoder.
    """


__all__ = ["SpeechMixin", "SpeechMleTrainer", "SpeechRamlTrainer"]
