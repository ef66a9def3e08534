"""RAML against maximum likelihood and label smoothing: a grid of edit rates with one seed, then seeds of the best."""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from hf_localgan.decoding.beam_tuning import TUNED_BEAM
from hf_localgan.evaluation.raml_table import tuned_dev_bleu
from hf_localgan.recipes.reproduction import Task, option_words

MLE, SMOOTHING = "mle", "label_smoothing"
# Files of a corpus's folder, in the order of the table, and their titles.
SYSTEMS = {
    MLE: "maximum likelihood",
    SMOOTHING: "label smoothing",
    "raml_hamming": "Hamming",
    "raml_edit": "edit distance",
    "raml_weighted": "weighted Hamming",
    "raml_unigram": "Hamming, unigrams",
    "raml_falling": "Hamming, unigrams, falling to 0",
    "raml_weighted_falling": "weighted Hamming, falling to 0",
    "raml_edit_smoothing": "edit distance with label smoothing",
}
RATES = (0.005, 0.01, 0.02, 0.05)  # edits per token
SMOOTHINGS = (0.1,)  # beside the edit rates, for smoothing takes as much probability from the references
KEPT = 5  # checkpoints that are averaged, and evaluations
# How every system is measured: no epoch is chosen by its noisy score, and each gets the beam that suits its lengths.
PROTOCOL = (
    "load_best_model_at_end=false", "early_stopping_patience=0", f"average_checkpoints={KEPT}",
    f"mean_of_evaluations={KEPT}", f"save_total_limit={KEPT}", "tune_queries=1000",
)  # fmt: skip
SMOKE = (
    "max_steps=12", "per_device_train_batch_size=16", "eval_strategy=steps", "eval_steps=4", "save_strategy=steps",
    "save_steps=4", "max_test_queries=20", "resamples=10", "tune_queries=8", "tune_beams=[2, 3]", "beams=[2]",
)  # fmt: skip


@dataclass(frozen=True)
class Cell:
    """A system at one strength.

    Attributes:
        system: name among `SYSTEMS`.
        rate: edits per token, or the factor of label smoothing; `None` for a system that has neither.
    """

    system: str
    rate: float | None = None

    @property
    def name(self) -> str:
        """Of the folder of its runs."""
        return self.system if self.rate is None else f"{self.system}-{self.rate:g}"


def grid_cells(systems: Sequence[str], rates: Sequence[float]) -> list[Cell]:
    """The cells of the grid, maximum likelihood first, which the others are held against.

    Args:
        systems: names of `SYSTEMS`.
        rates: edits per token of RAML's systems; label smoothing takes them, too, and `SMOOTHINGS`.

    Raises:
        ValueError: for an unknown system, no rate, and a rate that is not between 0 and 1.
    """
    unknown = [name for name in systems if name not in SYSTEMS]
    if unknown:
        raise ValueError(f"There is no system {unknown[0]!r}. Name some of {', '.join(SYSTEMS)}.")
    wrong = [rate for rate in rates if not 0 < rate < 1]
    if wrong or not rates:
        raise ValueError(
            f"Edit rates must be above 0 and below 1, such as 0.01, and at least one, got {wrong or 'none'}."
        )
    cells = []
    for name in SYSTEMS:
        if name == MLE:
            cells.append(Cell(MLE))
        elif name in systems:
            own = [*rates, *SMOOTHINGS] if name == SMOOTHING else rates
            cells += [Cell(name, rate) for rate in sorted(set(own))]
    return cells


def cell_task(files: Path, output: Path, cell: Cell, seed: int, *, smoke: bool, options: Sequence[str] = ()) -> Task:
    """The training of a cell with a seed.

    Args:
        files: folder of the corpus's YAML files.
        output: of all runs.
        cell, seed: what is trained.
        smoke: first steps only.
        options: `name=value`, which replace settings of every file.

    Raises:
        ValueError: for a file that is not there.
    """
    file = files / f"{cell.system}.yaml"
    if not file.is_file():
        raise ValueError(
            f'"{files}" has no {file.name}. Name a folder with a file for each system: {", ".join(SYSTEMS)}.'
        )
    place = output / f"{cell.name}-seed{seed}"
    command = "train-raml" if cell.system.startswith("raml") else "train-mle"
    words = [command, str(file), "--output_dir", str(place), "--seed", str(seed), "--disable_tqdm", "true"]
    if cell.rate is not None:
        words += ["--label_smoothing_factor" if cell.system == SMOOTHING else "--edit_rate", f"{cell.rate:g}"]
    words += option_words(*PROTOCOL, *(SMOKE if smoke else ()), *options)
    return Task(place.name, tuple(words), place, place / "evaluation.json")


def best_cells(output: Path, cells: Sequence[Cell], seed: int) -> tuple[list[Cell], str]:
    """Of each system the cell with the highest dev BLEU of a seed's run, and what that BLEU is.

    It is that of the tuned beam, which the claim is made with; where not every run has one, the mean over the last
    evaluations, greedily.

    Raises:
        ValueError: for a run with neither.
    """
    folders = [output / f"{cell.name}-seed{seed}" for cell in cells]
    found = [json.loads((folder / "evaluation.json").read_text(encoding="utf-8")) for folder in folders]
    scores = [tuned_dev_bleu(content.get("decodings", {})) for content in found]
    chosen_by = f"dev BLEU of the {TUNED_BEAM}, with seed {seed}"
    if None in scores:
        scores = [content["about"].get("validation_bleu_mean") for content in found]
        chosen_by = f"greedy dev BLEU, mean of the last evaluations, with seed {seed}"
    best: dict[str, tuple[float, Cell]] = {}
    for cell, folder, score in zip(cells, folders, scores, strict=True):
        if score is None:
            raise ValueError(
                f'"{folder}" has no BLEU on dev: neither a {TUNED_BEAM} (`tune_queries`) nor a mean of evaluations. '
                "Its file must have `scores: translation`, `predict_with_generate: true` and an `eval_strategy`."
            )
        if cell.system not in best or score > best[cell.system][0]:
            best[cell.system] = (score, cell)
    return [cell for _, cell in best.values()], chosen_by
