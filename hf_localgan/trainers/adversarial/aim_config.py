"""Arguments of `AimTrainer` and `DaimTrainer`."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, ClassVar

from hf_localgan.functional.information import LOG_ODDS
from hf_localgan.trainers.adversarial.config import SoftRolloutConfig
from hf_localgan.trainers.adversarial.players import DISCRIMINATOR, GENERATOR, Schedule

BACKWARD, BACKWARD_DISCRIMINATOR = "backward", "backward_discriminator"

# What each preset sets where the user says nothing else. "paper": AIM as printed by Zhang et al. 2018, with what it
# leaves open as in its authors' code. "authors_code": that code, where it differs from the paper.
PAPER: dict[str, Any] = {
    "relaxation": "softmax",
    "relaxation_temperature": 1e-3,
    "relaxation_top_k": None,
    "convex_mixture": True,
    "teacher_forcing_weight": 1e-3,
    "discriminator_learning_rate": 1e-4,
}
CODE: dict[str, Any] = {**PAPER, "log_odds": "code"}


@dataclass
class AimConfig(SoftRolloutConfig):
    """Arguments of `AimTrainer`, on top of `SoftRolloutConfig`.

    A `preset` changes defaults, nothing else: a value that is given wins, whatever it equals.

    Changed: no responses to other queries, for the discriminator compares two responses to one query.
    """

    presets: ClassVar[Mapping[str, Mapping[str, Any]]] = {
        "default": {}, "paper": PAPER, "authors_code": {**CODE, "backward_update": "joint"}
    }  # fmt: skip
    backward_updates: ClassVar[tuple[str, ...]] = ("frozen", "real", "joint")

    preset: str = field(
        default="default",
        metadata={
            "help": "`default`; `paper`, the objective and the temperature as printed, at which gradients of different "
            "batches hardly agree; `authors_code`, as its authors' code differs from the paper."
        },
    )
    information_weight: float = field(
        default=0.1,
        metadata={"help": "Weight of what the backward generator does not know of a query, in nats per token of it."},
    )
    convex_mixture: bool = field(
        default=False,
        metadata={
            "help": "Mix the terms by weights that sum to one, `(1 - l) (w L_sup + (1 - w) g) + l NLL`, instead of "
            "adding them."
        },
    )
    log_odds: str = field(
        default="artanh",
        metadata={"help": "Log-odds of the difference of two cosines: `artanh` as printed, or `code`, as published."},
    )
    log_odds_limit: float = field(
        default=1.9,
        metadata={"help": "Largest difference of two cosines that `artanh` sees; it is infinite at 2."},
    )
    latent_noise_size: int = field(
        default=10,
        metadata={"help": "Dimensions of the noise that a recurrent decoder starts from, beside the encoded query."},
    )
    latent_noise_scale: float | None = field(
        default=None,
        metadata={
            "help": "Scale of that noise in training, 0 for none. By default 1 for a recurrent generator, and 0 for "
            "others, to whose encoder states it is added. Answers have none unless it is asked for."
        },
    )
    backward_update: str = field(
        default="frozen",
        metadata={
            "help": "How the backward generator learns: `frozen`, not at all; `real`, from the pairs of the data; "
            "`joint`, from generations, with which it may agree on a code of their own."
        },
    )
    backward_steps: int = field(
        default=1, metadata={"help": "Updates of the backward generator in a row, where it learns."}
    )
    backward_learning_rate: float = field(
        default=2e-5, metadata={"help": "The backward generator's largest learning rate, where it learns."}
    )
    adversarial_weight: float = field(
        default=1.0, metadata={"help": "Weight of the adversarial term, g(d), in the generator's loss."}
    )
    mismatched_weight: float = field(
        default=0.0,
        metadata={"help": "Must be 0: the discriminator compares a reference with a generation to the same query."},
    )

    @property
    def supervised_share(self) -> float:
        """What the references' nats per token are multiplied by in the whole loss."""
        share = 1 - self.information_weight if self.convex_mixture else 1.0
        return share * self.teacher_forcing_weight

    def schedule(self) -> Schedule:
        """The discriminator's warm-up, then discriminator, backward generator where it learns, and generator."""
        return Schedule(
            warmup=((DISCRIMINATOR, self.discriminator_warmup_steps),),
            cycle=(
                (DISCRIMINATOR, self.discriminator_steps),
                *(() if self.backward_update == "frozen" else ((BACKWARD, self.backward_steps),)),
                (GENERATOR, self.generator_steps),
            ),
        )

    def _check_values(self):
        super()._check_values()
        for name, accepted in (("backward_update", self.backward_updates), ("log_odds", LOG_ODDS)):
            if getattr(self, name) not in accepted:
                raise ValueError(f'`{name}` must be one of {", ".join(accepted)}, got "{getattr(self, name)}".')
        self._check_sizes("information_weight", "backward_learning_rate", "latent_noise_size", "backward_steps")
        if self.latent_noise_scale is not None:
            self._check_sizes("latent_noise_scale")
        if not 0 < self.log_odds_limit < 2:
            raise ValueError(f"`log_odds_limit` must be above 0 and below 2, got {self.log_odds_limit}.")
        if self.convex_mixture and max(self.information_weight, self.teacher_forcing_weight) > 1:
            raise ValueError(
                "With `convex_mixture` the weights are shares, so `information_weight` and `teacher_forcing_weight` "
                f"must be at most 1, got {self.information_weight} and {self.teacher_forcing_weight}."
            )
        if self.mismatched_weight:
            raise ValueError(
                "The discriminator compares a reference with a generation to the same query, so `mismatched_weight` "
                f"must be 0, got {self.mismatched_weight}. It learns what belongs to a query before, by matching."
            )


@dataclass
class DaimConfig(AimConfig):
    """Arguments of `DaimTrainer`, on top of `AimConfig`: those of the way back.

    Changed: the backward generator learns, by an objective of its own. One round of all players is four updates, so
    that as many updates of the generator as AIM's take twice the `max_steps`.
    """

    presets: ClassVar[Mapping[str, Mapping[str, Any]]] = {"default": {}, "paper": PAPER, "authors_code": CODE}
    backward_updates: ClassVar[tuple[str, ...]] = ("dual",)

    backward_update: str = field(
        default="dual", metadata={"help": "Must be `dual`: the backward generator has an objective of its own."}
    )
    backward_weight: float = field(
        default=0.5, metadata={"help": "Weight of the way back, from responses to queries, in the joint objective."}
    )
    backward_discriminator_steps: int = field(
        default=1, metadata={"help": "Updates of the discriminator of queries in a row."}
    )
    backward_discriminator_learning_rate: float = field(
        default=3e-4, metadata={"help": "The largest learning rate of the discriminator of queries."}
    )

    def schedule(self) -> Schedule:
        """The warm-up of both discriminators, then each of them, the generator and the backward generator."""
        warmup = self.discriminator_warmup_steps if self.backward_discriminator_steps else 0
        return Schedule(
            warmup=((DISCRIMINATOR, self.discriminator_warmup_steps), (BACKWARD_DISCRIMINATOR, warmup)),
            cycle=(
                (DISCRIMINATOR, self.discriminator_steps),
                (BACKWARD_DISCRIMINATOR, self.backward_discriminator_steps),
                (GENERATOR, self.generator_steps),
                (BACKWARD, self.backward_steps),
            ),
        )

    def _check_values(self):
        super()._check_values()
        self._check_sizes(
            "backward_weight", "backward_discriminator_steps", "backward_discriminator_learning_rate"
        )  # fmt: skip
