"""Scores of filled sheets: what simulated people put in comes out, and what does not belong is refused."""

import json
import random

import numpy as np
import pyarrow.parquet as parquet
import pytest

from hf_localgan.annotation import (
    compare_answers,
    read_judged_responses,
    read_judgements,
    read_sheet,
    score_judgements,
    two_way_interval,
)
from hf_localgan.annotation.study import CONTROL, REFERENCE
from hf_localgan.metrics import bootstrap_interval


def good_judge(person, item, question):
    """References are relevant, controls are not; a system's answer is good by its own text."""
    if CONTROL in item.sources:
        return 0
    return int(REFERENCE in item.sources or "alpha" in item.sources)


@pytest.fixture
def written(study, tmp_path):
    study.write(tmp_path / "study")
    return tmp_path / "study"


def test_perfect_people_give_perfect_scores_whatever_the_file_and_the_order(study, written, fill, tmp_path):
    csv = read_judgements(written, fill(study, tmp_path / "csv", good_judge))
    xlsx = read_judgements(written, fill(study, tmp_path / "xlsx", good_judge, ".xlsx"))
    np.testing.assert_array_equal(csv.answers, xlsx.answers)
    paths = fill(study, tmp_path / "mixed", good_judge)
    for path in paths:
        sheet = read_sheet(path)
        random.Random(0).shuffle(sheet.rows)
        sheet.write_csv(path)
    renamed = paths[0].rename(tmp_path / "mixed" / "returned.csv")
    mixed = read_judgements(written, [*paths[:0:-1], renamed])
    np.testing.assert_array_equal(csv.answers, mixed.answers)
    np.testing.assert_array_equal(csv.repeated, mixed.repeated)

    report = score_judgements(csv, resamples=50, permutations=99)
    values = {(score.source, score.question): score.interval.value for score in report.scores}
    assert values["alpha", "relevance"] == values[REFERENCE, "relevance"] == 1
    assert values[CONTROL, "relevance"] == values["gamma", "relevance"] == 0
    shared = sum("beta" in item.sources for item in study.items if "alpha" in item.sources)
    assert values["beta", "relevance"] == pytest.approx(shared / 10)
    for check in report.checks:
        assert (check.answered, check.repeats, check.reference, check.control, check.kappa) == (1, 1, 1, 0, 1)
    whole = report.agreements["relevance"]["all"]
    assert (whole.raw.value, whole.fleiss, whole.cohen, whole.krippendorff) == (1, 1, 1, 1)


def test_equal_systems_differ_by_exactly_0_and_holm_corrects(simulated):
    first, second = simulated(np.random.default_rng(0), (0.8, 0.5), 0.5, people=5, queries=100)
    answers = {"a": first, "same": first.copy(), "b": second}
    pairs = [("a", "same"), ("a", "b")]
    same, other = compare_answers(answers, pairs, "relevance", permutations=999, resamples=50)
    assert (same.interval.value, same.interval.low, same.interval.high, same.p_value, same.holm) == (0, 0, 0, 1, 1)
    # Holm: the smaller of two p values times two, the larger as it is
    assert other.p_value == 0.001 and other.holm == pytest.approx(0.002)
    assert other.interval.value == pytest.approx(first.mean() - second.mean())


def test_intervals_hold_what_simulated_people_were_made_with(simulated):
    rng = np.random.default_rng(0)
    held, runs = 0, 300
    for seed in range(runs):
        (answers,) = simulated(rng, [0.7], 0.5, people=5, queries=80)
        interval = bootstrap_interval(answers.mean(axis=0), resamples=200, seed=seed)
        held += interval.low <= 0.7 <= interval.high
    # 95 % nominal; 80 queries and 200 resamples cost about one percent, four standard errors are five
    assert held / runs > 0.89


def test_people_drawn_anew_hold_a_person_who_likes_one_system():
    # Every person shifts the system by a fixed amount; queries alone know nothing of that.
    rng = np.random.default_rng(0)
    held = np.zeros(2)
    for seed in range(200):
        answers = (rng.random((8, 100)) < 0.5 + rng.normal(0, 0.15, size=(8, 1))).astype(float)
        both = (
            bootstrap_interval(answers.mean(axis=0), resamples=100, seed=seed),
            two_way_interval(answers, resamples=100, seed=seed),
        )
        held += [interval.low <= 0.5 <= interval.high for interval in both]
    assert held[0] / 200 < 0.8 < 0.85 < held[1] / 200


