"""All stages of LocalGAN at the paper's size, each for a bounded number of updates, and then killed in each of them.

    python benchmarks/paper_size.py FOLDER [--pairs 5200000] [--words 40000] [--updates 100] [--output OUTPUT]

FOLDER takes the corpus, 125 bytes a pair, and the runs. The pairs are invented: 4 to 30 words a side, drawn with
Zipf's frequencies from as many words as the paper has, and word vectors of its 200 dimensions. The recipe is
`recipes/papers/opensubtitles/`, started as its users start it:

    first run   to its end, undisturbed: time of each part of a stage, memory, the longest silence
    second run  on a fiftieth of the pairs, for the memory that does not grow with the corpus: still more pairs than
                the 100,000 that an evaluation of the energy reads
    third run   killed (SIGKILL) in each stage, started again, and killed again, until it ends

Times are of the wall, and of the processor in brackets. Memory is what the process has of its own (anonymous pages),
its workers' included: files that are mapped, such as the corpus, are the system's to keep or to drop. Writes
`OUTPUT.md` and `OUTPUT.json`.
"""

import argparse
import json
import os
import re
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from importlib.metadata import version
from pathlib import Path

import numpy as np
import psutil
import yaml
from machine import described_processor
from tables import number_table

from hf_localgan.files import replacing

ROOT = Path(__file__).parents[1]
RECIPE = ROOT / "recipes" / "papers" / "opensubtitles"
STAGES = {"mle": "mle", "energy": "dbm", "discriminator": "matching", "adversarial": "localgan"}  # and their files
TIMES = {"mle": 1, "energy": 20, "discriminator": 5, "adversarial": 3}  # updates: those of the energy take milliseconds
SIZE = 200  # of a word vector
PAPER_PAIRS, PAPER_WORDS = 5_200_000, 40_000
HELD_OUT = 2_000  # pairs of either split that is held out
MEGABYTE = 2**20
BEGINS = re.compile(r'stage (\w+) in "')


# ---- corpus ----


def write_corpus(folder: Path, pairs: int, words: int, seed: int = 0):
    """Pairs as JSON lines in the splits train, validation and test, and word vectors as GloVe's text files have them.

    Lengths are normal around 10 words, at least 4 and at most 30. A response of each query shares three words with it,
    so that there is something to learn.
    """
    folder.mkdir(parents=True, exist_ok=True)
    rng = np.random.default_rng(seed)
    names = np.array([f"w{number}" for number in range(words)])
    frequencies = 1 / np.arange(1, words + 1)
    frequencies = (frequencies / frequencies.sum()).cumsum()
    for split, number in {"validation": HELD_OUT, "test": HELD_OUT, "train": pairs}.items():
        path = folder / f"{split}.jsonl"
        if path.is_file():
            continue
        with replacing(path) as temporary, temporary.open("w", encoding="utf-8") as file:
            for first in range(0, number, 100_000):
                many = min(100_000, number - first)
                lengths = rng.normal(10, 5, (2, many)).round().clip(4, 30).astype(int)
                drawn = names[frequencies.searchsorted(rng.random((2, many, 30))).clip(max=words - 1)]
                drawn[1, :, :3] = drawn[0, :, :3]
                for row in range(many):
                    sides = [" ".join(drawn[side, row, : lengths[side, row]]) for side in (0, 1)]
                    file.write(f'{{"query": "{sides[0]}", "response": "{sides[1]}"}}\n')
    vectors = folder / "vectors.txt"
    if not vectors.is_file():
        values = rng.normal(size=(words, SIZE)).astype(np.float32)
        with replacing(vectors) as temporary, temporary.open("w", encoding="utf-8") as file:
            for name, row in zip(names, values, strict=True):
                file.write(name + " " + " ".join(f"{value:.4f}" for value in row) + "\n")


# ---- a run ----


@dataclass
class Part:
    """What a stage did: seconds of the wall's clock and of processors, and bytes.

    Attributes:
        begun, ended: when, `(wall, processor)`.
        updates: when each update was seen to be finished.
        memory: the largest sum of anonymous pages of the process and its workers.
        silence: the longest time without a sign of life, seconds.
        says_what_is_left: whether a progress bar told the time that is left.
    """

    begun: tuple[float, float]
    ended: tuple[float, float] = (0.0, 0.0)
    updates: dict[int, tuple[float, float]] = field(default_factory=dict)
    memory: int = 0
    silence: float = 0.0
    says_what_is_left: bool = False


