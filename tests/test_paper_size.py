"""The run at the paper's size, on few pairs and words: its parts are there, and it goes on after each kill."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
SCRIPT = ROOT / "benchmarks" / "paper_size.py"


def paper_size(*words, timeout=60) -> subprocess.CompletedProcess:
    command = [sys.executable, SCRIPT, *map(str, words)]
    return subprocess.run(command, capture_output=True, text=True, timeout=timeout)


@pytest.mark.slow
@pytest.mark.timeout(3600)
@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="memory is read as Linux tells it")
def test_all_stages_end_after_a_kill_in_each_and_what_is_done_is_not_done_again(tmp_path):
    words = [tmp_path / "run", "--pairs", 10_000, "--words", 300, "--updates", 20, "--output", tmp_path / "out"]
    done = paper_size(*words, timeout=3500)
    assert done.returncode == 0, done.stderr
    found = json.loads((tmp_path / "out.json").read_text())
    assert found["ended"] and list(found["stages"]) == ["start", "mle", "energy", "discriminator", "adversarial"]
    for stage in list(found["stages"])[1:]:
        part = found["stages"][stage]
        assert part["says_what_is_left"] and part["memory"] > 2**28
        early, late = (life for life in found["lives"] if life["stage"] == stage)
        assert early["next"] == "begins" and late["next"].startswith("resumes from checkpoint-")
        assert 0 < int(late["next"].split("-")[-1]) <= late["update"]
    text = (tmp_path / "out.md").read_text()
    assert "all stages are finished" in text and "NOT" not in text
    again = paper_size(*words, timeout=100)
    assert again.returncode == 0 and (tmp_path / "out.md").read_text() == text
    other = paper_size(*words[:2], 20_000, *words[3:])
    assert other.returncode == 2 and "other settings" in other.stderr


def test_too_few_pairs_are_refused_before_anything_is_written(tmp_path):
    done = paper_size(tmp_path / "run", "--pairs", 9_999)
    assert done.returncode == 2 and "at least 20 updates and 10,000 pairs" in done.stderr
    assert not (tmp_path / "run").exists()
