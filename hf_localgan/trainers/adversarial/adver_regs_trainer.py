"""Adver-REGS (Li et al. 2017): policy gradient on a discriminator's probability, with a reward for every token."""

import os
from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, NamedTuple

import torch
from torch import Tensor
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
from hf_localgan.decoding.sampling import Responses, encoder_inputs, repeat_rows, sample_responses, without_dropout
from hf_localgan.decoding.soft_rollout import decoder_embeddings
from hf_localgan.functional.adversarial import accuracies, discriminator_loss
from hf_localgan.functional.policy_gradient import (
    discriminator_rewards,
    previous_values,
    rollout_values,
    shuffled_rewards,
    step_advantages,
    step_values,
)
from hf_localgan.hub.citations import ADVER_REGS, REINFORCE
from hf_localgan.hub.objective import Objective
from hf_localgan.models.discriminator import PairDiscriminator
from hf_localgan.models.quantization import GivenQuantization
from hf_localgan.trainers.adversarial.adver_regs_config import AdverRegsConfig
from hf_localgan.trainers.adversarial.monitor import ResponseMonitor
from hf_localgan.trainers.adversarial.parts import check_discriminator, check_vocabularies
from hf_localgan.trainers.adversarial.players import GENERATOR
from hf_localgan.trainers.adversarial.trainer import TwoPlayerTrainer
from hf_localgan.trainers.base.formatting import FormattingFunction
from hf_localgan.trainers.base.given import GivenModel, GivenRows
from hf_localgan.trainers.matching.mismatches import draw_mismatches

if TYPE_CHECKING:
    from peft import PeftConfig

# Purposes of the random numbers of a batch.
SAMPLES, MISMATCHES, ROLLOUTS, SHUFFLING, CUTS = range(5)


class PolicyBatch(NamedTuple):
    """What the generator's turn is computed from.

    Attributes:
        responses: samples to the queries of the batch, one for each.
        weights: of the negative log-likelihood of their tokens, constants, shape `(batch, time)`.
        rewards: of the whole samples, shape `(batch,)`.
    """

    responses: Responses
    weights: Tensor
    rewards: Tensor


