"""The base of trainers whose generator learns from generations that carry a gradient."""

import os
from collections.abc import Callable, Iterator, Mapping
from itertools import islice
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.utils.data import Dataset
from transformers import (
    DataCollator,
    EvalPrediction,
    PreTrainedModel,
    PreTrainedTokenizerBase,
    TrainerCallback,
    TrainingArguments,
)

from hf_localgan.data.padding import PADDING
from hf_localgan.decoding.soft_rollout import SoftRollout, check_rollout, decoder_embeddings, soft_rollout
from hf_localgan.functional.adversarial import accuracies
from hf_localgan.models.discriminator import PairDiscriminator
from hf_localgan.models.quantization import GivenQuantization
from hf_localgan.trainers.adversarial.config import SoftRolloutConfig
from hf_localgan.trainers.adversarial.monitor import ResponseMonitor
from hf_localgan.trainers.adversarial.parts import check_discriminator, check_vocabularies
from hf_localgan.trainers.adversarial.players import DISCRIMINATOR, GENERATOR
from hf_localgan.trainers.adversarial.trainer import TwoPlayerTrainer
from hf_localgan.trainers.base.formatting import FormattingFunction
from hf_localgan.trainers.base.given import GivenModel, GivenRows
from hf_localgan.trainers.matching.mismatches import draw_mismatches

if TYPE_CHECKING:
    from peft import PeftConfig


LENGTH_ROWS = 20_000  # training references whose lengths are measured


