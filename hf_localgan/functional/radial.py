"""The radial distribution function of LocalGAN and the generator's hybrid loss (Eq. 16 to 18).

Energies are free energies `F(q, .)` of one query with the reference `r`, the generation `r^` or the centre of the
query's responses `rc`, in nats, shape `(batch,)`. A free energy is known up to a constant only, the same for all three.
"""

import math
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from .rounding import rounding_bound

SCALES = ("spread", "abs_center", "center")
MEASURES = ("energy", "distance")
TARGETS = ("reference", "cluster")
LEAST_RADIUS = 1e-2  # nats, under the root of a distance, whose slope is infinite at 0


def alpha(
    energy: Tensor, center_energy: Tensor, scale: str = "spread", spread: float | None = None, floor: float = 1.0
) -> Tensor:
    """How far a response lies from the centre of its query's responses, `(F(q, r) - F(q, rc)) / scale` (Eq. 16).

    Args:
        energy: `F(q, r)`.
        center_energy: `F(q, rc)`.
        scale: "spread": the standard deviation of the radius over the training references, so that nothing depends on
            the constant of the free energy. "abs_center": `|F(q, rc)|`, at least `floor`. "center": `F(q, rc)` as
            printed; where it is negative the sign turns round.
        spread: nats, for `scale="spread"`.
        floor: nats, for `scale="abs_center"`.

    Returns:
        Shape `(batch,)`, without a unit.

    Raises:
        ValueError: for another scale, a spread that is missing or not positive, and energies of different shapes.
    """
    _check_shapes(energy=energy, center_energy=center_energy)
    return (energy - center_energy) / _denominator(center_energy, scale, spread, floor)


def delta_alpha(
    reference_energy: Tensor,
    generation_energy: Tensor,
    center_energy: Tensor,
    scale: str = "spread",
    spread: float | None = None,
    floor: float = 1.0,
) -> Tensor:
    """`alpha` of the reference less that of the generation, `(F(q, r) - F(q, r^)) / scale` (Eq. 17).

    Positive (phase 2): the generation lies nearer the centre than the reference. Not positive (phase 1): it lies
    farther out.

    Args:
        reference_energy, generation_energy, center_energy: `F(q, r)`, `F(q, r^)`, `F(q, rc)`. The gradient of the
            generation's flows; the scale is a constant.
        scale, spread, floor: as for `alpha`.

    Returns:
        Shape `(batch,)`, without a unit.

    Raises:
        ValueError: as `alpha` does.
    """
    _check_shapes(reference_energy=reference_energy, generation_energy=generation_energy, center_energy=center_energy)
    return (reference_energy - generation_energy) / _denominator(center_energy, scale, spread, floor)


def center_distance(energy: Tensor, center_energy: Tensor) -> Tensor:
    """`sqrt(F(q, r) - F(q, rc))`: a radius as a distance, whose slope does not vanish near the centre.

    Around the centre the free energy is quadratic, so that its slope is smallest where the safest answers are. Radii
    below 0.01 nats, negative ones too, count as 0.01 nats and have no slope.

    Args:
        energy, center_energy: `F(q, r)` and `F(q, rc)`, shapes that broadcast. The gradient of the first one flows.

    Returns:
        Square roots of nats.
    """
    return (energy - center_energy.detach()).clamp(min=LEAST_RADIUS).sqrt()


def cluster_mean(values: Tensor, queries: Tensor, number: int) -> Tensor:
    """Mean over the responses of each query, `1 / |R_q| sum over R_q` (Eq. 9 and 10), shape `(number,)`.

    Args:
        values: energies or distances of all responses, shape `(responses,)`.
        queries: the query of each, 0 to `number - 1`, shape `(responses,)`.
        number: queries, each with a response.
    """
    sums = torch.zeros(number, dtype=values.dtype, device=values.device).index_add_(0, queries, values)
    return sums / torch.bincount(queries, minlength=number)


