"""What adversarial training costs beside maximum likelihood: rollouts, phases of the trainer, epochs.

    python benchmarks/localgan.py [--quick] [--device cuda] [--output benchmarks/localgan]

The recipes' generator, batches of 64 pairs of 15 tokens, 8,000 and 40,000 words. In each round all take a turn: first
rollouts with their gradient and teacher-forced passes, then updates of `MleTrainer` and both phases of
`LocalGanTrainer`. Ratios are made within a round; told are their median, smallest and largest. On a processor the time
is that of one thread, elsewhere that of the wall. Writes `OUTPUT.md` and `OUTPUT.json`.
"""

import os

os.environ.setdefault("OMP_NUM_THREADS", "1")  # before numpy and torch are imported: one core is timed
os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")

import argparse
import json
import platform
import statistics
import tempfile
from pathlib import Path

import torch
from localgan_phases import DISCRIMINATOR, ENDING, GENERATOR, MLE, PARTS, WORDS, Setting, measure_phases
from localgan_rollout import TOKENS, Clock, measure_rollouts, ratios, report_rollouts
from tables import number_table, spread
from transformers import logging
from workload import BATCH_SIZE

from hf_localgan.files import replacing

OPENSUBTITLES = 5_200_000  # pairs of the LocalGAN paper
AIMS = {GENERATOR: 2.5, DISCRIMINATOR: 0.8}  # times an update of `MleTrainer`, for rollouts as long as the references


def report_phases(found: dict) -> list[str]:
    whole, lengths = found["whole"], found["lengths"]
    fields = ", ".join(f"{steps:.0f} ({shape})" for shape, steps in found["mean_field_steps"].items())
    lines = [
        f"The energies' mean field took {fields} steps on average.", "",
    ]  # fmt: skip
    rows = []
    for name, players in whole.items():
        for player, times in players.items():
            aim = AIMS.get(player, "") if lengths.get(name) == TOKENS else ""
            rows.append((
                name, lengths.get(name, ""), player, spread([1e3 * value for value in times["update"]], ".1f"),
                spread(ratios(times["update"], whole[MLE][MLE]["update"]), ".2f"), aim,
            ))  # fmt: skip
    columns = ("trainer", "rollout, steps", "update of", "ms", "ratio to MleTrainer", "aim")
    return [*lines, number_table(columns, rows, "<><>")]


def report_parts(found: dict) -> list[str]:
    """Medians of every part, and its share of the update."""
    rows = []
    for name, players in found["parts"].items():
        for player, times in players.items():
            medians = [statistics.median(times[part]) for part in PARTS]
            whole = sum(medians)
            cells = [f"{1e3 * value:.1f} ({value / whole:.0%})" if value else "" for value in medians]
            rows.append((name, player, *cells, f"{1e3 * whole:.1f}"))
    return [number_table(("trainer", "update of", *(f"{part}, ms" for part in PARTS), "sum, ms"), rows, "<<>")]


def report_epochs(found: dict) -> list[str]:
    """Epochs of the paper's number of pairs, from the medians of the updates with loading and collating."""
    updates = OPENSUBTITLES / BATCH_SIZE
    mle = found["whole"][MLE][MLE]["period"]
    lines = [
        f"{OPENSUBTITLES:,} pairs are {updates:,.0f} batches of {BATCH_SIZE}. An epoch of `MleTrainer` is as many "
        f"updates of {1e3 * statistics.median(mle):.1f} ms, loading included: "
        f"{updates * statistics.median(mle) / 3600:.1f} hours. In an adversarial epoch every other batch is the "
        "discriminator's, so that it is half as many updates of each.", "",
    ]  # fmt: skip
    rows = []
    for name, players in found["whole"].items():
        if name == MLE:
            continue
        both = [sum(pair) for pair in zip(*(players[who]["period"] for who in AIMS), strict=True)]
        hours = updates * statistics.median(both) / 3600
        epochs = spread([value / 2 for value in ratios(both, mle)], ".2f")
        rows.append((name, epochs, f"{hours / 2:.1f}", f"{hours:.1f}"))
    columns = (
        "trainer", "adversarial epoch / MLE epoch", "adversarial epoch, hours",
        "with as many updates of the generator as the MLE epoch has, hours",
    )  # fmt: skip
    return [*lines, number_table(columns, rows)]


