"""Arguments of `GanAelTrainer`."""

from dataclasses import dataclass, field

from hf_localgan.trainers.adversarial.config import SoftRolloutConfig

OBJECTIVES = ("wasserstein", "log")


@dataclass
class GanAelConfig(SoftRolloutConfig):
    """Arguments of `GanAelTrainer`, on top of `SoftRolloutConfig`.

    Changed, as in the published systems: the softmax relaxation over all tokens, no mismatched pairs, no teacher
    forcing, five updates of the critic for each update of the generator.
    """

    objective: str = field(
        default="wasserstein",
        metadata={
            "help": "`wasserstein`, a critic with clipped weights, the baseline of the LocalGAN paper; or `log`, "
            "cross-entropy for the discriminator and -ln D for the generator."
        },
    )
    weight_clip: float = field(
        default=0.05,
        metadata={"help": "Largest absolute weight of the critic after each of its updates, for `wasserstein`."},
    )

    relaxation: str = field(
        default="softmax",
        metadata={"help": "How generated tokens carry a gradient; `softmax`, their expectation, is the published one."},
    )
    relaxation_top_k: int | None = field(
        default=None,
        metadata={
            "help": "Number of tokens, the likeliest ones, that have a weight at each step of a generation; `none` for "
            "all."
        },
    )
    teacher_forcing_weight: float = field(
        default=0.0,
        metadata={"help": "Weight of teacher forcing, the references' nats per token, in the generator's loss."},
    )
    mismatched_weight: float = field(
        default=0.0, metadata={"help": "Weight of mismatched pairs in the discriminator's loss."}
    )
    discriminator_steps: int = field(default=5, metadata={"help": "Updates of the discriminator in a row."})

    def _check_values(self):
        super()._check_values()
        if self.objective not in OBJECTIVES:
            raise ValueError(f'`objective` must be one of {", ".join(OBJECTIVES)}, got "{self.objective}".')
        if not self.weight_clip > 0:
            raise ValueError(f"`weight_clip` must be above 0, got {self.weight_clip}.")
