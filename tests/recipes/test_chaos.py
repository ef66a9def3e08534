"""The main recipe killed, on a full disk and in a read-only folder: started again it ends as the undisturbed run does.

All runs are of `train_localgan.py` on the shipped corpus with few steps, all stages, each in a process of its own; an
undisturbed one takes half a minute of a processor's time.
"""

import ctypes
import hashlib
import io
import json
import math
import multiprocessing
import os
import random
import re
import resource
import runpy
import shutil
import signal
import stat
import subprocess
import sys
import threading
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
import psutil
import pyarrow.parquet as parquet
import pytest
import torch
from transformers.trainer_pt_utils import safe_globals

ROOT = Path(__file__).parents[2]
STAGES = ("mle", "energy", "discriminator", "adversarial")
KILLS, FULL_DISKS, FULL_MOMENTS, LOCKED_MOMENTS = 50, 10, 8, 4
SAVING = "max_steps=24 eval_strategy=steps eval_steps=6 save_strategy=steps save_steps=6 logging_steps=3".split()
SCORES = "temperatures=[1.0] beams=[2] max_test_queries=50 resamples=20 max_new_tokens=8 metric_vector_size=16".split()
WORDS = [
    "--output_dir", "run", "--use_cpu", "--disable_tqdm", "true", "--max_steps", "24", "--eval_steps", "6",
    "--save_steps", "6", "--logging_steps", "3", "--discriminator_warmup_steps", "8",
    "--per_device_train_batch_size", "16", "--temperatures", "1.0", "--beams", "2", "--max_test_queries", "50",
    "--resamples", "20", "--max_new_tokens", "8", "--metric_vector_size", "16", "--monitor_queries", "20",
    "--monitor_max_new_tokens", "8", "--max_soft_length", "8", "--collapse_share", "1.0", "--collapse_length", "1000",
    "--mle_options", *SAVING, *SCORES, "per_device_train_batch_size=16", "warmup_steps=4", "embedding_size=32",
    "hidden_size=32", "early_stopping_patience=0", "min_frequency=3", "sample_rows=2",
    "--energy_options", *SAVING, "per_device_train_batch_size=32", "vector_size=16", "hidden_size=16", "top_size=16",
    "ais_temperatures=20", "ais_chains=10", "chains=16", "resamples=20", "curvature_queries=10", "clusters=4",
    "--discriminator_options", *SAVING, "per_device_train_batch_size=16", "warmup_steps=4", "vector_size=16",
    "embedding_size=16", "filters=8", "early_stopping_patience=0",
]  # fmt: skip
# What a clock tells differs between two undisturbed runs, too; and a run that went on says where it went on from.
CLOCK = re.compile(r"seconds|runtime|per_second|tokens_per|saved_at|lineage|resume_from_checkpoint")
FORKS = multiprocessing.get_context("forkserver")

pytestmark = [pytest.mark.slow, pytest.mark.timeout(3 * 3600)]