class Run:
    """One process of the recipe; `parts` are its stages so far.

    Args:
        corpus, output: folders.
        updates: of each stage; the adversarial one takes three times as many, the first of them the discriminator's.
        processes: of the encoding of the corpus.
    """

    def __init__(self, corpus: Path, output: Path, updates: int, processes: int):
        self.updates = {name: times * updates for name, times in TIMES.items()}
        steps = [f"--max_steps={self.updates['adversarial']}", f"--discriminator_warmup_steps={updates}"]
        steps += [f"--save_steps={updates}", f"--eval_steps={updates}", f"--num_proc={processes}", "--use_cpu=true"]
        command = [sys.executable, "-m", "hf_localgan", "train-localgan", str(RECIPE / "localgan.yaml")]
        command += [f"--output_dir={output}", *steps, "--mle_options", *self.bounded("mle")]
        command += [f"word_vectors={corpus}/vectors.txt", *"decodings=greedy max_test_queries=200".split()]
        command += ["--energy_options", *self.bounded("energy"), "--discriminator_options"]
        command += [*self.bounded("discriminator"), "--decodings", "greedy", "--max_test_queries", "200"]
        # So few updates end in answers that the guard against collapse would stop, and the exit code would say so.
        command += ["--collapse_share", "1.0", "--collapse_length", "1000000"]
        environment = {
            **os.environ, "HF_LOCALGAN_OPENSUBTITLES": str(corpus), "HF_LOCALGAN_GLOVE": str(corpus / "vectors.txt"),
            "HF_DATASETS_CACHE": str(corpus / "cache"), "HF_HUB_OFFLINE": "1", "PYTHONPATH": str(ROOT),
        }  # fmt: skip
        self.parts: dict[str, Part] = {}
        self.said, self.heard = "", time.perf_counter()
        self.process = psutil.Popen(
            command, cwd=corpus, env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, bufsize=0
        )
        self.parts["start"] = Part(self.now())
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()
        self._watcher = threading.Thread(target=self._watch, daemon=True)
        self._watcher.start()

    def bounded(self, stage: str) -> list[str]:
        """Settings of a stage that end it early, with one evaluation and checkpoint on the way."""
        half = self.updates[stage] // 2
        numbers = {"max_steps": self.updates[stage], "save_steps": half, "eval_steps": half}
        return [*(f"{name}={number}" for name, number in numbers.items()), "save_strategy=steps", "eval_strategy=steps"]

    def now(self) -> tuple[float, float]:
        """Time of the wall, and processors' seconds of the process and the children that it has waited for."""
        try:
            times = self.process.cpu_times()
        except psutil.NoSuchProcess:
            return time.perf_counter(), self._spent
        self._spent = times.user + times.system + times.children_user + times.children_system
        return time.perf_counter(), self._spent

    @property
    def stage(self) -> str:
        return list(self.parts)[-1]

    def _read(self):
        assert self.process.stdout is not None
        for piece in iter(lambda: self.process.stdout.read(65536), b""):
            text, now = piece.decode("utf-8", errors="replace"), self.now()
            part = self.parts[self.stage]
            part.silence, self.heard = max(part.silence, now[0] - self.heard), now[0]
            self.said += text
            tail = self.said[-len(text) - 200 :]
            for name in BEGINS.findall(tail):
                if name not in self.parts:
                    self.parts[self.stage].ended = now
                    self.parts[name] = part = Part(now)
            bars = re.findall(rf"(\d+)/{self.updates.get(self.stage, 0)} \[\S+<(\S+),", tail)
            for number, left in bars:
                part.updates.setdefault(int(number), now)
                part.says_what_is_left |= "?" not in left
        self.parts[self.stage].ended = self.now()

    def _watch(self):
        while self.process.is_running() and self.process.status() != psutil.STATUS_ZOMBIE:
            try:
                family = [self.process, *self.process.children(recursive=True)]
                memory = sum(anonymous(member.pid) for member in family)
            except psutil.NoSuchProcess:
                continue
            part = self.parts[self.stage]
            part.memory = max(part.memory, memory)
            time.sleep(0.1)

    def end(self) -> int:
        """Waits for the end; the exit code."""
        code = self.process.wait()
        self._reader.join()
        return code

    def kill(self):
        for member in (*self.process.children(recursive=True), self.process):
            member.send_signal(signal.SIGKILL)
        self.end()


def anonymous(pid: int) -> int:
    """Bytes of memory that a process has and no file stands for; 0 for one that has ended."""
    try:
        lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    except OSError:
        return 0
    return next((1024 * int(line.split()[1]) for line in lines if line.startswith("RssAnon")), 0)


