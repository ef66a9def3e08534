"""Arguments of `MleTrainer`."""

from dataclasses import dataclass, field

from transformers import Seq2SeqTrainingArguments

HEAD_DTYPES = ("auto", "float32", "bfloat16")


@dataclass
class MleConfig(Seq2SeqTrainingArguments):
    """Arguments of `MleTrainer`, on top of `Seq2SeqTrainingArguments`.

    Changed: nothing is reported to an experiment tracker unless `report_to` names one.
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
        if self.head_dtype not in HEAD_DTYPES:
            raise ValueError(f'`head_dtype` must be one of {", ".join(HEAD_DTYPES)}, got "{self.head_dtype}".')
        for name in ("early_stopping_patience", "sample_rows"):
            if getattr(self, name) < 0:
                raise ValueError(f"`{name}` must not be negative, got {getattr(self, name)}.")
        if self.early_stopping_patience and not self.metric_for_best_model:
            self.metric_for_best_model, self.greater_is_better = "eval_loss", False
        super().__post_init__()
        if self.early_stopping_patience and self.eval_strategy == "no":
            raise ValueError(
                f"`early_stopping_patience={self.early_stopping_patience}` needs evaluations. Set `eval_strategy` to "
                "`steps` or `epoch`."
            )
