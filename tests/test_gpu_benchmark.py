"""The benchmark for GPUs goes through on a processor, and says what it did not reach."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
QUICK = ["--device", "cpu", "--quick", "--vocabulary", "200"]


def benchmark(*words) -> subprocess.CompletedProcess:
    command = [sys.executable, ROOT / "benchmarks" / "gpu.py", *map(str, words)]
    return subprocess.run(command, capture_output=True, text=True, timeout=600)


@pytest.mark.slow
def test_every_system_has_a_row(tmp_path):
    done = benchmark(*QUICK, "--output", tmp_path / "gpu")
    assert done.returncode == 0, done.stderr
    found = json.loads((tmp_path / "gpu.json").read_text())
    assert found["agreement"]["200"]["gradients, relative"] == 0  # of the processor with itself
    systems = {(cell["system"], cell["dtype"]) for cell in found["cells"]}
    assert len(systems) == len(found["cells"]) == 20
    assert all(cell["seconds"] > 0 and not cell["ended"] for cell in found["cells"])
    generator, rival = (
        next(cell for cell in found["cells"] if cell["system"].endswith(player))
        for player in ("generator", "discriminator")
    )
    assert generator["seconds"] != rival["seconds"]
    assert (tmp_path / "gpu.md").read_text() in done.stdout


@pytest.mark.slow
def test_what_the_time_does_not_reach_is_not_run(tmp_path):
    done = benchmark(*QUICK, "--minutes", 0, "--output", tmp_path / "gpu")
    assert done.returncode == 0, done.stderr
    cells = json.loads((tmp_path / "gpu.json").read_text())["cells"]
    assert {cell["ended"] for cell in cells} == {"not run"} and "| not run |" in done.stdout


def test_without_a_gpu_it_says_so():
    done = benchmark("--device", "cuda:77")
    assert done.returncode == 2 and "torch finds none here; `--device cpu --quick` goes through" in done.stderr
