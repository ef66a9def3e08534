"""GAN-AEL (Xu et al. 2017): a generator and a discriminator joined by expected embeddings."""

import os
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

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
    TrainerControl,
    TrainerState,
    TrainingArguments,
)

from hf_localgan.decoding.soft_rollout import SoftRollout
from hf_localgan.functional.adversarial import critic_loss, discriminator_loss
from hf_localgan.hub.citations import GAN_AEL
from hf_localgan.hub.objective import Objective
from hf_localgan.models.discriminator import PairDiscriminator
from hf_localgan.models.quantization import GivenQuantization
from hf_localgan.trainers.adversarial.gan_ael_config import GanAelConfig
from hf_localgan.trainers.adversarial.monitor import ResponseMonitor
from hf_localgan.trainers.adversarial.soft_trainer import SoftRolloutTrainer
from hf_localgan.trainers.base.formatting import FormattingFunction
from hf_localgan.trainers.base.given import GivenModel, GivenRows

if TYPE_CHECKING:
    from peft import PeftConfig


class GanAelTrainer(SoftRolloutTrainer):
    """Trains a generator against a discriminator that reads its expected embeddings, without a radial term.

    With the objective "wasserstein" the discriminator is a critic `f` with clipped weights, which minimises
    `mean f(q, r^) - mean f(q, r)`, and the generator minimises `-f(q, r^)` (Arjovsky et al. 2017; the baseline of the
    LocalGAN paper). With "log" they minimise the cross-entropy and `-ln D(q, r^)`. The published discriminator has
    convolutions over either side, `PairDiscriminatorConfig(body="cnn")` with its default widths and filters.

    Args:
        model, args (`GanAelConfig`), discriminator, monitor and others: see `SoftRolloutTrainer`.
    """

    objective = Objective(
        "GAN-AEL", "gan-ael",
        "Trained against a discriminator that tells the generator's responses from the references, whose gradient "
        "reaches the generator through approximate embeddings of its tokens.", (GAN_AEL,),
    )  # fmt: skip
    config_class = GanAelConfig
    args: GanAelConfig

    def __init__(
        self,
        model: GivenModel | None = None,
        args: GanAelConfig | TrainingArguments | None = None,
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
        super().__init__(
            model, args, data_collator=data_collator, train_dataset=train_dataset, eval_dataset=eval_dataset,
            processing_class=processing_class, model_init=model_init, compute_metrics=compute_metrics,
            callbacks=callbacks, optimizers=optimizers, preprocess_logits_for_metrics=preprocess_logits_for_metrics,
            discriminator=discriminator, monitor=monitor, peft_config=peft_config, model_init_kwargs=model_init_kwargs,
            quantization_config=quantization_config, formatting_func=formatting_func,
        )  # fmt: skip
        self._clipping = self._replace_callback(None, self._make_clipping())

    def adopt_settings(self):
        super().adopt_settings()
        self._clipping = self._replace_callback(self._clipping, self._make_clipping())

    def _make_clipping(self) -> "ClipWeights | None":
        if self.args.objective != "wasserstein":
            return None
        return ClipWeights(self.discriminator, self.args.weight_clip)

    def generator_terms(self, inputs: dict[str, Any], rollout: SoftRollout, places: Tensor) -> Tensor:
        logits = self.generation_logits(inputs, rollout, places)
        adversarial = -logits if self.args.objective == "wasserstein" else F.softplus(-logits)
        self.record(**{"loss/adversarial": adversarial})
        return self.args.adversarial_weight * adversarial

    def discriminator_terms(self, real: Tensor, fake: Tensor, mismatched: Tensor | None) -> Tensor:
        if self.args.objective == "log":
            return discriminator_loss(real, fake, mismatched, mismatched_weight=self.args.mismatched_weight).total
        loss = critic_loss(real, fake)
        if mismatched is not None:
            loss = loss + self.args.mismatched_weight * mismatched.mean()
        return loss


class ClipWeights(TrainerCallback):
    """Clips every trainable weight of a critic after each update, which makes the critic Lipschitz continuous.

    Args:
        critic: the module.
        bound: largest absolute weight.
    """

    def __init__(self, critic: nn.Module, bound: float):
        self.critic, self.bound = critic, bound

    @torch.no_grad()
    def on_step_end(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs):
        for parameter in self.critic.parameters():
            if parameter.requires_grad:
                parameter.clamp_(-self.bound, self.bound)
