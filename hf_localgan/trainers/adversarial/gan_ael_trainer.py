"""GAN-AEL (Xu et al. 2017): a generator and a discriminator joined by expected embeddings."""

import torch
import torch.nn.functional as F
from torch import Tensor
from transformers import TrainerCallback

from hf_localgan.decoding.soft_rollout import SoftRollout
from hf_localgan.functional.adversarial import critic_loss, discriminator_loss
from hf_localgan.trainers.adversarial.soft_trainer import GanTrainer


class GanAelTrainer(GanTrainer):
    """Trains a generator against a discriminator that reads its expected embeddings, without a radial term.

    With the objective "wasserstein" the discriminator is a critic `f` with clipped weights, which minimises
    `mean f(q, r^) - mean f(q, r)`, and the generator `-f(q, r^)` (Arjovsky et al. 2017; what the LocalGAN paper
    compares with). With "log" they minimise the cross-entropy and `-ln D(q, r^)`. The published discriminator has
    convolutions over either side, `PairDiscriminatorConfig(body="cnn")` with its default widths and filters.

    Args:
        model, args (`GanAelConfig`), discriminator, monitor, kwargs: see `GanTrainer`.
    """

    def __init__(self, model=None, args=None, *, discriminator=None, monitor=None, **kwargs):
        if not hasattr(args, "weight_clip"):
            raise ValueError(f"`args` must be a `GanAelConfig`, got {type(args).__name__}.")
        super().__init__(model, args, discriminator=discriminator, monitor=monitor, **kwargs)
        if args.objective == "wasserstein":
            self.add_callback(ClipWeights(self.discriminator, args.weight_clip))

    def generator_terms(self, inputs: dict, rollout: SoftRollout, places: Tensor) -> Tensor:
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
    """Keeps every learned weight of a critic within a bound, which makes it Lipschitz.

    Args:
        critic: a module.
        bound: of the absolute weights.
    """

    def __init__(self, critic: torch.nn.Module, bound: float):
        self.critic, self.bound = critic, bound

    @torch.no_grad()
    def on_step_end(self, args, state, control, **kwargs):
        for parameter in self.critic.parameters():
            if parameter.requires_grad:
                parameter.clamp_(-self.bound, self.bound)
