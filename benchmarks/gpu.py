"""What a GPU does with the package in ten minutes: agreement with the processor, updates, generation, memory.

    python benchmarks/gpu.py [--minutes 10] [--vocabulary 8000 40000] [--output benchmarks/gpu]
    python benchmarks/gpu.py --device cpu --quick    # goes through all of it on a processor; says nothing of speed

First the same batch goes through the processor and the device: losses, gradients, the discriminator, the energy, greedy
answers. Then come updates of `MleTrainer`, of T5 with as many parameters, of `RamlTrainer` and of both players of
`LocalGanTrainer`, and greedy decoding and five beams, in float32 and bfloat16, in batches that grow fourfold until the
memory is full or an update takes longer than it may. What the time does not reach is called "not run". Writes
`OUTPUT.md` and `OUTPUT.json` after every system.
"""

import argparse
import gc
import json
import logging
import platform
import statistics
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from pathlib import Path

import torch
import transformers
from datasets import Dataset
from localgan_phases import (
    DISCRIMINATOR,
    GENERATOR,
    MLE,
    SHAPES,
    Setting,
    Timed,
    make_energy,
    make_rows,
    make_tokenizer,
    make_vectors,
)
from localgan_rollout import TOKENS, Clock, make_generator
from tables import number_table
from torch_worker import make_t5
from transformers import DataCollatorForSeq2Seq, PreTrainedModel
from workload import BOS, EOS, PAD

from hf_localgan import (
    DbmModel,
    HammingPayoff,
    LocalGanConfig,
    LocalGanTrainer,
    MleConfig,
    MleTrainer,
    PairDiscriminator,
    PairDiscriminatorConfig,
    RamlConfig,
    RamlTrainer,
    regular_tokens,
)
from hf_localgan.files import replacing

FACTOR = 4  # from one batch size to the next
LONGEST = 20.0  # seconds of one measurement, above which batches grow no further
NEW_TOKENS = 20
T5_LAYERS = {
    8_000: (2, 256),
    40_000: (6, 512),
}  # layers and width inside, for as many parameters as the recurrent model
ENDED = "no memory", "too long", "not run"


@dataclass
class Cell:
    """One measurement.

    Attributes:
        task: "update" or "generation".
        system: what was measured.
        vocabulary: number of words.
        dtype: "float32" or "bfloat16".
        batch: number of pairs.
        seconds: of an update or of one call of `generate`, median.
        period: seconds from one update to the next, with loader and collator; 0 for generation.
        tokens: target tokens of the batch.
        peak: bytes of the device at their highest; 0 on a processor.
        ended: one of `ENDED` where there is no measurement, otherwise empty.
    """

    task: str
    system: str
    vocabulary: int
    dtype: str
    batch: int
    seconds: float = 0.0
    period: float = 0.0
    tokens: int = 0
    peak: int = 0
    ended: str = ""


@dataclass
class Bench:
    """What all measurements share.

    Attributes:
        device: "cpu" or "cuda".
        deadline: when nothing new is begun, on the clock of `time.monotonic`.
        smallest, largest: batch sizes.
        updates: that are counted in each measurement.
        folder: that trainers may write to.
    """

    device: str
    deadline: float
    smallest: int
    largest: int
    updates: int
    folder: str

    def __post_init__(self):
        self.clock = Clock("wall", self.device)

    def batches(self) -> Iterator[int]:
        batch = self.smallest
        while batch <= self.largest:
            yield batch
            batch *= FACTOR

    def grow(self, cell: Cell, measure: Callable[[Cell], None]) -> list[Cell]:
        """Measures with larger and larger batches until one of `ENDED` comes."""
        cells = []
        for batch in self.batches():
            now = Cell(cell.task, cell.system, cell.vocabulary, cell.dtype, batch)
            cells.append(now)
            began = time.monotonic()
            if began > self.deadline:
                now.ended = "not run"
                break
            try:
                if self.device != "cpu":
                    torch.cuda.reset_peak_memory_stats()
                measure(now)
                now.peak = 0 if self.device == "cpu" else torch.cuda.max_memory_allocated()
            except torch.OutOfMemoryError:
                now.ended = "no memory"
            gc.collect()
            if self.device != "cpu":
                torch.cuda.empty_cache()
            if now.ended or time.monotonic() - began > LONGEST:
                if not now.ended and batch * FACTOR <= self.largest:
                    cells.append(
                        Cell(cell.task, cell.system, cell.vocabulary, cell.dtype, batch * FACTOR, ended="too long")
                    )
                break
        return cells

    def arguments(self, batch: int, dtype: str, **others) -> dict:
        return {
            "output_dir": self.folder, "use_cpu": self.device == "cpu", "save_strategy": "no",
            "logging_strategy": "no", "disable_tqdm": True, "sample_rows": 0, "num_train_epochs": 1,
            "per_device_train_batch_size": batch, "bf16": dtype == "bfloat16",
            "tf32": None if self.device == "cpu" else False, **others,
        }  # fmt: skip


