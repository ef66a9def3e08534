"""`compare_trained` and `tau-curve` on evaluations of speech: seeds put together, error rates tested."""

from pathlib import Path

import numpy as np
import pyarrow
import pyarrow.parquet as parquet
import pytest

from hf_localgan.cli import main
from hf_localgan.decoding import Decoding
from hf_localgan.evaluation.comparison import compare_trained
from hf_localgan.evaluation.recognition import RecognitionEvaluation, score_transcripts
from hf_localgan.metrics import error_rate_difference, error_rate_permutation

REFERENCES = [" ".join(["aa", "b", "k", "d"] * length) for length in (1, 2, 3, 2, 4, 5, 2, 3)]
SYSTEMS = {"mle": 0.3, "raml_tau0.6": 0.1, "raml_tau0.9": 0.4}
DECODINGS = ("greedy", "beam 8")


def write_run(
    folder: Path, seed: int, wrong: float, *, fold: str = "none", target: str = "phones", limit: int = 27
) -> np.ndarray:
    """A run of which each phone is wrong with probability `wrong`; returns the edits of each utterance, by greedy."""
    rng, answers = np.random.default_rng(seed + round(1000 * wrong)), {}
    for decoding in DECODINGS:
        draws = [[("s" if rng.random() < wrong else phone) for phone in text.split()] for text in REFERENCES]
        answers[decoding] = [" ".join(phones) for phones in draws]
    names = [f"u{number}" for number in range(len(REFERENCES))]
    reports = {
        name: score_transcripts(texts, REFERENCES, fold=fold, target=target, names=names, resamples=20)
        for name, texts in answers.items()
    }
    about = {"model": folder.name, "seed": seed, "split": "test", "nats_per_token": 1.0, "perplexity": 2.7}
    about["transcript_limit"] = limit
    about |= {"validation_error_rate": 100 * wrong + seed, "best_of_evaluations": 40}
    about |= {"objective": "raml", "payoff": "edit", "edit_rate": wrong / 10, "temperature": float(folder.name[8:11])} \
        if folder.name.startswith("raml") else {"objective": "maximum likelihood"}  # fmt: skip
    decodings = [Decoding.greedy(), Decoding.beam(8)]
    RecognitionEvaluation(
        about, names, [[text] for text in REFERENCES], reports, None, answers, decodings
    ).write(folder)  # fmt: skip
    return reports["greedy"].per_query["edits"]


@pytest.fixture(scope="module")
def runs(tmp_path_factory):
    """The folder of three systems with three seeds each, and the edits by the name of the system."""
    folder = tmp_path_factory.mktemp("runs")
    edits = {
        name: [write_run(folder / f"{name}-seed{seed}", seed, wrong) for seed in range(3)]
        for name, wrong in SYSTEMS.items()
    }
    return folder, edits


def rows_of(text: str, heading: str) -> list[list[str]]:
    lines = text.split(f"## {heading}\n")[1].split("\n##")[0].strip().splitlines()
    return [[cell.strip() for cell in line.strip("|").split("|")] for line in lines if line.startswith("|")]


def test_error_rates_are_tested_seed_by_seed_and_over_all(runs):
    folder, edits = runs
    folders = sorted(map(str, folder.glob("mle*"))) + sorted(map(str, folder.glob("raml*")))
    text = compare_trained(folders, permutations=99, resamples=200)
    likelihood = rows_of(text, "Likelihood")
    assert likelihood[2][:3] == ["mle", "3", "31.00 (30.00 to 32.00)"] and likelihood[0][2] == "dev error rate %"
    assert rows_of(text, "Scores: beam 8")[0][1] == "PER %" and "| runaways |" in text
    table = rows_of(text, "raml_tau0.6 less mle: greedy")
    assert [row[0] for row in table[2:]] == [
        "seeds 0 and 0", "seeds 1 and 1", "seeds 2 and 2", "over utterances", "over utterances and seeds"
    ]  # fmt: skip
    tokens = np.array([len(text.split()) for text in REFERENCES])
    groups = {seed: ([edits["mle"][seed]], [edits["raml_tau0.6"][seed]], False) for seed in range(3)}
    groups |= {"all": (edits["mle"], edits["raml_tau0.6"], False), "seeds": (edits["mle"], edits["raml_tau0.6"], True)}
    for row, (before, after, redraw) in zip(table[2:], groups.values(), strict=True):
        settings = {"resamples": 200, "redraw_runs": redraw}
        points = error_rate_difference(before, after, tokens, **settings)
        share = error_rate_difference(before, after, tokens, relative=True, **settings)
        swaps = "" if redraw else f"{error_rate_permutation(before, after, tokens, permutations=99).p_value:.3f}"
        assert row[1:] == [
            f"{points.difference:+.2f}", f"{points.low:+.2f} to {points.high:+.2f}", f"{share.difference:+.1f}",
            f"{share.low:+.1f} to {share.high:+.1f}", swaps, f"{points.p_value:.3f}",
        ]  # fmt: skip
    assert "so that it is biased low: the test split decides." in text
    assert "## raml_tau0.9 less mle: beam 8" in text and "8 utterances." in text
    assert "99 swaps of utterances" in text and "bootstrap with 200 resamples" in text


