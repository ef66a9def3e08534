"""What reading and encoding a large corpus takes: pairs a second of one core, and memory for a million pairs.

    python benchmarks/scale_data.py [--pairs 1000000] [--rounds 5] [--output benchmarks/scale_data]

The pairs are invented: 40,000 words with the frequencies of Zipf's law, sentences, signs and clitics as in English
subtitles. `load_pairs` reads them from JSON lines or parquet beside two splits of 1,000 pairs, of which a tenth are of
the training split, each time in a new process: processor seconds, and what is added to the memory that its imports
take. Then in each round `encode_pairs` and its rivals take turns on the same pairs, counted in processor time of one
thread: `tokenizers` alone, and a plain `Dataset.map` that hands lists of numbers to Arrow. Writes `OUTPUT.md` and
`OUTPUT.json`.
"""

import os

os.environ.setdefault("OMP_NUM_THREADS", "1")  # before numpy is imported: one core is timed
os.environ.setdefault("RAYON_NUM_THREADS", "1")
os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")

import argparse
import json
import shutil
import subprocess
import sys
import tempfile
import threading
import time
import warnings
from pathlib import Path

import datasets
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from datasets import Dataset
from machine import described_processor
from tables import number_table, spread

from hf_localgan import encode_pairs, load_pairs, train_tokenizer
from hf_localgan.files import replacing

WORDS = 40_000
OTHERS, SHARED = 1_000, 100  # pairs of each other split, and those of them whose query is one of the training split
# Of English subtitles: logarithms of a sentence's number of words, and shares of words that a sign or a clitic follows.
LOG_MEAN, LOG_DEVIATION, LONGEST = 1.75, 0.75, 60
ENDINGS = {"": 0.80, ",": 0.075, "'s": 0.04, "n't": 0.025, "...": 0.01, ". And": 0.05}
CLOSINGS = {".": 0.72, "?": 0.18, "!": 0.07, "": 0.03}
TOKENS = {"max_source_length": 64, "max_target_length": 64, "on_long": "drop"}
LOADINGS = ("JSON lines", "parquet", "JSON lines, second start")
ENCODINGS = {
    "encode": "encode_pairs",
    "plain": "Dataset.map with lists",
    "alone": "tokenizers alone",
    "again": "encode_pairs, second start",
}


def sentences(number: int, rng: np.random.Generator, words: np.ndarray) -> list[str]:
    """Invented sentences."""
    lengths = np.exp(rng.normal(LOG_MEAN, LOG_DEVIATION, number)).round().clip(1, LONGEST).astype(int)
    ranks = np.arange(1, len(words) + 1)
    drawn = words[rng.choice(len(words), lengths.sum(), p=(1 / ranks) / (1 / ranks).sum())]
    endings = rng.choice(list(ENDINGS), len(drawn), p=list(ENDINGS.values())).tolist()
    closings = rng.choice(list(CLOSINGS), number, p=list(CLOSINGS.values())).tolist()
    pieces = [word + ending for word, ending in zip(drawn.tolist(), endings, strict=True)]
    texts, start = [], 0
    for length, closing in zip(lengths.tolist(), closings, strict=True):
        text = " ".join(pieces[start : start + length])
        texts.append(text[0].upper() + text[1:] + closing)
        start += length
    return texts


def write_corpus(folder: Path, pairs: int):
    """Writes `train`, `validation` and `test` as JSON lines and as parquet, each into a folder of its own."""
    rng = np.random.default_rng(0)
    spelt = rng.choice(list("etaoinshrdlcumwfgypbvk"), (WORDS * 2, 12))
    sizes = rng.normal(6.8, 2.2, len(spelt)).round().clip(1, 12).astype(int)
    words = np.array(list(dict.fromkeys("".join(row[:size]) for row, size in zip(spelt, sizes, strict=True)))[:WORDS])
    queries: list[str] = []
    for split, number in (("train", pairs), ("validation", OTHERS), ("test", OTHERS)):
        shared = [queries[row] for row in rng.choice(len(queries), SHARED, replace=False)] if queries else []
        own = sentences(number - len(shared), rng, words)
        responses = sentences(number, rng, words)
        rows = {"query": shared + own, "response": responses}
        queries = queries or own
        for name in ("json", "parquet"):
            (folder / name).mkdir(exist_ok=True)
        pq.write_table(pa.table(rows), folder / "parquet" / f"{split}.parquet")
        with (folder / "json" / f"{split}.jsonl").open("w", encoding="utf-8") as file:
            for query, response in zip(*rows.values(), strict=True):
                file.write(json.dumps({"query": query, "response": response}) + "\n")