class SoftRolloutTrainer(TwoPlayerTrainer):
    """Trains a generator and a discriminator in turn, through generations with a gradient.

    A generation is a rollout with a gradient (`soft_rollout`) of the generator in training mode. Its random numbers
    depend on the seed, the update, the batch and the process alone, so that a resumed run draws the same.

    Subclasses define what the players minimise: `generator_terms` and `discriminator_terms`. The trainer adds
    `teacher_forcing_weight` times the references' nats per token to the generator's loss. Logged are, as means over the
    player's updates since the last line, `loss/generator`, `loss/adversarial`, `loss/teacher_forcing`,
    `loss/discriminator`, `gan/real_accuracy`, `gan/fake_accuracy`, `gan/mismatched_accuracy`, `gan/soft_length` (in
    tokens), and the terms of `TwoPlayerTrainer`.

    Args:
        model: an encoder-decoder that takes `decoder_inputs_embeds`, or a PEFT model around one.
        args (`SoftRolloutConfig`): the settings.
        discriminator: a `PairDiscriminator` of the generator's tokenizer, or its folder or id on the Hub.
        parts: further models beside the generator, by name.
        monitor: see `TwoPlayerTrainer`.
        data_collator, train_dataset, eval_dataset, processing_class and others: as `TokenLossTrainer`.

    Raises:
        ValueError: for parts that do not fit together, parameters sharded over processes, and other optimizers.
    """

    config_class = SoftRolloutConfig
    args: SoftRolloutConfig
    part_roles = MappingProxyType({"discriminator": "its opponent in training"})

    def __init__(
        self,
        model: GivenModel | None = None,
        args: SoftRolloutConfig | TrainingArguments | None = None,
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
        discriminator: PairDiscriminator | str | os.PathLike | None = None,
        parts: Mapping[str, PreTrainedModel] = MappingProxyType({}),
        monitor: ResponseMonitor | None = None,
    ):
        settings, discriminator = self.check_args(args), check_discriminator(discriminator)
        super().__init__(
            model, settings, data_collator=data_collator, train_dataset=train_dataset, eval_dataset=eval_dataset,
            processing_class=processing_class, model_init=model_init, compute_metrics=compute_metrics,
            callbacks=callbacks, optimizers=optimizers, preprocess_logits_for_metrics=preprocess_logits_for_metrics,
            parts={"discriminator": discriminator, **parts}, monitor=monitor, peft_config=peft_config,
            model_init_kwargs=model_init_kwargs,
            quantization_config=quantization_config, formatting_func=formatting_func,
        )  # fmt: skip
        self._measured_length: int | None = None
        check_rollout(self.base_model)
        embeddings = decoder_embeddings(self.base_model).weight
        assert isinstance(embeddings, Tensor)
        check_vocabularies(self.parts, len(embeddings), self.processing_class)

    # ---- the longest generation ----

    @property
    def rollout_length(self) -> int:
        """Largest number of tokens of a generation in training, the end token included."""
        if self.args.soft_length_percentile is None:
            return self.args.max_soft_length
        if self._measured_length is None:
            self._measured_length = self._reference_percentile(self.args.soft_length_percentile)
        return self._measured_length

    def _reference_percentile(self, percentile: float) -> int:
        """Tokens that no more than `100 - percentile` percent of the training references exceed, end token included.

        Of up to 20,000 references, evenly spaced, so that every process and a resumed run find the same.
        """
        lengths = [len(row["labels"]) for row in spaced_rows(self.train_dataset, LENGTH_ROWS)]
        if not lengths:
            raise ValueError("`soft_length_percentile` needs training references, and there are none.")
        return max(1, int(np.percentile(lengths, percentile, method="higher")))

    @property
    def discriminator(self) -> PairDiscriminator:
        """The generator's opponent."""
        discriminator = self.parts[DISCRIMINATOR]
        assert isinstance(discriminator, PairDiscriminator)
        return discriminator

    # ---- the players' losses ----

    def prepare_turn(self, player: str, inputs: dict[str, Any]) -> SoftRollout | None:
        """Generations without a gradient for the discriminator's turn, `None` for the generator's."""
        if player == DISCRIMINATOR:
            with torch.no_grad():
                return self.roll_out(inputs)
        if self.args.teacher_forcing_weight:
            self._head_is_separable(self._without_labels(inputs))  # tested once, on a small batch of the same shape
        return None

    def player_loss(
        self,
        player: str,
        inputs: dict[str, Any],
        prepared: SoftRollout | None,
        num_items_in_batch: Tensor | int | None = None,
    ) -> Tensor:
        if player == GENERATOR:
            return self.generator_loss(inputs, num_items_in_batch)
        assert prepared is not None
        return self.discriminator_loss(inputs, prepared)

    def generator_loss(self, inputs: dict[str, Any], num_items_in_batch: Tensor | int | None = None) -> Tensor:
        """The batch's share of the generator's loss in an update, a scalar in nats.

        Args:
            inputs: the batch, with `labels`.
            num_items_in_batch: number of labels of the whole update.
        """
        batch = {name: inputs[name] for name in ("input_ids", "attention_mask") if inputs.get(name) is not None}
        encoder_outputs = self.base_model.get_encoder()(**batch, return_dict=True)
        rollout = self.roll_out(inputs, encoder_outputs)
        terms = self.generator_terms(inputs, rollout, self.places(rollout, inputs["labels"]))
        loss = terms.mean() / self.current_gradient_accumulation_steps
        if self.args.teacher_forcing_weight:
            # The rollout's encoder pass is used again.
            forced = {"encoder_outputs": encoder_outputs, "labels": inputs["labels"]}
            if "attention_mask" in batch:
                forced["attention_mask"] = batch["attention_mask"]
            nats = self.compute_loss(self.model, forced, num_items_in_batch=num_items_in_batch)
            loss = loss + self.args.teacher_forcing_weight * nats
            self.record(**{"loss/teacher_forcing": nats * self.current_gradient_accumulation_steps})
        self.record(**{"gan/soft_length": rollout.lengths})
        return loss

    def discriminator_loss(self, inputs: dict[str, Any], rollout: SoftRollout) -> Tensor:
        """The batch's share of the discriminator's loss in an update, a scalar.

        Args:
            inputs: the batch, with `labels`.
            rollout: generations to its queries.
        """
        discriminator, labels = self.discriminator, inputs["labels"]
        query = discriminator.query_features(inputs["input_ids"], inputs.get("attention_mask"))
        real = discriminator.response_features(labels)
        fake = self.generation_features(rollout, self.places(rollout, labels))
        real_logits, fake_logits = (discriminator.score(query, response).float() for response in (real, fake))
        mismatched = None
        if self.args.mismatched_weight and len(labels) > 1:
            rows, has_mismatch = self._mismatches(inputs)
            mismatched = discriminator.score(query[has_mismatch], real[rows[has_mismatch, 0]]).float()
            mismatched = mismatched if len(mismatched) else None
        loss = self.discriminator_terms(real_logits, fake_logits, mismatched)
        real_accuracy, fake_accuracy = accuracies(real_logits, fake_logits)
        terms = {"loss/discriminator": loss, "gan/real_accuracy": real_accuracy, "gan/fake_accuracy": fake_accuracy}
        if self.args.mismatched_weight:
            terms["gan/mismatched_accuracy"] = (
                real_accuracy.new_tensor(0.5) if mismatched is None else ((mismatched < 0).float().mean())
            )
        self.record(**terms)
        return loss / self.current_gradient_accumulation_steps

    # ---- what subclasses define ----

    def generator_terms(self, inputs: dict[str, Any], rollout: SoftRollout, places: Tensor) -> Tensor:
        """The generator's loss without teacher forcing, nats, shape `(batch,)`.

        Args:
            inputs: the batch.
            rollout: generations to its queries, with a gradient.
            places: weight of each token of a generation, shape `(batch, time)`.
        """
        raise NotImplementedError

    def discriminator_terms(self, real: Tensor, fake: Tensor, mismatched: Tensor | None) -> Tensor:
        """The discriminator's loss, a scalar.

        Args:
            real, fake: logits of true and generated pairs, shape `(batch,)` of each.
            mismatched: logits of mismatched pairs, shape `(pairs,)`; `None` without any.
        """
        raise NotImplementedError

    # ---- generations ----

    def roll_out(
        self, inputs: dict[str, Any], encoder_outputs: Any = None, model: nn.Module | None = None, purpose: int = 0
    ) -> SoftRollout:
        """Generations to the queries of a batch, drawn with the relaxation of the configuration.

        Args:
            inputs: the batch.
            encoder_outputs: the encoder's outputs for it; by default they are computed.
            model: another generator than the trained one.
            purpose: purpose of the random numbers, see `UpdateRandomness`.
        """
        args = self.args
        return soft_rollout(
            self.model if model is None else model, inputs["input_ids"], inputs.get("attention_mask"),
            max_length=self.rollout_length, relaxation=args.relaxation, temperature=args.relaxation_temperature,
            noise_scale=args.noise_scale, top_k=args.relaxation_top_k, encoder_outputs=encoder_outputs,
            generator=self.draws.generator(inputs["input_ids"].device, purpose),
            end_probabilities=args.soft_length == "survival",
        )  # fmt: skip

    def places(self, rollout: SoftRollout, labels: Tensor) -> Tensor:
        """Weight of each token of a generation by `soft_length`, 0 to 1, shape `(batch, time)`.

        Args:
            rollout: the generations.
            labels: tokens of their references, shape `(batch, time)`.
        """
        if self.args.soft_length == "survival":
            return rollout.mask * rollout.survival
        if self.args.soft_length == "reference":
            lengths = self.reference_lengths(labels)
            return rollout.mask * (torch.arange(rollout.mask.shape[1], device=labels.device) < lengths[:, None])
        return rollout.mask

    def reference_lengths(self, labels: Tensor) -> Tensor:
        """Number of tokens of each reference without start and end token, shape `(batch,)`."""
        config, special_ids = self.base_model.config, [PADDING]
        for name in ("pad_token_id", "bos_token_id", "eos_token_id"):  # not every family has all of them
            ids = getattr(config, name, None)
            special_ids += ids if isinstance(ids, list) else [] if ids is None else [ids]
        return (~torch.isin(labels, torch.tensor(special_ids, device=labels.device))).sum(dim=1)

    def generation_features(
        self, rollout: SoftRollout, places: Tensor, discriminator: PairDiscriminator | None = None
    ) -> Tensor:
        """The discriminator's features of generations, shape `(batch, size)`, with their gradient.

        Args:
            rollout: the generations.
            places: weight of each token, shape `(batch, time)`.
            discriminator: another discriminator than the generator's.
        """
        discriminator = self.discriminator if discriminator is None else discriminator
        size = discriminator.config.vocab_size
        if self.args.relaxation == "straight_through" and not rollout.weights.requires_grad:
            # One token has all the weight at each step: its id gives the same features and costs less.
            ignored = (places == 0) | (rollout.best >= size)
            return discriminator.response_features(rollout.best.masked_fill(ignored, PADDING), places)
        weights, ids = within_vocabulary(rollout, size)
        return discriminator.response_features(mask=places, probabilities=weights, ids=ids)

    def generation_logits(self, inputs: dict[str, Any], rollout: SoftRollout, places: Tensor) -> Tensor:
        """The discriminator's logits of generations, shape `(batch,)`, with the generations' gradient.

        Args:
            inputs: the batch.
            rollout: generations to its queries.
            places: weight of each token, shape `(batch, time)`.
        """
        query = self.discriminator.query_features(inputs["input_ids"], inputs.get("attention_mask"))
        return self.discriminator.score(query, self.generation_features(rollout, places)).float()

    def _mismatches(self, inputs: dict[str, Any]) -> tuple[Tensor, Tensor]:
        queries = inputs["input_ids"]
        if inputs.get("attention_mask") is not None:
            queries = queries.masked_fill(inputs["attention_mask"] == 0, PADDING)
        return draw_mismatches(queries, inputs["labels"], 1, self.draws.generator("cpu", 1))


def spaced_rows(dataset: Any, number: int) -> Iterator[Any]:
    """At most `number` rows, evenly spaced; of a stream the first ones."""
    if not hasattr(dataset, "__len__"):
        return islice(dataset, number)
    number = min(number, len(dataset))
    return (dataset[index * len(dataset) // number] for index in range(number))


def within_vocabulary(rollout: SoftRollout, size: int) -> tuple[Tensor, Tensor | None]:
    """Weights and token ids of a rollout, without ids from `size` on: T5 has more logits than its tokenizer has tokens.

    Args:
        rollout: the generations.
        size: size of the vocabulary.

    Returns:
        The weights, shape `(batch, time, size)`, and `None`; or, if the rollout names its tokens, weights and ids with
        its shape `(batch, time, top_k)`.
    """
    if rollout.ids is None:
        return rollout.weights[:, :, :size], None
    outside = rollout.ids >= size
    return rollout.weights.masked_fill(outside, 0.0), rollout.ids.masked_fill(outside, 0)
