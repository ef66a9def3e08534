"""The page on scale: its tables are what the benchmark prints and has counted, and the formula does as it says."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
PAGE = (ROOT / "docs" / "scale.md").read_text(encoding="utf-8")


def scale(*words) -> subprocess.CompletedProcess:
    command = [sys.executable, ROOT / "benchmarks" / "scale.py", *map(str, words)]
    return subprocess.run(command, capture_output=True, text=True, timeout=60)


@pytest.mark.parametrize("words", [(), ("--speedup", 30, "--bandwidth", 10)])
def test_the_page_has_the_tables_that_the_script_prints(words):
    done = scale(*words)
    assert done.returncode == 0 and done.stdout.strip() in PAGE


def test_the_page_has_the_bytes_that_were_counted_and_they_are_those_of_the_parameters():
    counted = json.loads((ROOT / "benchmarks" / "scale_wire.json").read_text())
    for found in counted.values():
        for name, one in found.items():
            assert one["gradients"] == one["parameter_bytes"]
            assert f"| {name} | {one['parameter_bytes'] // 4:,} | {one['parameter_bytes']:,} | " in PAGE


def test_the_page_says_what_sharding_would_spread_and_how_often_it_would_gather():
    found = json.loads((ROOT / "benchmarks" / "scale_sharding.json").read_text())["opensubtitles"]
    counted = json.loads((ROOT / "benchmarks" / "scale_wire.json").read_text())["opensubtitles"]
    assert found.keys() == counted.keys()
    for name, one in found.items():
        assert one["parameter_bytes"] == counted[name]["parameter_bytes"]
        row = next(line for line in PAGE.splitlines() if line.startswith(f"| {name} |") and line.count("|") == 5)
        spread, _, reads = (cell.strip() for cell in row.split("|")[2:5])
        assert float(spread) == pytest.approx(one["sharded_bytes"] / 1e6, rel=0.1)
        assert float(reads) == pytest.approx(one["reads"], abs=0.5)


def test_an_update_of_ones_own_by_hand(tmp_path):
    # 5,200,000 pairs in batches of 100 are 52,000 updates; of 8 processes 6,500. Each sends 2 * 7/8 * 4 GB = 7 GB at
    # 1 GB/s, and 14 messages of 0.1 s: 8.4 s beside 1.6 s of computation. 6,500 * 10 s = 18.06 hours, 84 % of it sent.
    steps = {"median_seconds": 9.0, "batch": 100, "gradient_bytes": 4_000_000_000}
    (tmp_path / "steps.json").write_text(json.dumps({"corpora": {"opensubtitles": {"updates": {"mine": steps}}}}))
    words = ["--steps", tmp_path / "steps.json", "--bandwidth", 1, "--latency", 1e5]
    last = scale(*words, "--update", "opensubtitles", "mine", 1.6).stdout.splitlines()[-1]
    assert [cell.strip() for cell in last.split("|")][3:8] == ["100", "4000.0", "1.6", "23.1", "18.1 (84%)"]


@pytest.mark.parametrize(
    ("words", "told"),
    [(["--speedup", 0], "above 0"), (["--update", "wmt14", "LocalGAN", 1], "wmt14: RAML")],
)
def test_what_is_not_there_is_named(words, told):
    done = scale(*words)
    assert done.returncode == 2 and told in done.stderr


@pytest.mark.slow
def test_reading_and_encoding_are_measured_and_stand_in_a_table(tmp_path):
    words = ["--pairs", 3_000, "--rounds", 1, "--encoded", 500, "--output", tmp_path / "data"]
    command = [sys.executable, ROOT / "benchmarks" / "scale_data.py", *map(str, words)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    found = json.loads((tmp_path / "data.json").read_text())
    loads = [one for each in found["loads"].values() for one in each]
    assert [one["pairs"] for one in loads] == [3_000] * 3 and all(one["shared"] == loads[0]["shared"] for one in loads)
    assert all(speed > 0 for speeds in found["encodings"]["speeds"].values() for speed in speeds)
    assert (tmp_path / "data.md").read_text() in done.stdout and "JSON lines, second start" in done.stdout