class Memory:
    """The most memory above what the process had at the start, in bytes.

    Attributes:
        own: of its own: what no file stands behind.
        resident: all of it, pages of mapped files included, which the system takes back where it needs them.
    """

    def __init__(self):
        self.own = self.resident = 0
        self._start, self._ended = self._now(), threading.Event()
        self._watch = threading.Thread(target=self._look, daemon=True)

    def __enter__(self):
        self._watch.start()
        return self

    def __exit__(self, *_):
        self._ended.set()
        self._watch.join()

    def _look(self):
        while not self._ended.wait(0.01):
            own, resident = (now - start for now, start in zip(self._now(), self._start, strict=True))
            self.own, self.resident = max(self.own, own), max(self.resident, resident)

    @staticmethod
    def _now() -> tuple[int, int]:
        status = dict(line.split(":") for line in Path("/proc/self/status").read_text().splitlines())
        return tuple(1024 * int(status[name].split()[0]) for name in ("RssAnon", "VmRSS"))


def load(folder: str, cache: str) -> dict:
    """Loads the pairs once."""
    with Memory() as memory:
        wall, begin = time.perf_counter(), time.process_time()
        pairs = load_pairs(folder, cache_dir=cache)
        taken = {"seconds": time.process_time() - begin, "wall": time.perf_counter() - wall}
    shared = [one.queries for one in pairs.report.shared]
    return {**taken, "own": memory.own, "resident": memory.resident, "pairs": len(pairs["train"]), "shared": shared}


def plain_map(rows: Dataset, tokenizer) -> Dataset:
    """The same columns by lists."""

    def encode(batch: dict) -> dict:
        sources = tokenizer(batch["query"], verbose=False, return_token_type_ids=False)
        labels = tokenizer(text_target=batch["response"], verbose=False).input_ids
        lengths = [len(a) + len(b) for a, b in zip(sources.input_ids, labels, strict=True)]
        return {**sources, "labels": labels, "length": lengths}

    mark = str(time.time_ns())
    return rows.map(encode, batched=True, remove_columns=rows.column_names, new_fingerprint=mark)


def alone(rows: Dataset, tokenizer) -> list[list[int]]:
    """Ids of all texts as `tokenizers` gives them."""
    inner, ids = tokenizer.backend_tokenizer, []
    for batch in rows.iter(batch_size=1000):
        for name in ("query", "response"):
            ids += [encoding.ids for encoding in inner.encode_batch_fast(batch[name])]
    return ids


def encode(folder: str, cache: str, pairs: int, rounds: int) -> dict:
    """Encodes the first `pairs` training pairs in turns, and then all of them for the memory."""
    rows = load_pairs(folder, cache_dir=cache)["train"]
    tokenizer = train_tokenizer(rows, vocab_size=WORDS)
    seconds: dict[str, list[float]] = {name: [] for name in ENCODINGS}
    size = len(rows) // (rounds + 1)
    for number in range(rounds + 1):  # the first warms up; each has rows of its own
        part = rows.select(range(number * size, min((number + 1) * size, number * size + pairs)))
        for name, call in (
            ("alone", lambda part: alone(part, tokenizer)),
            ("plain", lambda part: plain_map(part, tokenizer)),
            ("encode", lambda part: encode_pairs(part, tokenizer, **TOKENS)),
            ("again", lambda part: encode_pairs(part, tokenizer, **TOKENS)),
        ):
            begin = time.process_time()
            call(part)
            if number:
                seconds[name].append((time.process_time() - begin) / len(part))
    with Memory() as memory:
        begin = time.process_time()
        encode_pairs(rows, tokenizer, **TOKENS)
        whole = time.process_time() - begin
    return {
        "speeds": {name: [1 / one for one in each] for name, each in seconds.items()},
        "ratios": [plain / own for plain, own in zip(seconds["plain"], seconds["encode"], strict=True)],
        "against_alone": [plain / own for plain, own in zip(seconds["alone"], seconds["encode"], strict=True)],
        "whole": whole, "own": memory.own, "resident": memory.resident,
    }  # fmt: skip


