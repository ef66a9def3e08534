"""AIM and DAIM (Zhang et al. 2018): adversarial training that keeps what a response says of its query."""

import os
from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, cast

import torch
import torch.nn.functional as F
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
from hf_localgan.decoding.latent_noise import encode_with_noise, noise_size
from hf_localgan.decoding.sampling import without_dropout
from hf_localgan.decoding.soft_rollout import SoftRollout, check_rollout
from hf_localgan.functional.information import PairedLoss, aim_generator_loss, latent_noise, paired_loss
from hf_localgan.hub.citations import AIM
from hf_localgan.hub.objective import Objective
from hf_localgan.models.discriminator import PairDiscriminator
from hf_localgan.models.quantization import GivenQuantization
from hf_localgan.trainers.adversarial.aim_config import BACKWARD, BACKWARD_DISCRIMINATOR, AimConfig, DaimConfig
from hf_localgan.trainers.adversarial.aim_parts import (
    Direction,
    base_of,
    check_backward,
    check_cosine,
    make_room_for_noise,
    query_labels,
    reading_nll,
    tokens_before_text,
    turned,
)
from hf_localgan.trainers.adversarial.monitor import ResponseMonitor
from hf_localgan.trainers.adversarial.parts import check_discriminator, freeze_discriminator, freeze_generator
from hf_localgan.trainers.adversarial.players import DISCRIMINATOR, GENERATOR, without_gradients
from hf_localgan.trainers.adversarial.soft_trainer import SoftRolloutTrainer
from hf_localgan.trainers.base.formatting import FormattingFunction
from hf_localgan.trainers.base.given import GivenModel, GivenRows

if TYPE_CHECKING:
    from peft import PeftConfig

# Purposes of the random numbers of a batch; both directions have one noise, as in the authors' code.
ROLLOUTS, NOISE, BACKWARD_ROLLOUTS = 0, 2, 3


