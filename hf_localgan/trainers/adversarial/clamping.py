"""A bound on the weights of a discriminator's head."""

import torch
from transformers import TrainerCallback, TrainerControl, TrainerState, TrainingArguments

from hf_localgan.models.discriminator import PairDiscriminator


class ClampHead(TrainerCallback):
    """Clips the weights of a discriminator's head after each update of the warm-up, as the paper's authors do.

    Args:
        discriminator: the discriminator.
        bound: largest absolute weight.
        steps: number of updates of the warm-up.
    """

    def __init__(self, discriminator: PairDiscriminator, bound: float, steps: int):
        self.discriminator, self.bound, self.steps = discriminator, bound, steps

    @torch.no_grad()
    def on_step_end(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs):
        if state.global_step <= self.steps:
            for parameter in self.discriminator.head.parameters():
                parameter.clamp_(-self.bound, self.bound)
