"""Regularised expected reward by policy gradient: the KL divergence of RAML with its arguments exchanged."""

from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

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
from transformers.trainer_callback import ExportableState

from hf_localgan.decoding.sampling import greedy_responses, sample_responses, token_lists, without_dropout
from hf_localgan.decoding.special_tokens import end_tokens
from hf_localgan.functional.policy_gradient import (
    leave_one_out_baseline,
    policy_gradient_weights,
    regularised_rewards,
)
from hf_localgan.hub.citations import RAML, REINFORCE
from hf_localgan.hub.objective import Objective
from hf_localgan.models.quantization import GivenQuantization
from hf_localgan.payoff.rewards import evaluate_rewards
from hf_localgan.trainers.base.callbacks import resumed_attributes
from hf_localgan.trainers.base.formatting import FormattingFunction
from hf_localgan.trainers.base.given import GivenModel, GivenRows
from hf_localgan.trainers.base.launching import refuse_sharding
from hf_localgan.trainers.base.randomness import UpdateRandomness
from hf_localgan.trainers.base.token_loss import TokenLossTrainer
from hf_localgan.trainers.expected_reward.config import ExpectedRewardConfig
from hf_localgan.trainers.raml.config import make_reward

if TYPE_CHECKING:
    from peft import PeftConfig