class Updates:
    """Updates of all trainers at one size of the vocabulary."""

    def __init__(self, bench: Bench, vocabulary: int, energy_steps: int):
        self.bench, self.vocabulary = bench, vocabulary
        self.tokenizer = make_tokenizer(vocabulary)
        setting = Setting(vocabulary, bench.device, bench.folder, 1, energy_steps)
        self.energy, _ = make_energy(setting, "default", self.tokenizer)
        self.vectors = make_vectors(vocabulary, SHAPES["default"]["size"])
        self.rivals: dict[int, dict[str, float]] = {}  # of the discriminator, by batch size

    def systems(self) -> dict[str, Callable[[Cell, Dataset], MleTrainer]]:
        return {
            "MleTrainer": lambda cell, rows: self.mle(cell, rows, self.generator()),
            "MleTrainer, T5, our loss": lambda cell, rows: self.mle(cell, rows, self.t5()),
            "MleTrainer, T5, its own loss": lambda cell, rows: self.mle(cell, rows, self.t5(), fast_loss=False),
            "RamlTrainer, Hamming": self.raml,
            "LocalGanTrainer": self.localgan,
        }

    def measure_all(self, dtypes: list[str]) -> Iterator[list[Cell]]:
        for dtype in dtypes:
            for name, make in self.systems().items():
                cells = self.bench.grow(
                    Cell("update", name, self.vocabulary, dtype, 0),
                    lambda cell, make=make: self.measure(cell, make),  # type: ignore[misc]
                )
                yield self.by_player(cells)

    def measure(self, cell: Cell, make: Callable[[Cell, Dataset], MleTrainer]):
        players = 2 if cell.system == "LocalGanTrainer" else 1
        count = players * (self.bench.updates + 2) * cell.batch  # the first warms up, the last has no period
        rows = make_rows(self.vocabulary, min(count, 4096))
        rows = rows.select([number % len(rows) for number in range(count)])
        timed = Timed(make(cell, rows), self.bench.clock)
        found = timed.train(by_parts=False)
        first = found.get(GENERATOR) or found[MLE]
        cell.seconds, cell.period, cell.tokens = first["update"], first["period"], cell.batch * TOKENS
        if DISCRIMINATOR in found:
            self.rivals[cell.batch] = found[DISCRIMINATOR]

    def by_player(self, cells: list[Cell]) -> list[Cell]:
        """A trainer of two players has a row for each."""
        if cells[0].system != "LocalGanTrainer":
            return cells
        rows = []
        for player in (GENERATOR, DISCRIMINATOR):
            for cell in cells:
                row = Cell(**{**asdict(cell), "system": f"{cell.system}, {player}"})
                if player == DISCRIMINATOR and not cell.ended:
                    found = self.rivals[cell.batch]
                    row.seconds, row.period = found["update"], found["period"]
                rows.append(row)
        self.rivals.clear()
        return rows

    def generator(self) -> PreTrainedModel:
        return make_generator(self.vocabulary, self.bench.device)

    def t5(self) -> PreTrainedModel:
        layers, width = T5_LAYERS.get(self.vocabulary, (1, 64))
        torch.manual_seed(1)
        return make_t5(self.vocabulary, 256, 256, layers, width).to(self.bench.device)

    def shared(self, rows: Dataset) -> dict:
        collator = DataCollatorForSeq2Seq(self.tokenizer)
        return {"train_dataset": rows, "data_collator": collator, "processing_class": self.tokenizer}

    def mle(self, cell: Cell, rows: Dataset, model: PreTrainedModel, **own) -> MleTrainer:
        args = MleConfig(**self.bench.arguments(cell.batch, cell.dtype, learning_rate=1e-5, **own))
        return MleTrainer(model, args, **self.shared(rows))

    def raml(self, cell: Cell, rows: Dataset) -> MleTrainer:
        args = RamlConfig(**self.bench.arguments(cell.batch, cell.dtype, learning_rate=1e-5))
        payoff = HammingPayoff(regular_tokens(self.tokenizer), temperature=0.4)
        return RamlTrainer(self.generator(), args, payoff=payoff, **self.shared(rows))

    def localgan(self, cell: Cell, rows: Dataset) -> MleTrainer:
        args = LocalGanConfig(**self.bench.arguments(cell.batch, cell.dtype, discriminator_warmup_steps=0))
        return LocalGanTrainer(
            self.generator(), args, discriminator=make_discriminator(self.vocabulary, self.vectors),
            energy=self.energy, **self.shared(rows),
        )  # fmt: skip


