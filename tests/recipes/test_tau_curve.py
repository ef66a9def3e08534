"""Which finished runs are seeds of one point of the temperature curve, and which are not."""

from types import SimpleNamespace

import pytest

from hf_localgan.recipes import temperature_curve


def run_of(score: float, objective: str = "raml", **about) -> SimpleNamespace:
    """A finished run as far as the recipe reads it."""
    about = {"objective": objective, "split": "test", "seed": 1, **about}
    return SimpleNamespace(about=about, decodings={"greedy": {}}, value=lambda decoding, metric: score)


@pytest.fixture
def curves(tmp_path, monkeypatch):
    """`curves(runs, *options)`: the test set's curves as they are drawn, and the lines of the table."""

    def draw(runs, *options):
        drawn = {}
        monkeypatch.setattr(temperature_curve, "read_runs", lambda *_: runs)
        monkeypatch.setattr(temperature_curve, "plot_tau_curve", lambda panels, path, across: drawn.update(panels))
        table = temperature_curve.draw_temperature_curve("runs", tmp_path / "tau.png", **dict(options))
        lines = [[cell.strip() for cell in line.strip("|").split("|")] for line in table.splitlines()]
        return drawn["test, greedy"], lines[2:]

    return draw


def test_runs_of_other_settings_are_no_seeds_of_one_point(curves):
    hamming = {"payoff": "hamming", "temperature": 0.8, "edit_rate": 0.04}
    bleu = {"payoff": "importance", "reward": "bleu", "temperature": 0.1, "edit_rate": 0.02}
    drawn, lines = curves(
        [
            run_of(30.0, "maximum likelihood"),
            run_of(31.0, **hamming),  # as runs were recorded that had the defaults
            run_of(32.0, **hamming, seed=2),
            run_of(33.0, **hamming, num_samples=2),
            run_of(34.0, **hamming, temperature_schedule="linear"),
            run_of(35.0, **bleu),
            run_of(36.0, **bleu, num_candidates=4, weighted=True),
            run_of(37.0, **bleu, proposal="edit", base="uniform"),
        ]
    )
    assert drawn == {
        "": [(0.0, [30.0])],
        "hamming": [(0.8, [31.0, 32.0])],
        "hamming (num_samples 2)": [(0.8, [33.0])],
        "hamming (temperature_schedule linear)": [(0.8, [34.0])],
        "importance (bleu)": [(0.1, [35.0])],
        "importance (bleu, num_candidates 4, weighted True)": [(0.1, [36.0])],
        "importance (bleu, proposal edit, base uniform)": [(0.1, [37.0])],
    }
    assert [line[3] for line in lines] == ["1", "2", *["1"] * 5]
    assert lines[0][0] == "maximum likelihood" and lines[1][6] == "+1.50"  # (31 + 32) / 2 - 30


def test_two_temperatures_of_one_edit_rate_are_both_drawn(curves):
    runs = [
        run_of(score, payoff="hamming", temperature=tau, edit_rate=rate)
        for score, tau, rate in ((30.0, 0.2, 0.0), (31.0, 0.3, 0.0), (32.0, 0.9, 0.1))
    ]
    drawn, lines = curves(runs, ("against", "edit_rate"))
    assert drawn == {"hamming": [(0.0, [30.0]), (0.0, [31.0]), (0.1, [32.0])]}
    assert [line[1] for line in lines] == ["0.2", "0.3", "0.9"]