class AdverRegsTrainer(TwoPlayerTrainer):
    """Trains a generator by policy gradient on what a discriminator pays for its samples (Li et al. 2017).

    With a sample `y` of the generator, `Q_t` the value of its first `t` tokens and a baseline `b_t` that is known
    before token `t`, the generator minimises

        -adversarial_weight * (1/B) sum_b sum_t (Q_bt - b_bt) ln p(y_bt | q_b, y_b<t)
        + teacher_forcing_weight * nats per token of the references

    (`functional/policy_gradient.py`). `Q_t` is the mean reward of continuations that are drawn behind `t`, the
    discriminator's view of the prefix, or the reward of the whole, as `step_reward` says; at the last token it is the
    reward itself. The discriminator minimises the cross-entropy of references against samples and, with
    `mismatched_weight`, responses to other queries; with prefixes as rewards, of one random beginning of each.

    Samples come from the plain distribution of the model. Dropout is off for them, for the rewards, and for the pass
    that differentiates their probability; it is on for teacher forcing and in the discriminator's own turn. A sample
    that reaches `policy_max_new_tokens` has no end token. Logged are `loss/generator`, `loss/adversarial` (minus the
    mean reward), `loss/teacher_forcing`, `loss/discriminator`, `policy/reward`, `policy/advantage_std` (near 0 nothing
    is learned), `policy/sample_length` (tokens, the end included), `policy/finished` (share of samples with an end),
    `gan/real_accuracy`, `gan/fake_accuracy`, `gan/mismatched_accuracy`, and what `TwoPlayerTrainer` logs.

    Args:
        model: any encoder-decoder, or a PEFT model around one.
        args (`AdverRegsConfig`): the settings.
        discriminator: a `PairDiscriminator` of the same tokenizer whose scores are logits, or its folder or id on the
            Hub.
        monitor: see `TwoPlayerTrainer`.
        data_collator, train_dataset, eval_dataset, processing_class and others: as `TokenLossTrainer`.

    Raises:
        ValueError: for parts that do not fit together, parameters sharded over processes, and other optimizers.
    """

    objective = Objective(
        "Adver-REGS", "adver-regs",
        "Trained by policy gradient on the probability that a discriminator gives to its samples, with a reward for "
        "every token.", (ADVER_REGS, REINFORCE),
    )  # fmt: skip
    config_class = AdverRegsConfig
    part_roles = MappingProxyType({"discriminator": "it rewards samples"})

    args: AdverRegsConfig

    def __init__(
        self,
        model: GivenModel | None = None,
        args: AdverRegsConfig | TrainingArguments | None = None,
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
        monitor: ResponseMonitor | None = None,
    ):
        settings = self.check_args(args)
        discriminator = check_discriminator(discriminator)
        if discriminator.config.head == "cosine":
            raise ValueError(
                '`AdverRegsTrainer` pays probabilities, and the scores of `head="cosine"` are no logits. Take a '
                'discriminator with the head "bilinear" or "mlp".'
            )
        super().__init__(
            model, settings, data_collator=data_collator, train_dataset=train_dataset, eval_dataset=eval_dataset,
            processing_class=processing_class, model_init=model_init, compute_metrics=compute_metrics,
            callbacks=callbacks, optimizers=optimizers, preprocess_logits_for_metrics=preprocess_logits_for_metrics,
            parts={"discriminator": discriminator}, monitor=monitor, peft_config=peft_config,
            model_init_kwargs=model_init_kwargs,
            quantization_config=quantization_config, formatting_func=formatting_func,
        )  # fmt: skip
        check_vocabularies(self.parts, decoder_embeddings(self.base_model).weight.shape[0], self.processing_class)

    @property
    def discriminator(self) -> PairDiscriminator:
        """The rewarder, and the generator's opponent."""
        discriminator = self.parts["discriminator"]
        assert isinstance(discriminator, PairDiscriminator)
        return discriminator

    # ---- the players' losses ----

    def prepare_turn(self, player: str, inputs: dict[str, Any]) -> Responses | PolicyBatch:
        responses = self.sample(inputs)
        if player != GENERATOR:
            return responses
        self._head_is_separable(self._without_labels(inputs))  # tried once, outside of the model's own call
        return self.policy_batch(inputs, responses)

    def player_loss(self, player: str, inputs: dict[str, Any], prepared: Any, num_items_in_batch=None) -> Tensor:
        if player == GENERATOR:
            return self.generator_loss(inputs, prepared, num_items_in_batch)
        return self.discriminator_loss(inputs, prepared)

    def generator_loss(self, inputs: dict[str, Any], batch: PolicyBatch, num_items_in_batch=None) -> Tensor:
        """Minus the mean reward, with the policy's gradient, and teacher forcing; its share of the update's, a scalar.

        Args:
            inputs: the batch of references.
            batch: samples and their weights.
            num_items_in_batch: labels of the whole update.
        """
        divisor, weight = len(batch.rewards) * self.current_gradient_accumulation_steps, self.args.adversarial_weight
        with without_dropout(self.model):
            surrogate = self.token_loss(self.model, batch.responses.inputs, divisor, weights=weight * batch.weights)
        loss = surrogate + (-weight * batch.rewards.sum() / divisor - surrogate).detach()
        if self.args.teacher_forcing_weight:
            nats = self.compute_loss(self.model, inputs, num_items_in_batch=num_items_in_batch)
            loss = loss + self.args.teacher_forcing_weight * nats
            self.record(**{"loss/teacher_forcing": nats * self.current_gradient_accumulation_steps})
        labels = batch.responses.labels
        self.record(
            **{
                "loss/generator": loss * self.current_gradient_accumulation_steps, "loss/adversarial": -batch.rewards,
                "policy/reward": batch.rewards, "policy/sample_length": (labels != PADDING).sum(dim=1),
                "policy/finished": batch.responses.finished,
            }
        )  # fmt: skip
        return loss

    def discriminator_loss(self, inputs: dict[str, Any], responses: Responses) -> Tensor:
        """Cross-entropy of references against samples, its share of the update's: a scalar."""
        discriminator, real, fake = self.discriminator, inputs["labels"], responses.labels
        if self.args.step_reward == "prefix":
            real, fake = self.random_beginnings(real), self.random_beginnings(fake)
        query = discriminator.query_features(inputs["input_ids"], inputs.get("attention_mask"))
        features = discriminator.response_features(real)
        real_logits = discriminator.score(query, features).float()
        fake_logits = discriminator.score(query, discriminator.response_features(self._readable(fake))).float()
        mismatched = None
        if self.args.mismatched_weight and len(real) > 1:
            rows, possible = self._mismatches(inputs)
            if possible.any():
                mismatched = discriminator.score(query[possible], features[rows[possible, 0]]).float()
        loss = discriminator_loss(
            real_logits, fake_logits, mismatched, mismatched_weight=self.args.mismatched_weight,
            real_smoothing=self.args.real_smoothing,
        ).total  # fmt: skip
        real_accuracy, fake_accuracy = accuracies(real_logits, fake_logits)
        self.record(
            **{"loss/discriminator": loss, "gan/real_accuracy": real_accuracy, "gan/fake_accuracy": fake_accuracy}
        )
        if self.args.mismatched_weight:  # at every turn, so that all processes log the same names
            right = real_accuracy.new_tensor(0.5) if mismatched is None else (mismatched < 0).float().mean()
            self.record(**{"gan/mismatched_accuracy": right})
        return loss / self.current_gradient_accumulation_steps

    # ---- samples and what they are worth ----

    def sample(self, inputs: dict[str, Any]) -> Responses:
        """A sample to each query of the batch, which a resumed run draws again."""
        return sample_responses(
            self.model, encoder_inputs(inputs), num_samples=1, max_new_tokens=self.args.policy_max_new_tokens,
            seed=self.draws.seed(SAMPLES),
        )  # fmt: skip

    @torch.no_grad()
    def policy_batch(self, inputs: dict[str, Any], responses: Responses) -> PolicyBatch:
        """What the samples are worth, token by token, and what their log-likelihood is therefore multiplied by."""
        args, mask, device = self.args, (responses.labels != PADDING).cpu(), responses.labels.device
        # Sums of float32 numbers are exact in float64: rewards that are all the same have advantages of exactly 0.
        prefix_values, rewards = self.values(inputs, responses)
        if args.shuffle_rewards:
            # A donor may be shorter: behind its end it hands on its reward, as its last token has it.
            table = rewards[:, None].expand(mask.shape).clone()
            if prefix_values is not None:
                table[:, :-1] = torch.where(mask[:, 1:], prefix_values, table[:, :-1])
            table = torch.cat([table, rewards[:, None]], dim=1)
            table = shuffled_rewards(table, self.draws.generator("cpu", SHUFFLING))
            rewards, prefix_values = table[:, -1], None if prefix_values is None else table[:, : mask.shape[1] - 1]
        values = step_values(prefix_values, rewards, mask)
        others = self.mean_of_others(rewards)
        baseline = others if args.chosen_baseline == "batch" else previous_values(values, others)
        advantages = step_advantages(
            values, baseline, mask, scale=args.advantage_scale, by_length=args.advantage_by_length
        )
        self.record(**{"policy/advantage_std": advantages.std.float().to(device)})
        return PolicyBatch(responses, advantages.weights.float().to(device), rewards.float().to(device))

    def mean_of_others(self, rewards: Tensor) -> Tensor:
        """For each sample the mean reward of the others, those of other processes included; shape `(batch,)`.

        A batch of one has no others: its own reward takes their place, and it teaches nothing.
        """
        total = torch.stack([rewards.sum(), rewards.new_tensor(len(rewards))])
        if self.accelerator.num_processes > 1:
            total = self.accelerator.reduce(total.to(self.args.device), "sum").to(rewards.device)
        total, number = total
        return (total - rewards) / (number - 1) if number > 1 else rewards

    def values(self, inputs: dict[str, Any], responses: Responses) -> tuple[Tensor | None, Tensor]:
        """Values of the beginnings of samples, as `step_reward` says, and rewards of the whole samples.

        Returns:
            Shape `(batch, time - 1)`, for the tokens before the last place, or `None` where there is nothing to
            estimate; and shape `(batch,)`. In units of the reward, float64 on the CPU.
        """
        labels, form = responses.labels, self.args.reward
        batch, time = labels.shape
        whole = self.logits_of(inputs, labels)
        if self.args.step_reward == "sequence" or time == 1:
            return None, discriminator_rewards(whole, form).cpu().double()
        # Beginnings of one response stand together: (batch, time - 1, time), then (batch * (time - 1), time).
        ends = torch.arange(1, time, device=labels.device)
        places = torch.arange(time, device=labels.device)
        beginnings = labels[:, None].masked_fill(places >= ends[:, None], PADDING).flatten(0, 1)
        repeats = time - 1
        if self.args.step_reward == "rollout":
            beginnings = sample_responses(
                self.model, encoder_inputs(inputs), num_samples=self.args.rollout_samples,
                max_new_tokens=self.args.policy_max_new_tokens, seed=self.draws.seed(ROLLOUTS), prefixes=beginnings,
                rows_per_call=self.args.rollout_rows,
            ).labels  # fmt: skip
            repeats *= self.args.rollout_samples
        # What is compared by rank is compared with all that is paid here.
        parts = self.logits_of(repeat_rows(encoder_inputs(inputs), repeats), beginnings)
        paid = discriminator_rewards(torch.cat([parts, whole]), form).cpu().double()
        return rollout_values(paid[:-batch], batch, time - 1, repeats // (time - 1)), paid[-batch:]

    def logits_of(self, inputs: dict[str, Any], labels: Tensor) -> Tensor:
        """The discriminator's logits of responses without dropout, shape `(responses,)`, no gradient."""
        discriminator = self.discriminator
        with torch.no_grad(), without_dropout(discriminator):
            query = discriminator.query_features(inputs["input_ids"], inputs.get("attention_mask"))
            return discriminator.score(query, discriminator.response_features(self._readable(labels))).float()

    def random_beginnings(self, labels: Tensor) -> Tensor:
        """A beginning of each response, all its lengths from 1 on being as probable; one for each update.

        Responses share their beginnings, and a discriminator that saw all of them would learn these by heart.
        """
        lengths = (labels != PADDING).sum(dim=1)
        share = torch.rand(len(labels), generator=self.draws.generator("cpu", CUTS)).to(labels.device)
        kept = (share * lengths).floor() + 1
        return labels.masked_fill(torch.arange(labels.shape[1], device=labels.device) >= kept[:, None], PADDING)

    def _readable(self, labels: Tensor) -> Tensor:
        """Without tokens that only the model has a row for: T5 has more logits than its tokenizer has tokens."""
        return labels.masked_fill(labels >= self.discriminator.config.vocab_size, PADDING)

    def _mismatches(self, inputs: dict[str, Any]) -> tuple[Tensor, Tensor]:
        queries = inputs["input_ids"]
        if inputs.get("attention_mask") is not None:
            queries = queries.masked_fill(inputs["attention_mask"] == 0, PADDING)
        return draw_mismatches(queries, inputs["labels"], 1, self.draws.generator("cpu", MISMATCHES))
