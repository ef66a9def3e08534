"""How many sentences a second the samplers of RAML draw on one core, and how that changes with length and vocabulary.

    python benchmarks/payoff.py [--rounds 15] [--output benchmarks/payoff]

Every draw is timed on the same sentences, lists of token ids in and lists out, in processor time. In each round all
take a turn; speeds and ratios are medians over the rounds, with the smallest and the largest. Writes `OUTPUT.md` and
`OUTPUT.json`.
"""

import os

os.environ.setdefault("OMP_NUM_THREADS", "1")  # before numpy is imported: one core is timed

import argparse
import json
import platform
import statistics
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
from tables import number_table, spread
from workload import FIRST_WORD, pair_lengths

from hf_localgan.files import replacing
from hf_localgan.payoff.base import Payoff
from hf_localgan.payoff.edit import EditPayoff
from hf_localgan.payoff.exact_edit import ExactEditPayoff
from hf_localgan.payoff.hamming import HammingPayoff
from hf_localgan.payoff.importance import ImportancePayoff
from hf_localgan.payoff.rewards import SentenceBleu

SENTENCES, LOOP_SENTENCES, CANDIDATES = 8_192, 256, 16
BATCHES = (1_024, 64)
LENGTHS, VOCABULARIES = (10, 30, 100, 300, 1_000), (61, 1_000, 8_000, 80_000, 200_000)
RATE = 0.05  # edits per token, for which the growth tables choose each temperature
# Sentences per second (candidates for importance sampling) at the first setting, in batches of 1,024.
AIMS = {"Hamming": 1_000_000, "edit (Eq. 11)": 150_000, "exact edit": 10_000, "importance (BLEU)": 31_500}
Sentences = list[list[int]]


def make_sentences(lengths: np.ndarray, vocab_size: int, seed: int = 0) -> Sentences:
    rng = np.random.default_rng(seed)
    return [rng.integers(FIRST_WORD, FIRST_WORD + vocab_size, length).tolist() for length in lengths.tolist()]


def make_samplers(vocab_size: int, temperature: float) -> dict[str, Payoff]:
    tokens = range(FIRST_WORD, FIRST_WORD + vocab_size)
    hamming = HammingPayoff(tokens, temperature)
    return {
        "Hamming": hamming,
        "edit (Eq. 11)": EditPayoff(tokens, temperature),
        "exact edit": ExactEditPayoff(tokens, temperature),
        "importance (BLEU)": ImportancePayoff(hamming, SentenceBleu(), CANDIDATES, temperature=0.1),
    }


def in_batches(draw: Callable, sentences: Sentences, size: int) -> Callable[[], None]:
    """Draws once for all sentences, in batches of `size`."""
    keys = np.arange(len(sentences), dtype=np.uint64)
    batches = [(sentences[i : i + size], keys[i : i + size]) for i in range(0, len(sentences), size)]

    def run():
        for labels, some in batches:
            draw(labels, some)

    return run


def one_by_one(payoff: Payoff, sentences: Sentences) -> Callable[[], None]:
    """The plain loop over sentences, with a generator of numpy's."""
    rng = np.random.default_rng(0)

    def run():
        for labels in sentences:
            payoff.sample(labels, rng)

    return run


def unkeyed_draw(payoff: HammingPayoff) -> Callable:
    """What Hamming draws cost without keys: numpy's generator on a padded table, lists in and lists out."""
    rng, (prob, _) = np.random.default_rng(0), payoff._replacement_probs(payoff.temperature)

    def draw(labels, keys):
        lengths = np.fromiter(map(len, labels), np.int64, len(labels))
        drawn = [row[:] for row in labels]
        hits = rng.random((len(labels), int(lengths.max()))) < prob
        rows, positions = np.nonzero(hits)
        tokens = payoff.tokens[rng.integers(len(payoff.tokens), size=len(rows))]  # may repeat the token it replaces
        for row, position, token in zip(rows.tolist(), positions.tolist(), tokens.tolist(), strict=True):
            if position < len(drawn[row]):
                drawn[row][position] = token

    return draw