def test_gaps_are_counted_and_leave_the_rest_alone(study, written, fill, tmp_path):
    def judge(person, item, question):
        return None if person == 1 and question == "relevance" else good_judge(person, item, question)

    report = score_judgements(
        read_judgements(written, fill(study, tmp_path / "s", judge)), resamples=20, permutations=9
    )
    assert f"{len(study.items)} gaps of {6 * len(study.items)} answers" in report.to_markdown()
    assert report.agreements["relevance"]["all"].complete == 0
    assert report.agreements["relevance"]["all"].krippendorff == 1
    values = {(score.source, score.question): score.interval.value for score in report.scores}
    assert values["alpha", "relevance"] == 1
    lazy = next(check for check in report.checks if check.person == "sheet_2" and check.question == "relevance")
    assert lazy.answered == 0 and np.isnan(lazy.kappa)


def test_a_person_with_a_gap_in_one_system_does_not_move_the_difference():
    # The third person is lenient and judged the first system only.
    strict, lenient = np.zeros(50), np.ones(50)
    answers = {"a": np.stack([strict, strict, lenient]), "b": np.stack([strict, strict, np.full(50, np.nan)])}
    (row,) = compare_answers(answers, [("a", "b")], "q", permutations=99, resamples=9)
    assert row.interval.value == 0 and row.p_value == 1


def test_results_are_written_and_feed_the_comparison_with_metrics(study, written, fill, tmp_path):
    fill(study, written / "sheets", good_judge)
    report = score_judgements(read_judgements(written), all_pairs=True, resamples=20, permutations=99)
    assert len(report.differences) == 2 * 3
    files = report.write(tmp_path / "out")
    assert [path.name for path in files] == ["annotation.json", "annotation.md", "human_scores.parquet"]
    stored = json.loads(files[0].read_text())
    assert stored["people"] == ["sheet_1", "sheet_2", "sheet_3"] and len(stored["differences"]) == 6
    assert [plan["queries_needed"]["5"] for plan in stored["plans"]]
    table = parquet.read_table(files[2]).to_pydict()
    assert set(table["system"]) == {"alpha", "beta", "gamma", REFERENCE} and len(table["query"]) == 40
    judged = read_judged_responses(files[2])
    assert list(judged.human) == ["relevance", "informativeness"] and len(judged.contexts) == 10


def test_empty_sheets_are_passed_over_and_none_at_all_is_refused(study, written, fill, tmp_path):
    with pytest.raises(ValueError, match="holds an answer"):
        read_judgements(written)
    paths = fill(study, tmp_path / "filled", good_judge)
    (written / "sheets" / "sheet_2.csv").write_bytes(paths[1].read_bytes())
    assert read_judgements(written).people == ["sheet_2"]
    report = score_judgements(read_judgements(written), resamples=20, permutations=9)
    assert report.plans == [] and np.isnan(report.agreements["relevance"]["all"].fleiss)
    assert "## Scores" in report.to_markdown()
    fill(study, tmp_path / "other", good_judge, ".xlsx")[1].rename(written / "sheets" / "sheet_2.xlsx")
    with pytest.raises(ValueError, match='sheet_2 is filled in twice, in "sheet_2.csv" and "sheet_2.xlsx"'):
        read_judgements(written)


def test_what_does_not_belong_is_refused_by_name(study, written, fill, tmp_path):
    one, two, _ = fill(study, tmp_path / "s", good_judge)
    whole = one.read_text(encoding="utf-8-sig")
    first = read_sheet(one).rows[0].id

    def refuse(text, message):
        path = tmp_path / "changed.csv"
        path.write_text(text, encoding="utf-8")
        with pytest.raises(ValueError, match=message):
            read_judgements(written, [path])

    refuse(whole.replace(first, "abcdefgh"), "has the id abcdefgh, which the key does not know")
    refuse(whole.replace("i do not know", "i know", 1), "the response of .* was changed, from 'i do not know'")
    refuse(whole.replace("relevant to", "close to"), "asks other questions than the key")
    refuse(whole + two.read_text(encoding="utf-8-sig").split("\n", 1)[1], "has rows of sheet_1 and sheet_2")
    with pytest.raises(ValueError, match="`against` must be one of alpha, beta, gamma, got 'delta'"):
        score_judgements(read_judgements(written, [one]), against="delta")
