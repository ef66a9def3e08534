"""The table of the radial ablation: margins and gains against the same training without the term."""

import json
from pathlib import Path

import pytest

from hf_localgan.evaluation.radial_table import NONE, Arm, write_radial_table
from hf_localgan.evaluation.runs import Run


def run_of(seed: int, distances: list[float] | None, **scores: tuple[float, float]) -> Run:
    """An evaluation with Dist-2 and relevance of each decoding, and for all one coverage and a distance per query."""
    decodings, rows = {}, []
    for name, (diversity, relevance) in scores.items():
        values = {"dist_2": diversity, "ent_4": 5.0, "relevance_mean": relevance, "local_coverage": 0.25}
        values |= {} if distances is None else {"radius_distance": sum(distances) / len(distances)}
        entry = {"low": None, "high": None, "level": 0.95, "method": "none", "resamples": 0, "seed": None}
        scored = {metric: {**entry, "value": value, "signature": "s"} for metric, value in values.items()}
        decodings[name] = {"scores": scored, "generate": {}}
        for index in range(3):
            row = {"decoding": name, "query": index, "relevance_mean": relevance, "local_coverage": 0.25}
            rows.append(row | ({} if distances is None else {"radius_distance": distances[index]}))
    answers = {"query": ["a", "b", "c"], "references": [["a"]] * 3} | {name: ["yes"] * 3 for name in scores}
    history = [{"step": 300, "eval_quality": 0.04}, {"step": 900, "eval_quality": 0.1 + seed / 100}]
    about = {"seed": seed, "last_evaluated_step": 900}
    return Run(Path("nowhere"), "dialogue", about, None, decodings, answers, rows, None, history)


def test_margins_and_gains_of_each_seed(tmp_path):
    # Without the term: relevance 1.0 at diversity .2 and .8 at .4, so .9 at .3.
    plain = [run_of(seed, [8.0, 9.0, 10.0], greedy=(0.2, 1.0), sampled=(0.4, 0.8)) for seed in (0, 1)]
    distances = {0: [6.0, 7.0, 8.0], 1: [6.0, 9.0, 12.0]}  # nearer by 2 for each query; as near on average
    radial = [run_of(s, distances[s], greedy=(0.3, 1.0 - 0.2 * s), sampled=(0.5, 0.5)) for s in (0, 1)]
    arms = [Arm("convolution", NONE, plain), Arm("convolution", "score, mean, weight 1", radial)]
    write_radial_table(tmp_path, arms, title="T", about={"dataset": "d"}, resamples=100)
    arm = json.loads((tmp_path / "radial.json").read_text())["arms"][1]
    assert (arm["dev_quality"], arm["steps"]) == ([0.1, 0.11], [900, 900])
    entry = arm["decodings"]
    assert [margin["value"] for margin in entry["greedy"]["margin"]] == pytest.approx([0.1, -0.1])
    assert entry["sampled"]["margin"] == [None, None]  # beyond all that the other says

    def gains(decoding: str, score: str) -> list[float]:
        return [gain["value"] for gain in entry[decoding]["gains"][score]]

    assert gains("greedy", "dist_2") == pytest.approx([0.1, 0.1])
    assert gains("sampled", "relevance_mean") == pytest.approx([-0.3, -0.3])
    assert gains("greedy", "local_coverage") == [0.0, 0.0]
    nearer = entry["greedy"]["gains"]["radius_distance"]  # a smaller distance is a gain
    assert [gain["value"] for gain in nearer] == pytest.approx([2.0, 0.0])
    assert (nearer[0]["low"], nearer[0]["high"]) == pytest.approx((2.0, 2.0)) and nearer[1]["low"] < 0
    text = (tmp_path / "radial.md").read_text()
    assert "| convolution | score, mean, weight 1 | 2 | 0.105 (0.100 to 0.110) | 900 |" in text
    assert "| +1 (+0 to +2); 1 of 2 up, 1 sure | +0.000 (-0.100 to +0.100); 1 of 2 up, 1 sure |" in text


def test_what_was_not_measured_is_empty(tmp_path):
    unmeasured = [Arm("convolution", NONE, [run_of(0, None, greedy=(0.2, 1.0))])]
    unmeasured.append(Arm("convolution", "score", [run_of(0, None, greedy=(0.2, 1.0))]))
    write_radial_table(tmp_path, unmeasured, title="T", about={}, resamples=10)
    first, second = json.loads((tmp_path / "radial.json").read_text())["arms"]
    assert first["decodings"]["greedy"]["margin"] == [None]
    assert second["decodings"]["greedy"]["gains"]["radius_distance"] == [None]


def test_a_discriminator_without_a_rival_is_refused(tmp_path):
    arm = Arm("convolution", "score, mean, weight 1", [run_of(0, None, greedy=(0.2, 1.0))])
    with pytest.raises(ValueError, match="convolution has no run without the radial term"):
        write_radial_table(tmp_path, [arm], title="T", about={})
