"""Detection of a diverging energy, with advice in the error."""

import math
from typing import NamedTuple

import torch

from hf_localgan.models.dbm import DbmModel
from hf_localgan.trainers.dbm.config import DbmTrainingConfig

_SLOWER = "Lower `learning_rate`, give the bottom period more steps, or set `weight_decay`"
_WINDOW = 256  # pairs
_MIN_ERROR = 0.01  # smaller reconstruction errors count as this one: the top period can start from almost 0
_ADVICE = {
    "numbers": f"{_SLOWER}; look for vectors that are not finite and, with learned standard deviations, for dimensions "
    "that hardly vary.",
    "reconstruction": f"{_SLOWER}, or raise `reconstruction_factor`.",
    "chains": "All chains are in one state and no longer move. Lower `learning_rate`, or raise `gibbs_steps`.",
}


class DivergenceError(RuntimeError):
    """Training has diverged and was stopped.

    Attributes:
        step: number of updates so far.
        quantity: name of the number that is out of bounds.
        value: value of that number.
        bound: accepted values, in words.
        checkpoint: the last checkpoint before; `None` if there is none.
    """

    def __init__(self, step: int, quantity: str, value: float, bound: str, advice: str, checkpoint: str | None):
        self.step, self.quantity, self.value, self.bound, self.checkpoint = step, quantity, value, bound, checkpoint
        remedy = f'The last good checkpoint is "{checkpoint}".' if checkpoint else "There is no checkpoint yet."
        super().__init__(
            f"Training diverged after {step} updates: {quantity} is {value:g}, but must be {bound}. {advice} {remedy}"
        )


class RunningError(NamedTuple):
    """Running mean of the reconstruction error over about 256 pairs, for a batch of few pairs is too noisy.

    Attributes:
        mean: running mean; earlier pairs count as at most 256.
        pairs: number of pairs in it.
        best: smallest mean since it covers 256 pairs; `None` before.
    """

    mean: float = 0.0
    pairs: int = 0
    best: float | None = None

    def add(self, error: float, pairs: int) -> "RunningError":
        """The running error with the mean error of further `pairs`."""
        before = min(self.pairs, _WINDOW)
        mean = (before * self.mean + pairs * error) / (before + pairs)
        if before + pairs < _WINDOW:
            return RunningError(mean, before + pairs)
        return RunningError(mean, before + pairs, mean if self.best is None else min(self.best, mean))


class Watch:
    """Compares measured numbers with the bounds of a configuration.

    Args:
        args: holds the bounds.
        units: number of visible, hidden and top units, by which energies are bounded.
    """

    def __init__(self, args: DbmTrainingConfig, units: int):
        self.args, self.units = args, units
        self.checkpoint: str | None = None

    def check(self, step: int, measured: dict[str, float], pairs: int, errors: RunningError) -> RunningError:
        """Checks the numbers of `measure_training`, and `chain_spread`.

        Args:
            step: number of updates so far.
            measured: numbers by name.
            pairs: number of pairs that were measured.
            errors: running reconstruction error of the period.

        Returns:
            The running error with this one.

        Raises:
            DivergenceError: naming the first number out of bounds.
        """
        for name, value in measured.items():
            self._require(step, f"`dbm/{name}`", value, "finite", "numbers", True)
        if "free_energy" in measured:
            self.check_energy(step, "the mean free energy of the data", measured["free_energy"])
            self.check_energy(step, "`dbm/free_energy_gap`", measured["free_energy_gap"])
        errors, factor = errors.add(measured["reconstruction"], pairs), self.args.reconstruction_factor
        if factor and errors.best is not None:
            maximum = factor * max(errors.best, _MIN_ERROR)
            bound = f"at most {maximum:g}, `reconstruction_factor` times its best"
            self._require(
                step, "the reconstruction error", errors.mean, bound, "reconstruction", errors.mean <= maximum
            )
        if "chain_spread" in measured:
            spread, minimum = measured["chain_spread"], self.args.min_chain_spread
            bound = f"at least `min_chain_spread` {minimum:g}"
            self._require(step, "`dbm/chain_spread`", spread, bound, "chains", spread >= minimum)
        return errors

    def check_energy(self, step: int, quantity: str, value: float):
        """Checks a mean energy, or a difference of two, in nats."""
        maximum = self.args.free_energy_bound * self.units or math.inf
        bound = "finite" if maximum == math.inf else f"within {maximum:g} nats of 0, `free_energy_bound` for each unit"
        self._require(step, quantity, value, bound, "numbers", abs(value) <= maximum)

    @torch.no_grad()
    def check_parameters(self, step: int, model: DbmModel):
        """Checks that no parameter is NaN or infinite."""
        for name, parameter in model.named_parameters():
            largest = float(parameter.abs().max()) if parameter.numel() else 0.0
            self._require(step, f"the largest number of `{name}`", largest, "finite", "numbers", True)

    def _require(self, step: int, quantity: str, value: float, bound: str, advice: str, accepted: bool):
        if not accepted or not math.isfinite(value):
            raise DivergenceError(step, quantity, value, bound, _ADVICE[advice], self.checkpoint)