class AimTrainer(SoftRolloutTrainer):
    """Trains a generator against a paired discriminator, and to leave in a response what its query was (AIM).

    With generations `r~` from latent noise, `d = cos(q, r) - cos(q, r~)` of the discriminator's embeddings, `g` its
    bounded log-odds and `phi` the backward generator, the generator minimises

        adversarial_weight * g(d) + information_weight * NLL_phi(q | r~) / |q|
        + teacher_forcing_weight * nats per token of the references

    or the convex mixture of these (`functional/information.py`), and the discriminator `-g(d)`. The backward
    generator is frozen by default, and stands in `backward/` of every checkpoint and of the output. As a player
    (`backward_update`) it minimises its nats per token of queries, given references or generations.

    Latent noise starts a recurrent decoder beside the encoded query; one without a place for it gets one
    (`latent_noise_size`). Logged beside what `TwoPlayerTrainer` logs: `loss/generator`, `loss/adversarial`,
    `loss/information`, `loss/teacher_forcing`, `loss/discriminator`, `loss/backward`, `gan/paired_accuracy` (share of
    pairs in which the discriminator prefers the reference; the sign of a cosine says nothing), `gan/soft_length`
    (tokens) and `gan/soft_entropy` (nats, of the weights over tokens that are fed back).

    Args:
        model: an encoder-decoder that takes `decoder_inputs_embeds`, or a PEFT model around one.
        args (`AimConfig`): the settings.
        discriminator: a `PairDiscriminator` of the same tokenizer with the head "cosine", or its folder or id on the
            Hub.
        backward: a generator of queries from responses, of the same tokenizer, trained on swapped pairs; or its folder
            or id on the Hub.
        parts: further models beside the generator, by name.
        monitor: see `TwoPlayerTrainer`.
        data_collator, train_dataset, eval_dataset, processing_class and others: as `TokenLossTrainer`.

    Raises:
        ValueError: for parts that do not fit together; see `SoftRolloutTrainer`.
    """

    objective = Objective(
        "AIM", "aim",
        "Trained against a discriminator that compares a response with the reference, and so that a backward generator "
        "can read the query back from the response (adversarial information maximisation).", (AIM,),
    )  # fmt: skip
    config_class = AimConfig
    args: AimConfig
    part_roles = MappingProxyType(
        {"discriminator": "it compares two responses to one query", "backward": "it reads queries back from responses"}
    )

    def __init__(
        self,
        model: GivenModel | None = None,
        args: AimConfig | TrainingArguments | None = None,
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
        backward: PreTrainedModel | str | os.PathLike | None = None,
        parts: Mapping[str, PreTrainedModel] = MappingProxyType({}),
        monitor: ResponseMonitor | None = None,
    ):
        settings: AimConfig = self.check_args(args)
        discriminator = check_discriminator(discriminator)
        check_cosine("discriminator", discriminator)
        model, processing_class = self.load_given(
            model, processing_class, model_init_kwargs, peft_config, quantization_config
        )
        backward = check_backward(backward, cast(nn.Module | None, model))
        make_room_for_noise(model, settings.latent_noise_size, settings.latent_noise_scale)
        self._before_text = tokens_before_text(processing_class)
        super().__init__(
            model, settings, data_collator=data_collator, train_dataset=train_dataset, eval_dataset=eval_dataset,
            processing_class=processing_class, model_init=model_init, compute_metrics=compute_metrics,
            callbacks=callbacks, optimizers=optimizers, preprocess_logits_for_metrics=preprocess_logits_for_metrics,
            discriminator=discriminator, parts={BACKWARD: backward, **parts}, monitor=monitor,
            formatting_func=formatting_func,
        )  # fmt: skip
        self._query_tokens: Tensor | int | None = None  # of the whole update

    def call_model_init(self, trial=None):
        model = super().call_model_init(trial)
        make_room_for_noise(model, self.args.latent_noise_size, self.args.latent_noise_scale)
        return model

    @property
    def direction(self) -> Direction:
        """From queries to responses."""
        return Direction(self.model, self.discriminator, self.parts[BACKWARD], ROLLOUTS)

    # ---- whose turn it is ----

    def get_batch_samples(self, epoch_iterator, num_batches, device):
        """Counts the tokens of the update's queries too, for the nats per token of who generates them."""
        samples, number = super().get_batch_samples(epoch_iterator, num_batches, device)
        counts = [(query_labels(batch) != PADDING).sum() for batch in samples if batch.get("input_ids") is not None]
        self._query_tokens = None
        if counts:
            self._query_tokens = torch.stack(counts).sum().to(device)
            if self.args.average_tokens_across_devices:
                self._query_tokens = self.accelerator.reduce(self._query_tokens, "sum")
        return samples, number

    def prepare_turn(self, player: str, inputs: dict[str, Any]) -> SoftRollout | None:
        """Generations without a gradient, for whoever is to learn from them."""
        if player == GENERATOR and self.args.teacher_forcing_weight:
            self._head_is_separable(self._without_labels(inputs))  # tried once, on a small batch of this kind
        if player == DISCRIMINATOR or (player == BACKWARD and self.args.backward_update == "joint"):
            return self.silent_rollout(self.direction, inputs)
        return None

    def player_loss(self, player: str, inputs: dict[str, Any], prepared: Any, num_items_in_batch=None):
        if player == GENERATOR:
            return self.generator_loss(inputs, num_items_in_batch)
        if player == DISCRIMINATOR:
            return self.comparison_loss(self.direction, inputs, prepared)
        return self.backward_loss(inputs, prepared)

    # ---- the players' losses, each its share of the update's: scalars in nats ----

    def generator_loss(self, inputs: dict, num_items_in_batch=None) -> Tensor:
        encoded = self.encode(self.model, inputs)
        loss = self.adversarial_loss(self.direction, inputs, encoded)
        if self.args.teacher_forcing_weight:
            # The rollout's encoder pass serves here as well.
            forced = {"encoder_outputs": encoded, "labels": inputs["labels"]}
            if inputs.get("attention_mask") is not None:
                forced["attention_mask"] = inputs["attention_mask"]
            nats = self.compute_loss(self.model, forced, num_items_in_batch=num_items_in_batch)
            loss = loss + self.args.supervised_share * nats
            self.record(**{"loss/teacher_forcing": nats * self.current_gradient_accumulation_steps})
        return loss

    def comparison_loss(self, direction: Direction, inputs: dict, rollout: SoftRollout) -> Tensor:
        """`-g(d)`, what the discriminator of a direction minimises."""
        paired = self.compare(direction, inputs, rollout, self.places(rollout, inputs["labels"]))
        self.record(
            **{
                f"loss/{direction.name}discriminator": paired.discriminator,
                f"gan/{direction.name}paired_accuracy": (paired.difference > 0).float(),
            }
        )
        return paired.discriminator.mean() / self.current_gradient_accumulation_steps

    def backward_loss(self, inputs: dict, rollout: SoftRollout | None) -> Tensor:
        """Nats per token of queries given references; or given generations, a mean over them of nats per token."""
        backward = self.parts[BACKWARD]
        if rollout is None:
            loss = self.nats_per_token(backward, turned(inputs, self.base_model.config.pad_token_id))
        else:
            loss = self.reading(backward, rollout, inputs, query_labels(inputs)).mean()
            loss = loss / self.current_gradient_accumulation_steps
        return loss

    def adversarial_loss(self, direction: Direction, inputs: dict, encoded) -> Tensor:
        """The objective of a direction's generator without teacher forcing, a mean over the batch.

        Args:
            direction: who generates and who reads.
            inputs: the batch of this direction.
            encoded: its `input_ids`, see `encode`.
        """
        args = self.args
        rollout = self.roll_out(inputs, encoded, direction.generator, direction.purpose)
        places = self.places(rollout, inputs["labels"])
        adversarial = self.compare(direction, inputs, rollout, places).generator
        information = torch.zeros_like(adversarial)
        if args.information_weight:
            with without_dropout(direction.reader), without_gradients(direction.reader):
                information = self.reading(direction.reader, rollout, inputs, query_labels(inputs))
        terms = aim_generator_loss(
            args.adversarial_weight * adversarial, information, information_weight=args.information_weight,
            supervised_weight=args.teacher_forcing_weight, convex=args.convex_mixture,
        )  # fmt: skip
        entropy = torch.special.entr(rollout.weights.detach().float().clamp(min=0)).sum(dim=2)
        self.record(
            **{
                f"loss/{direction.name}adversarial": adversarial, f"loss/{direction.name}information": information,
                f"gan/{direction.name}soft_length": rollout.lengths,
                f"gan/{direction.name}soft_entropy": (entropy * rollout.mask).sum() / rollout.mask.sum().clamp(min=1),
            }
        )  # fmt: skip
        return terms.total.mean() / self.current_gradient_accumulation_steps

    # ---- generations, and who looks at them ----

    def encode(self, model: nn.Module, inputs: dict):
        """Encoded queries with latent noise beside them, as `latent_noise_scale` says."""
        base, scale = base_of(model), self.args.latent_noise_scale
        if scale is None:
            scale = 1.0 if getattr(base.config, "noise_size", 0) else 0.0
        noise = None
        if scale:
            device = inputs["input_ids"].device
            draws = self.draws.generator(device, NOISE)
            noise = latent_noise(len(inputs["input_ids"]), noise_size(base), generator=draws, device=device)
        return encode_with_noise(model, inputs, noise, scale=scale)

    @torch.no_grad()
    def silent_rollout(self, direction: Direction, inputs: dict) -> SoftRollout:
        """Generations without a gradient."""
        encoded = self.encode(direction.generator, inputs)
        return self.roll_out(inputs, encoded, direction.generator, direction.purpose)

    def compare(self, direction: Direction, inputs: dict, rollout: SoftRollout, places: Tensor) -> PairedLoss:
        """References and generations to the same queries, compared by the discriminator of a direction."""
        discriminator = direction.discriminator
        query = discriminator.query_features(inputs["input_ids"], inputs.get("attention_mask"))
        real = discriminator.score(query, discriminator.response_features(inputs["labels"])).float()
        fake = discriminator.score(query, self.generation_features(rollout, places, discriminator)).float()
        return paired_loss(real, fake, self.args.log_odds, self.args.log_odds_limit)

    def reading(self, reader: nn.Module, rollout: SoftRollout, inputs: dict, labels: Tensor) -> Tensor:
        """What a reader does not know of `labels` from generations, nats per token, shape `(batch,)`.

        Args:
            inputs: the batch that was generated to.
        """
        counted = self.places(rollout, inputs["labels"]) > 0
        return reading_nll(reader, rollout, counted, labels, self._before_text)

    def nats_per_token(self, generator: nn.Module, inputs: dict, encoded=None) -> Tensor:
        """Nats per token of queries under the backward generator, as `compute_loss` gives those of responses.

        Args:
            inputs: a batch of the way back, its labels the queries.
            encoded: its `input_ids`, if that was done already.
        """
        given = {"encoder_outputs": encoded} if encoded is not None else {"input_ids": inputs["input_ids"]}
        labels = inputs["labels"]
        logits = generator(
            **given, attention_mask=inputs["attention_mask"], labels=labels, use_cache=False
        ).logits.float()  # fmt: skip
        nll = F.cross_entropy(
            logits.flatten(0, 1), labels.flatten(), ignore_index=PADDING, reduction="sum",
            label_smoothing=self.args.label_smoothing_factor,
        )  # fmt: skip
        if self._query_tokens is None:
            return nll / (labels != PADDING).sum().clamp(min=1) / self.current_gradient_accumulation_steps
        loss = nll / torch.as_tensor(self._query_tokens).clamp(min=1)
        # Data parallelism averages gradients; the divisor is that of all processes.
        return loss * self.accelerator.num_processes if self.args.average_tokens_across_devices else loss