def make_discriminator(vocabulary: int, vectors: torch.Tensor) -> PairDiscriminator:
    size = vectors.shape[1]
    torch.manual_seed(1)
    return PairDiscriminator(
        PairDiscriminatorConfig(
            vocab_size=vocabulary, vector_size=size, embedding_size=size, share_filters=True, pad_token_id=PAD,
            bos_token_id=BOS, eos_token_id=EOS,
        )
    ).load_vectors(vectors)  # fmt: skip


def measure_generation(bench: Bench, vocabulary: int, models: dict[str, PreTrainedModel], dtype: str):
    """Cells of greedy decoding and five beams, none of which may end early."""
    kind = getattr(torch, dtype)
    for beams in (1, 5):
        for name, model in models.items():
            model = model.to(kind).eval()
            title = f"{name}, {'greedy' if beams == 1 else f'{beams} beams'}"

            def measure(cell: Cell, model=model, beams=beams):
                words = torch.randint(4, vocabulary, (cell.batch, TOKENS), device=bench.device)
                taken = []
                for _ in range(3):
                    began = bench.clock()
                    answers = model.generate(
                        input_ids=words, attention_mask=torch.ones_like(words), num_beams=beams, do_sample=False,
                        max_new_tokens=NEW_TOKENS, eos_token_id=vocabulary,  # which is never chosen
                    )  # fmt: skip
                    taken.append(bench.clock() - began)
                if answers.shape != (cell.batch, NEW_TOKENS + 1):
                    raise RuntimeError(f"{cell.system} gave {tuple(answers.shape)} tokens.")
                cell.seconds, cell.tokens = statistics.median(taken[1:]), cell.batch * NEW_TOKENS

            yield bench.grow(Cell("generation", title, vocabulary, dtype, 0), measure)


def agreement(bench: Bench, vocabulary: int, energy: DbmModel, vectors: torch.Tensor) -> dict[str, float]:
    """How far the device is from the processor on one batch, in float32; bfloat16 is told of the loss alone.

    Returns:
        Relative differences of the loss and of all gradients (Euclidean), largest differences of the discriminator's
        logits and of the radii (nats), the share of equal tokens of greedy answers, and the relative difference of the
        loss under autocast to bfloat16.
    """
    rows = make_rows(vocabulary, 64)
    batch = {name: torch.tensor(rows[name]) for name in ("input_ids", "attention_mask", "labels")}
    discriminator = make_discriminator(vocabulary, vectors).eval()
    found: dict[str, dict[str, torch.Tensor]] = {}
    for device in ("cpu", bench.device):
        model, inputs = make_generator(vocabulary, device).eval(), {name: one.to(device) for name, one in batch.items()}
        loss = model(**inputs).loss
        loss.backward()
        gradients = torch.cat([one.grad.flatten() for one in model.parameters() if one.grad is not None])
        with torch.no_grad():
            with torch.autocast(device, torch.bfloat16):
                rough = model(**inputs).loss
            query = {name: inputs[name] for name in ("input_ids", "attention_mask")}
            logits = discriminator.to(device)(**query, labels=inputs["labels"]).logits
            energy = energy.to(device)
            sides = energy.query_features(**query), energy.response_features(inputs["labels"])
            radii = energy.radius(*sides)
            answers = model.generate(
                **query, do_sample=False, num_beams=1, max_new_tokens=NEW_TOKENS, eos_token_id=vocabulary,
            )  # fmt: skip
        tensors = {
            "loss": loss,
            "gradients": gradients,
            "rough": rough,
            "logits": logits,
            "radii": radii,
            "answers": answers,
        }
        found[device] = {name: tensor.detach().double().cpu() for name, tensor in tensors.items()}
    ours, theirs = found["cpu"], found[bench.device]
    return {
        "loss, relative": ((theirs["loss"] - ours["loss"]).abs() / ours["loss"]).item(),
        "gradients, relative": ((theirs["gradients"] - ours["gradients"]).norm() / ours["gradients"].norm()).item(),
        "discriminator's logits, largest": (theirs["logits"] - ours["logits"]).abs().max().item(),
        "radii, largest (nats)": (theirs["radii"] - ours["radii"]).abs().max().item(),
        "greedy tokens that are equal": (theirs["answers"] == ours["answers"]).double().mean().item(),
        "loss in bfloat16, relative": ((theirs["rough"] - ours["loss"]).abs() / ours["loss"]).item(),
    }