def test_one_model_and_unequal_numbers_of_seeds(runs):
    folder, _ = runs
    alone = compare_trained(sorted(map(str, folder.glob("mle*"))))
    assert "## Scores\n" in alone and "less" not in alone and "different limits" not in alone
    fewer = compare_trained([*map(str, folder.glob("mle*")), str(folder / "raml_tau0.6-seed1")], resamples=20)
    assert [row[0] for row in rows_of(fewer, "raml_tau0.6 less mle: greedy")[2:]] == ["over utterances"]


def test_different_limits_of_length_are_told(runs, tmp_path):
    write_run(tmp_path / "short", 0, 0.3, limit=9)
    text = compare_trained([str(runs[0] / "mle-seed0"), str(tmp_path / "short")], resamples=20)
    assert "The runs cut transcripts at different limits (27, 9 tokens)" in text


def test_the_command_compares_speech(runs, capsys):
    folder, _ = runs
    assert main(["compare", *map(str, folder.glob("*seed0")), "--resamples", "20", "--permutations", "20"]) == 0
    assert "over utterances" in capsys.readouterr().out


def test_runs_that_were_scored_otherwise_or_do_not_fit_their_files_are_refused(runs, tmp_path):
    folder, _ = runs
    write_run(tmp_path / "folded", 0, 0.3, fold="timit39")
    with pytest.raises(ValueError, match="scored differently: per.*fold.*Score both with one `fold`"):
        compare_trained([str(tmp_path / "folded"), str(folder / "mle-seed0")])
    write_run(tmp_path / "words", 0, 0.3, target="text")
    with pytest.raises(ValueError, match="Not all runs have the same error rate"):
        compare_trained([str(folder / "mle-seed0"), str(tmp_path / "words")])
    write_run(tmp_path / "mixed", 0, 0.3)
    table = parquet.read_table(tmp_path / "mixed" / "query_scores.parquet").to_pydict()
    table["edits"] = [edits + 1 for edits in table["edits"]]
    parquet.write_table(pyarrow.table(table), tmp_path / "mixed" / "query_scores.parquet")
    with pytest.raises(ValueError, match="the `per` of greedy is .* belong to different evaluations"):
        compare_trained([str(tmp_path / "mixed"), str(folder / "mle-seed0")])


def test_the_curve_of_error_rates_has_a_row_for_each_temperature(runs, tmp_path, capsys):
    folder, edits = runs
    assert main(["tau-curve", str(folder), "--output", str(tmp_path / "tau.png"), "--decoding", "greedy"]) == 0
    text = capsys.readouterr().out
    assert (tmp_path / "tau.md").read_text() == text and (tmp_path / "tau.png").read_bytes()[:4] == b"\x89PNG"
    lines = [[cell.strip() for cell in line.strip("|").split("|")] for line in text.splitlines() if "|" in line]
    assert lines[0][4:] == [
        "dev PER %", "test PER %, greedy", "less the baseline", "in per cent of it", "runaways"
    ]  # fmt: skip
    assert text.endswith("so that it is biased low: the test split decides.\n")
    assert [line[:2] for line in lines[2:]] == [["maximum likelihood", ""], ["edit", "0.6"], ["edit", "0.9"]]
    before, after = (np.mean([run.sum() for run in edits[name]]) for name in ("mle", "raml_tau0.6"))
    phones = sum(len(text.split()) for text in REFERENCES)
    assert lines[3][3:5] == ["3", "11.00 (10.00 to 12.00)"]
    assert lines[3][6:] == [f"{100 * (after - before) / phones:+.2f}", f"{100 * (after / before - 1):+.1f}", "0"]
