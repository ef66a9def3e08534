"""Arguments of `MleTrainer`."""

from dataclasses import dataclass, field

import torch
from transformers import Seq2SeqTrainingArguments

from hf_localgan.trainers.base.launching import settle_launch
from hf_localgan.trainers.base.precision import settle_precision
from hf_localgan.trainers.base.settings import CardArguments

HEAD_DTYPES = ("auto", "float32", "bfloat16")


@dataclass
class MleConfig(CardArguments, Seq2SeqTrainingArguments):
    """Arguments of `MleTrainer`, on top of `Seq2SeqTrainingArguments`.

    Changed: nothing is reported to an experiment tracker unless `report_to` names one, memory is pinned only where
    there is an accelerator that reads it, and a lower perplexity is better unless `greater_is_better` says otherwise.
    """

    # Token loss
    fast_loss: bool = field(
        default=True,
        metadata={"help": "Compute the token loss at labelled positions in chunks, without the logits of the batch."},
    )
    head_dtype: str = field(
        default="auto",
        metadata={
            "help": "Precision of the products with the output layer in the fast loss: `auto` (bfloat16 if `bf16` is "
            "set), `float32` or `bfloat16`. bfloat16 is faster on recent processors; gradients agree within 1 %."
        },
    )

    # Stopping and looking
    early_stopping_patience: int = field(
        default=0,
        metadata={"help": "Evaluations without a better `metric_for_best_model` after which training stops. 0: never."},
    )
    early_stopping_threshold: float = field(
        default=0.0, metadata={"help": "How much better an evaluation must be to count as better."}
    )
    sample_rows: int = field(
        default=8,
        metadata={"help": "Queries whose greedy response is shown at each evaluation. 0 turns the table off."},
    )
    sample_max_new_tokens: int = field(
        default=30, metadata={"help": "Longest response in the sample table, in tokens."}
    )
    report_to: None | str | list[str] = field(
        default="none", metadata={"help": "Experiment trackers: `tensorboard`, `trackio`, `wandb`, `all` or `none`."}
    )

    def __post_init__(self):
        self._check_values()
        if self.early_stopping_patience and not self.metric_for_best_model:
            self.metric_for_best_model, self.greater_is_better = "eval_loss", False
        if self.greater_is_better is None and (self.metric_for_best_model or "").endswith("perplexity"):
            self.greater_is_better = False  # by default only names that end in `loss` count as such
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

    def _check_values(self):
        if self.head_dtype not in HEAD_DTYPES:
            raise ValueError(f'`head_dtype` must be one of {", ".join(HEAD_DTYPES)}, got "{self.head_dtype}".')
        for name in ("early_stopping_patience", "early_stopping_threshold", "sample_rows"):
            if getattr(self, name) < 0:
                raise ValueError(f"`{name}` must not be negative, got {getattr(self, name)}. 0 turns it off.")
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
