"""Training a discriminator to tell whether a response belongs to a query."""

import os
from collections.abc import Callable, Mapping
from itertools import islice
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils.data import DataLoader, Dataset
from transformers import DataCollator, PreTrainedTokenizerBase, Trainer, TrainerCallback, TrainingArguments
from transformers.trainer_utils import EvalLoopOutput

from hf_localgan.data.padding import PADDING
from hf_localgan.data.vocabulary import vocabulary_fingerprint
from hf_localgan.hub.citations import CONVOLUTIONAL_CLASSIFIER, LOCALGAN
from hf_localgan.hub.objective import Objective
from hf_localgan.models.discriminator import PairDiscriminator
from hf_localgan.models.scorers import load_scorer, load_tokenizer
from hf_localgan.trainers.base.checkpoints import CheckpointMixin
from hf_localgan.trainers.base.data_order import DataOrderMixin
from hf_localgan.trainers.base.early_stopping import early_stopping
from hf_localgan.trainers.base.formatting import FormattingFunction
from hf_localgan.trainers.base.given import GivenRows, default_collator, settle_rows
from hf_localgan.trainers.base.launching import refuse_sharding
from hf_localgan.trainers.base.randomness import UpdateRandomness
from hf_localgan.trainers.base.tracking import TrackingMixin
from hf_localgan.trainers.matching.config import MatchingConfig
from hf_localgan.trainers.matching.mismatches import (
    ContrastedRows,
    draw_mismatches,
    matching_loss,
    matching_metrics,
)

STREAM_ROWS = 10_000  # first rows of a stream, in which a second query must appear


def load_discriminator(
    path_or_id: str | os.PathLike, *, revision: str | None = None, subfolder: str = ""
) -> tuple[PairDiscriminator, PreTrainedTokenizerBase]:
    """A discriminator and its tokenizer. Arguments and errors as `load_scorer`."""
    place: Any = {"revision": revision, "subfolder": subfolder}
    model = load_scorer(PairDiscriminator, path_or_id, **place)
    return model, load_tokenizer(path_or_id, **place)


