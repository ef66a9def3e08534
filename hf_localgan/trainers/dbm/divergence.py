"""Noticing that the training of an energy has gone wrong, and saying what to do about it."""

import math
from typing import NamedTuple

import torch

from hf_localgan.models.dbm import DbmModel

_SLOWER = "Lower `learning_rate`, give the bottom stage more steps, or set `weight_decay`"
_WINDOW = 256  # pairs
_LEAST_ERROR = 0.01  # smaller reconstruction errors count as this one: the top stage can start from next to none
_ADVICE = {
    "numbers": f"{_SLOWER}; look for vectors that are not finite and, with learned standard deviations, for dimensions "
    "that hardly vary.",
    "reconstruction": f"{_SLOWER}, or raise `reconstruction_factor`.",
    "chains": "All chains are in one state and no longer move. Lower `learning_rate`, or raise `gibbs_steps`.",
}


class DivergenceError(RuntimeError):
    """Training has diverged and was stopped.

    Attributes:
        step: updates that were made.
        quantity: what went out of bounds.
        value: of that quantity.
        bound: what it must be, in words.
        checkpoint: the last one, from before that; `None` if there is none.
    """

    def __init__(self, step: int, quantity: str, value: float, bound: str, advice: str, checkpoint: str | None):
        self.step, self.quantity, self.value, self.bound, self.checkpoint = step, quantity, value, bound, checkpoint
        kept = f'The last good checkpoint is "{checkpoint}".' if checkpoint else "There is no checkpoint yet."
        super().__init__(
            f"Training diverged after {step} updates: {quantity} is {value:g}, but must be {bound}. {advice} {kept}"
        )


class RunningError(NamedTuple):
    """Reconstruction error of the last 256 pairs or so, for a batch of few pairs says little.

    Attributes:
        mean: of all that were measured so far, the older ones counting as 256 pairs at most.
        pairs: in it.
        best: smallest mean since it was one of 256 pairs; `None` before.
    """

    mean: float = 0.0
    pairs: int = 0
    best: float | None = None

    def add(self, error: float, pairs: int) -> "RunningError":
        """With the mean error of so many further pairs."""
        before = min(self.pairs, _WINDOW)
        mean = (before * self.mean + pairs * error) / (before + pairs)
        if before + pairs < _WINDOW:
            return RunningError(mean, before + pairs)
        return RunningError(mean, before + pairs, mean if self.best is None else min(self.best, mean))


class Watch:
    """Compares what is measured with the bounds of a configuration.

    Args:
        args (`DbmTrainingConfig`): the bounds.
        units: visible, hidden and top ones together, by which energies are bounded.
    """

    def __init__(self, args, units: int):
        self.args, self.units, self.checkpoint = args, units, None

    def check(self, step: int, measured: dict[str, float], pairs: int, errors: "RunningError") -> "RunningError":
        """Checks what `measure_training` returns, and `chain_spread`.

        Args:
            step: updates that were made.
            measured: by name.
            pairs: that were measured.
            errors: reconstruction errors of the stage before.

        Returns:
            These errors with this one.

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
            most = factor * max(errors.best, _LEAST_ERROR)
            bound = f"at most {most:g}, `reconstruction_factor` times its best"
            self._require(step, "the reconstruction error", errors.mean, bound, "reconstruction", errors.mean <= most)
        if "chain_spread" in measured:
            spread, least = measured["chain_spread"], self.args.min_chain_spread
            bound = f"at least `min_chain_spread` {least:g}"
            self._require(step, "`dbm/chain_spread`", spread, bound, "chains", spread >= least)
        return errors

    def check_energy(self, step: int, quantity: str, value: float):
        """Checks a mean energy, or a difference of two, in nats."""
        most = self.args.free_energy_bound * self.units or math.inf
        bound = "finite" if most == math.inf else f"within {most:g} nats of 0, `free_energy_bound` for each unit"
        self._require(step, quantity, value, bound, "numbers", abs(value) <= most)

    @torch.no_grad()
    def check_parameters(self, step: int, model: DbmModel):
        """Checks that no parameter is NaN or infinite."""
        for name, parameter in model.named_parameters():
            largest = float(parameter.abs().max()) if parameter.numel() else 0.0
            self._require(step, f"the largest number of `{name}`", largest, "finite", "numbers", True)

    def _require(self, step: int, quantity: str, value: float, bound: str, kind: str, within: bool):
        if not within or not math.isfinite(value):
            raise DivergenceError(step, quantity, value, bound, _ADVICE[kind], self.checkpoint)
