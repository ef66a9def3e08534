"""The table of RAML: the test that is the criterion is paired by seeds, and dev BLEU of the tuned beam is shown."""

import json
from pathlib import Path

import pytest
from scipy import stats

from hf_localgan.evaluation.raml_table import write_raml_table
from hf_localgan.evaluation.runs import Run
from hf_localgan.metrics import bleu

REFERENCES = [[f"the {noun} of the {place} sleeps under a large old tree today"] for noun in
              ("cat", "dog", "fox", "hen", "owl") for place in ("town", "farm", "lake", "hill")]  # fmt: skip
SIGNATURE = "BLEU|tok:13a"


def run_of(seed: int, wrong: dict[str, int], quality: float | None = None, **about) -> Run:
    """A run that gets the first `wrong` sentences of each decoding wrong by one word."""
    answers = {"query": [str(row) for row in range(20)], "references": REFERENCES}
    decodings = {}
    for name, number in wrong.items():
        answers[name] = [group[0].replace("large", "small") if row < number else group[0]
                         for row, group in enumerate(REFERENCES)]  # fmt: skip
        value = bleu(answers[name], REFERENCES, tokenize="13a").score
        entry = {"low": None, "high": None, "level": 0.95, "method": "none", "resamples": 0, "seed": None}
        decodings[name] = {"scores": {"bleu": {**entry, "value": value, "signature": SIGNATURE}}, "generate": {}}
    if quality is not None:
        decodings["tuned beam"]["tuned"] = {"quality": quality, "queries": 20}
    return Run(Path(f"seed{seed}"), "translation", {"seed": seed, **about}, None, decodings, answers, [], None, [])


def scores(runs: list[Run], decoding: str = "tuned beam") -> list[float]:
    return [float(run.value(decoding, "bleu")) for run in runs]


def test_seeds_are_paired_and_the_tuned_beam_on_test_is_the_criterion(tmp_path):
    # Seeds differ by much, and RAML gains a little in three of four: unpaired, that does not show.
    worse, better = (4, 16, 9, 12), (3, 15, 9, 11)
    plain = [run_of(seed, {"greedy": 18, "tuned beam": n}, 50 + seed) for seed, n in enumerate(worse)]
    raml = [run_of(seed, {"greedy": 18, "tuned beam": n}, 60.0) for seed, n in enumerate(better)]
    systems = {"maximum likelihood": plain, "edit": raml[::-1], "Hamming": [run_of(2, {"greedy": 5, "tuned beam": 8})]}
    write_raml_table(tmp_path, systems, ["maximum likelihood"], title="T", about={}, chosen_by="dice", resamples=50)
    found = json.loads((tmp_path / "raml.json").read_text())
    edit = next(test for test in found["tests"] if test["system"] == "edit" and test["criterion"])
    paired, unpaired = stats.ttest_rel(scores(raml), scores(plain)), stats.ttest_ind(scores(raml), scores(plain))
    assert edit["p_seeds"] == pytest.approx(paired.pvalue) and paired.pvalue < 0.1 < 0.5 < unpaired.pvalue
    assert (edit["gains"], edit["seeds"], edit["decoding"]) == (3, 4, "tuned beam")
    # One seed in common: the difference is that seed's, and there is no t-test.
    single = next(test for test in found["tests"] if test["system"] == "Hamming" and test["criterion"])
    assert single["difference"] == pytest.approx(scores(systems["Hamming"])[0] - scores(plain)[2])
    assert (single["gains"], single["seeds"], single["p_seeds"]) == (1, 1, None)
    equal = next(test for test in found["tests"] if test["system"] == "edit" and test["decoding"] == "greedy")
    assert (equal["gains"], equal["p_seeds"], equal["criterion"]) == (0, None, False)
    assert found["rows"][0]["dev_bleu_tuned_beam"] == [50, 51, 52, 53] and found["chosen_by"] == "dice"
    text = (tmp_path / "raml.md").read_text()
    assert "**Criterion: BLEU on the test split, tuned beam, paired t-test over seeds.**" in text
    assert "rate was chosen by dice." in text and "dev, tuned beam" in text and "51.50 (50.00 to 53.00)" in text
    assert f"| edit | tuned beam (criterion) | +0.99 | 3 of 4 | {paired.pvalue:.3f} |" in text
    assert "(paired t-test, level 0.05)" in text and "Checkpoints that were averaged" not in text


def test_checkpoints_are_shown_where_runs_averaged_others(tmp_path):
    runs = {"mle": [run_of(0, {"beam 2": 3}, averaged_steps="2, 4, 6")], "raml": [run_of(0, {"beam 2": 3})]}
    write_raml_table(tmp_path, runs, ["mle"], title="T", about={}, resamples=10)
    text = " ".join((tmp_path / "raml.md").read_text().split())
    assert "## Checkpoints that were averaged" in text and "| mle, seed 0 | 2, 4, 6 |" in text
    assert "| raml, seed 0 | none, the last model |" in text
    assert "**Criterion: BLEU on the test split, beam 2," in text  # no run has a tuned beam
    runs["raml"] = [run_of(0, {"beam 2": 3}, averaged_steps="2, 4, 6")]
    write_raml_table(tmp_path, runs, ["mle"], title="T", about={}, resamples=10)
    assert "averaged" not in (tmp_path / "raml.md").read_text()
