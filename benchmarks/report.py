"""The tables and the aims, from the speeds of all rounds."""

import json
import platform
import statistics
from pathlib import Path
from typing import NamedTuple

from tables import number_table

from hf_localgan.files import replacing

MIB = 2**20
CLOCKS = {"wall": "Wall time.", "cpu": "Processor time."}


class Ratio(NamedTuple):
    """Speed over speed, round by round."""

    median: float
    smallest: float
    largest: float

    def __str__(self) -> str:
        return f"{self.median:.2f} ({self.smallest:.2f} to {self.largest:.2f})"


def ratio(speeds: dict[str, list[float]], name: str, reference: str) -> Ratio | None:
    if name not in speeds or reference not in speeds:
        return None
    ratios = [ours / theirs for ours, theirs in zip(speeds[name], speeds[reference], strict=True)]
    return Ratio(statistics.median(ratios), min(ratios), max(ratios))


def training_aims(result: dict) -> list[tuple[str, Ratio | None, float]]:
    """What, the ratio reached, and the ratio wanted."""
    speeds, small = result["training"], result["vocab_size"] <= 8_000
    rows = [
        ("float32, random batches, against JoeyNMT", "ours_fast", "joeynmt", 2.0 if small else 3.0),
        ("best settings, against JoeyNMT", "ours_grouped", "joeynmt", 3.5 if small else 4.5),
        ("input feeding, against JoeyNMT's", "ours_fed", "joeynmt_fed", 1.6 if small else 2.7),
        ("float32, against bare torch with the same tricks", "ours_fast", "bare_fast", 0.9),
        ("bf16 head, against bare torch with the same tricks", "ours_bf16", "bare_bf16", 0.9),
        ("best settings, against bare torch with the same tricks", "ours_grouped", "bare_grouped", 0.9),
        ("input feeding, against bare torch with the same tricks", "ours_fed", "bare_fed", 0.9),
        ("best settings and huge pages, against JoeyNMT", "ours_huge", "joeynmt", 3.5 if small else 4.5),
        ("MleTrainer against the same loss in a bare loop", "trainer", "ours_fast", 1 / 1.1),
        ("MleTrainer, best settings, against the same in a bare loop", "trainer_grouped", "ours_grouped", 1 / 1.1),
    ]
    return [(title, ratio(speeds, name, reference), aim) for title, name, reference, aim in rows]


def generation_aims(result: dict) -> list[tuple[str, Ratio | None, float]]:
    small, rows = result["vocab_size"] <= 8_000, []
    for mode, speeds in result["generation"].items():
        if mode.endswith("batch 64"):
            greedy = mode.startswith("greedy")
            against_joeynmt, against_t5 = (1.2 if small or not greedy else 1.0), (1.3 if greedy else 1.5)
            rows.append((f"{mode}, against JoeyNMT", ratio(speeds, "ours_plain", "joeynmt"), against_joeynmt))
            rows.append((f"{mode}, against T5", ratio(speeds, "ours_plain", "t5"), against_t5))
            rows.append(
                (f"{mode}, huge pages, against JoeyNMT", ratio(speeds, "ours_huge", "joeynmt"), against_joeynmt)
            )
    return rows


def _mib(value: float | None) -> str:
    return "" if value is None else f"{value / MIB:,.0f}"


def training_table(result: dict) -> str:
    header = [
        "system", "parameters (M)", "tokens/s", "against JoeyNMT", "peak memory (MiB)",
        "added by twice the length (MiB)", "gradients: relative, largest difference",
    ]  # fmt: skip
    rows = []
    for name, speeds in result["training"].items():
        facts = result["systems"][name]
        grown = None if facts["peak"] is None else facts["peak_long"] - facts["peak"]
        gradients = ""
        if "gradient_relative" in facts:
            gradients = f"{facts['gradient_relative']:.1e}, {facts['gradient_largest']:.1e}"
        against = str(ratio(result["training"], name, facts["reference"]))
        speed = f"{statistics.median(speeds):,.0f}"
        parameters = f"{facts['parameters'] / 1e6:.2f}"
        rows.append([facts["title"], parameters, speed, against, _mib(facts["peak"]), _mib(grown), gradients])
    return number_table(header, rows)


def generation_table(result: dict) -> str:
    modes = result["generation"]
    names = list(dict.fromkeys(name for speeds in modes.values() for name in speeds))
    rows = []
    for name in names:
        row = [
            result["systems"][name]["title"]
            .split(", plain")[0]
            .split(", stock")[0]
            .replace(", bf16 head, grouped", "")
            .replace(", fast loss, grouped", "")
            .removesuffix(", fast loss")
        ]
        for speeds in modes.values():
            against = ratio(speeds, name, result["systems"][name]["reference"])
            row.append("" if against is None else f"{statistics.median(speeds[name]):,.0f} · {against}")
        rows.append(row)
    return number_table(["system", *(f"{mode}: tokens/s · against JoeyNMT" for mode in modes)], rows)


def aims_table(result: dict) -> str:
    rows = [
        [title, str(reached), f"{aim:.2f}", "yes" if reached.median >= aim else "no"]
        for title, reached, aim in (*training_aims(result), *generation_aims(result))
        if reached is not None
    ]
    return number_table(["aim", "median (range)", "wanted at least", "reached"], rows)


def rounds(speeds: dict[str, list[float]]) -> int:
    """How often each system had its turn."""
    return len(next(iter(speeds.values())))


def markdown(settings: dict, results: list[dict]) -> str:
    parts = [
        "# Results",
        f"Written by `run.py`: batches of 64 pairs, {settings['threads']} threads of {settings['processor']}, "
        f"torch {settings['torch']}, transformers {settings['transformers']}. "
        f"{CLOCKS[settings['clock']]} Speeds are medians over rounds; ratios are taken within a round: median "
        "(smallest to largest). Memory is the peak of the process less what it had after its imports.",
    ]
    for result in results:
        batches = result["batches"]
        repeated = [f"{rounds(speeds)} of {mode}" for mode, speeds in result["generation"].items()]
        parts += [
            f"## {result['vocab_size']:,} words",
            f"Targets of {batches['mean_length']:.1f} ± {batches['deviation']:.1f} tokens; padding is "
            f"{batches['padding']:.0%} of a random batch and {batches['padding_grouped']:.0%} of a grouped one.",
            "### Training",
            f"{rounds(result['training'])} rounds of {batches['number']} batches.",
            training_table(result),
            "### Generation",
            f"Rounds: {', '.join(repeated)}.",
            generation_table(result),
            "### Aims",
            aims_table(result),
        ]
    return "\n\n".join(parts) + "\n"


def write_results(output: Path, settings: dict, results: list[dict]):
    """Writes `output`.json and `output`.md."""
    import torch
    import transformers

    settings = {
        **settings,
        "torch": torch.__version__,
        "transformers": transformers.__version__,
        "machine": platform.machine(),
    }
    for suffix, text in (
        (".json", json.dumps({"settings": settings, "results": results}, indent=1)),
        (".md", markdown(settings, results)),
    ):
        with replacing(output.with_suffix(suffix)) as path:
            Path(path).write_text(text, encoding="utf-8")
