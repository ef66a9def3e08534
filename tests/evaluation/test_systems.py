"""The table of all systems: spreads over seeds, margins over the rivals' fronts, orders, and the page."""

import itertools
import json
import math
from pathlib import Path

import numpy as np
import pytest

from hf_localgan.evaluation.runs import Run
from hf_localgan.evaluation.systems import METRICS, PRINTED, write_systems
from hf_localgan.evaluation.web_page import write_page

QUERIES = ["how are you ?", "where to ?", "why ?"]


def run_of(scores: dict[str, tuple[float, float]], seed: int = 0, history=(), **about) -> Run:
    """An evaluation with Dist-2 and relevance of each decoding, whose relevance differs between queries."""
    decodings, rows = {}, []
    for name, (diversity, relevance) in scores.items():
        values = {"dist_1": diversity / 3, "dist_2": diversity, "ent_4": 10 * diversity, "relevance_mean": relevance}
        values["mean_length"] = 8.0 + seed
        entry = {"low": None, "high": None, "level": 0.95, "method": "none", "resamples": 0, "seed": None}
        decodings[name] = {
            "scores": {metric: {**entry, "value": value, "signature": "s"} for metric, value in values.items()},
            "generate": {"temperature": float(name.split()[1])} if name.startswith("temperature") else {},
        }
        rows += [
            {"decoding": name, "query": index, "relevance_mean": relevance + shift}
            for index, shift in enumerate((0.3, -0.3, 0.0))
        ]
    answers = {"query": QUERIES, "references": [["a"]] * 3} | {name: ["yes ."] * 3 for name in scores}
    about = {"seed": seed, **about}
    references = {"scores": {"mean_length": {"value": 9.5 + seed}}}
    return Run(Path("nowhere"), "dialogue", about, references, decodings, answers, rows, None, list(history))


def test_the_table_holds_margins_over_the_front_of_the_same_seed(tmp_path):
    # Seed 0's rival has relevance 1.0 at diversity .2 and .8 at .4; seed 1's is .1 higher everywhere.
    rivals = [
        run_of({"greedy": (0.2, 1.0 + shift), "temperature 1": (0.4, 0.8 + shift)}, seed)
        for seed, shift in enumerate((0.0, 0.1))
    ]
    gans = [
        run_of({"greedy": (0.3, 1.0), "temperature 1": (0.5, 2.0)}, seed, training="collapsed" if seed else None)
        for seed in (0, 1)
    ]
    del gans[0].about["training"]
    write_systems(tmp_path, {"Seq2Seq": rivals, "LocalGAN": gans}, title="T", about={"dataset": "d"})
    rows = {(row["system"], row["decoding"]): row for row in json.loads((tmp_path / "table1.json").read_text())["rows"]}
    greedy = rows["LocalGAN", "greedy"]
    assert greedy["above"]["Seq2Seq"] == pytest.approx([0.1, 0.0]) and greedy["relevance_mean"] == [1.0, 1.0]
    assert rows["LocalGAN", "temperature 1"]["above"]["Seq2Seq"] == [None, None]  # beyond all that the rival says
    assert rows["Seq2Seq", "greedy"]["above"] == {}
    text = (tmp_path / "table1.md").read_text()
    assert "| LocalGAN | 2 | 0.1 | 0.3 | 3 | 1 | 8.5 (8.0 to 9.0) | +0.0500 (+0.0000 to +0.1000) |" in text
    assert "| Seq2Seq | 2 | 0.06667 | 0.2 | 2 | 1.05 (1 to 1.1) | 8.5 (8.0 to 9.0) |  |" in text
    assert "The references have 10.0 words." in text and greedy["mean_length"] == [8.0, 9.0]
    assert "| LocalGAN | collapsed |" in text
    assert (tmp_path / "front.png").stat().st_size > 1000 and not (tmp_path / "entropy.png").exists()
    page = (tmp_path / "table1.html").read_text()
    assert "<title>T</title>" in page and 'src="data:image/png;base64,' in page and "front.png" not in page


@pytest.mark.parametrize("turned", [False, True])
def test_the_order_found_is_held_against_the_printed_one(turned, tmp_path):
    systems = {}
    for name, (first, _) in PRINTED.items():
        values = [1 / value if turned else value for value in first]
        systems[name] = [run_of({"greedy": (values[1], values[3])})]
    write_systems(tmp_path, systems, title="T", about={})
    orders = json.loads((tmp_path / "table1.json").read_text())["orders"]
    ranks = sorted(PRINTED, key=lambda name: PRINTED[name][0][1], reverse=not turned)
    assert orders["dist_2"]["order"] == ranks
    agreement = orders["dist_2"]["agreement"]["OpenSubtitles"]
    assert agreement["tau"] == pytest.approx(-1.0 if turned else 1.0)
    assert agreement["p"] == pytest.approx(2 / math.factorial(7))  # one of all orders at either end
    assert set(orders) == set(METRICS)
    weibo = [PRINTED[name][1][1] for name in PRINTED]
    pairs = itertools.combinations(zip([PRINTED[name][0][1] for name in PRINTED], weibo, strict=True), 2)
    tau = np.mean([np.sign((a[0] - b[0]) * (a[1] - b[1])) for a, b in pairs])
    assert orders["dist_2"]["agreement"]["Weibo"]["tau"] == pytest.approx(-tau if turned else tau)


def test_entropy_is_drawn_over_the_updates_that_all_seeds_have(tmp_path):
    history = [
        {"step": 1, "eval_ent_4": 4.0}, {"step": 2, "gan/generator_updates": 1, "loss": 1.0},
        {"step": 2, "eval_ent_4": 5.0},
    ]  # fmt: skip
    runs = [run_of({"greedy": (0.2, 1.0)}, seed, history[: 3 - seed]) for seed in (0, 1)]
    write_systems(tmp_path, {"Seq2Seq": runs, "AIM": runs}, title="T", about={})
    assert (tmp_path / "entropy.png").stat().st_size > 1000
    assert (tmp_path / "table1.html").read_text().count('src="data:image/png;base64,') == 2


def test_a_page_loads_nothing_and_shows_html_as_text(tmp_path):
    text = "# A & B\n\n<script>alert(1)</script>\n\n![cat](https://example.org/cat.png)\n\n"
    text += "| a | b |\n| --- | --- |\n| 1 | 2 |\n"
    page = write_page(tmp_path / "a.html", text).read_text()
    assert "<title>A &amp; B</title>" in page and "<td>2</td>" in page
    assert "<script>" not in page and "example.org" not in page and "cat" in page
    with pytest.raises(FileNotFoundError):
        write_page(tmp_path / "b.html", "![x](missing.png)")
    assert not (tmp_path / "b.html").exists()
