"""Times training and generation of `rnn_seq2seq` beside JoeyNMT, T5 and bare torch. See README.md.

All systems take turns in each round (A B C, A B C, ...), each in a process of its own, on the same batches; what is
reported is the ratio of speeds within a round. There are as many rounds as the minutes allow.
"""

import argparse
import os
import sys
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from environment import joeynmt_python
from machine import described_processor
from protocol import Worker
from report import write_results
from variants import EMBEDDING_SIZE, HERE, HIDDEN_SIZE, HUGE_PAGES, Variant, variants
from workload import describe, grouped_by_length, make_batches, stretched

GENERATIONS = [  # batch size, beams, and the share of the time that is left for what comes from it on
    ("greedy, batch 64", 64, 1, 0.2),
    ("beam 5, batch 64", 64, 5, 0.7),
    ("greedy, batch 1", 1, 1, 0.3),
    ("beam 5, batch 1", 1, 5, 1.0),
]
TRAINING = 0.6  # of the time of a vocabulary, once its systems are ready
COSTS = {8_000: 1.0, 40_000: 2.5}  # of a vocabulary in time, relative to the other

BATCHES = {8_000: 6, 40_000: 3}  # in a round, whose times are then not far apart
LEAST, MOST = 3, 5  # rounds
USUAL = {"minutes": 24.0, "vocab": [8_000, 40_000]}
CLOCK_HELP = "`cpu` counts processor time, for machines that others use; only with --threads 1 (default wall)"


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, help=f"turns of each system (default {LEAST} to {MOST})")
    parser.add_argument(
        "--minutes", type=float, help=f"for all: rounds after the first {LEAST} begin only if they fit (default 24)"
    )
    parser.add_argument("--batches", type=int, help="batches of 64 pairs per turn (default 6, and 3 of 40,000 words)")
    parser.add_argument("--length", type=int, default=20, help="tokens generated per response (default 20)")
    parser.add_argument("--vocab", type=int, nargs="+", choices=[8_000, 40_000], help="words (default both)")
    parser.add_argument("--only", nargs="+", metavar="NAME", help="variants by name; JoeyNMT's are always there")
    parser.add_argument("--huge-pages", action="store_true", help="two systems once more with pages of 2 MiB")
    parser.add_argument("--threads", type=int, default=os.cpu_count(), help="of each system (default: all)")
    parser.add_argument("--clock", choices=["wall", "cpu"], default="wall", help=CLOCK_HELP)
    parser.add_argument("--quick", action="store_true", help="unless given: 3 rounds of 4 batches, 8,000 words")
    parser.add_argument("--output", type=Path, default=HERE / "results", help="file name without .md and .json")
    options = parser.parse_args()
    usual = {"rounds": LEAST, "batches": 4, "minutes": 24.0, "vocab": [8_000]} if options.quick else USUAL
    for name, value in usual.items():
        if getattr(options, name) is None:
            setattr(options, name, value)
    known = variants(8_000)
    unknown = sorted(set(options.only or ()) - set(known))
    if unknown:
        parser.error(f"no variant named {', '.join(unknown)}; there are {', '.join(known)}")
    if options.clock == "cpu" and options.threads != 1:
        parser.error("--clock cpu needs --threads 1, for threads that wait count as working")
    for name in ("rounds", "batches", "length", "threads"):
        value = getattr(options, name)
        if value is not None and value < 1:
            parser.error(f"--{name} must be at least 1")
    if options.minutes <= 0:
        parser.error("--minutes must be above 0")
    return options


def start(name: str, variant: Variant, joeynmt: Path) -> Worker:
    python = joeynmt if variant.script.startswith("joeynmt") else Path(sys.executable)
    return Worker(python, HERE / variant.script, name, variant.environment)


def wanted_variants(vocab_size: int, options: argparse.Namespace, bf16: bool) -> dict[str, Variant]:
    """The variants that are asked for: JoeyNMT's are in every run, those with huge pages if they are named."""
    wanted = {}
    for name, variant in variants(vocab_size, bf16).items():
        if variant.environment == HUGE_PAGES and not options.huge_pages and name not in (options.only or ()):
            continue
        if options.only is None or name in options.only or name.startswith("joeynmt"):
            wanted[name] = variant
    return wanted


def turns(rounds: int | None, until: float) -> Iterator[int]:
    """Numbers of rounds, from 0 on.

    Args:
        rounds: how many; `None` for `LEAST` of them, and up to `MOST` while another one will have ended in time.
        until: when, in seconds of `time.monotonic`.
    """
    least, most = (LEAST, MOST) if rounds is None else (rounds, rounds)
    longest = 0.0
    for number in range(most):
        started = time.monotonic()
        if number >= least and started + longest > until:
            return
        yield number
        longest = max(longest, time.monotonic() - started)


def part_of(share: float, until: float) -> float:
    """When a share of the time between now and `until` is over, in seconds of `time.monotonic`."""
    now = time.monotonic()
    return now + share * max(until - now, 0.0)


