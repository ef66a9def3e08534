"""What drawing labels costs in a stream that processes and loader workers share, and that the draws stay the same.

    python benchmarks/raml_stream.py [--pairs 100000] [--rounds 5] [--output benchmarks/raml_stream]

Encoded pairs of Multi30k's lengths lie in 16 parquet files and are streamed by `datasets`, split over the processes of
one or several nodes (`split_dataset_by_node`) and over each process's loader workers, in batches of 64. Counted is
processor time of all processes and workers together, for the plain collator and for `RamlCollator`. A sum of hashes of
all drawn labels shows whether every arrangement drew the same. Writes `OUTPUT.md` and `OUTPUT.json`.
"""

import argparse
import json
import multiprocessing
import os
import resource
import statistics
import tempfile
from pathlib import Path

import numpy as np
import pyarrow
import pyarrow.parquet
import torch
from datasets import disable_progress_bars, load_dataset
from datasets.distributed import split_dataset_by_node
from raml_overhead import PAIRS_OF_WMT14, VOCABULARY, make_tokenizer
from tables import number_table, spread
from torch.utils.data import DataLoader
from transformers import DataCollatorForSeq2Seq
from workload import BATCH_SIZE, EOS, FIRST_WORD

from hf_localgan import EditPayoff, HammingPayoff, RamlCollator
from hf_localgan.files import replacing
from hf_localgan.payoff.keys import hash_rows

FILES = 16
ARRANGEMENTS = ((1, 0), (1, 2), (2, 0), (2, 2))  # processes, loader workers of each
COLLATORS = ("plain", "Hamming, tau 0.85", "edit, tau 0.85")


def write_pairs(folder: Path, number: int):
    rng = np.random.default_rng(0)

    def sentences(count: int) -> list[list[int]]:
        lengths = np.clip(np.exp(rng.normal(np.log(12), 0.33, count)), 4, 40).astype(int)
        return [[*rng.integers(FIRST_WORD, VOCABULARY, length).tolist(), EOS] for length in lengths]

    for file in range(FILES):
        count = number // FILES
        columns = {"input_ids": sentences(count), "labels": sentences(count)}
        columns["attention_mask"] = [[1] * len(row) for row in columns["input_ids"]]
        pyarrow.parquet.write_table(pyarrow.table(columns), folder / f"train-{file:02}.parquet")


def read_share(folder: str, collator_name: str, rank: int, processes: int, workers: int, queue) -> None:
    """Reads one process's share of the stream; puts processor seconds, examples, and the sum of hashes of labels."""
    torch.set_num_threads(1)
    disable_progress_bars()
    collator = DataCollatorForSeq2Seq(make_tokenizer())
    tokens = range(FIRST_WORD, VOCABULARY)
    if collator_name != "plain":
        payoff = HammingPayoff(tokens, 0.85) if "Hamming" in collator_name else EditPayoff(tokens, 0.85)
        collator = RamlCollator(collator, payoff, seed=1)
    stream = load_dataset("parquet", data_files=str(Path(folder) / "*.parquet"), split="train", streaming=True)
    stream = split_dataset_by_node(stream, rank, processes)
    # A spawned process would spawn its workers, too, and their imports would be counted.
    context = "fork" if workers else None
    before = _seconds()
    examples, total = 0, 0
    loader = DataLoader(
        stream, batch_size=BATCH_SIZE, collate_fn=collator, num_workers=workers, multiprocessing_context=context
    )
    for batch in loader:
        labels = batch["labels"].numpy()
        rows = [row[row >= 0] for row in labels]
        hashes = hash_rows(np.concatenate(rows), np.array([len(row) for row in rows]))
        total, examples = total + int(hashes.sum(dtype=np.uint64)), examples + len(labels)
    queue.put((_seconds() - before, examples, total % 2**64))  # workers have ended, and count as children


def _seconds() -> float:
    uses = [resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
    return sum(use.ru_utime + use.ru_stime for use in uses)


def measure(folder: str, collator: str, processes: int, workers: int) -> tuple[float, int, int]:
    """Processor seconds, examples and the sum of hashes modulo 2 ** 64, over all processes."""
    context = multiprocessing.get_context("spawn")
    queue = context.Queue()
    running = [
        context.Process(target=read_share, args=(folder, collator, rank, processes, workers, queue))
        for rank in range(processes)
    ]
    for process in running:
        process.start()
    shares = [queue.get(timeout=600) for _ in running]
    for process in running:
        process.join()
    seconds, examples, hashes = (sum(column) for column in zip(*shares, strict=True))
    return seconds, examples, hashes % 2**64


def report(results: dict, pairs: int, rounds: int) -> str:
    lines = [
        "# Drawing labels in a shared stream",
        "",
        f"Processor time of all processes and workers together for one pass over {pairs:,} pairs, {rounds} rounds, "
        "medians (smallest to largest). Reading, splitting and padding are in all of them; what the draws add is the "
        "difference.",
        "",
    ]
    rows = []
    for (processes, workers), by_collator in results.items():
        plain = by_collator["plain"]
        for name in COLLATORS:
            each = [1e6 * seconds / examples for seconds, examples, _ in by_collator[name]]
            added = [one - 1e6 * s / n for one, (s, n, _) in zip(each, plain, strict=True)]
            hours = f"{statistics.median(added) * PAIRS_OF_WMT14 / 3.6e9:.2f}"
            first = results[ARRANGEMENTS[0]][name][0][2]
            same = all(hashes == first for _, _, hashes in by_collator[name])
            extra = (spread(added, ".1f"), hours) if name != "plain" else ("", "")
            draws = "the same" if same else "DIFFERENT"
            rows.append((f"{processes} x {workers}", name, spread(each, ".1f"), *extra, draws))
    columns = (
        "processes x workers", "collator", "microseconds a pair", "added", "added hours for 36 million pairs", "draws",
    )  # fmt: skip
    return "\n".join([*lines, number_table(columns, rows, "<<>>><")]) + "\n"


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--pairs", type=int, default=100_000)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--output", default=str(Path(__file__).parent / "raml_stream"))
    args = parser.parse_args()
    os.environ["TOKENIZERS_PARALLELISM"] = "false"
    results = {arrangement: {name: [] for name in COLLATORS} for arrangement in ARRANGEMENTS}
    with tempfile.TemporaryDirectory() as folder:
        os.environ["HF_DATASETS_CACHE"] = folder
        write_pairs(Path(folder), args.pairs)
        for number in range(args.rounds):
            for arrangement in ARRANGEMENTS:
                for name in COLLATORS:
                    results[arrangement][name].append(measure(folder, name, *arrangement))
            print(f"round {number + 1} of {args.rounds}", flush=True)
    text = report(results, args.pairs // FILES * FILES, args.rounds)
    with replacing(args.output + ".md") as path:
        path.write_text(text, encoding="utf-8")
    with replacing(args.output + ".json") as path:
        rows = [{"processes": p, "workers": w, **by} for (p, w), by in results.items()]
        path.write_text(json.dumps({"pairs": args.pairs, "rounds": args.rounds, "results": rows}, indent=1) + "\n")
    print(text)


if __name__ == "__main__":
    main()
