"""Every trainer in two processes of `accelerate launch`, with the configuration that the recipes' users are given.

One launch for all of them. What more two processes must do is tested under torchrun, in the other files.
"""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch

ROOT = Path(__file__).parents[3]
SCRIPT = "launched_trainers.py"  # of the fixture `one`
OWN_LAUNCH = True
TRAINERS = [
    "MleTrainer", "RamlTrainer", "ExpectedRewardTrainer", "DbmTrainer", "MatchingTrainer", "LocalGanTrainer",
    "GanAelTrainer",
]  # fmt: skip
NOISY = ["DbmTrainer"]  # noise of its own on each process


@pytest.fixture(scope="module")
def two(tmp_path_factory) -> list[dict]:
    """What each of the two processes measured."""
    folder = tmp_path_factory.mktemp("launched")
    config = ROOT / "recipes" / "accelerate_configs" / "cpu_two.yaml"
    command = [sys.executable, "-m", "accelerate.commands.launch", "--config_file", config]
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": os.pathsep.join(sys.path)}
    script = Path(__file__).parents[1] / "processes" / SCRIPT
    done = subprocess.run([*command, script, "2", folder], env=environment, capture_output=True, text=True, timeout=500)
    assert done.returncode == 0, done.stderr[-4000:]
    return [json.loads((folder / f"rank{rank}.json").read_text()) for rank in range(2)]


@pytest.mark.parametrize("trainer", TRAINERS)
def test_both_have_trained_together(trainer, two):
    first, second = (measured[trainer] for measured in two)
    assert first["world_size"] == second["world_size"] == 2
    parameters = [torch.tensor(one["parameters"]) for one in (first, second)]
    assert torch.equal(*parameters) and parameters[0].isfinite().all()


@pytest.mark.parametrize("trainer", [name for name in TRAINERS if name not in NOISY])
def test_they_equal_one_process_at_the_same_global_batch(trainer, one, two):
    alone, first = (torch.tensor(measured[trainer]["parameters"]) for measured in (one, two[0]))
    torch.testing.assert_close(first, alone, atol=1e-5, rtol=0)


def test_an_energy_has_the_scalers_and_updates_of_one_process(one, two):
    for key in ("scalers", "steps"):
        assert two[0]["DbmTrainer"][key] == two[1]["DbmTrainer"][key] == one["DbmTrainer"][key]
