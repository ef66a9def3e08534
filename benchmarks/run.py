"""Times training and generation of `rnn_seq2seq` beside JoeyNMT, T5 and bare torch. See README.md.

All systems take turns in each round (A B C, A B C, ...), each in a process of its own, on the same batches; what is
reported is the ratio of speeds within a round.
"""

import argparse
import os
import sys
import time
from pathlib import Path

from environment import joeynmt_python
from protocol import Worker
from report import write_results
from variants import EMBEDDING_SIZE, HERE, HIDDEN_SIZE, Variant, variants
from workload import describe, grouped_by_length, make_batches, stretched

GENERATIONS = [  # batch size, beams
    ("greedy, batch 64", 64, 1),
    ("beam 5, batch 64", 64, 5),
    ("greedy, batch 1", 1, 1),
    ("beam 5, batch 1", 1, 5),
]

USUAL = {"rounds": 5, "batches": 10, "vocab": [8_000, 40_000]}
CLOCK_HELP = "`cpu` counts processor time, for machines that others use; only with --threads 1 (default wall)"


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, help="turns of each system (default 5)")
    parser.add_argument("--batches", type=int, help="batches of 64 pairs per turn (default 10)")
    parser.add_argument("--length", type=int, default=20, help="tokens generated per response (default 20)")
    parser.add_argument("--vocab", type=int, nargs="+", choices=[8_000, 40_000], help="words (default both)")
    parser.add_argument("--only", nargs="+", metavar="NAME", help="variants by name; JoeyNMT's are always there")
    parser.add_argument("--threads", type=int, default=os.cpu_count(), help="of each system (default: all)")
    parser.add_argument("--clock", choices=["wall", "cpu"], default="wall", help=CLOCK_HELP)
    parser.add_argument("--quick", action="store_true", help="unless given: 3 rounds of 4 batches, 8,000 words")
    parser.add_argument("--output", type=Path, default=HERE / "results", help="file name without .md and .json")
    options = parser.parse_args()
    usual = {"rounds": 3, "batches": 4, "vocab": [8_000]} if options.quick else USUAL
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
        if getattr(options, name) < 1:
            parser.error(f"--{name} must be at least 1")
    return options


def start(name: str, variant: Variant, joeynmt: Path) -> Worker:
    python = joeynmt if variant.script.startswith("joeynmt") else Path(sys.executable)
    return Worker(python, HERE / variant.script, name, variant.environment)


def time_vocabulary(vocab_size: int, options: argparse.Namespace, joeynmt: Path) -> dict:
    """All figures of one vocabulary size; the processes live from the first line to the last."""
    corpora = os.environ.get("HF_LOCALGAN_DATA")
    batches = make_batches(vocab_size, options.batches, seed=vocab_size, corpora=Path(corpora) if corpora else None)
    chosen = {
        name: variant
        for name, variant in variants(vocab_size).items()
        if options.only is None or name in options.only or name.startswith("joeynmt")
    }
    workers, result = {}, {"vocab_size": vocab_size, "batches": describe(batches), "systems": {}}
    try:
        for name, variant in chosen.items():
            workers[name] = start(name, variant, joeynmt)
            result["systems"][name] = {"title": variant.title, "reference": variant.reference}
            result["systems"][name] |= prepare(workers[name], variant, vocab_size, batches)
            print(f"{vocab_size:,} words: {variant.title} is ready", flush=True)
        result["training"] = time_training(workers, options.rounds, options.clock, result["batches"]["tokens"])
        result["generation"] = time_generation(workers, chosen, options)
    finally:
        for worker in workers.values():
            worker.close()
    return result


def prepare(worker: Worker, variant: Variant, vocab_size: int, batches: list) -> dict:
    """Builds the system, warms it up, and measures its memory and, where there is a fast loss, its gradients."""
    sizes = {"vocab_size": vocab_size, "hidden_size": HIDDEN_SIZE, "embedding_size": EMBEDDING_SIZE}
    facts = {"parameters": worker.ask("build", **variant.build, **sizes)["parameters"]}
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
    facts |= {key: worker.ask("memory", key=load)["peak"] for key, load in (("peak", "one"), ("peak_long", "long"))}
    if variant.build.get("kind") in ("bare", "transformers") and variant.build["loop"].get("loss") != "plain":
        difference = worker.ask("gradient_difference", key="one")
        facts |= {"gradient_relative": difference["relative"], "gradient_largest": difference["largest"]}
    worker.ask("train", key="all")  # warm
    return facts


def time_training(workers: dict[str, Worker], rounds: int, clock: str, tokens: int) -> dict[str, list[float]]:
    """Target tokens per second of each system in each round."""
    speeds = {name: [] for name in workers}
    for number in range(rounds):
        started = time.perf_counter()
        for name in workers:
            speeds[name].append(tokens / workers[name].ask("train", key="all")[clock])
        print(f"training round {number + 1} of {rounds}: {time.perf_counter() - started:.0f} s", flush=True)
    return speeds


def time_generation(workers: dict, chosen: dict[str, Variant], options: argparse.Namespace) -> dict:
    """Tokens per second of each system in each round, by mode."""
    results = {}
    for mode, size, beams in GENERATIONS:
        able = [name for name, variant in chosen.items() if variant.generates and (beams == 1 or variant.beams)]
        request = {"key": "one" if size > 1 else "single", "beams": beams, "length": options.length}
        for name in able:
            workers[name].ask("generate", **request)  # warm
        speeds = {name: [] for name in able}
        for _ in range(options.rounds):
            for name in able:
                answer = workers[name].ask("generate", **request)
                speeds[name].append(answer["tokens"] / answer[options.clock])
        results[mode] = speeds
        print(f"{mode} is done", flush=True)
    return results


def main():
    options = arguments()
    os.environ["OMP_NUM_THREADS"] = str(options.threads)
    joeynmt = joeynmt_python(HERE / ".joeynmt")
    settings = {name: getattr(options, name) for name in ("rounds", "batches", "length", "threads", "clock")}
    results = [time_vocabulary(vocab_size, options, joeynmt) for vocab_size in options.vocab]
    write_results(options.output, settings, results)
    print(options.output.with_suffix(".md").read_text())


if __name__ == "__main__":
    main()