def undisturbed(corpus: Path, output: Path, updates: int, processes: int) -> dict[str, dict]:
    """The stages of a run to its end, as plain values.

    Raises:
        RuntimeError: if it does not end well, or has not run in this folder from its start.
    """
    run = Run(corpus, output, updates, processes)
    if run.end() != 0 or "resumes" in run.said or "finished before" in run.said:
        raise RuntimeError(f"The run in {output} did not go from its start to its end:\n{run.said[-3000:]}")
    return {name: vars(part) for name, part in run.parts.items()}


def killed(corpus: Path, output: Path, updates: int, processes: int) -> Iterator[dict]:
    """Kills a run twice in each stage, once before its first update and once past half of them, until it ends.

    Yields:
        For each life the stage of its end, the last update in it, and what the next life says of that stage.
    """
    left = [(stage, early) for stage in STAGES for early in (True, False)]
    before: dict | None = None
    while True:
        run = Run(corpus, output, updates, processes)
        target = left.pop(0) if left else None
        while run.process.is_running() and run.process.status() != psutil.STATUS_ZOMBIE:
            if target is not None and target[0] in run.parts:
                done = max(run.parts[target[0]].updates, default=0)
                if target[1] or done > run.updates[target[0]] // 2:
                    break
            time.sleep(0.05)
        ended = target is None or not run.process.is_running() or run.process.status() == psutil.STATUS_ZOMBIE
        code = run.end() if ended else run.kill()
        if before is not None:
            found = re.search(rf'stage {before["stage"]} in "[^"]*": (.*)', run.said)
            yield {**before, "next": found.group(1).strip() if found else "not reached"}
        if ended and code != 0:
            raise RuntimeError(f"Started again, the run in {output} ended with {code}:\n{run.said[-3000:]}")
        if ended:
            return
        before = {"stage": run.stage, "update": max(run.parts[run.stage].updates, default=0)}


# ---- report ----