def unkeyed_table_draw(payoff: HammingPayoff, sentences: Sentences, size: int) -> Callable[[], None]:
    """The same with tables in and out, which somebody else has padded."""
    rng, (prob, _) = np.random.default_rng(0), payoff._replacement_probs(payoff.temperature)
    tables = []
    for start in range(0, len(sentences), size):
        rows = sentences[start : start + size]
        table = np.zeros((len(rows), max(map(len, rows))), dtype=np.int64)
        for target, row in zip(table, rows, strict=True):
            target[: len(row)] = row
        tables.append(table)

    def run():
        for table in tables:
            hits = rng.random(table.shape) < prob
            drawn = table.copy()
            drawn[hits] = payoff.tokens[rng.integers(len(payoff.tokens), size=np.count_nonzero(hits))]

    return run


def make_turns(samplers: dict[str, Payoff], sentences: Sentences) -> dict[str, tuple[Callable[[], None], int]]:
    """What takes turns: `{name: (run, how many sentences or candidates it draws)}`."""
    turns = {}
    few = sentences[:LOOP_SENTENCES]
    for name, payoff in samplers.items():
        times = CANDIDATES if isinstance(payoff, ImportancePayoff) else 1
        some = sentences[: len(sentences) // times]
        draw = payoff.candidates if times > 1 else payoff.draw
        for size in BATCHES:
            turns[f"{name}, batch {size:,}"] = in_batches(draw, some, size), len(some) * times
        some = few[: len(few) // times]
        turns[f"{name}, plain loop"] = one_by_one(payoff, some), len(some) * times
    for size in BATCHES:
        hamming = samplers["Hamming"]
        turns[f"numpy without keys, batch {size:,}"] = in_batches(unkeyed_draw(hamming), sentences, size), SENTENCES
        turns[f"numpy without keys, tables, batch {size:,}"] = (
            unkeyed_table_draw(hamming, sentences, size), len(sentences),
        )  # fmt: skip
    return turns


def seconds(run: Callable[[], None]) -> float:
    start = time.process_time()
    run()
    return time.process_time() - start


def time_turns(turns: dict[str, tuple[Callable[[], None], int]], rounds: int) -> dict[str, list[float]]:
    """Draws per second of each in each round."""
    for run, _ in turns.values():
        run()  # warm: tables are computed here
    speeds = {name: [] for name in turns}
    for _ in range(rounds):
        for name, (run, number) in turns.items():
            speeds[name].append(number / seconds(run))
    return speeds


def describe(samplers: dict[str, Payoff], sentences: Sentences) -> dict[str, float]:
    """Mean number of edits of each sampler's draws."""
    some, keys = sentences[:1_024], np.arange(min(1_024, len(sentences)), dtype=np.uint64)
    return {name: float(payoff.draw(some, keys).edits.mean()) for name, payoff in samplers.items()}


def time_growth(length: int, vocab_size: int, rounds: int) -> dict:
    """Microseconds a sentence takes each sampler, and the milliseconds that its tables take once."""
    sentences = make_sentences(np.full(max(64, 16_384 // length), length), vocab_size)
    tokens = range(FIRST_WORD, FIRST_WORD + vocab_size)
    edit = EditPayoff.for_edit_rate(tokens=tokens, edit_rate=RATE, length=length)
    samplers = {
        "Hamming": HammingPayoff.for_edit_rate(tokens=tokens, edit_rate=RATE),
        "edit (Eq. 11)": edit,
        "exact edit": ExactEditPayoff(tokens, edit.temperature),
    }
    result = {
        "length": length,
        "vocab_size": vocab_size,
        "temperature": edit.temperature,
        "tables": 1e3 * seconds(lambda: edit.edit_probs(length)),
    }
    for name, payoff in samplers.items():
        run = in_batches(payoff.draw, sentences, 64)
        run()
        result[name] = [1e6 * seconds(run) / len(sentences) for _ in range(rounds)]
    return result


def speed_table(setting: dict) -> str:
    rows = []
    for name, speeds in setting["speeds"].items():
        kind = name.split(",")[0]
        loop = setting["speeds"].get(f"{kind}, plain loop", setting["speeds"]["Hamming, plain loop"])
        ratios = [ours / theirs for ours, theirs in zip(speeds, loop, strict=True)]
        edits = f"{setting['edits'][kind]:.2f}" if kind in setting["edits"] else ""
        rows.append([name, edits, spread(speeds, ",.0f"), "" if speeds is loop else spread(ratios, ".1f")])
    return number_table(["draw", "mean edits", "per second", "times the plain loop"], rows)


def aims_table(setting: dict) -> str:
    rows = []
    for kind, aim in AIMS.items():
        reached = statistics.median(setting["speeds"][f"{kind}, batch 1,024"])
        rows.append([kind, f"{reached:,.0f}", f"{aim:,}", "yes" if reached >= aim else "no"])
    return number_table(["sampler, batch 1,024", "per second", "wanted at least", "reached"], rows)


def growth_table(results: list[dict]) -> str:
    names = [name for name, values in results[0].items() if isinstance(values, list)]
    rows = [
        [f"{one['length']:,}", f"{one['vocab_size']:,}", f"{one['temperature']:.3f}", f"{one['tables']:.1f}"]
        + [spread(one[name], ",.1f") for name in names]
        for one in results
    ]
    return number_table(["m", "v", "tau (Eq. 11)", "tables (ms, once)", *(f"{name} (µs)" for name in names)], rows)


def markdown(result: dict) -> str:
    parts = [
        "# Samplers of RAML",
        f"Written by `payoff.py`: processor time of one core, {result['rounds']} rounds, numpy {result['numpy']}, "
        f"Python {result['python']}. Lists of token ids in, lists out. Medians over the rounds (smallest to largest); "
        f"ratios are taken within a round. Importance sampling counts candidates, {CANDIDATES} for each sentence, of "
        "the Hamming sampler. The draws of numpy without keys are Hamming's, for comparison: they cannot be repeated "
        "in another order, and their ratio is to Hamming's plain loop.",
    ]
    for setting in result["settings"]:
        parts += [f"## {setting['title']}", speed_table(setting)]
    parts += ["## Aims", f"At {result['settings'][0]['title']}.", aims_table(result["settings"][0])]
    parts += [
        "## How the cost of a sentence grows",
        f"In batches of 64 sentences of one length, at the temperature at which Eq. 11 makes {RATE} edits per token. "
        "The tables of Eq. 11 are computed once for each length, in time proportional to its square.",
        growth_table(result["lengths"]),
        growth_table(result["vocabularies"]),
    ]
    return "\n\n".join(parts) + "\n"


def measure(rounds: int) -> dict:
    corpora = os.environ.get("HF_LOCALGAN_DATA")
    rng = np.random.default_rng(0)
    lengths = pair_lengths(SENTENCES, rng, Path(corpora) if corpora else None)[:, 1]
    settings = []
    for title, sizes, vocab_size, temperature in (
        (f"Multi30k's lengths ({lengths.mean():.1f} tokens), v = 8,000, tau = 0.85", lengths, 8_000, 0.85),
        ("m = 20, v = 61, tau = 0.9", np.full(SENTENCES, 20), 61, 0.9),
    ):
        sentences = make_sentences(sizes, vocab_size)
        samplers = make_samplers(vocab_size, temperature)
        speeds = time_turns(make_turns(samplers, sentences), rounds)
        settings.append({"title": title, "edits": describe(samplers, sentences), "speeds": speeds})
        print(f"{title}\n{speed_table(settings[-1])}", flush=True)
    return {
        "rounds": rounds,
        "numpy": np.__version__,
        "python": platform.python_version(),
        "machine": platform.machine(),
        "settings": settings,
        "lengths": [time_growth(length, 8_000, rounds) for length in LENGTHS],
        "vocabularies": [time_growth(13, vocab_size, rounds) for vocab_size in VOCABULARIES],
    }


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=15)
    parser.add_argument("--output", type=Path, default=Path(__file__).with_suffix(""))
    options = parser.parse_args()
    if options.rounds < 1:
        parser.error("--rounds must be at least 1")
    result = measure(options.rounds)
    for suffix, text in ((".json", json.dumps(result, indent=1)), (".md", markdown(result))):
        with replacing(options.output.with_suffix(suffix)) as path:
            path.write_text(text, encoding="utf-8")
    print(options.output.with_suffix(".md").read_text(encoding="utf-8"))


if __name__ == "__main__":
    main()
