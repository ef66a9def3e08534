"""Scores beside a model: half widths on its card, and the Hub's own file of results."""

import math

import pytest
import yaml
from huggingface_hub import EvalResult, parse_eval_result_entries

from hf_localgan.decoding import Decoding
from hf_localgan.evaluation import Evaluation
from hf_localgan.hub import write_model_card
from hf_localgan.hub.scores import RESULTS_FILE, decodings_table, plus_minus, task_id, write_eval_results
from hf_localgan.metrics import score_responses
from hf_localgan.trainers import RamlTrainer


@pytest.mark.parametrize(
    ("numbers", "expected"),
    [
        ((20.630508, 19.508978, 21.67951), "20.63 ± 1.09"),  # (21.67951 - 19.508978) / 2 = 1.085266
        ((0.024439, 0.022634, 0.026245), "0.0244 ± 0.0018"),
        ((-266.7, -268.7, -265), "-266.70 ± 1.85"),
        ((1.0, 1.0, 1.0), "1.000"),
        ((0.5, 0.49999, 0.50001), "0.5000 ± 1e-05"),  # never ± 0
        ((3.12, None, None), "3.120"),
        ((3.12, math.nan, math.nan), "3.120"),
    ],
)
def test_half_the_width_of_an_interval_stands_beside_the_value(numbers, expected):
    assert plus_minus(*numbers) == expected


def evaluation(dataset: str, *names: str) -> Evaluation:
    report = score_responses(["a b", "c"], [["a"], ["c"]], resamples=20)
    about = {"dataset": dataset, "split": "test", "date": "2026-11-30"}
    decodings = [*map(Decoding.parse, names)]
    answers = {name: ["a b", "c"] for name in names}
    return Evaluation(about, ["q", "r"], [["a"], ["c"]], dict.fromkeys(names, report), None, answers, decodings)


@pytest.mark.parametrize(
    ("names", "shown"),
    [
        (["greedy", "beam 2", "beam 5", "temperature 0.7"], ["greedy", "beam 5"]),
        (["temperature 0.7", "beam 3"], ["beam 3"]),
        (["temperature 0.7", "temperature 1"], ["temperature 0.7"]),
    ],
)
def test_greedy_and_the_widest_beam_are_shown(names, shown):
    assert decodings_table(evaluation("chats", *names))[0] == f"| score | {' | '.join(shown)} |"


def test_results_of_a_data_set_of_the_hub_are_read_by_the_hubs_client(tmp_path):
    scored = evaluation("somebody/chats", "greedy", "temperature 0.7")
    write_model_card(tmp_path, trainer=RamlTrainer, evaluation=scored, repo_id="somebody/tiny")
    entries = parse_eval_result_entries(yaml.safe_load((tmp_path / RESULTS_FILE).read_text()))
    by_task = {entry.task_id: entry for entry in entries}
    assert len(by_task) == len(entries) and not [name for name in by_task if "temperature" in name]
    entry, score = by_task["dist_1_greedy"], scored.reports["greedy"]["dist_1"]
    assert entry.dataset_id == "somebody/chats" and entry.value == pytest.approx(score.value, abs=1e-6)
    assert entry.date == "2026-11-30" and entry.source_url.endswith("/somebody/tiny/blob/main/evaluation.json")
    assert entry.notes.startswith("Dist-1, greedy; test split; 95% interval ") and score.signature in entry.notes


def test_without_a_data_set_of_the_hub_or_scores_there_are_no_results(tmp_path):
    others = tmp_path / ".eval_results" / "other.yaml"
    for scored in (evaluation(str(tmp_path / "chats.jsonl"), "greedy"), evaluation("smalltalk", "greedy"), None):
        write_model_card(tmp_path, trainer=RamlTrainer, evaluation=evaluation("somebody/chats", "greedy"))
        assert (tmp_path / RESULTS_FILE).is_file()
        write_model_card(tmp_path, trainer=RamlTrainer, evaluation=scored)
        assert not (tmp_path / RESULTS_FILE).exists() and others.exists() == others.parent.exists()
        others.parent.mkdir(exist_ok=True)
        others.write_text("[]\n")  # the results of another benchmark stay
    result = EvalResult("t", "d", "d", "m", 1.0, metric_name="A")
    assert write_eval_results(tmp_path, [result], dataset_id=None) is None and others.read_text() == "[]\n"


def test_names_of_scores_are_ids_of_tasks():
    assert task_id("BLEU-2, beam 5") == "bleu_2_beam_5"
    assert task_id("matching by F(q, r) - F(bq, r)") == "matching_by_f_q_r_f_bq_r"