def report(about: dict, agreements: dict[int, dict[str, float]], cells: list[Cell]) -> str:
    lines = [
        "# On a GPU" if about["device"] != "cpu" else "# On a processor, to see that the script goes through", "",
        f"{about['device_name']}, torch {about['torch']}, transformers {about['transformers']}, {about['minutes']:g} "
        f"minutes in all. GRU of 256, embeddings of 256, general attention, tied output layer; pairs of {TOKENS} "
        "tokens without padding. Time of the wall, medians; a period is an update with loader and collator.", "",
        "## Agreement with the processor, float32", "",
        number_table(
            ["", *(f"{size:,} words" for size in agreements)],
            [
                (name, *(f"{found[name]:.2g}" for found in agreements.values()))
                for name in next(iter(agreements.values()), {})
            ],
        ),
    ]  # fmt: skip
    for vocabulary in agreements:
        for task, title in (("update", "Updates"), ("generation", f"Generation of {NEW_TOKENS} tokens")):
            own = [cell for cell in cells if cell.vocabulary == vocabulary and cell.task == task]
            rows = [
                (
                    cell.system, cell.dtype, f"{cell.batch:,}", cell.ended or f"{1e3 * cell.seconds:.1f}",
                    *(("", "", "") if cell.ended else (
                        f"{1e3 * cell.period:.1f}" if cell.period else "", f"{cell.tokens / cell.seconds:,.0f}",
                        f"{cell.peak / 2**30:.2f}" if cell.peak else "",
                    )),
                )
                for cell in own
            ]  # fmt: skip
            columns = ["system", "numbers", "batch", "ms", "period, ms", "tokens a second", "peak, GiB"]
            lines += ["", f"## {title}, {vocabulary:,} words", "", number_table(columns, rows, "<<>")]
    return "\n".join(lines) + "\n"


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--device", default="cuda", help="cuda or cpu")
    parser.add_argument("--minutes", type=float, default=10, help="after which nothing new is begun")
    parser.add_argument("--vocabulary", type=int, nargs="+", default=[8_000, 40_000], help="words")
    parser.add_argument("--batch", type=int, nargs=2, default=[64, 65_536], help="smallest and largest batch")
    parser.add_argument("--updates", type=int, default=8, help="counted in each measurement, of each player")
    parser.add_argument("--energy-steps", type=int, default=200, help="updates of the energy before")
    parser.add_argument("--quick", action="store_true", help="one small batch, two updates")
    parser.add_argument("--output", type=Path, default=Path(__file__).with_name("gpu"))
    wanted = parser.parse_args()
    if wanted.device != "cpu" and not torch.cuda.is_available():
        parser.error(f"--device {wanted.device}: torch finds none here; `--device cpu --quick` goes through the script")
    if wanted.quick:
        wanted.batch, wanted.updates, wanted.energy_steps = [8, 8], 2, 5
    transformers.logging.set_verbosity_error()
    logging.getLogger("hf_localgan").setLevel(logging.ERROR)
    about = {
        "device": wanted.device, "minutes": wanted.minutes, "torch": torch.__version__,
        "device_name": platform.machine() if wanted.device == "cpu" else torch.cuda.get_device_name(),
        "transformers": transformers.__version__,
    }  # fmt: skip
    agreements: dict[int, dict[str, float]] = {}
    cells: list[Cell] = []

    def write():
        content = {"about": about, "agreement": agreements, "cells": [asdict(cell) for cell in cells]}
        for suffix, text in (
            (".md", report(about, agreements, cells)),
            (".json", json.dumps(content, indent=1) + "\n"),
        ):
            with replacing(wanted.output.with_suffix(suffix)) as path:
                path.write_text(text, encoding="utf-8")

    began = time.monotonic()
    with tempfile.TemporaryDirectory() as folder:
        for number, vocabulary in enumerate(wanted.vocabulary, 1):
            # Every size has its share of the time.
            deadline = began + 60 * wanted.minutes * number / len(wanted.vocabulary)
            bench = Bench(wanted.device, deadline, *wanted.batch, wanted.updates, folder)
            updates = Updates(bench, vocabulary, wanted.energy_steps)
            agreements[vocabulary] = agreement(bench, vocabulary, updates.energy, updates.vectors)
            updates.energy.cpu()
            dtypes = ["bfloat16", "float32"]
            for found in updates.measure_all(dtypes):
                cells += found
                write()
            models = {"recurrent": updates.generator(), "T5": updates.t5()}
            for dtype in dtypes:
                for found in measure_generation(bench, vocabulary, models, dtype):
                    cells += found
                    write()
            print(f"{vocabulary:,} words: {time.monotonic() - began:.0f} s", flush=True)
    print(report(about, agreements, cells))


if __name__ == "__main__":
    main()
