"""Runs of LocalGAN with and without its radial term from the same start per seed: gradients, poolings, weights."""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import yaml

from hf_localgan.evaluation.radial_table import NONE
from hf_localgan.files import replacing
from hf_localgan.models.dbm.configuration_dbm import POOLINGS
from hf_localgan.recipes.reproduction import DECODINGS, SMOKE, Task, option_words
from hf_localgan.trainers.adversarial.localgan_config import GRADIENTS

FILES = ("mle", "matching", "dbm", "localgan")
BODIES = ("convolution", "boltzmann")
# Settings of convolutions and of a new tokenizer, which a copy of an energy does not have.
CONVOLUTIONS = {
    "vector_size", "embedding_size", "word_vectors", "tune_vectors", "widths", "filters", "share_filters", "head",
    "interaction", "embedding_dropout", "generator", "lowercase", "min_frequency", "tokenizer",
}  # fmt: skip
ANSWERS = 5  # answers of each sampling, for coverage and for the distance of radii
NAME = re.compile(
    rf"(convolution|boltzmann-(?:{'|'.join(POOLINGS)}))-"
    rf"(?:none|({'|'.join(GRADIENTS)})-({'|'.join(POOLINGS)})-([\d.e+-]+))"
)


@dataclass(frozen=True)
class Design:
    """What is varied.

    Attributes:
        poolings: vectors of utterances, each with an energy of its own.
        gradients: gradients of the radial term.
        weights: weights of the radial term, above 0. With a large one the clipped gradient is that of the radial term
            alone: `benchmarks/localgan_gradients.py` measures how long each term's is.
        bodies: discriminators: "convolution", and "boltzmann", the paper's, a copy of the energy trained on matching.
    """

    poolings: tuple[str, ...] = ("mean", "distinct_sqrt")
    gradients: tuple[str, ...] = GRADIENTS
    weights: tuple[float, ...] = (0.3, 1.0)
    bodies: tuple[str, ...] = ("convolution",)

    def __post_init__(self):
        for name, accepted in (("poolings", POOLINGS), ("gradients", GRADIENTS), ("bodies", BODIES)):
            values = getattr(self, name)
            unknown = [value for value in values if value not in accepted]
            if unknown or not values:
                raise ValueError(f"`{name}` must be some of {', '.join(accepted)}, got {', '.join(values) or 'none'}.")
        if not self.weights or not all(weight > 0 for weight in self.weights):
            raise ValueError(f"`weights` must be above 0 (0 is run in any case), got {list(self.weights)}.")

    @property
    def yardstick(self) -> str:
        """The pooling of the energy by which all runs are measured: the last one."""
        return self.poolings[-1]

    def discriminators(self) -> list[str]:
        """Names of the discriminators: the body, and for a copy of an energy that energy's pooling."""
        names = ["convolution"] if "convolution" in self.bodies else []
        return names + [f"boltzmann-{pooling}" for pooling in self.poolings if "boltzmann" in self.bodies]

    def runs(self) -> list["RadialRun"]:
        """All runs of a seed, for each discriminator first the one without the radial term."""
        runs = []
        for discriminator in self.discriminators():
            runs.append(RadialRun(discriminator, None, self.yardstick, 0.0))
            for pooling in self.poolings:
                if discriminator in ("convolution", f"boltzmann-{pooling}"):
                    runs += [
                        RadialRun(discriminator, gradient, pooling, weight)
                        for gradient in self.gradients
                        for weight in self.weights
                    ]
        return runs


class RadialRun(NamedTuple):
    """One training of LocalGAN.

    Attributes:
        discriminator: its name.
        gradient: of the radial term; `None` without the term.
        pooling: of its energy.
        weight: of the radial term.
    """

    discriminator: str
    gradient: str | None
    pooling: str
    weight: float

    @property
    def folder(self) -> str:
        if self.gradient is None:
            return f"{self.discriminator}-none"
        return f"{self.discriminator}-{self.gradient}-{self.pooling}-{self.weight:g}"

    @property
    def term(self) -> str:
        """What a table calls its radial term."""
        return NONE if self.gradient is None else f"{self.gradient}, {self.pooling}, weight {self.weight:g}"

    @classmethod
    def named(cls, folder: str, yardstick: str) -> "RadialRun | None":
        """The run that writes to a folder of this name; `None` where no run does.

        Args:
            folder: its name.
            yardstick: `Design.yardstick`, whose energy a run without the term has.
        """
        parts = NAME.fullmatch(folder)
        if parts is None:
            return None
        discriminator, gradient, pooling, weight = parts.groups()
        return cls(discriminator, gradient, pooling or yardstick, 0.0 if weight is None else float(weight))


def finished_file(place: Path, run: RadialRun) -> Path:
    """The file that is there when a run in the folder `place` of its seed has ended."""
    return place / run.folder / "stages" / "adversarial" / "finished.json"


def finished_runs(output: Path, seeds: Sequence[int], design: Design) -> list[RadialRun]:
    """Runs that every seed has finished, of this design and of earlier ones, those without the term first.

    Runs beside a discriminator that has no such rival yet are left out.

    Args:
        output: of all seeds.
        seeds: which must have finished a run.
        design: of now, for its yardstick.
    """
    places = [output / f"seed{seed}" for seed in seeds]
    found = [RadialRun.named(path.name, design.yardstick) for path in places[0].iterdir() if path.is_dir()]
    runs = [run for run in found if run and all(finished_file(place, run).is_file() for place in places)]
    rivals = {run.discriminator for run in runs if run.gradient is None}
    order = {name: rank for rank, name in enumerate((None, *GRADIENTS))}
    return sorted(
        (run for run in runs if run.discriminator in rivals),
        key=lambda run: (run.discriminator.startswith("boltzmann"), run.discriminator, order[run.gradient], run[2:]),
    )


