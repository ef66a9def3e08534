"""The grid of RAML against its rivals: which runs there are, what dev chooses, and the whole on a tiny corpus."""

import json
from pathlib import Path

import pytest
import yaml

from hf_localgan.commands.reproduce import corpus_files
from hf_localgan.recipes.raml_grid import (
    KEPT,
    MLE,
    SMOOTHING,
    SMOOTHINGS,
    SYSTEMS,
    Cell,
    best_cells,
    cell_task,
    grid_cells,
)
from hf_localgan.recipes.reproduction import run_tasks, words_to_run

RECIPES = Path(__file__).parents[2] / "recipes"
CORPORA = ["iwslt14_de_en_part", "tatoeba_de_en", "tatoeba_en_fr", "multi30k_en_fr"]
TINY = """
dataset: $HF_LOCALGAN_DATA/corpus
scores: translation
beams: [2]
max_new_tokens: 8
resamples: 10
cell_type: gru
embedding_size: 16
hidden_size: 16
max_steps: 6
per_device_train_batch_size: 16
learning_rate: 5.0e-2
eval_strategy: steps
eval_steps: 2
save_strategy: steps
save_steps: 2
load_best_model_at_end: true
predict_with_generate: true
metric_for_best_model: eval_bleu
early_stopping_patience: 2
logging_steps: 1
use_cpu: true
sample_rows: 0
output_dir: nowhere
"""


def option(words, name: str) -> str:
    return words[words.index(f"--{name}") + 1]


@pytest.mark.parametrize("corpus", CORPORA)
def test_every_corpus_has_a_file_for_every_system(corpus, tmp_path):
    files = corpus_files(corpus)
    baseline = yaml.safe_load((files / "mle.yaml").read_text())
    for cell in grid_cells(list(SYSTEMS), [0.01]):
        words = cell_task(files, tmp_path, cell, 3, smoke=False).words
        assert words[0] == ("train-raml" if cell.system.startswith("raml") else "train-mle")
        assert option(words, "seed") == "3" and option(words, "average_checkpoints") == str(KEPT)
        assert option(words, "load_best_model_at_end") == "false" and int(option(words, "tune_queries")) >= 1_000
        settings = yaml.safe_load((files / f"{cell.system}.yaml").read_text())
        same = {"num_train_epochs", "learning_rate", "hidden_size", "vocab_size", "dataset", "output_dropout"}
        assert {name: settings[name] for name in same} == {name: baseline[name] for name in same}
        if cell.system.startswith("raml"):
            assert option(words, "edit_rate") == "0.01"
        unigram = {"raml_unigram", "raml_falling", "raml_edit", "raml_edit_smoothing"}
        assert (settings.get("base_measure") == "unigram") == (cell.system in unigram)  # the vocabulary is joint
    smoothed, edit = (yaml.safe_load((files / f"raml_edit{ending}.yaml").read_text()) for ending in ("_smoothing", ""))
    assert smoothed.pop("label_smoothing_factor") in SMOOTHINGS
    free = {"output_dir", "temperature", "edit_rate"}
    assert all(smoothed.get(name) == edit.get(name) for name in (smoothed.keys() | edit.keys()) - free)


def test_label_smoothing_is_tried_at_the_edit_rates_too():
    cells = grid_cells([SMOOTHING, "raml_edit"], [0.02, 0.005])
    assert [cell.name for cell in cells] == [
        "mle", "label_smoothing-0.005", "label_smoothing-0.02", "label_smoothing-0.1", "raml_edit-0.005",
        "raml_edit-0.02",
    ]  # fmt: skip
    for arguments, message in (((["raml_bleu"], [0.1]), "no system 'raml_bleu'"), ((["mle"], [0.0]), "above 0"),
                               ((["mle"], []), "at least one")):  # fmt: skip
        with pytest.raises(ValueError, match=message):
            grid_cells(*arguments)


def test_dev_chooses_one_rate_for_each_system(tmp_path):
    """By the beam that the claim is made with; by the mean of greedy evaluations where a run has no such beam."""
    greedy = {"mle": 30.0, "label_smoothing-0.01": 31.0, "label_smoothing-0.1": 30.5, "raml_edit-0.01": 29.0}
    tuned = {"mle": 32.0, "label_smoothing-0.01": 31.0, "label_smoothing-0.1": 33.0, "raml_edit-0.01": 31.0}

    def write(name: str, *, mean: bool = True, beam: bool = True):
        (tmp_path / f"{name}-seed5").mkdir(exist_ok=True)
        content = {"about": {"validation_bleu_mean": greedy[name]} if mean else {}, "decodings": {"greedy": {}}}
        if beam:
            content["decodings"]["tuned beam"] = {"tuned": {"quality": tuned[name], "queries": 1000}}
        (tmp_path / f"{name}-seed5" / "evaluation.json").write_text(json.dumps(content))

    for name in greedy:
        write(name, mean=name != "mle")
    cells = [Cell(MLE), Cell(SMOOTHING, 0.01), Cell(SMOOTHING, 0.1), Cell("raml_edit", 0.01)]
    best, chosen_by = best_cells(tmp_path, cells, 5)
    assert [cell.name for cell in best] == ["mle", "label_smoothing-0.1", "raml_edit-0.01"]
    assert chosen_by == "dev BLEU of the tuned beam, with seed 5"
    write("mle")
    write("raml_edit-0.01", beam=False)  # one number for all
    best, chosen_by = best_cells(tmp_path, cells, 5)
    assert [cell.name for cell in best] == ["mle", "label_smoothing-0.01", "raml_edit-0.01"]
    assert chosen_by.startswith("greedy dev BLEU, mean of the last evaluations")
    write("mle", mean=False)
    with pytest.raises(ValueError, match='mle-seed5" has no BLEU on dev: neither a tuned beam'):
        best_cells(tmp_path, cells, 5)