class MatchingTrainer(TrackingMixin, CheckpointMixin, DataOrderMixin, Trainer):
    """Trains a discriminator on pairs from the data against the same queries with responses to other queries.

    The loss is `matching_loss`. In training, `draw_mismatches` draws the other responses from the same batch of the
    same process, by the seed and the step; a pair without a response to another query in its batch does not count. In
    evaluation they come from the whole split (`ContrastedRows`), the same for any batch size and number of processes,
    and the metrics are those of `matching_metrics`. Logged beside the loss: `matching/real_accuracy` and
    `matching/mismatched_accuracy`, shares of pairs on the correct side of logit 0 since the last line, and
    `matching/uncounted`, the share of pairs that did not count. `predict` returns logits as predictions, shape
    `(rows, 1 + eval_negatives)`, the true pair's first, and the number of each row's query as labels.

    Args:
        model: a `PairDiscriminator`, a folder, or an id on the Hub.
        args (`MatchingConfig`): the settings, by default their defaults.
        data_collator: pads `input_ids` and `labels`, by default as transformers' `DataCollatorForSeq2Seq`.
        train_dataset: rows of `input_ids`, `attention_mask` and `labels` (see `encode_pairs`), map-style or streamed;
            or pairs of text, see `TokenLossTrainer`.
        eval_dataset: rows with the same columns, all of which are read.
        processing_class: the tokenizer, saved with the model; by default that of a model that is given by its name.
        model_init_kwargs: arguments of `load_scorer` for a model that is given by its name: `revision`, `subfolder`.
        formatting_func: see `TokenLossTrainer`.
        model_init, callbacks, optimizers: as `transformers.Trainer`.

    Raises:
        ValueError: if `args` belong to another trainer, the model is no discriminator, or all training rows have the
            same query.
    """

    objective = Objective(
        "matching", "response-matching",
        "Telling responses from the data from the same queries with responses of other queries: the cross-entropy of "
        "both.", (LOCALGAN, CONVOLUTIONAL_CLASSIFIER),
    )  # fmt: skip
    config_class = MatchingConfig
    role = "discriminator"
    loader = staticmethod(load_discriminator)
    measured = frozenset({"matching", "accuracy", "loss", "real", "mismatched"})
    args: MatchingConfig
    model: PairDiscriminator

    def __init__(
        self,
        model: PairDiscriminator | str | os.PathLike | None = None,
        args: MatchingConfig | TrainingArguments | None = None,
        data_collator: DataCollator | None = None,
        train_dataset: GivenRows | None = None,
        eval_dataset: GivenRows | dict[str, Dataset] | None = None,
        processing_class: PreTrainedTokenizerBase | None = None,
        model_init: Callable[[], PairDiscriminator] | None = None,
        callbacks: list[TrainerCallback] | None = None,
        optimizers: tuple[torch.optim.Optimizer | None, torch.optim.lr_scheduler.LRScheduler | None] = (None, None),
        *,
        model_init_kwargs: Mapping[str, Any] | None = None,
        formatting_func: FormattingFunction | None = None,
    ):
        settings: MatchingConfig = self.check_args(args)
        model, processing_class = self.load_given(model, processing_class, model_init_kwargs)
        if model_init is None:
            model = _checked_model(model)
        datasets: dict[str, Any] = {"train_dataset": train_dataset, "eval_dataset": eval_dataset}
        for name, dataset in datasets.items():
            datasets[name] = settle_rows(
                name, dataset, processing_class, data_collator, model, formatting_func=formatting_func
            )
        _require_two_queries(datasets["train_dataset"])
        super().__init__(
            model, settings, data_collator=data_collator, **datasets, processing_class=processing_class,
            model_init=model_init, callbacks=callbacks, optimizers=optimizers,
        )  # fmt: skip
        if data_collator is None:
            self.data_collator = default_collator(self.processing_class, self.model)
        refuse_sharding(self, "has the whole, small model on every process")
        if self.processing_class is not None:
            self.model.config.vocabulary = vocabulary_fingerprint(self.processing_class)
        self._draws = UpdateRandomness(self, lambda: self._order_seed, of_update=True)
        self._scores: list[Tensor] = []
        self._counts = torch.zeros(4)  # pairs, counted pairs, correct ones of the counted: true and mismatched
        self._early_stopping = self._replace_callback(None, early_stopping(settings))

    def adopt_settings(self):
        super().adopt_settings()
        self._early_stopping = self._replace_callback(self._early_stopping, early_stopping(self.args))

    def call_model_init(self, trial: Any = None) -> nn.Module:
        model = _checked_model(super().call_model_init(trial))
        tokenizer = getattr(self, "processing_class", None)  # set later than the first model
        if tokenizer is not None:
            model.config.vocabulary = vocabulary_fingerprint(tokenizer)
        return model

    # ---- the loss ----

    def compute_loss(
        self,
        model: nn.Module,
        inputs: dict[str, Any],
        return_outputs: bool = False,
        num_items_in_batch: Tensor | int | None = None,
    ) -> Any:
        """Mean `matching_loss` of the pairs that have a mismatched response in the batch, nats; 0 if none has.

        Returns:
            The loss, a scalar, or with `return_outputs` the loss and the model's outputs.

        Raises:
            ValueError: for a batch without `input_ids` or `labels`.
        """
        inputs = _columns(inputs)
        self._draws.next_batch()
        rows, has_mismatch = self._mismatches(inputs)
        outputs = model(**inputs, mismatches=rows)
        logits, mismatch_logits = outputs.logits.float(), outputs.mismatch_logits.float()
        counted = has_mismatch.to(logits.dtype)
        loss = (matching_loss(logits, mismatch_logits) * counted).sum() / counted.sum().clamp(min=1)
        if self.model.training:
            correct = torch.stack([(logits > 0).float(), (mismatch_logits <= 0).float().mean(dim=1)]).detach()
            counts = [torch.full_like(counted[0], len(counted)), counted.sum(), *(correct * counted).sum(dim=1)]
            self._counts = self._counts.to(counted.device) + torch.stack(counts)  # on the device until it is logged
        return (loss, outputs) if return_outputs else loss

    def _mismatches(self, inputs: dict[str, Tensor]) -> tuple[Tensor, Tensor]:
        queries = inputs["input_ids"]
        if "attention_mask" in inputs:
            queries = queries.masked_fill(inputs["attention_mask"] == 0, PADDING)
        return draw_mismatches(queries, inputs["labels"], self.args.negatives, self._draws.generator("cpu"))

    def log(self, logs: dict[str, float], start_time: float | None = None):
        if "loss" in logs:  # a training line, which every process reaches
            counts = self.accelerator.reduce(self._counts.to(self.args.device), "sum")
            pairs, counted, correct, rejected = counts.tolist()
            if counted:
                logs["matching/real_accuracy"] = correct / counted
                logs["matching/mismatched_accuracy"] = rejected / counted
            if pairs:
                logs["matching/uncounted"] = 1 - counted / pairs
            self._counts = torch.zeros_like(self._counts)
        super().log(logs, start_time)

    # ---- evaluation ----

    def get_eval_dataloader(self, eval_dataset: Any = None) -> DataLoader:
        if isinstance(eval_dataset, str):
            splits: Any = self.eval_dataset
            eval_dataset = splits[eval_dataset]
        eval_dataset = self.eval_dataset if eval_dataset is None else eval_dataset
        return super().get_eval_dataloader(None if eval_dataset is None else self._contrasted(eval_dataset))

    def get_test_dataloader(self, test_dataset: Any) -> DataLoader:
        return super().get_test_dataloader(self._contrasted(test_dataset))

    def _contrasted(self, rows: Any) -> ContrastedRows:
        return ContrastedRows(rows, self.args.eval_negatives, self.args.eval_seed)

    def prediction_step(
        self,
        model: nn.Module,
        inputs: dict[str, Any],
        prediction_loss_only: bool,
        ignore_keys: list[str] | None = None,
    ) -> tuple[Tensor | None, Tensor | None, Tensor | None]:
        inputs = _columns(self._prepare_inputs(inputs))
        with torch.no_grad(), self.compute_loss_context_manager():
            logits = model(**inputs).logits.float()
        # Gathering drops the rows that were repeated to fill the last batch of all processes.
        self._scores.append(self.accelerator.gather_for_metrics(logits).cpu())
        return None, None, None

    def evaluation_loop(
        self,
        dataloader: DataLoader,
        description: str,
        prediction_loss_only: bool | None = None,
        ignore_keys: list[str] | None = None,
        metric_key_prefix: str = "eval",
    ) -> EvalLoopOutput:
        self._scores = []
        output = super().evaluation_loop(dataloader, description, prediction_loss_only, ignore_keys, metric_key_prefix)
        rows = dataloader.dataset
        assert isinstance(rows, ContrastedRows) and output.metrics is not None
        scores = torch.cat(self._scores).view(-1, 1 + rows.negatives)
        for name, value in matching_metrics(scores[:, 0], scores[:, 1:]).items():
            output.metrics[f"{metric_key_prefix}_{name}"] = value
        return output._replace(predictions=scores.numpy(), label_ids=rows.groups, num_samples=len(scores))