class Life:
    """One process of the recipe, from its start to its end.

    It is forked from a process that has imported everything, so that its start costs nothing; or is an interpreter of
    its own, where there is a sandbox.

    Args:
        folder: where it works; it writes to `run` in it.
        sandbox: words of a command that starts the interpreter.
        prepare: called in the new process before the interpreter starts.
    """

    def __init__(self, folder: Path, sandbox: tuple[str, ...] = (), prepare: Callable[[], None] | None = None):
        folder.mkdir(parents=True, exist_ok=True)
        if sandbox or prepare:
            command = [*sandbox, sys.executable, str(ROOT / "recipes" / "train_localgan.py"), *WORDS]
            self.process: Any = subprocess.Popen(
                command, cwd=folder, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, preexec_fn=prepare
            )
            output = self.process.stdout
        else:
            reader, writer = FORKS.Pipe(duplex=False)
            given = {"folder": str(folder), "words": WORDS, "output": writer}
            script = str(Path(__file__).parent / "forked_recipe.py")
            self.process = FORKS.Process(target=runpy.run_path, args=(script, given))
            self.process.start()
            writer.close()
            output = os.fdopen(os.dup(reader.fileno()), "rb")
        self.pid = self.process.pid
        self.lines: list[str] = []
        self.stages: dict[str, float] = {}  # the processor's seconds when each was begun, or seen to be finished
        self._reader = threading.Thread(target=self._read, args=(output,), daemon=True)
        self._reader.start()

    def _read(self, output: BinaryIO):
        for line in io.TextIOWrapper(output, "utf-8", errors="replace"):
            self.lines.append(line)
            if line.startswith("stage "):
                self.stages[line.split()[1]] = self.seconds()

    def seconds(self) -> float:
        """Seconds of a processor that it has taken: they do not depend on what else runs here."""
        try:
            times = psutil.Process(self.pid).cpu_times()
        except psutil.NoSuchProcess:
            return math.inf
        return times.user + times.system

    def code(self) -> int | None:
        """The exit code, `None` while it lives."""
        return self.process.poll() if isinstance(self.process, subprocess.Popen) else self.process.exitcode

    def wait_for(self, stage: str, seconds: float) -> bool:
        """Waits until it took some seconds after the beginning of a stage; whether the process still lives."""
        while self.code() is None:
            if stage in self.stages and self.seconds() >= self.stages[stage] + seconds:
                return True
            time.sleep(0.005)
        return False

    def end(self) -> tuple[int, str]:
        """Waits for the end; returns exit code and output."""
        while self.code() is None:
            time.sleep(0.005)
        self._reader.join(timeout=60)
        return self.code() or 0, "".join(self.lines)

    def kill(self) -> str:
        """Kills the process; returns the stage that it was in."""
        os.kill(self.pid, signal.SIGKILL)
        assert self.end()[0] == -signal.SIGKILL
        return list(self.stages)[-1]


class Undisturbed:
    """What an undisturbed run has left, and how many seconds of a processor its stages took.

    Args:
        folder: see `Life`.
    """

    def __init__(self, folder: Path):
        life = Life(folder)
        last = 0.0
        while life.code() is None:
            taken = life.seconds()
            last = taken if taken < math.inf else last
            time.sleep(0.05)
        code, said = life.end()
        assert code == 0, said
        assert tuple(life.stages) == STAGES
        self.left = contents(folder / "run")
        starts = [*life.stages.values(), last]
        self.seconds = {name: starts[n + 1] - starts[n] for n, name in enumerate(STAGES)}

    def moment(self, rng: random.Random, stage: str) -> float:
        """A random moment of a stage, in seconds of a processor after its beginning."""
        return rng.uniform(0, self.seconds[stage])

    def is_equal(self, folder: Path) -> bool:
        """Whether a run has left the same files with the same contents."""
        left = contents(folder / "run")
        assert set(left) == set(self.left), set(left) ^ set(self.left)
        differences = sorted(name for name in left if left[name] != self.left[name])
        assert not differences, [(name, left[name][:500], self.left[name][:500]) for name in differences][:3]
        return True


def contents(folder: Path) -> dict[str, str]:
    """What each file under a folder holds: a digest, or the text of JSON and Markdown without what a clock tells."""
    return {str(path.relative_to(folder)): content(path) for path in sorted(folder.rglob("*")) if path.is_file()}


def content(path: Path) -> str:
    if path.suffix == ".json":
        return json.dumps(without_clock(json.loads(path.read_text())), sort_keys=True)
    if path.suffix == ".md":
        return "\n".join(line for line in path.read_text().splitlines() if not CLOCK.search(line))
    if path.suffix in (".pt", ".pth"):
        with safe_globals():
            return str(flat(torch.load(path, weights_only=True)))
    if path.suffix == ".parquet":
        return str(parquet.read_table(path).to_pydict())
    return hashlib.sha256(path.read_bytes()).hexdigest()


def flat(state: Any) -> Any:
    """A state of tensors without how it is stored."""
    if isinstance(state, dict):
        return {name: flat(value) for name, value in sorted(state.items(), key=str)}
    if isinstance(state, (list, tuple)):
        return [flat(value) for value in state]
    if isinstance(state, (torch.Tensor, np.ndarray)):
        array = np.asarray(state)
        return str(array.dtype), array.shape, hashlib.sha256(np.ascontiguousarray(array).tobytes()).hexdigest()
    return state