@pytest.mark.parametrize("cell", [Cell("raml_edit", 0.01), Cell(SMOOTHING, 0.1), Cell(MLE)], ids=lambda cell: cell.name)
def test_an_interrupted_run_goes_on_and_a_finished_one_does_not(cell, tmp_path):
    task = cell_task(corpus_files("multi30k_en_fr"), tmp_path, cell, 0, smoke=True)
    assert "--resume_from_checkpoint" not in words_to_run(task)
    (tmp_path / f"{cell.name}-seed0" / "checkpoint-4").mkdir(parents=True)
    assert option(words_to_run(task), "resume_from_checkpoint") == "last"
    (tmp_path / f"{cell.name}-seed0" / "evaluation.json").write_text("{}")
    said = []
    run_tasks([(0, task)], said.append)
    assert said[1:] == [f"[1 of 1] seed 0, {task.name}: finished before"] and "no record" in said[0]


def test_a_corpus_without_the_file_of_a_system_is_refused(tmp_path):
    cell = Cell("raml_edit", 0.01)
    with pytest.raises(ValueError, match="has no raml_edit.yaml"):
        cell_task(tmp_path, tmp_path, cell, 0, smoke=False)


@pytest.mark.slow
@pytest.mark.timeout(3600)  # seven trainings, each in a process of its own
def test_the_whole_grid_on_a_tiny_corpus(tmp_path, write_rows, run_here):
    things = {"cat": "chat", "dog": "chien", "book": "livre", "bus": "bus", "film": "film"}
    verbs = {"sees": "voit", "likes": "aime", "sells": "vend", "has": "a"}
    people = {"A man": "Un homme", "The child": "L'enfant", "She": "Elle", "My friend": "Mon ami"}
    rows = [{"source": f"{who} {verb} the {thing}.", "target": f"{people[who]} {verbs[verb]} le {things[thing]}."}
            for thing in things for verb in verbs for who in people]  # fmt: skip
    write_rows(tmp_path / "corpus", {"train": rows[0::2], "validation": rows[1::4], "test": rows[3::4]})
    (tmp_path / "tiny").mkdir()
    for name in (MLE, SMOOTHING, "raml_weighted_falling"):
        text = TINY
        if name.startswith("raml"):
            given = yaml.safe_load((RECIPES / "multi30k_en_fr" / f"{name}.yaml").read_text())
            keep = ("payoff", "base_measure", "temperature_schedule", "similarity")
            text += "".join(f"{key}: {given[key]}\n" for key in keep if key in given)
        (tmp_path / "tiny" / f"{name}.yaml").write_text(text)
    words = ["raml", "--dataset", "tiny", "--output", "out", "--edit_rates", "0.2", "--seeds", "0", "1"]
    words += ["--systems", "label_smoothing", "raml_weighted_falling"]
    words += ["--options", "tune_queries=8", "tune_beams=[2, 3]", "average_checkpoints=2", "save_total_limit=3"]
    said = run_here(tmp_path, "reproduce", *words)
    assert (
        "[4 of 4] seed 0, raml_weighted_falling-0.2-seed0: done in" in said
        and "chosen by dev BLEU of the tuned beam, with seed 0: " in said
    )
    found = json.loads((tmp_path / "out" / "raml.json").read_text())
    assert len(found["rows"]) == 4 and len(found["chosen"]) == 3
    assert sum(row["seeds"] == 2 for row in found["rows"]) == 3
    assert all(value is not None for row in found["rows"] for value in row["test_bleu"]["tuned beam"])
    rivals = {test["rival"] for test in found["tests"]}
    assert len(rivals) == 2 and "maximum likelihood" in rivals
    text = (tmp_path / "out" / "raml.md").read_text()
    assert "## Less maximum likelihood" in text and "## BLEU of each run, with 95 % intervals over sentences" in text
    run = tmp_path / "out" / "mle-seed0"
    about = json.loads((run / "evaluation.json").read_text())
    assert about["about"]["averaged_steps"] == "4, 6" and about["about"]["evaluations_averaged"] == 3
    assert about["decodings"]["tuned beam"]["tuned"]["queries"] == 8
    again = run_here(tmp_path, "reproduce", *words)  # nothing is trained twice
    assert again.count("finished before") == 7 and (tmp_path / "out" / "raml.md").read_text() == text