def _checked_model(model: Any) -> PairDiscriminator:
    if getattr(getattr(model, "config", None), "model_type", None) != "query_response_discriminator":
        raise ValueError(f"`model` must be a `PairDiscriminator`, got {type(model).__name__}.")
    return model


def _columns(inputs: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The columns of a batch that the discriminator reads."""
    missing = [f"`{name}`" for name in ("input_ids", "labels") if inputs.get(name) is None]
    if missing:
        raise ValueError(
            f"The batch has no {', no '.join(missing)} (found: {', '.join(f'`{name}`' for name in inputs)}). Make the "
            "data set by `encode_pairs`, and let a collator such as `DataCollatorForSeq2Seq` pad it."
        )
    return {name: inputs[name] for name in ("input_ids", "attention_mask", "labels") if inputs.get(name) is not None}


def _require_two_queries(dataset: Any):
    if dataset is None:
        return
    first, number = None, 0
    for row in dataset if hasattr(dataset, "__len__") else islice(dataset, STREAM_ROWS):
        query = list(row["input_ids"])
        number += 1
        if first is not None and query != first:
            return
        first = query
    raise ValueError(
        f"Matching needs responses of other queries, but the first {number:,} rows of `train_dataset` have "
        f"{min(number, 1)} different {'query' if number else 'queries'}. Give data with several queries, and shuffle a "
        "stream."
    )
