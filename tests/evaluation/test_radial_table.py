"""The table of the radial ablation: margins and gains against the same training without the term."""

import json
from pathlib import Path

import pytest

from hf_localgan.evaluation.radial_table import NONE, Arm, write_radial_table
from hf_localgan.evaluation.runs import Run


def run_of(seed: int, distance: float | None, **scores: tuple[float, float]) -> Run:
    """An evaluation with Dist-2 and relevance of each decoding, and one coverage and distance for all."""
    decodings, rows = {}, []
    for name, (diversity, relevance) in scores.items():
        values = {"dist_2": diversity, "ent_4": 5.0, "relevance_mean": relevance, "local_coverage": 0.25}
        values |= {} if distance is None else {"radius_distance": distance}
        entry = {"low": None, "high": None, "level": 0.95, "method": "none", "resamples": 0, "seed": None}
        scored = {metric: {**entry, "value": value, "signature": "s"} for metric, value in values.items()}
        decodings[name] = {"scores": scored, "generate": {}}
        rows += [{"decoding": name, "query": index, "relevance_mean": relevance} for index in range(3)]
    answers = {"query": ["a", "b", "c"], "references": [["a"]] * 3} | {name: ["yes"] * 3 for name in scores}
    return Run(Path("nowhere"), "dialogue", {"seed": seed}, None, decodings, answers, rows, None, [])


def test_margins_and_gains_of_each_seed(tmp_path):
    # Without the term: relevance 1.0 at diversity .2 and .8 at .4, so .9 at .3.
    plain = [run_of(seed, 9.0, greedy=(0.2, 1.0), sampled=(0.4, 0.8)) for seed in (0, 1)]
    radial = [run_of(seed, 7.0 + seed, greedy=(0.3, 1.0 - 0.2 * seed), sampled=(0.5, 0.5)) for seed in (0, 1)]
    arms = [Arm("convolution", NONE, plain), Arm("convolution", "score, mean, weight 1", radial)]
    write_radial_table(tmp_path, arms, title="T", about={"dataset": "d"}, resamples=10)
    entry = json.loads((tmp_path / "radial.json").read_text())["arms"][1]["decodings"]
    assert [margin["value"] for margin in entry["greedy"]["margin"]] == pytest.approx([0.1, -0.1])
    assert entry["sampled"]["margin"] == [None, None]  # beyond all that the other says
    assert entry["greedy"]["radius_distance_gain"] == pytest.approx([-2.0, -1.0])
    assert entry["greedy"]["local_coverage_gain"] == [0.0, 0.0]
    text = (tmp_path / "radial.md").read_text()
    assert "+0.000 (-0.100 to +0.100) | 1 of 2, 1 by the whole interval | +0.000 | -1.5 (-2 to -1) |" in text
    unmeasured = [Arm("convolution", NONE, [run_of(0, None, greedy=(0.2, 1.0))])]
    write_radial_table(tmp_path, unmeasured, title="T", about={}, resamples=10)
    assert json.loads((tmp_path / "radial.json").read_text())["arms"][0]["decodings"]["greedy"]["margin"] == [None]
    with pytest.raises(ValueError, match="convolution has no run without the radial term"):
        write_radial_table(tmp_path, arms[1:], title="T", about={})
