"""Which finished runs are seeds of one point of the temperature curve, and which are not."""

from types import SimpleNamespace

import pytest

from hf_localgan.recipes import temperature_curve


def run_of(score: float, objective: str = "raml", kind: str = "translation", **about) -> SimpleNamespace:
    """A finished run as far as the recipe reads it."""
    about = {"objective": objective, "split": "test", "seed": 1, **about}
    scores = {"translation": {"bleu": score}, "recognition": {"per": score, "runaways": 2.0}}[kind]
    read = lambda decoding, metric: scores.get(metric)  # noqa: E731
    return SimpleNamespace(about=about, kind=kind, decodings={"greedy": {}}, value=read)


@pytest.fixture
def curves(tmp_path, monkeypatch):
    """`curves(runs, *options)`: the test set's curves as they are drawn, and the lines of the table."""

    def draw(runs, *options):
        drawn = {}
        monkeypatch.setattr(temperature_curve, "read_runs", lambda *_: runs)
        monkeypatch.setattr(temperature_curve, "plot_tau_curve", lambda panels, path, **_: drawn.update(panels))
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


@pytest.mark.parametrize("kind", ["translation", "recognition"])
def test_label_smoothing_and_other_objectives_are_rivals_of_their_own(curves, kind):
    raml = {"payoff": "edit", "temperature": 0.6, "edit_rate": 0.03, "kind": kind}
    runs = [
        run_of(20.0, "maximum likelihood", kind),
        run_of(22.0, "maximum likelihood", kind, seed=2),
        run_of(18.0, "maximum likelihood", kind, label_smoothing=0.1),
        run_of(17.0, "maximum likelihood", kind, label_smoothing=0.2),
        run_of(16.0, "expected reward", kind),
        run_of(19.0, **raml),
        run_of(15.0, **raml, label_smoothing=0.1),
        run_of(14.0, **raml, ctc_labels="drawn"),
        run_of(21.0, **raml, ctc_labels="reference", seed=2),
    ]
    drawn, lines = curves(runs)
    assert drawn == {
        "": [(0.0, [20.0, 22.0])],
        "label smoothing 0.1": [(None, [18.0])],
        "label smoothing 0.2": [(None, [17.0])],
        "expected reward": [(None, [16.0])],
        "edit": [(0.6, [19.0, 21.0])],
        "edit (label smoothing 0.1)": [(0.6, [15.0])],
        "edit (CTC on draws)": [(0.6, [14.0])],
    }
    cells = {line[0]: line[1:] for line in lines}
    assert cells["maximum likelihood"][2:6] == ["2", "", "21.00 (20.00 to 22.00)", ""]
    assert cells["label smoothing 0.1"][:6] == ["", "", "1", "", "18.00", "-3.00"]
    # 18 for 21 errors are 14.3 % fewer
    assert cells["label smoothing 0.1"][6:] == (["-14.3", "2"] if kind == "recognition" else [])
    assert curves(runs, ("against", "edit_rate"))[0]["label smoothing 0.1"] == [(None, [18.0])]