def report(about: dict, settings: list[dict]) -> str:
    time = "Processor time" if about["clock"] == "cpu" else "Time of the wall"
    threads = f"{about['threads']} thread{'s' if about['threads'] > 1 else ''}"
    where = f"{about['machine']}, {threads}" if about["device"] == "cpu" else about["device_name"]
    lines = [
        "# What adversarial training costs", "",
        f"{time} ({where}, torch {about['torch']}), medians over {about['rounds']} rounds (smallest to largest). The "
        f"generator of the recipes (GRU of 256, embeddings of 256, general attention, tied output layer, float32), "
        f"batches of {BATCH_SIZE} pairs of {TOKENS} tokens without padding. The generator is untrained and hardly ever "
        "ends a response, so that every rollout has all of its steps; "
        f'of "{ENDING}" every {WORDS}th word ends one, and what has ended is not computed.',
    ]  # fmt: skip
    for setting in settings:
        lines += [
            "", f"## {setting['vocabulary']:,} words", "",
            f"### Rollouts of {TOKENS} steps", "",
            "Forward and backward from a given gradient of the weights over tokens, beside teacher-forced passes. The "
            "peak is of everything that forward and backward allocate, the parameters' gradients among it; what is "
            "kept for the backward does not count the gradients that the fast loss makes ahead.", "",
            *report_rollouts(setting["rollouts"]), "",
            "### Updates of the trainers", "",
            "A whole update: forward, backward, clipping, optimizer. Default preset: convolutional discriminator, 64 "
            "best tokens, straight-through; paper: discriminator made of the energy, softmax over all words, no "
            "teacher forcing.", "",
            *report_phases(setting["phases"]), "",
            "Where the time goes (medians, in rounds of their own):", "",
            *report_parts(setting["phases"]), "",
            "### Epochs", "",
            *report_epochs(setting["phases"]),
        ]  # fmt: skip
    return "\n".join(lines) + "\n"


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=9)
    parser.add_argument("--calls", type=int, default=3, help="of everything in a round of the rollouts")
    parser.add_argument("--steps", type=int, default=4, help="updates of each player in a round of the trainers")
    parser.add_argument("--energy-steps", type=int, default=300, help="updates of the energies before")
    parser.add_argument("--vocabulary", type=int, nargs="+", default=[8_000, 40_000], help="words")
    parser.add_argument("--quick", action="store_true", help="8,000 words, 2 rounds of few steps")
    parser.add_argument("--device", default="cpu", help="cpu or cuda")
    parser.add_argument("--clock", choices=("cpu", "wall"), help="by default cpu on the processor, wall elsewhere")
    parser.add_argument("--threads", type=int, default=1, help="of torch")
    parser.add_argument("--output", type=Path, default=Path(__file__).with_name("localgan"))
    wanted = parser.parse_args()
    if wanted.quick:
        wanted.rounds, wanted.calls, wanted.steps, wanted.energy_steps, wanted.vocabulary = 2, 1, 2, 60, [8_000]
    torch.set_num_threads(wanted.threads)
    logging.set_verbosity_error()
    clock = Clock(wanted.clock or ("cpu" if wanted.device == "cpu" else "wall"), wanted.device)
    settings = []
    for vocabulary in wanted.vocabulary:
        rollouts = measure_rollouts(vocabulary, wanted.device, clock, wanted.rounds, wanted.calls)
        print(f"{vocabulary:,} words: rollouts are done", flush=True)
        with tempfile.TemporaryDirectory() as folder:
            setting = Setting(vocabulary, wanted.device, folder, wanted.steps, wanted.energy_steps)
            phases = measure_phases(setting, clock, wanted.rounds)
        settings.append({"vocabulary": vocabulary, "rollouts": rollouts, "phases": phases})
    about = {
        "rounds": wanted.rounds, "calls": wanted.calls, "steps": wanted.steps, "energy_steps": wanted.energy_steps,
        "device": wanted.device, "clock": clock.kind, "threads": wanted.threads, "machine": platform.machine(),
        "device_name": "" if wanted.device == "cpu" else torch.cuda.get_device_name(), "torch": torch.__version__,
    }  # fmt: skip
    text = report(about, settings)
    with replacing(wanted.output.with_suffix(".md")) as path:
        path.write_text(text, encoding="utf-8")
    with replacing(wanted.output.with_suffix(".json")) as path:
        path.write_text(json.dumps({"about": about, "settings": settings}, indent=1) + "\n", encoding="utf-8")
    print(text)


if __name__ == "__main__":
    main()
