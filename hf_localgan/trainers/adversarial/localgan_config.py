"""Arguments of `LocalGanTrainer`."""

import math
from dataclasses import MISSING, dataclass, field, fields
from typing import Any

from hf_localgan.functional.radial import SCALES
from hf_localgan.trainers.adversarial.config import GanConfig

# What each preset sets where the user says nothing else. "paper": LocalGAN as printed (Eq. 16 to 18, Sec. 4.3), with
# what it leaves open as in its authors' code. "authors_code": that code, where it differs from the paper.
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
class LocalGanConfig(GanConfig):
    """Arguments of `LocalGanTrainer`, on top of `GanConfig`.

    A preset sets the fields that are left at their defaults; what else is said beside it wins. (A field can so not be
    put back to its default beside a preset; for such a mixture set the fields yourself, without one.)
    """

    preset: str = field(
        default="default",
        metadata={
            "help": "`default`; `paper`, LocalGAN as printed; `authors_code`, as its authors' code differs from the "
            "paper (it wants an energy `rbm_pair` and a discriminator made of it)."
        },
    )
    radial_weight: float = field(
        default=1.0, metadata={"help": "Of relu(delta_alpha). 1 in the paper, 10 in its code."}
    )
    radial_scale: str = field(
        default="spread",
        metadata={
            "help": "Unit of the radius: `spread`, the standard deviation of the references' radii; `abs_center`, "
            "|F(q, rc)|; `center`, F(q, rc) as printed, whose sign may be wrong."
        },
    )
    radial_floor: float = field(default=1.0, metadata={"help": "Smallest |F(q, rc)| of `abs_center`, nats."})
    length_ratio: bool = field(
        default=False,
        metadata={"help": "Divide -ln D by 1 - relu(len_r - len_r^) / len_r, as the authors' code does."},
    )
    clamp_warmup: float | None = field(
        default=None,
        metadata={"help": "Bound of the absolute weights of the discriminator's head while it is warmed up."},
    )

    def __post_init__(self):
        if self.preset not in PRESETS:
            raise ValueError(f'`preset` must be one of {", ".join(PRESETS)}, got "{self.preset}".')
        defaults = {one.name: one.default for one in fields(self) if one.default is not MISSING}
        for name, value in PRESETS[self.preset].items():
            if getattr(self, name) == defaults[name]:
                setattr(self, name, value)
        super().__post_init__()

    def _check_values(self):
        super()._check_values()
        if self.radial_scale not in SCALES:
            raise ValueError(f'`radial_scale` must be one of {", ".join(SCALES)}, got "{self.radial_scale}".')
        for name in ("radial_weight", "radial_floor"):
            if not (getattr(self, name) >= 0 and math.isfinite(getattr(self, name))):
                raise ValueError(f"`{name}` must be finite and not negative, got {getattr(self, name)}.")
        if self.clamp_warmup is not None and not self.clamp_warmup > 0:
            raise ValueError(f"`clamp_warmup` must be above 0, or None for no bound, got {self.clamp_warmup}.")