def radial_tasks(
    files: Path,
    output: Path,
    seed: int,
    design: Design,
    *,
    start: Path | None = None,
    smoke: bool = False,
    options: Sequence[str] = (),
    mle_options: Sequence[str] = (),
) -> list[Task]:
    """The runs of one seed, in the order in which each finds what it needs.

    The generator comes first, then an energy of each pooling, the discriminators, and the trainings. All are measured
    by one energy, `Design.yardstick`. Every training leaves its last model: the best one of a training that does harm
    would be the generator it began with.

    Args:
        files: folder of the YAML files of a corpus, one for each of `FILES`.
        output: of all seeds.
        seed: of this one.
        design: what is varied.
        start: output of `reproduce table1` on the same corpus, whose generator of this seed, and whose discriminator
            with convolutions, are taken over as far as they are finished.
        smoke: first steps only.
        options: `name=value`, which replace settings of every training of LocalGAN.
        mle_options: `name=value`, which replace settings of maximum likelihood; not with a `start`.

    Raises:
        ValueError: for a file that is not there, a `start` without the generator of this seed, and `mle_options` with
            a `start`.
    """
    missing = [name for name in FILES if not (files / f"{name}.yaml").is_file()]
    if missing:
        raise ValueError(f'"{files}" has no {", ".join(f"{name}.yaml" for name in missing)}. Name a corpus with them.')
    if start is not None and mle_options:
        raise ValueError(f"`mle_options` are settings of a generator to train, and `start` has one: {start}.")
    place, tasks = output / f"seed{seed}", []
    shared = ["--seed", str(seed), "--disable_tqdm", "true"]
    scores = option_words(*SMOKE["scores"]) if smoke else []
    steps = option_words(*SMOKE["stage"]) if smoke else []

    generator = place / "mle" if start is None else start / f"seed{seed}" / "daim" / "stages" / "mle"
    if start is None:
        words = ["train-mle", str(files / "mle.yaml"), *option_words(*mle_options)]
        words += ["--output_dir", str(generator), *shared, *scores, *steps]
        tasks.append(Task("mle", tuple(words), generator, generator / "evaluation.json"))
    elif not (generator / "finished.json").is_file():
        raise ValueError(f'"{start}" has no finished generator of seed {seed}, "{generator}". Leave out `--start`.')

    energies = {}
    for pooling in design.poolings:
        folder = energies[pooling] = place / f"energy-{pooling}"
        words = ["train-dbm", str(files / "dbm.yaml"), "--output_dir", str(folder), *shared, *steps]
        words += ["--tokenizer", str(generator), "--safe_generator", str(generator), "--pooling", pooling]
        words += ["--ais_temperatures", "10", "--ais_chains", "5", "--resamples", "5"] if smoke else []
        tasks.append(Task(folder.name, tuple(words), folder, folder / "energy.json"))

    judges = {}
    for name in design.discriminators():
        folder = judges[name] = place / f"discriminator-{name}"
        words = ["--output_dir", str(folder), *shared, *steps]
        if name == "convolution":
            given = None if start is None else start / f"seed{seed}" / "localgan" / "stages" / "discriminator"
            if given is not None and (given / "finished.json").is_file():
                judges[name] = given
                continue
            words = ["train-matching", str(files / "matching.yaml"), *words, "--tokenizer", str(generator)]
        else:
            file = _without_convolutions(files / "matching.yaml", place / "matching_boltzmann.yaml")
            words = ["train-matching", str(file), *words, "--energy", str(energies[name.removeprefix("boltzmann-")])]
        tasks.append(Task(folder.name, tuple(words), folder, folder / "matching.json"))

    for run in design.runs():
        words = ["train-localgan", str(files / "localgan.yaml"), "--output_dir", str(place / run.folder), *shared]
        words += [*DECODINGS, "--answers_per_query", str(ANSWERS), *scores]
        words += ["--metric_energy", str(energies[design.yardstick])]
        # A collapse is a row, and the curve goes on: nothing stops it.
        words += ["--collapse_share", "1.0", "--collapse_length", "1000000", "--load_best_model_at_end", "false"]
        words += option_words(*SMOKE["system"]) if smoke else []
        words += option_words(*options)
        words += ["--generator", str(generator), "--discriminator", str(judges[run.discriminator])]
        words += ["--energy", str(energies[run.pooling]), "--radial_weight", f"{run.weight:g}"]
        words += [] if run.gradient is None else ["--radial_gradient", run.gradient]
        tasks.append(Task(run.folder, tuple(words), place / run.folder, finished_file(place, run)))
    return tasks


def _without_convolutions(source: Path, target: Path) -> Path:
    """A file for a copy of an energy: the settings of `source` that such a discriminator has, written to `target`."""
    settings: dict[str, Any] = yaml.safe_load(source.read_text(encoding="utf-8"))
    kept = {name: value for name, value in settings.items() if name not in CONVOLUTIONS}
    target.parent.mkdir(parents=True, exist_ok=True)
    with replacing(target) as temporary:
        temporary.write_text(yaml.safe_dump(kept, sort_keys=False), encoding="utf-8")
    return target
