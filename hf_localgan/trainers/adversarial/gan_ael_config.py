"""Arguments of `GanAelTrainer`."""

from dataclasses import dataclass, field

from hf_localgan.trainers.adversarial.config import GanConfig

OBJECTIVES = ("wasserstein", "log")


@dataclass
class GanAelConfig(GanConfig):
    """Arguments of `GanAelTrainer`, on top of `GanConfig`.

    Changed, as in the published systems: the softmax relaxation over all tokens, no responses to other queries among
    the negatives, no teacher forcing, five updates of the critic for each of the generator.
    """

    objective: str = field(
        default="wasserstein",
        metadata={
            "help": "`wasserstein`, a critic with clipped weights, as the LocalGAN paper compares with; or `log`, the "
            "cross-entropy of a discriminator, and -ln D for the generator."
        },
    )
    weight_clip: float = field(
        default=0.05, metadata={"help": "Bound of the critic's weights after each of its updates, for `wasserstein`."}
    )

    relaxation: str = field(default="softmax", metadata={"help": "Of generated tokens."})
    relaxation_top_k: int | None = field(
        default=None, metadata={"help": "Tokens that have any weight at each step, the likeliest; `none` for all."}
    )
    teacher_forcing_weight: float = field(
        default=0.0, metadata={"help": "Of the nats per token of the references in the generator's objective."}
    )
    mismatched_weight: float = field(
        default=0.0, metadata={"help": "Of responses to other queries among what the discriminator must reject."}
    )
    discriminator_steps: int = field(default=5, metadata={"help": "Updates of the discriminator in a row."})

    def _check_values(self):
        super()._check_values()
        if self.objective not in OBJECTIVES:
            raise ValueError(f'`objective` must be one of {", ".join(OBJECTIVES)}, got "{self.objective}".')
        if not self.weight_clip > 0:
            raise ValueError(f"`weight_clip` must be above 0, got {self.weight_clip}.")