def without_clock(values: Any) -> Any:
    if isinstance(values, dict):
        return {name: without_clock(value) for name, value in values.items() if not CLOCK.search(name)}
    if isinstance(values, list):  # the last entry of a log is about the steps of one process, or missing without any
        return [without_clock(value) for value in values if not (isinstance(value, dict) and "train_runtime" in value)]
    return values


def check_stopped(code: int, said: str, *reasons: str):
    """A run that could not write has said why in one line."""
    last = said.strip().splitlines()[-1]
    assert code == 1 and "Traceback" not in said, said[-3000:]
    assert last.startswith("train_localgan.py: ") and any(reason in last for reason in reasons), last


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    """The folder in which the runs have a folder each."""
    place = tmp_path_factory.mktemp("chaos")
    with pytest.MonkeyPatch.context() as patch:
        for name, value in {
            "PYTHONPATH": ROOT, "OMP_NUM_THREADS": 1, "HF_HUB_OFFLINE": 1, "COLUMNS": 120, "PYTHONUNBUFFERED": 1,
            "HF_DATASETS_CACHE": place / "cache", "MPLBACKEND": "Agg",
        }.items():  # fmt: skip
            patch.setenv(name, str(value))
        FORKS.set_forkserver_preload(["hf_localgan.commands.train_localgan", "matplotlib.pyplot", "sklearn.cluster"])
        yield place


@pytest.fixture(scope="module")
def undisturbed(place):
    """A run that nothing disturbed."""
    return Undisturbed(place / "undisturbed")


def test_two_undisturbed_runs_leave_the_same(undisturbed, place):
    code, said = Life(place / "twin").end()
    assert code == 0, said
    assert undisturbed.is_equal(place / "twin")


def test_killed_at_fifty_random_moments_a_run_ends_as_the_undisturbed_one(undisturbed, place):
    rng, killed, runs = random.Random(0), Counter(), 0
    while killed.total() < KILLS:
        folder = place / f"killed-{runs}"
        runs += 1
        assert runs < KILLS
        for stage in ("mle", "mle", "mle", "energy", "energy", "discriminator", "discriminator", *["adversarial"] * 3):
            life = Life(folder)
            if life.wait_for(stage, undisturbed.moment(rng, stage)):
                killed[life.kill()] += 1
            else:
                assert life.end()[0] == 0, "".join(life.lines)
        code, said = Life(folder).end()
        assert code == 0, said
        assert undisturbed.is_equal(folder)
        shutil.rmtree(folder)
    assert min(killed[stage] for stage in STAGES) >= 5, killed


# ---- a full disk ----

FULL = ("No space left", "File too large", "disk may be full")