def wrong_sign_share(center_energy: Tensor) -> float:
    """Share of queries for which the printed scale, `F(q, rc)`, is negative and turns the penalty round; 0 to 1."""
    return float((center_energy < 0).float().mean()) if center_energy.numel() else 0.0


class GeneratorLoss(NamedTuple):
    """Terms of the generator's objective, each of shape `(batch,)` and not reduced."""

    total: Tensor
    adversarial: Tensor
    radial: Tensor


def generator_loss(fake_logits: Tensor, delta: Tensor, radial_weight: float = 1.0) -> GeneratorLoss:
    """`-ln D(q, r^) + radial_weight * relu(delta_alpha)`, the hybrid objective (Eq. 18).

    Args:
        fake_logits: the discriminator's, of generations, shape `(batch,)`.
        delta: `delta_alpha`, shape `(batch,)`.
        radial_weight: 1 in the paper, 10 in its authors' code. 0 turns the term off.

    Raises:
        ValueError: for shapes that differ and a weight that is negative or not finite.
    """
    _check_shapes(fake_logits=fake_logits, delta=delta)
    if not (radial_weight >= 0 and math.isfinite(radial_weight)):
        raise ValueError(f"`radial_weight` must be finite and at least 0, got {radial_weight}. 0 turns the term off.")
    adversarial = F.softplus(-fake_logits)  # -ln sigmoid(x), finite for any logit
    radial = F.relu(delta)
    total = adversarial + radial_weight * radial if radial_weight else adversarial
    return GeneratorLoss(total, adversarial, radial)


def _denominator(center_energy: Tensor, scale: str, spread: float | None, floor: float) -> Tensor | float:
    if scale not in SCALES:
        raise ValueError(f'`scale` must be one of {", ".join(SCALES)}, got "{scale}".')
    if scale == "spread":
        if spread is None or not (spread > 0 and math.isfinite(spread)):
            raise ValueError(
                f'`scale="spread"` needs `spread`, the standard deviation of the references\' radii in nats, above 0; '
                f"got {spread}."
            )
        return float(spread)
    center = center_energy.detach()
    return center.abs().clamp(min=floor) if scale == "abs_center" else center


def _check_shapes(**tensors: Tensor):
    shapes = {name: tuple(tensor.shape) for name, tensor in tensors.items()}
    if len(set(shapes.values())) > 1 or any(tensor.dim() != 1 for tensor in tensors.values()):
        listed = ", ".join(f"`{name}` {shape}" for name, shape in shapes.items())
        raise ValueError(f"There must be one value for each example, shape (batch,), got {listed}.")


def radius_spread(radii: Tensor, center_energy: Tensor | None = None) -> float:
    """Standard deviation of the references' radii in nats, the unit of `scale="spread"`.

    Args:
        radii: `F(q, r) - F(q, rc)` of training references, shape `(examples,)`, at least two, in the precision that the
            energies were computed in.
        center_energy: `F(q, rc)` of the same examples. Energies are rounded by their own magnitude, which tells how
            much of the spread can be rounding; without them the radii's magnitude stands for it.

    Raises:
        ValueError: for fewer than two, where all are the same up to rounding, where one is not finite, and for tensors
            of different shapes.
    """
    energies = radii
    if center_energy is not None:
        _check_shapes(radii=radii, center_energy=center_energy)
        energies = torch.cat([radii + center_energy, center_energy])  # F(q, r), F(q, rc)
    spread = float(radii.double().std()) if radii.numel() > 1 else 0.0
    magnitude = float(energies.double().abs().max()) if energies.numel() else 0.0
    rounding = rounding_bound(magnitude, radii.dtype if radii.is_floating_point() else torch.float64)
    if not (spread > rounding and math.isfinite(spread)):
        raise ValueError(
            f"The radii of {radii.numel()} references have the standard deviation {spread:.3g}; it must be finite and "
            f"above {rounding:.3g}, which rounding makes of equal radii. Train the energy on more than one kind of "
            "pair, and look whether it has diverged."
        )
    return spread