class ExpectedRewardTrainer(TokenLossTrainer):
    """Maximises the expected reward of the model's own generations, and their entropy, by policy gradient.

    The objective is Eq. 3 of Norouzi et al. 2016, its gradient estimated by Eq. 10 with `num_samples` samples for each
    example; the equations are in `functional/policy_gradient.py`. The logged `loss` is the estimate of Eq. 3 itself, in
    units of the reward, plus `mle_weight` times the nats per token: it falls when training works. Means are over the
    examples of a batch and their samples. Beside it are logged `policy/reward`, `policy/baseline`, `policy/entropy`
    (nats of a whole sample), `policy/sample_length` (tokens, the end token included) and `policy/finished` (share of
    samples that ended before `policy_max_new_tokens`).

    Samples come from the plain distribution of the model, whatever its generation settings are. Dropout is off for the
    samples and for the pass that differentiates their probability: the estimator is unbiased only if both have one
    distribution, and without dropout it is that of the trained model. Dropout is on in the maximum-likelihood term.
    (Gradient checkpointing, which models apply while dropout is on, saves nothing in the passes without it.) A sample
    that is cut at `policy_max_new_tokens` has no end token, and its probability none either.

    Start from a model trained by maximum likelihood: the rewards of an untrained model's samples hardly differ.

    Args:
        model: any encoder-decoder `PreTrainedModel`, or a PEFT model around one.
        args (`ExpectedRewardConfig`): the settings.
        reward: a function of a candidate and a reference, both token ids without the end token, instead of
            `args.reward`, or the name of one. A function may have a method `batch` for many pairs at once.
        data_collator, train_dataset, eval_dataset, processing_class and others: as `TokenLossTrainer`.

    Raises:
        ValueError: for arguments of another trainer, an unknown reward, or parameters sharded over processes.
    """

    objective = Objective(
        "expected reward", "expected-reward",
        "The expected reward of the model's own outputs and their entropy, by policy gradient.", (RAML, REINFORCE),
    )  # fmt: skip
    config_class = ExpectedRewardConfig
    loss_unit = "units of the reward"
    args: ExpectedRewardConfig
    model: PreTrainedModel

    def __init__(
        self,
        model: GivenModel | None = None,
        args: ExpectedRewardConfig | TrainingArguments | None = None,
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
        reward: Callable[[Sequence[int], Sequence[int]], float] | str | None = None,
    ):
        settings: ExpectedRewardConfig = self.check_args(args)
        if isinstance(reward, str):
            settings, reward = settings.with_values(reward=reward), None
        model, processing_class = self.load_given(
            model, processing_class, model_init_kwargs, peft_config, quantization_config
        )
        self._reward_given = reward is not None
        self.reward = make_reward(settings.reward, processing_class) if reward is None else reward
        if not callable(self.reward):
            raise ValueError(f"`reward` must be a function of a candidate and a reference, got {reward!r}.")
        super().__init__(
            model, settings, data_collator=data_collator, train_dataset=train_dataset, eval_dataset=eval_dataset,
            processing_class=processing_class, model_init=model_init, compute_metrics=compute_metrics,
            callbacks=callbacks, optimizers=optimizers, preprocess_logits_for_metrics=preprocess_logits_for_metrics,
            formatting_func=formatting_func,
        )  # fmt: skip
        refuse_sharding(self, "samples from the whole model on every process")
        self.running_mean = RunningMean(settings.baseline_decay)
        self.add_callback(self.running_mean)
        self.current_gradient_accumulation_steps = (
            settings.gradient_accumulation_steps
        )  # the last update may have fewer
        self._draws = UpdateRandomness(self)
        self._update_rewards = torch.zeros(2, dtype=torch.float64)  # sum, number

    def settings_facts(self) -> dict[str, Any]:
        """As the base class's; the name of a given reward, too, for it is in no argument."""
        facts = super().settings_facts()
        if self._reward_given:
            facts["reward function"] = getattr(self.reward, "__qualname__", type(self.reward).__name__)
        return facts

    def adopt_settings(self):
        super().adopt_settings()
        self.running_mean.decay = self.args.baseline_decay
        if not self._reward_given:
            self.reward = make_reward(self.args.reward, self.processing_class)

    # ---- the loss ----

    def compute_loss(self, model, inputs, return_outputs=False, num_items_in_batch=None):
        if inputs.get("labels") is None or return_outputs or not self.model.training:
            return super().compute_loss(model, inputs, return_outputs, num_items_in_batch)
        loss = self.policy_loss(model, inputs)
        if self.args.mle_weight:
            nats = super().compute_loss(model, inputs, num_items_in_batch=num_items_in_batch)
            self.record(**{"policy/nats_per_token": nats * self.current_gradient_accumulation_steps})
            loss = loss + self.args.mle_weight * nats
        return loss

    def policy_loss(self, model: nn.Module, inputs: dict[str, Any]) -> Tensor:
        """An estimate of Eq. 3 with the gradient of Eq. 10 (Norouzi et al. 2016), the mean over examples and samples.

        It is divided by the number of accumulated batches; data parallelism averages it.

        Args:
            model: the model as the trainer wrapped it.
            inputs: a batch with `labels`, shape `(batch, time)`.

        Returns:
            Shape `()`, in units of the reward.
        """
        repeated, finished = self.sample(inputs)
        labels = repeated["labels"]
        shape = (len(inputs["labels"]), self.args.num_samples)
        with torch.no_grad(), without_dropout(self.model):
            log_probs = -self.example_nll(self.model, repeated)[:, 0].view(shape)
        candidates = token_lists(labels, end_tokens(self.model))
        references = token_lists(inputs["labels"], end_tokens(self.model))
        rewards = self._rewards(candidates, references, labels.device).view(shape)
        regularised = regularised_rewards(rewards, log_probs, self.args.temperature)
        baseline = self._baseline(regularised, inputs, references)
        weights = policy_gradient_weights(rewards, log_probs, self.args.temperature, baseline).flatten()

        divisor = weights.numel() * self.current_gradient_accumulation_steps
        with without_dropout(self.model):
            surrogate = self.token_loss(model, repeated, divisor, weights=weights)
        self._keep_running_mean(regularised)
        lengths = (labels != -100).sum(dim=1)
        self._labels_since_log = self._labels_since_log + lengths.sum()
        self.record(
            **{
                "policy/reward": rewards, "policy/baseline": baseline, "policy/entropy": -log_probs,
                "policy/sample_length": lengths, "policy/finished": finished,
            }
        )  # fmt: skip
        objective = -regularised.sum() / divisor
        return surrogate + (objective - surrogate).detach()

    def sample(self, inputs: dict[str, Any]) -> tuple[dict[str, Any], Tensor]:
        """Samples for every example by one call of `generate`.

        They depend only on the model, the examples, the seed, the update, the place of the batch in it and the process,
        so that a resumed run draws the same.

        Args:
            inputs: a batch with `labels`.

        Returns:
            The encoder's inputs, each row repeated `num_samples` times, with `labels`, shape `(batch * samples, time)`:
            the tokens up to and with the end token, then -100. And whether each sample ended, bool,
            `(batch * samples,)`.
        """
        self._draws.next_batch()
        return sample_responses(
            self.accelerator.unwrap_model(self.model), inputs, num_samples=self.args.num_samples,
            max_new_tokens=self.args.policy_max_new_tokens, seed=self._draws.seed(),
        )  # fmt: skip

    # ---- rewards and baselines ----

    def _rewards(self, candidates: list[list[int]], references: list[list[int]], device: torch.device) -> Tensor:
        number = len(candidates) // len(references)
        repeated = [reference for reference in references for _ in range(number)]
        rewards = evaluate_rewards(self.reward, candidates, repeated)
        return torch.as_tensor(rewards, dtype=torch.float32, device=device)

    def _baseline(self, regularised: Tensor, inputs: dict[str, Any], references: list[list[int]]) -> Tensor:
        """The baseline of each sample, in a shape that broadcasts to `(batch, samples)`."""
        if self.args.baseline == "leave_one_out":
            return leave_one_out_baseline(regularised)
        if self.args.baseline == "greedy":
            model, max_new_tokens = self.accelerator.unwrap_model(self.model), self.args.policy_max_new_tokens
            labels = greedy_responses(model, inputs, max_new_tokens=max_new_tokens).labels
            return self._rewards(token_lists(labels, end_tokens(self.model)), references, labels.device).unsqueeze(1)
        if self.args.baseline == "mean":
            if self.running_mean.weight:
                return regularised.new_tensor(self.running_mean.value)
            if regularised.numel() > 1:  # in the first update the mean of all other samples of the batch
                return leave_one_out_baseline(regularised.view(1, -1)).view_as(regularised)
        return regularised.new_zeros(())

    def _keep_running_mean(self, regularised: Tensor):
        """Adds the mean over the update's batches and all processes to the running mean, once an update."""
        if self.args.baseline != "mean":
            return
        self._update_rewards += torch.stack(
            [regularised.double().sum(), regularised.new_tensor(regularised.numel())]
        ).cpu()
        if self.accelerator.sync_gradients:
            total = self.accelerator.reduce(self._update_rewards.to(self.args.device), "sum").tolist()
            self.running_mean.add(total[0] / total[1])
            self._update_rewards.zero_()


class RunningMean(TrainerCallback, ExportableState):
    """An exponential running mean without bias to its start, which a resumed run continues.

    Args:
        decay: share of the old mean that each new value keeps.
    """

    def __init__(self, decay: float):
        self.decay, self.total, self.weight = decay, 0.0, 0.0

    @property
    def value(self) -> float:
        return self.total / self.weight if self.weight else 0.0

    def add(self, value: float):
        self.total = self.decay * self.total + (1 - self.decay) * value
        self.weight = self.decay * self.weight + (1 - self.decay)

    def state(self) -> dict:
        return {"args": {"decay": self.decay}, "attributes": {"total": self.total, "weight": self.weight}}

    def on_train_begin(self, args, state, control, **kwargs):
        attributes = resumed_attributes(self, state)
        self.total, self.weight = attributes.get("total", 0.0), attributes.get("weight", 0.0)