def call(*words: str) -> dict:
    """What a new process measures."""
    done = subprocess.run([sys.executable, __file__, *words], stdout=subprocess.PIPE, check=True, text=True)
    return json.loads(done.stdout.splitlines()[-1])


def measure(pairs: int, rounds: int, encoded: int) -> dict:
    loads: dict[str, list[dict]] = {name: [] for name in LOADINGS}
    with tempfile.TemporaryDirectory() as place:
        write_corpus(Path(place), pairs)
        for number in range(rounds):
            for name in LOADINGS:
                folder = f"{place}/{'parquet' if name == 'parquet' else 'json'}"
                cache = f"{place}/cache-{number}-{Path(folder).name}"
                loads[name].append(call("--part", "load", folder, cache))
            for name in ("json", "parquet") if number else ():  # the first is read once more
                shutil.rmtree(f"{place}/cache-{number}-{name}")
            print(f"round {number + 1} of {rounds}", file=sys.stderr, flush=True)
        encodings = call("--part", "encode", f"{place}/json", f"{place}/cache-0-json", str(encoded), str(rounds))
    return {"loads": loads, "encodings": encodings}


def report(found: dict, settings: dict) -> str:
    pairs = settings["pairs"]

    def mebibytes(values: list[float]) -> str:
        return spread([one / 2**20 / (pairs / 1e6) for one in values], ".0f")

    rows = [
        [
            name, spread([pairs / one["seconds"] for one in each], ",.0f"),
            *(mebibytes([one[part] for one in each]) for part in ("own", "resident")),
        ]
        for name, each in found["loads"].items()
    ]  # fmt: skip
    columns = ["load_pairs from", "pairs a second", "MiB a million pairs", "with pages of mapped files"]
    encodings = found["encodings"]
    speeds = [[title, spread(encodings["speeds"][name], ",.0f")] for name, title in ENCODINGS.items()]
    ratio, rival = spread(encodings["ratios"], ".2f"), spread(encodings["against_alone"], ".2f")
    return "\n\n".join([
        "# Reading and encoding",
        f"Written by `scale_data.py`: {pairs:,} invented pairs, {settings['rounds']} rounds, processor time of one "
        f"thread ({settings['processor']}); medians (smallest to largest). Memory is what comes on top of the imports; "
        "the system takes pages of mapped files back where it needs them.",
        number_table(columns, rows),
        f"`encode_pairs` is {ratio} times as fast as `Dataset.map` with lists, and {rival} times as fast as "
        f"`tokenizers` alone. All {pairs:,} pairs take {encodings['whole']:.0f} s and "
        f"{encodings['own'] / 2**20 / (pairs / 1e6):.0f} MiB a million, "
        f"{encodings['resident'] / 2**20 / (pairs / 1e6):.0f} with pages of mapped files.",
        number_table(["encoding", "pairs a second"], speeds),
    ]) + "\n"  # fmt: skip


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--pairs", type=int, default=1_000_000)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--encoded", type=int, default=50_000, help="pairs that are encoded in each turn")
    parser.add_argument("--output", default=str(Path(__file__).with_suffix("")))
    parser.add_argument("--part", nargs="+", help=argparse.SUPPRESS)  # what a new process measures
    wanted = parser.parse_args()
    datasets.disable_progress_bars()
    warnings.simplefilter("ignore")  # of shared queries and of pairs that are too long
    if wanted.part:
        name, folder, cache, *numbers = wanted.part
        print(json.dumps(load(folder, cache) if name == "load" else encode(folder, cache, *map(int, numbers))))
        return
    settings = {"pairs": wanted.pairs, "rounds": wanted.rounds, "processor": described_processor()}
    found = measure(wanted.pairs, wanted.rounds, wanted.encoded)
    for suffix, text in ((".md", report(found, settings)), (".json", json.dumps({**settings, **found}, indent=1))):
        with replacing(wanted.output + suffix) as path:
            Path(path).write_text(text.rstrip() + "\n", encoding="utf-8")
    print(report(found, settings))


if __name__ == "__main__":
    main()