class DaimTrainer(AimTrainer):
    """Trains two generators, each of which reads back what the other one generates (DAIM, the dual of AIM).

    The joint objective is `L_AIM(theta; q -> r, reader phi) + backward_weight * L_AIM(phi; r -> q, reader theta)`. It
    is taken in phases, one generator learning at a time (`functional.information.dual_loss`): the generator `theta`
    minimises its objective and `backward_weight * information_weight * NLL_theta(r | q~)` of queries `q~` that the
    backward generator `phi` made, which is the mirror image. A discriminator of queries stands beside `phi`. The
    output holds the generator of queries in `backward/`, its discriminator in `backward_discriminator/`.

    Logged beside what `AimTrainer` logs: the same of the way back as `loss/backward_...` and `gan/backward_...`, with
    `loss/backward` the whole of the backward generator's; `loss/read_responses` and `loss/read_queries`, what each
    generator does not know of a side from the other one's generations, nats per token.

    Args:
        model, args (`DaimConfig`), discriminator, backward, monitor and others: see `AimTrainer`.
        backward_discriminator: a `PairDiscriminator` with the head "cosine" whose first side are responses, or its
            folder or id on the Hub.

    Raises:
        ValueError: for parts that do not fit together; see `AimTrainer`.
    """

    objective = Objective(
        "DAIM", "daim",
        "Trained with a generator of the other direction: each has a discriminator, and reads back what the other one "
        "generates (dual adversarial information maximisation).", (AIM,),
    )  # fmt: skip
    config_class = DaimConfig
    args: DaimConfig
    part_roles = MappingProxyType(
        {**AimTrainer.part_roles, "backward_discriminator": "it compares two queries to one response"}
    )

    def __init__(
        self,
        model: GivenModel | None = None,
        args: DaimConfig | TrainingArguments | None = None,
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
        backward: PreTrainedModel | str | os.PathLike | None = None,
        backward_discriminator: PairDiscriminator | str | os.PathLike | None = None,
        monitor: ResponseMonitor | None = None,
    ):
        settings: DaimConfig = self.check_args(args)
        backward_discriminator = check_discriminator(backward_discriminator)
        check_cosine("backward_discriminator", backward_discriminator)
        model, processing_class = self.load_given(
            model, processing_class, model_init_kwargs, peft_config, quantization_config
        )
        backward = check_backward(backward, cast(nn.Module | None, model))
        check_rollout(base_of(backward))
        make_room_for_noise(backward, settings.latent_noise_size, settings.latent_noise_scale)
        super().__init__(
            model, settings, data_collator=data_collator, train_dataset=train_dataset, eval_dataset=eval_dataset,
            processing_class=processing_class, model_init=model_init, compute_metrics=compute_metrics,
            callbacks=callbacks, optimizers=optimizers, preprocess_logits_for_metrics=preprocess_logits_for_metrics,
            discriminator=discriminator, backward=backward, parts={BACKWARD_DISCRIMINATOR: backward_discriminator},
            monitor=monitor, formatting_func=formatting_func,
        )  # fmt: skip

    def _freeze(self):
        super()._freeze()
        freeze_generator(self.parts[BACKWARD], self.args.generator_parts)
        freeze_discriminator(self.parts[BACKWARD_DISCRIMINATOR], self.args.discriminator_parts)

    @property
    def way_back(self) -> Direction:
        """From responses to queries."""
        discriminator = self.parts[BACKWARD_DISCRIMINATOR]
        assert isinstance(discriminator, PairDiscriminator)
        return Direction(self.parts[BACKWARD], discriminator, self.model, BACKWARD_ROLLOUTS, "backward_")

    def turned(self, inputs: dict) -> dict[str, Tensor]:
        """The batch of the way back."""
        return turned(inputs, self.base_model.config.pad_token_id)

    def prepare_turn(self, player: str, inputs: dict[str, Any]) -> SoftRollout | None:
        if player == BACKWARD_DISCRIMINATOR or (player == GENERATOR and self._read_back):
            super().prepare_turn(player, inputs)
            return self.silent_rollout(self.way_back, self.turned(inputs))
        if player == BACKWARD and self.args.information_weight:
            return self.silent_rollout(self.direction, inputs)
        return super().prepare_turn(player, inputs)

    @property
    def _read_back(self) -> bool:
        return bool(self.args.backward_weight and self.args.information_weight)

    def player_loss(self, player: str, inputs: dict[str, Any], prepared: Any, num_items_in_batch=None):
        if player == BACKWARD_DISCRIMINATOR:
            return self.comparison_loss(self.way_back, self.turned(inputs), prepared)
        loss = super().player_loss(player, inputs, prepared, num_items_in_batch)
        if player == GENERATOR and self._read_back:
            read = self.reading(self.model, prepared, self.turned(inputs), inputs["labels"])
            self.record(**{"loss/read_responses": read})
            share = self.args.backward_weight * self.args.information_weight
            loss = loss + share * read.mean() / self.current_gradient_accumulation_steps
        return loss

    def backward_loss(self, inputs: dict, rollout: SoftRollout | None) -> Tensor:
        """The backward generator's objective: its way back, and reading queries back from generated responses."""
        back, backward = self.turned(inputs), self.parts[BACKWARD]
        encoded = self.encode(backward, back)
        loss = self.adversarial_loss(self.way_back, back, encoded)
        if self.args.teacher_forcing_weight:
            nats = self.nats_per_token(backward, back, encoded)
            loss = loss + self.args.supervised_share * nats
            self.record(**{"loss/backward_teacher_forcing": nats * self.current_gradient_accumulation_steps})
        loss = self.args.backward_weight * loss
        if rollout is not None:
            read = self.reading(backward, rollout, inputs, query_labels(inputs))
            self.record(**{"loss/read_queries": read})
            loss = loss + self.args.information_weight * read.mean() / self.current_gradient_accumulation_steps
        return loss