def time_vocabulary(
    vocab_size: int, named: dict[str, Variant], options: argparse.Namespace, joeynmt: Path, until: float
) -> dict:
    """All figures of one vocabulary size; the processes live from the first line to the last."""
    corpora = os.environ.get("HF_LOCALGAN_DATA")
    number = options.batches or BATCHES[vocab_size]
    batches = make_batches(vocab_size, number, seed=vocab_size, corpora=Path(corpora) if corpora else None)
    started: dict[str, Worker] = {}
    result = {"vocab_size": vocab_size, "batches": describe(batches), "systems": {}}

    def built(name: str) -> dict:
        started[name] = start(name, named[name], joeynmt)
        sizes = {"vocab_size": vocab_size, "hidden_size": HIDDEN_SIZE, "embedding_size": EMBEDDING_SIZE}
        return {"parameters": started[name].ask("build", **named[name].build, **sizes)["parameters"]}

    try:
        # Importing takes one core of each; what comes then takes all.
        with ThreadPoolExecutor(os.cpu_count()) as pool:
            facts = dict(zip(named, pool.map(built, named), strict=True))
        for name, variant in named.items():
            facts[name] |= prepare(started[name], variant, batches)
            result["systems"][name] = {"title": variant.title, "reference": variant.reference, **facts[name]}
            print(f"{vocab_size:,} words: {variant.title} is ready", flush=True)
        workers = {name: started[name] for name in named}
        result["training"] = time_training(workers, options, result["batches"]["tokens"], part_of(TRAINING, until))
        result["generation"] = time_generation(workers, named, options, until)
    finally:
        for worker in started.values():
            worker.close()
    return result


def prepare(worker: Worker, variant: Variant, batches: list) -> dict:
    """Warms a system up, and measures its memory and, where there is a fast loss, its gradients."""
    whole = grouped_by_length(batches) if variant.grouped else batches
    # Memory is that of a random batch for all, with and without one target of twice the length.
    loads = {
        "all": whole,
        "one": batches[:1],
        "long": [stretched(batches[0])],
        "single": [[pair] for pair in batches[0][:4]],
    }
    for key, some in loads.items():
        worker.ask("load", key=key, batches=some)
    worker.ask("train", key="one")
    facts = {key: worker.ask("memory", key=load)["peak"] for key, load in (("peak", "one"), ("peak_long", "long"))}
    if variant.build.get("kind") in ("bare", "transformers") and variant.build["loop"].get("loss") != "plain":
        difference = worker.ask("gradient_difference", key="one")
        facts |= {"gradient_relative": difference["relative"], "gradient_largest": difference["largest"]}
    worker.ask("train", key="all")  # warm
    return facts


def time_training(
    workers: dict[str, Worker], options: argparse.Namespace, tokens: int, until: float
) -> dict[str, list[float]]:
    """Target tokens per second of each system in each round."""
    speeds = {name: [] for name in workers}
    for number in turns(options.rounds, until):
        started = time.perf_counter()
        for name in workers:
            speeds[name].append(tokens / workers[name].ask("train", key="all")[options.clock])
        print(f"training round {number + 1}: {time.perf_counter() - started:.0f} s", flush=True)
    return speeds


def time_generation(
    workers: dict[str, Worker], named: dict[str, Variant], options: argparse.Namespace, until: float
) -> dict:
    """Tokens per second of each system in each round, by mode."""
    results = {}
    for mode, size, beams, share in GENERATIONS:
        able = [name for name, variant in named.items() if variant.generates and (beams == 1 or variant.beams)]
        request = {"key": "one" if size > 1 else "single", "beams": beams, "length": options.length}
        began, mode_until = time.perf_counter(), part_of(share, until)
        for name in able:
            workers[name].ask("generate", **request)  # warm
        speeds = {name: [] for name in able}
        for _ in turns(options.rounds, mode_until):
            for name in able:
                answer = workers[name].ask("generate", **request)
                speeds[name].append(answer["tokens"] / answer[options.clock])
        results[mode] = speeds
        rounds = len(speeds[able[0]])
        print(f"{mode}, {rounds} rounds: {time.perf_counter() - began:.0f} s", flush=True)
    return results


def main():
    options = arguments()
    os.environ["OMP_NUM_THREADS"] = str(options.threads)
    import torch

    from hf_localgan.models.rnn_seq2seq.precision_rnn_seq2seq import processor_has

    joeynmt = joeynmt_python(HERE / ".joeynmt")
    ends = time.monotonic() + 60 * options.minutes
    settings = {name: getattr(options, name) for name in ("length", "threads", "clock")}
    results, sizes = [], list(options.vocab)
    while sizes:
        share = COSTS[sizes[0]] / sum(COSTS[size] for size in sizes)
        named = wanted_variants(sizes[0], options, processor_has(torch.bfloat16))
        results.append(time_vocabulary(sizes.pop(0), named, options, joeynmt, part_of(share, ends)))
    write_results(options.output, {**settings, "processor": described_processor()}, results)
    print(options.output.with_suffix(".md").read_text())


if __name__ == "__main__":
    main()
