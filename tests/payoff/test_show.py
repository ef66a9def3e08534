"""The table and the picture of the number of edits."""

import sys

import pytest

from hf_localgan.payoff import EditPayoff, HammingPayoff, edit_table, plot_edit_probs


def test_the_table_is_figure_1_of_the_paper():
    lines = edit_table(EditPayoff(range(61), 0.9), 20, (0.6, 0.9), edits=(0, *range(5, 10), 99)).splitlines()
    assert lines[0].startswith("| tau | mean edits | edits per token | P(e=0) | P(e=5) |")
    assert lines[2] == "| 0.6 | 0.49 | 0.025 | 0.608 | 0.000 | 0.000 | 0.000 | 0.000 | 0.000 | 0.000 |"
    assert lines[3] == "| 0.9 | 7.62 | 0.381 | 0.000 | 0.106 | 0.137 | 0.149 | 0.141 | 0.118 | 0.000 |"
    assert len(lines) == 4


def test_the_table_shows_the_samplers_own_temperature_by_default():
    # Cost 1 at temperature 0: every draw is the reference.
    assert edit_table(HammingPayoff(range(5), 0), 2, edits=range(3)).splitlines()[2:] == [
        "| 0 | 0.00 | 0.000 | 1.000 | 0.000 | 0.000 |"
    ]
    assert edit_table(EditPayoff(range(5), 0.9), 0, edits=[0]).endswith("| 0.9 | 0.00 | 0.000 | 1.000 |")


def test_the_picture_is_written(tmp_path):
    plot_edit_probs(EditPayoff(range(61), 0.9), 20, tmp_path / "new" / "edits.png", (0.6, 0.9))
    assert (tmp_path / "new" / "edits.png").read_bytes().startswith(b"\x89PNG")
    assert len(list((tmp_path / "new").iterdir())) == 1


def test_without_matplotlib_the_extra_is_named(monkeypatch, tmp_path):
    monkeypatch.setitem(sys.modules, "matplotlib.figure", None)
    with pytest.raises(ImportError, match=r"hf-localgan\[plots\]"):
        plot_edit_probs(EditPayoff(range(61), 0.9), 20, tmp_path / "edits.png")


def test_samplers_without_a_distribution_by_length_are_refused():
    with pytest.raises(ValueError, match="`payoff` must be an `EditPayoff` or a `HammingPayoff`, got str"):
        edit_table("edit", 20)
    with pytest.raises(ValueError, match="`temperature` must be at least 0, got -1"):
        edit_table(EditPayoff(range(5), 0.9), 20, [-1])
