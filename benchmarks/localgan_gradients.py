"""What each term of LocalGAN's generator asks for: how strong its gradient is, how noisy, and which way it points.

    python benchmarks/localgan_gradients.py --dataset DATA --generator FOLDER --discriminator FOLDER
        --energy NAME=FOLDER [NAME=FOLDER ...] [--batches 20] [--output OUTPUT]

Nothing is trained. On the same batches of training pairs, with dropout as in training, each term's gradient is taken
alone, at weight 1: the adversarial term, teacher forcing, and the radial term of each energy by each estimator.

    norm    root mean square over batches of a gradient's length
    signal  length of the expected gradient, from the products of gradients of different batches, which chance does
            not raise
    share   signal over norm, squared: the part of a gradient that is no noise
    cosine  between the expected gradients of a term and of the adversarial term

A term whose norm is far above the adversarial one's decides the clipped update alone; one with a negative cosine undoes
what the other gains. Writes `OUTPUT.md` and `OUTPUT.json`.
"""

import argparse
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from tempfile import TemporaryDirectory

import torch
from datasets import Dataset
from tables import number_table
from torch import Tensor
from transformers import DataCollatorForSeq2Seq
from transformers.utils import logging

from hf_localgan import LocalGanConfig, LocalGanTrainer, encode_pairs, load_pairs
from hf_localgan.evaluation.writing import write_report
from hf_localgan.models.loading import load_generator
from hf_localgan.recipes.parts import load_discriminator, load_energy

ADVERSARIAL = "adversarial"
ALONE = {"adversarial_weight": 0.0, "radial_weight": 0.0, "teacher_forcing_weight": 0.0}
ESTIMATORS = {
    "straight-through": {"radial_gradient": "straight_through"},
    "score, 2 samples": {"radial_gradient": "score", "radial_samples": 2},
    "score, 8 samples": {"radial_gradient": "score", "radial_samples": 8},
    "score, 2 samples, by token": {"radial_gradient": "score", "radial_samples": 2, "radial_credit": "token"},
}


@dataclass
class Moments:
    """Sums over batches of a random vector, and of its products with another one's of the same batch."""

    total: Tensor | float = 0.0
    squares: float = 0.0
    products: float = 0.0
    count: int = 0

    def add(self, vector: Tensor, other: Tensor):
        self.total = self.total + vector
        self.squares += float(vector.double().square().sum())
        self.products += float(vector.double() @ other.double())
        self.count += 1

    @property
    def norm(self) -> float:
        return (self.squares / self.count) ** 0.5

    @property
    def signal_squared(self) -> float:
        """Unbiased estimate of the squared length of the mean; may be negative."""
        return self.inner(self, self.squares)

    def inner(self, other: "Moments", products: float | None = None) -> float:
        """Unbiased estimate of the product of both means: the mean product of vectors of different batches.

        Args:
            other: moments over the same batches.
            products: sum of the products of vectors of the same batch, by default with the vector given to `add`.
        """
        assert isinstance(self.total, Tensor) and isinstance(other.total, Tensor)
        same = self.products if products is None else products
        whole = float(self.total.double() @ other.total.double())
        return (whole - same) / (self.count * (self.count - 1))


def cosine(first: Moments, second: Moments) -> float:
    """Between the means; NaN where chance hides either. `first` was added beside the vectors of `second`."""
    lengths = first.signal_squared * second.signal_squared
    return first.inner(second) / lengths**0.5 if min(first.signal_squared, second.signal_squared) > 0 else float("nan")


