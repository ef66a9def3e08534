"""Arguments of `LocalGanTrainer`."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, ClassVar

from hf_localgan.functional.radial import SCALES
from hf_localgan.trainers.adversarial.config import SoftRolloutConfig

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
        self._check_sizes("radial_weight", "radial_floor")
        if self.clamp_warmup is not None and not self.clamp_warmup > 0:
            raise ValueError(f"`clamp_warmup` must be above 0, or None for no bound, got {self.clamp_warmup}.")