def whole_updates(pairs: int) -> dict[str, int]:
    """Updates of each stage as the recipe has them on so many pairs."""
    numbers = {}
    for stage, name in STAGES.items():
        settings = yaml.safe_load((RECIPE / f"{name}.yaml").read_text(encoding="utf-8"))
        epoch = -(-pairs // settings["per_device_train_batch_size"])
        numbers[stage] = settings.get("max_steps") or settings["num_train_epochs"] * epoch
    return numbers


def seconds_of(part: dict, counted: tuple[int, int]) -> dict[str, tuple[float, float]]:
    """Seconds before the first update, of an update and after the last.

    Args:
        part: of a run.
        counted: the first and the last update that an update's seconds are the mean over: none of them evaluates.
    """
    updates = {int(number): tuple(at) for number, at in part["updates"].items() if int(number) > 0}
    numbers = sorted(number for number in updates if counted[0] <= number <= counted[1])
    first, last = numbers[0], numbers[-1]
    begun, ended = part["begun"], part["ended"]
    earliest = min(updates)
    each = [(updates[last][clock] - updates[first][clock]) / (last - first) for clock in (0, 1)]
    before = [updates[earliest][clock] - begun[clock] - earliest * each[clock] for clock in (0, 1)]
    after = [ended[clock] - updates[max(updates)][clock] for clock in (0, 1)]
    return {"before": tuple(before), "each": tuple(each), "after": tuple(after)}


def report(found: dict) -> str:
    pairs, updates = found["pairs"], found["updates"]
    about = found["about"]
    bounds = ", ".join(f"{times * updates:,} updates of {name}" for name, times in TIMES.items())
    lines = [
        "# LocalGAN at the paper's size", "",
        f"{pairs:,} invented pairs, {found['corpus_bytes'] / MEGABYTE:,.0f} MiB of text, {found['words']:,} words, "
        f"vectors of {SIZE} dimensions; {bounds}; {about['processes']} processes encode; torch {about['torch']} "
        f"with {about['threads']} threads on {about['processor']}. "
        "Written by `paper_size.py`.", "",
        "## Time", "",
        "Seconds of the wall, in brackets of processors.",
        "An update of the adversarial stage is the mean of both players'.", "",
    ]  # fmt: skip
    rows = []
    for stage, part in found["stages"].items():
        if stage == "start":
            continue
        number = TIMES[stage] * updates
        counted = (updates + 2, 2 * updates) if stage == "adversarial" else (number // 10 + 1, number // 2)
        seconds = seconds_of(part, counted)
        both = [f"{wall:,.1f} ({cpu:,.1f})" for wall, cpu in (seconds["before"], seconds["after"])]
        each = f"{seconds['each'][0]:.3f} ({seconds['each'][1]:.3f})"
        number = found["whole_updates"][stage]
        hours = (seconds["before"][0] + seconds["each"][0] * number + seconds["after"][0]) / 3600
        rows.append((stage, both[0], each, both[1], f"{number:,}", f"{hours:,.1f}"))
    columns = ("stage", "before the first update", "an update", "after the last", "updates of the recipe", "hours")
    lines += [number_table(columns, rows), "", "Hours are extrapolated: the updates of the recipe at this pace.", ""]
    lines += ["## Memory and signs of life", ""]
    rows = []
    for stage, part in found["stages"].items():
        small = found["small"][stage]["memory"]
        added = (part["memory"] - small) / MEGABYTE
        share = (part["memory"] - small) / found["corpus_bytes"]
        told = "" if stage == "start" else "yes" if part["says_what_is_left"] else "no"
        rows.append((
            stage, f"{part['memory'] / MEGABYTE:,.0f}", f"{small / MEGABYTE:,.0f}", f"{added:,.0f} ({share:.2f})",
            f"{part['silence']:.0f}", told,
        ))  # fmt: skip
    columns = (
        "stage", "largest, MiB", f"with {found['small_pairs']:,} pairs, MiB", "added, MiB (in texts of the corpus)",
        "longest silence, s", "tells the time left",
    )  # fmt: skip
    lines += [number_table(columns, rows), "", "## Killed and started again", ""]
    rows = [(life["stage"], str(life["update"]), life["next"]) for life in found["lives"]]
    lines += [number_table(("killed in", "after update", "the next start says of this stage"), rows, "<><"), ""]
    lines.append(f"The last start ended: all stages are {'finished' if found['ended'] else 'NOT finished'}.")
    return "\n".join(lines) + "\n"


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--pairs", type=int, default=PAPER_PAIRS)
    parser.add_argument("--words", type=int, default=PAPER_WORDS, help="of the vocabulary")
    parser.add_argument("--updates", type=int, default=100, help="of maximum likelihood, at least 20")
    parser.add_argument("--processes", type=int, default=os.cpu_count(), help="that encode the corpus")
    parser.add_argument("--output", type=Path, default=Path(__file__).with_suffix(""))
    wanted = parser.parse_args()
    if wanted.updates < 20 or wanted.pairs < 10_000:
        parser.error("at least 20 updates and 10,000 pairs are needed.")
    folder, small_pairs = wanted.folder.resolve(), max(wanted.pairs // 50, 10_000)
    folder.mkdir(parents=True, exist_ok=True)
    for name, pairs in (("corpus", wanted.pairs), ("small", small_pairs)):
        print(f"writes {pairs:,} pairs", flush=True)
        write_corpus(folder / name, pairs, wanted.words)
    kept = folder / "found.json"  # parts that are done are not done again
    found = json.loads(kept.read_text()) if kept.exists() else {}
    asked = {"pairs": wanted.pairs, "words": wanted.words, "updates": wanted.updates, "small_pairs": small_pairs}
    if found and {name: found[name] for name in asked} != asked:
        parser.error(f"{folder} holds a measurement with other settings: empty it, or take another folder.")
    found |= asked | {
        "corpus_bytes": (folder / "corpus/train.jsonl").stat().st_size, "whole_updates": whole_updates(wanted.pairs),
        "about": {
            "processor": described_processor(), "torch": version("torch"), "processes": wanted.processes,
            "threads": int(os.environ.get("OMP_NUM_THREADS", os.cpu_count() or 1)),
        },
    }  # fmt: skip
    parts = {
        "small": lambda: undisturbed(folder / "small", folder / "run-small", wanted.updates, wanted.processes),
        "stages": lambda: undisturbed(folder / "corpus", folder / "run", wanted.updates, wanted.processes),
        "lives": lambda: list(killed(folder / "corpus", folder / "run-killed", wanted.updates, wanted.processes)),
    }
    for name, part in parts.items():
        if name not in found:
            print(f"{time.strftime('%H:%M')} {name}", flush=True)
            found[name] = part()
            with replacing(kept) as path:
                path.write_text(json.dumps(found) + "\n", encoding="utf-8")
    from hf_localgan.evaluation.writing import write_report  # here, for both load what takes seconds
    from hf_localgan.recipes.stage import FINISHED

    stages = [folder / "run-killed" / "stages" / stage for stage in STAGES]
    found["ended"] = all((stage / FINISHED).is_file() for stage in stages)
    text = report(found)
    write_report(wanted.output.parent, [f"{wanted.output.name}{suffix}" for suffix in (".json", ".md")], found, text)
    print(text)


if __name__ == "__main__":
    main()