@dataclass
class Bench:
    """One generator with its discriminator, the data, and a trainer for each term."""

    rows: Dataset
    model: torch.nn.Module
    tokenizer: object
    discriminator: torch.nn.Module
    energies: Mapping[str, torch.nn.Module]
    folder: str
    batch: int
    trainers: dict[str, LocalGanTrainer] = field(default_factory=dict)

    def __post_init__(self):
        first = next(iter(self.energies.values()))
        self._trainer(ADVERSARIAL, first, adversarial_weight=1.0)
        self._trainer("teacher forcing", first, teacher_forcing_weight=1.0)
        for name, energy in self.energies.items():
            for title, settings in ESTIMATORS.items():
                self._trainer(f"radial, {name}, {title}", energy, radial_weight=1.0, **settings)

    def _trainer(self, name: str, energy: torch.nn.Module, **settings):
        args = LocalGanConfig(
            self.folder, per_device_train_batch_size=self.batch, use_cpu=True, report_to="none", **ALONE | settings
        )
        trainer = LocalGanTrainer(
            self.model, args, discriminator=self.discriminator, energy=energy, train_dataset=self.rows,
            processing_class=self.tokenizer, data_collator=DataCollatorForSeq2Seq(self.tokenizer),
        )  # fmt: skip
        trainer.measure_radii()
        self.trainers[name] = trainer

    def gradients(self, number: int) -> Iterator[tuple[str, Tensor]]:
        """Each term's gradient on a batch, one after the other, flat; the adversarial one comes first."""
        for name, trainer in self.trainers.items():
            rows = [self.rows[number * self.batch + row] for row in range(self.batch)]
            columns = ("input_ids", "attention_mask", "labels")
            inputs = trainer.data_collator([{key: row[key] for key in columns} for row in rows])
            inputs = {key: inputs[key] for key in columns}
            trainer.state.global_step = number
            trainer.draws.next_batch()
            self.model.train()
            for part in (self.discriminator, *self.energies.values()):
                part.eval().requires_grad_(False)
            torch.manual_seed(number)  # the same dropout for all
            self.model.zero_grad()
            trainer.generator_loss(inputs, (inputs["labels"] != -100).sum()).backward()
            own = [parameter for parameter in self.model.parameters() if parameter.requires_grad]
            found = [torch.zeros_like(one) if one.grad is None else one.grad for one in own]
            yield name, torch.cat([one.flatten() for one in found])


def measure(bench: Bench, batches: int) -> dict[str, Moments]:
    moments = {name: Moments() for name in bench.trainers}
    for number in range(batches):
        adversarial = None
        for name, gradient in bench.gradients(number):
            adversarial = gradient if adversarial is None else adversarial
            moments[name].add(gradient, adversarial)
        print(f"batch {number + 1} of {batches}", flush=True)
    return moments


def report(moments: Mapping[str, Moments], about: str) -> tuple[str, dict]:
    """The page, and what it holds as JSON does."""
    found, rows = {}, []
    for name, own in moments.items():
        signal = max(own.signal_squared, 0.0) ** 0.5
        entry = {"norm": own.norm, "signal": signal, "share": signal**2 / own.norm**2 if own.norm else 0.0}
        angle = cosine(own, moments[ADVERSARIAL])
        entry["cosine"] = None if angle != angle else max(-1.0, min(1.0, angle))
        found[name] = entry
        told = "" if entry["cosine"] is None else f"{entry['cosine']:+.2f}"
        rows.append((name, f"{own.norm:.3g}", f"{signal:.3g}", f"{entry['share']:.2f}", told))
    columns = ("term, at weight 1", "norm", "signal", "share", "cosine with the adversarial term")
    lines = ["# Gradients of LocalGAN's terms", "", about, "", number_table(columns, rows), ""]
    return "\n".join(lines), found


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--dataset", required=True)
    parser.add_argument("--generator", required=True, help="folder of a trained generator")
    parser.add_argument("--discriminator", required=True, help="folder of a trained discriminator")
    parser.add_argument("--energy", required=True, nargs="+", metavar="NAME=FOLDER", help="trained energies")
    parser.add_argument("--batches", type=int, default=20)
    parser.add_argument("--batch", type=int, default=64, help="pairs of a batch")
    parser.add_argument("--output", type=Path, default=Path(__file__).with_suffix(""))
    wanted = parser.parse_args()
    if wanted.batches < 2:
        parser.error("at least 2 batches are needed, for the signal is a product of two")
    if any("=" not in energy for energy in wanted.energy):
        parser.error("--energy is written NAME=FOLDER")
    logging.set_verbosity_error()
    torch.set_num_threads(1)
    model, tokenizer = load_generator(wanted.generator)
    discriminator, _ = load_discriminator(wanted.discriminator)
    energies = {name: load_energy(path)[0] for name, path in (word.split("=", 1) for word in wanted.energy)}
    pairs = load_pairs(wanted.dataset, on_shared="drop")["train"].shuffle(seed=0)
    needed = wanted.batches * wanted.batch
    if len(pairs) < needed:
        parser.error(f"{wanted.dataset} has {len(pairs)} training pairs, and {needed} are needed")
    rows = encode_pairs(pairs, tokenizer)
    with TemporaryDirectory() as folder:
        bench = Bench(rows, model, tokenizer, discriminator, energies, folder, wanted.batch)
        moments = measure(bench, wanted.batches)
    about = f"{wanted.batches} batches of {wanted.batch} training pairs; written by `localgan_gradients.py`."
    text, found = report(moments, about)
    names = [f"{wanted.output.name}{suffix}" for suffix in (".json", ".md")]
    write_report(wanted.output.parent, names, found, text)
    print(text)


if __name__ == "__main__":
    main()
