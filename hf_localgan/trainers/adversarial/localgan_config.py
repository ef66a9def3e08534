"""Arguments of `LocalGanTrainer`."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, ClassVar

from hf_localgan.functional.radial import MEASURES, SCALES, TARGETS
from hf_localgan.functional.score_function import BASELINES, CREDITS
from hf_localgan.trainers.adversarial.config import SoftRolloutConfig

GRADIENTS = ("straight_through", "score")

# Values of each preset, for fields that the user does not give. "paper": LocalGAN as printed (Eq. 16 to 18, Sec. 4.3),
# with its authors' code for values that the paper leaves open. "authors_code": that code, also where the two differ.
PRESETS: dict[str, dict[str, Any]] = {
    "default": {},
    "paper": {
        "radial_scale": "center",
        "learning_rate": 1e-5,
        "relaxation": "softmax",
        "relaxation_top_k": None,
        "teacher_forcing_weight": 0.0,
        "mismatched_weight": 0.0,
        "discriminator_learning_rate": 1e-5,
        "max_grad_norm": 10.0,
        "max_soft_length": 30,
    },
    "authors_code": {
        "radial_scale": "abs_center",
        "radial_weight": 10.0,
        "learning_rate": 1e-5,
        "relaxation": "softmax",
        "relaxation_top_k": None,
        "teacher_forcing_weight": 0.0,
        "mismatched_weight": 0.0,
        "discriminator_learning_rate": 1e-5,
        "generator_steps": 5,
        "generator_parts": "decoder",
        "discriminator_parts": "head",
        "clamp_warmup": 0.02,
        "length_ratio": True,
        "max_grad_norm": 10.0,
        "max_soft_length": 15,
    },
}


@dataclass
class LocalGanConfig(SoftRolloutConfig):
    """Arguments of `LocalGanTrainer`, on top of `SoftRolloutConfig`.

    A `preset` changes defaults, nothing else: a value that the user gives wins, whatever it equals.
    """

    presets: ClassVar[Mapping[str, Mapping[str, Any]]] = PRESETS

    preset: str = field(
        default="default",
        metadata={
            "help": "Set of defaults: `default`; `paper`, LocalGAN as printed; `authors_code`, LocalGAN as in its "
            "authors' code (meant for an energy `rbm_pair` and a discriminator made from it)."
        },
    )
    radial_weight: float = field(
        default=1.0,
        metadata={
            "help": "Weight of the radial term, relu(delta_alpha), in the generator's loss. 1 in the paper, 10 in its "
            "authors' code."
        },
    )
    radial_scale: str = field(
        default="spread",
        metadata={
            "help": "Unit of the radius: `spread`, the standard deviation of the references' radii; `abs_center`, "
            "|F(q, rc)|; `center`, F(q, rc) as printed, whose sign may be wrong."
        },
    )
    radial_measure: str = field(
        default="energy",
        metadata={
            "help": "What the radius is compared by: `energy`, F(q, r) in nats; or `distance`, the root of "
            "F(q, r) - F(q, rc), whose slope does not vanish near the centre."
        },
    )
    radial_target: str = field(
        default="reference",
        metadata={
            "help": "What a generation is compared with: `reference`, that of its pair; or `cluster`, the mean over "
            "all training responses to its query (Eq. 9 and 10)."
        },
    )
    radial_gradient: str = field(
        default="straight_through",
        metadata={
            "help": "Gradient of the radial term: `straight_through`, through the relaxed tokens; or `score`, the "
            "score function of samples at the temperature `noise_scale`, which is unbiased."
        },
    )
    radial_samples: int = field(
        default=2, metadata={"help": "Number of samples of each query with the gradient `score`."}
    )
    radial_baseline: str = field(
        default="samples",
        metadata={
            "help": "What is taken from a sample's reward with the gradient `score`: `samples`, the mean reward of the "
            "query's other samples; `batch`, that of all other samples; `references`, that of the references."
        },
    )
    radial_credit: str = field(
        default="answer",
        metadata={
            "help": "Reward of a token with the gradient `score`: `answer`, the whole answer's; `token`, what the "
            "answer loses without the token, which has less noise and a bias."
        },
    )
    radial_scaled: bool = field(
        default=False,
        metadata={"help": "Scale the rewards of the gradient `score` to unit deviation in each batch."},
    )
    radial_floor: float = field(
        default=1.0, metadata={"help": "Smallest |F(q, rc)| that the radius is divided by with `abs_center`, in nats."}
    )
    length_ratio: bool = field(
        default=False,
        metadata={"help": "Divide -ln D by 1 - relu(len_r - len_r^) / len_r, as the authors' code does."},
    )
    clamp_warmup: float | None = field(
        default=None,
        metadata={"help": "Largest absolute weight of the discriminator's head during its warm-up."},
    )

    def _check_values(self):
        super()._check_values()
        if self.radial_scale not in SCALES:
            raise ValueError(f'`radial_scale` must be one of {", ".join(SCALES)}, got "{self.radial_scale}".')
        for name, accepted in (
            ("radial_measure", MEASURES), ("radial_target", TARGETS), ("radial_gradient", GRADIENTS),
            ("radial_baseline", BASELINES), ("radial_credit", CREDITS),
        ):  # fmt: skip
            if getattr(self, name) not in accepted:
                raise ValueError(f'`{name}` must be one of {", ".join(accepted)}, got "{getattr(self, name)}".')
        self._check_sizes("radial_weight", "radial_floor")
        if self.radial_samples < 1:
            raise ValueError(f"`radial_samples` must be at least 1, got {self.radial_samples}.")
        if self.radial_measure == "distance" and self.radial_scale != "spread":
            raise ValueError(
                f'`radial_measure="distance"` has the unit `radial_scale="spread"` alone, got "{self.radial_scale}".'
            )
        if self.radial_gradient == "score":
            self._check_score()
        if self.clamp_warmup is not None and not self.clamp_warmup > 0:
            raise ValueError(f"`clamp_warmup` must be above 0, or None for no bound, got {self.clamp_warmup}.")

    def _check_score(self):
        if self.relaxation != "straight_through" or not self.noise_scale:
            raise ValueError(
                '`radial_gradient="score"` needs samples: `relaxation="straight_through"` and `noise_scale` above 0, '
                f'got "{self.relaxation}" and {self.noise_scale}.'
            )
        if self.radial_baseline == "samples" and self.radial_samples < 2:
            raise ValueError(
                f'`radial_baseline="samples"` needs `radial_samples` of at least 2, got {self.radial_samples}. With '
                'one sample take "batch" or "references".'
            )
