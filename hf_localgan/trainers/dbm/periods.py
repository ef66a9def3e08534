"""The three periods of a deep Boltzmann machine's training over the steps of a run, and their state between updates.

That state is the chains, and the two estimates of the hidden biases before joint training.
"""

import json
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

import torch
from safetensors import safe_open
from safetensors.torch import save_file
from torch import Tensor

from hf_localgan.files import replacing
from hf_localgan.models.dbm import DbmConfig, DbmModel
from hf_localgan.models.dbm.contrastive_dbm import Chains
from hf_localgan.trainers.dbm.divergence import RunningError

PERIODS = ("bottom", "top", "joint")
FILE_STEM = "dbm_chains"


class PeriodPlan(NamedTuple):
    """The period of each update.

    Attributes:
        bottom: updates of the bottom period.
        top: updates of the top period, which follow.
    """

    bottom: int
    top: int

    def period(self, step: int) -> str:
        """Period of the update that follows `step` updates."""
        return PERIODS[(step >= self.bottom) + (step >= self.bottom + self.top)]


def plan_periods(config: DbmConfig, max_steps: int, bottom_share: float, top_share: float) -> PeriodPlan:
    """Updates of each period, rounded. Without a top layer there is no top period; a pair of RBMs has one period.

    Args:
        config: the model's.
        max_steps: updates of the training.
        bottom_share, top_share: shares of the updates.
    """
    if config.energy == "rbm_pair":
        return PeriodPlan(0, 0)
    bottom = round(bottom_share * max_steps)
    return PeriodPlan(bottom, round((bottom_share + top_share) * max_steps) - bottom if config.top_size else 0)


@dataclass
class PeriodProgress:
    """The state that the periods keep between updates, and its file in a checkpoint.

    While the top period trains, the model's `hidden_bias` is the estimate of the top RBM; that of the bottom RBM is
    `bottom_bias`.

    Attributes:
        plan: updates of each period.
        period: period of the last update; `None` before the first update.
        bottom_bias: hidden biases of the bottom RBM, shape `(hidden_size,)`.
        chains: chains of this process; `None` before joint training.
        errors: running reconstruction error of the period.
    """

    plan: PeriodPlan
    period: str | None = None
    bottom_bias: Tensor | None = None
    chains: Chains | None = None
    errors: RunningError = RunningError()
    _estimates: dict[str, Tensor] = field(default_factory=dict)

    @torch.no_grad()
    def average_biases(self, model: DbmModel):
        """Ends the top period: the hidden biases become the average of both estimates."""
        assert self.bottom_bias is not None
        model.hidden_bias.copy_((model.hidden_bias + self.bottom_bias) / 2)
        self.bottom_bias = None

    @contextmanager
    def averaged(self, model: DbmModel) -> Iterator[None]:
        """Inside the context, the model is as joint training would begin with it."""
        if self.period != "top" or self._estimates:  # it is so already
            yield
            return
        assert self.bottom_bias is not None
        top_bias = model.hidden_bias.detach().clone()
        with torch.no_grad():
            model.hidden_bias.copy_((top_bias + self.bottom_bias) / 2)
        self._estimates = {"top_bias": top_bias}
        try:
            yield
        finally:
            self._estimates = {}
            with torch.no_grad():
                model.hidden_bias.copy_(top_bias)

    # ---- files ----

    def save(self, folder: Path, rank: int, processes: int):
        """Writes the file of this process; call it inside `averaged`, so that both estimates are kept."""
        tensors = dict(self._estimates)
        if self.bottom_bias is not None:
            tensors["bottom_bias"] = self.bottom_bias
        if self.chains is not None:
            tensors |= {f"chains.{name}": value for name, value in self.chains._asdict().items()}
        tensors = {name: value.detach().cpu().contiguous() for name, value in tensors.items()}
        facts = {"plan": list(self.plan), "period": self.period, "errors": self.errors, "processes": processes}
        with replacing(folder / _file_name(rank, processes)) as temporary:
            save_file(tensors, temporary, metadata={"progress": json.dumps(facts)})

    @classmethod
    def load(cls, folder: Path, model: DbmModel, rank: int, processes: int, chains: int) -> "PeriodProgress":
        """Reads the files that `save` wrote, and puts the estimate of the top period back into the model.

        On another number of processes than wrote them, the chains are distributed anew.

        Args:
            folder: a checkpoint.
            model: the model that was loaded from it.
            rank, processes: number of this process, and of all.
            chains: expected number, over all processes.

        Raises:
            ValueError: if a file is missing, or there is another number of chains than expected.
        """
        files = _files(folder, rank, processes)
        parts = [_read(file) for file in files]
        facts, tensors = parts[0]
        names = [f"chains.{name}" for name in Chains._fields]
        state = None
        if names[0] in tensors:
            joined = [torch.cat([part[name] for _, part in parts]) for name in names]
            number = len(joined[0]) * (1 if len(files) > 1 or processes == 1 else processes)
            if number != chains:
                raise ValueError(
                    f'"{folder}" holds {number} chains, but `chains` is {chains}. Resume with `chains: {number}`, on a '
                    "number of processes that divides it."
                )
            if len(files) > 1:
                joined = [values.chunk(processes)[rank].clone() for values in joined]
            device = model.hidden_bias.device
            state = Chains(*(values.to(device) for values in joined))
        if "top_bias" in tensors:
            with torch.no_grad():
                model.hidden_bias.copy_(tensors["top_bias"])
        bias = tensors.get("bottom_bias")
        bias = bias if bias is None else bias.to(model.hidden_bias.device)
        return cls(
            PeriodPlan(*facts["plan"]),
            facts.get("period", facts.get("stage")),
            bias,
            state,
            RunningError(*facts["errors"]),
        )


def has_progress(folder: Path) -> bool:
    """Whether a checkpoint holds a file that `PeriodProgress.save` wrote."""
    return any(folder.glob(f"{FILE_STEM}*"))


def _files(folder: Path, rank: int, processes: int) -> list[Path]:
    """The file of this process if as many processes wrote the checkpoint, otherwise the files of all of them."""
    own_file = folder / _file_name(rank, processes)
    if own_file.is_file() and _read_facts(own_file)["processes"] == processes:
        return [own_file]
    first = next((path for path in (folder / _file_name(0, 1), folder / _file_name(0, 2)) if path.is_file()), None)
    if first is None:
        raise ValueError(
            f'"{folder}" has no {FILE_STEM}*.safetensors, which resuming needs; `save_only_model` leaves it out. '
            "Resume from another checkpoint, or train this model further with `bottom_share` and `top_share` 0."
        )
    written = _read_facts(first)["processes"]
    files = [folder / _file_name(number, written) for number in range(written)]
    missing = [file.name for file in files if not file.is_file()]
    if missing:
        raise ValueError(
            f'"{folder}" was written by {written} processes, and {", ".join(missing)} of their chains are missing. '
            f"Resume on {written} processes, or copy the files of all nodes together."
        )
    return files


def _file_name(rank: int, processes: int) -> str:
    return f"{FILE_STEM}.safetensors" if processes == 1 else f"{FILE_STEM}_{rank}.safetensors"


def _read_facts(path: Path) -> dict[str, Any]:
    with safe_open(path, "pt") as file:
        return json.loads(file.metadata()["progress"])


def _read(path: Path) -> tuple[dict[str, Any], dict[str, Tensor]]:
    with safe_open(path, "pt") as file:
        return json.loads(file.metadata()["progress"]), {name: file.get_tensor(name) for name in file.keys()}
