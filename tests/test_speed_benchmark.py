"""How many rounds the benchmark of speed takes, what it leaves out, and what its tables say; nothing is timed."""

import importlib.util
import json
import sys
from argparse import Namespace
from pathlib import Path

import pytest

BENCHMARKS = Path(__file__).parents[1] / "benchmarks"
sys.path.insert(0, str(BENCHMARKS))

from report import write_results  # noqa: E402
from variants import variants  # noqa: E402

spec = importlib.util.spec_from_file_location("speed_benchmark", BENCHMARKS / "run.py")
speed_benchmark = importlib.util.module_from_spec(spec)
spec.loader.exec_module(speed_benchmark)


class Clock:
    """Seconds that pass when they are told to."""

    now = 100.0

    def monotonic(self) -> float:
        return self.now


@pytest.mark.parametrize(
    "rounds, seconds, until, taken",
    [
        (None, 10, 100, 3),  # the least, though there is no time at all
        (None, 10, 140, 4),  # a fourth ends just in time
        (None, 10, 139, 3),
        (None, 10, 1000, 5),
        (2, 10, 1000, 2),  # what is asked for is taken, in time or not
        (7, 10, 100, 7),
    ],
)
def test_rounds_end_in_time_but_for_the_first_three(monkeypatch, rounds, seconds, until, taken):
    clock = Clock()
    monkeypatch.setattr(speed_benchmark, "time", clock)
    numbers = []
    for number in speed_benchmark.turns(rounds, until):
        numbers.append(number)
        clock.now += seconds
    assert numbers == list(range(taken))


def test_the_longest_round_says_whether_another_one_fits(monkeypatch):
    clock = Clock()
    monkeypatch.setattr(speed_benchmark, "time", clock)
    for number in speed_benchmark.turns(None, 150):
        clock.now += (30, 5, 5, 5, 5)[number]
    assert clock.now == 140  # after three; 30 seconds more would pass 150


def test_a_share_of_no_time_is_no_time(monkeypatch):
    monkeypatch.setattr(speed_benchmark, "time", Clock())
    assert speed_benchmark.part_of(0.25, 140) == 110
    assert speed_benchmark.part_of(0.25, 60) == 100


def test_without_bf16_instructions_nothing_is_computed_in_it():
    with_bf16, without = variants(8_000), variants(8_000, bf16=False)
    assert set(with_bf16) - set(without) == {"bare_bf16", "ours_bf16"}
    assert "bfloat16" in str([variant.build for variant in with_bf16.values()])
    assert "bf" not in str([(variant.build, variant.title) for variant in without.values()])
    assert [name for name, variant in without.items() if variant.grouped] == [
        "bare_grouped", "ours_grouped", "ours_huge", "trainer_grouped",
    ]  # fmt: skip


def test_huge_pages_are_timed_where_they_are_asked_for():
    def named(**options) -> set[str]:
        asked = Namespace(**{"only": None, "huge_pages": False, **options})
        return set(speed_benchmark.wanted_variants(8_000, asked, bf16=True))

    usual, huge = named(), {"joeynmt_huge", "ours_huge"}
    assert not usual & huge and named(huge_pages=True) == usual | huge == set(variants(8_000))
    assert named(only=["ours_huge"]) == {"joeynmt", "joeynmt_fed", "ours_huge"}


def test_tables_name_the_processor_and_the_rounds(tmp_path):
    speeds = {"joeynmt": [100.0, 110.0, 90.0], "ours_fast": [200.0, 330.0, 180.0]}
    facts = {"reference": "joeynmt", "parameters": 5e6, "peak": 2**30, "peak_long": 2**30}
    systems = {name: {**facts, "title": name} for name in speeds}
    batches = {"number": 8, "mean_length": 13.0, "deviation": 4.0, "padding": 0.5, "padding_grouped": 0.2}
    result = {"vocab_size": 8_000, "batches": batches, "systems": systems, "training": speeds}
    result["generation"] = {"beam 5, batch 64": {name: rounds[:2] for name, rounds in speeds.items()}}
    settings = {"threads": 2, "clock": "wall", "processor": "A Processor, without bf16 instructions"}
    write_results(tmp_path / "results", settings, [result])
    text = (tmp_path / "results.md").read_text()
    assert "2 threads of A Processor, without bf16 instructions" in text
    assert "3 rounds of 8 batches" in text and "2 of beam 5, batch 64" in text
    assert "2.00 (2.00 to 3.00)" in text
    assert json.loads((tmp_path / "results.json").read_text())["settings"]["processor"] == settings["processor"]