def test_files_that_cannot_grow_end_a_run_with_the_reason_and_it_goes_on_later(undisturbed, place):
    """From a random moment no file can grow beyond a random length, as on a full disk or by a quota."""
    rng, folder = random.Random(1), place / "quota"
    for number in range(FULL_MOMENTS):
        stage = STAGES[number * len(STAGES) // FULL_MOMENTS]
        life = Life(folder)
        if life.wait_for(stage, undisturbed.moment(rng, stage)):
            longest = rng.choice([0, rng.randrange(1_000), rng.randrange(100_000)])
            resource.prlimit(life.pid, resource.RLIMIT_FSIZE, (longest, resource.RLIM_INFINITY))
        code, said = life.end()
        if code != 0:  # else its last bytes had been written
            check_stopped(code, said, *FULL)
            assert not [path for path in (folder / "run").rglob(".*") if path.is_file() and path.stat().st_size > 0]
    code, said = Life(folder).end()
    assert code == 0, said
    assert undisturbed.is_equal(folder)


def disk_of(size: str) -> tuple[str, ...]:
    """Words of a command that runs another one where the folder `run` is a disk of this size.

    The disk holds what is in `run` at the start, and what it holds at the end is in `run` afterwards.
    """
    script = f"""
    mkdir -p run disk && mount -t tmpfs -o size={size} tmpfs disk || exit 99
    cp -a run/. disk/ && mount --bind disk run || exit 99
    "$@"; code=$?
    umount run && rm -rf run && mkdir run && cp -a disk/. run/ || exit 99
    exit $code
    """
    own = ("unshare", "--mount") if os.geteuid() == 0 else ("unshare", "--user", "--map-root-user", "--mount")
    return (*own, "bash", "-c", script, "disk")


def test_on_a_small_disk_a_run_ends_with_the_reason_and_goes_on_on_a_larger_one(undisturbed, place):
    trial = place / "trial"
    trial.mkdir()
    if shutil.which("unshare") is None or subprocess.run([*disk_of("1m"), "touch", "run/x"], cwd=trial).returncode:
        pytest.skip("neither root nor a user's own namespace may mount a disk here")
    assert (trial / "run" / "x").is_file()
    rng, folder, stopped = random.Random(2), place / "full", 0
    whole = sum(path.stat().st_size for path in (place / "undisturbed" / "run").rglob("*")) // 1024
    for size in sorted(rng.randrange(50, whole) for _ in range(FULL_DISKS)):
        code, said = Life(folder, sandbox=disk_of(f"{size}k")).end()
        check_stopped(code, said, *FULL)
        stopped += 1
    assert stopped == FULL_DISKS
    code, said = Life(folder).end()
    assert code == 0, said
    assert undisturbed.is_equal(folder)


# ---- a read-only folder ----

LOCKED = ("Permission denied", "Read-only file system", "Operation not permitted")


def obey_modes():
    """Makes a process of root obey the modes of files and folders, as everybody else's does."""
    if os.geteuid() == 0:
        drop, override, search = 24, 1, 2  # PR_CAPBSET_DROP, CAP_DAC_OVERRIDE, CAP_DAC_READ_SEARCH: see capabilities(7)
        for capability in (override, search):
            if ctypes.CDLL(None, use_errno=True).prctl(drop, capability, 0, 0, 0):
                raise OSError(ctypes.get_errno(), "root cannot give up its capabilities here")


def lock(folder: Path, locked: bool):
    """Makes a folder and all in it read-only, or writable again."""
    for path in [folder, *folder.rglob("*")]:
        if path.exists():  # a file that is being written may have another name by now
            bits = stat.S_IWUSR | stat.S_IWGRP | stat.S_IWOTH
            mode = stat.S_IMODE(path.stat().st_mode)
            path.chmod(mode & ~bits if locked else mode | stat.S_IWUSR)


@pytest.fixture
def locked(place):
    """`locked(folder)`: the run in that folder, started while it is read-only."""
    trial = place / "modes"
    trial.mkdir(exist_ok=True)
    trial.chmod(0o555)
    words = [sys.executable, "-c", "open('x', 'w')"]
    try:
        done = subprocess.run(words, cwd=trial, preexec_fn=obey_modes, stderr=subprocess.DEVNULL)
    except subprocess.SubprocessError:
        pytest.skip("root cannot give up its capabilities here")
    if done.returncode == 0:
        pytest.skip("modes do not bind here")
    return lambda folder: Life(folder, prepare=obey_modes)


def test_a_folder_that_is_read_only_from_the_start_ends_a_run_at_once(locked, place):
    folder = place / "shut"
    folder.mkdir()
    lock(folder, True)
    code, said = locked(folder).end()
    check_stopped(code, said, *LOCKED)
    assert "stage energy" not in said and not list(folder.iterdir())


def test_a_folder_that_becomes_read_only_ends_a_run_with_the_reason_and_loses_nothing(undisturbed, locked, place):
    rng, folder = random.Random(3), place / "locked"
    for number in range(LOCKED_MOMENTS):
        stage = STAGES[number * len(STAGES) // LOCKED_MOMENTS]
        life = locked(folder)
        if life.wait_for(stage, undisturbed.moment(rng, stage)):
            lock(folder / "run", True)
            code, said = life.end()
            if code:  # else its last file had been written
                check_stopped(code, said, *LOCKED)
            before = contents(folder / "run")
            code, said = locked(folder).end()
            if (folder / "run/stages/adversarial/finished.json").exists():
                assert code == 0
            else:
                check_stopped(code, said, *LOCKED)
            assert contents(folder / "run") == before
        lock(folder / "run", False)
    code, said = locked(folder).end()
    assert code == 0, said
    assert undisturbed.is_equal(folder)
