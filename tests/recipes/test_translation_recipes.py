"""The recipes of translation on a tiny corpus: training with and without RAML, a second test split, the comparison."""

import json
import os
from functools import partial
from pathlib import Path

import pyarrow.parquet as parquet
import pytest

from hf_localgan.data import load_pairs
from hf_localgan.evaluation import score_translations
from hf_localgan.evaluation.runs import Run

ROOT = Path(__file__).parents[2]
TINY = """
dataset: $HF_LOCALGAN_DATA/corpus
test_split: test_first
scores: translation
beams: [2]
max_new_tokens: 8
resamples: 10
cell_type: gru
embedding_size: 16
hidden_size: 16
max_steps: 4
per_device_train_batch_size: 16
learning_rate: 5.0e-2
train_sampling_strategy: group_by_length
eval_strategy: steps
eval_steps: 2
save_strategy: steps
save_steps: 2
save_total_limit: 1
load_best_model_at_end: true
predict_with_generate: true
metric_for_best_model: eval_bleu
early_stopping_patience: 2
logging_steps: 1
use_cpu: true
disable_tqdm: true
sample_rows: 0
"""
RUNS = {
    "mle-seed1": ("train_mle", []),
    "mle-seed2": ("train_mle", []),
    "hamming-seed1": ("train_raml", ["--temperature", "0.8"]),
    "hamming-seed2": ("train_raml", ["--temperature", "0.8"]),
    "bleu-seed1": ("train_raml", ["--payoff", "importance", "--temperature", "0.1", "--num_candidates", "4"]),
}
RUNS["bleu-seed1"][1].extend(["--label_smoothing_factor", "0.1"])


@pytest.fixture(scope="module")
def place(tmp_path_factory, write_rows):
    """A folder with a corpus of translations of 80 pairs, `corpus`, and the settings of a tiny run, `tiny.yaml`."""
    place = tmp_path_factory.mktemp("translation")
    things = {"cat": "chat", "dog": "chien", "book": "livre", "bus": "bus", "film": "film"}
    verbs = {"sees": "voit", "likes": "aime", "sells": "vend", "has": "a"}
    people = {"a man": "Un homme", "the child": "L'enfant", "she": "Elle", "my friend": "Mon ami"}
    rows = [
        {
            "source": f"{who.capitalize()} {verb} the {thing}.",
            "target": f"{people[who]} {verbs[verb]} le {things[thing]}.",
        }
        for thing in things
        for verb in verbs
        for who in people
    ]
    splits = {"train": rows[0::2], "validation": rows[1::8], "test_first": rows[3::8], "test_second": rows[5::8]}
    write_rows(place / "corpus", splits)
    (place / "tiny.yaml").write_text(TINY)
    return place


@pytest.fixture(scope="module")
def recipe(place, run_here):
    """`recipe(name, *words)`: what the recipe prints, run in this process."""
    return partial(run_here, place)


@pytest.fixture(scope="module")
def runs(place, recipe):
    """What the trainings of `RUNS` print, by the name of their output folder in `runs`."""
    said = {}
    for name, (script, options) in RUNS.items():
        folder = ["--output_dir", place / "runs" / name, "--seed", name[-1]]
        said[name] = recipe(script, "tiny.yaml", *folder, *options)
    return said


def about(folder: Path) -> dict:
    return json.loads((folder / "evaluation.json").read_text())["about"]


def test_a_raml_training_leaves_what_a_maximum_likelihood_training_leaves(runs, place):
    first, second = (
        {path.name for path in (place / "runs" / name).iterdir()} for name in ("mle-seed1", "hamming-seed1")
    )
    checkpoints = {name for name in first | second if name.startswith("checkpoint-")}
    assert first - checkpoints == second - checkpoints
    assert {"model.safetensors", "tokenizer.json", "evaluation.json", "generations.parquet", "training.png"} <= second
    assert "diversity_relevance.png" not in second and not list((place / "runs").rglob(".*"))


def test_a_raml_training_first_shows_what_the_payoff_does(runs):
    said = runs["hamming-seed1"]
    line = next(line for line in said.splitlines() if line.startswith("HammingPayoff"))
    assert "temperature 0.8, " in line and "of 40 references" in line and "edits per token" in line
    assert said.index("draws of the first epoch") < said.index("scores of 10 queries")
    assert "ImportancePayoff, temperature 0.1" in runs["bleu-seed1"] and "Payoff" not in runs["mle-seed1"]


def test_the_evaluation_says_how_the_model_was_trained_and_chosen(runs, place):
    found = about(place / "runs" / "hamming-seed2")
    assert (found["objective"], found["payoff"], found["temperature"], found["seed"]) == ("raml", "hamming", 0.8, 2)
    assert found["split"] == "test_first" and 0 < found["edit_rate"] < 1 and found["validation_bleu"] >= 0
    state = json.loads((place / "runs" / "hamming-seed2" / "trainer_state.json").read_text())
    evaluations = {entry["step"]: entry["eval_bleu"] for entry in state["log_history"] if "eval_bleu" in entry}
    assert list(evaluations) == [2, 4] and found["best_step"] == max(evaluations, key=evaluations.get)
    assert found["validation_bleu"] == round(max(evaluations.values()), 2)
    bleu = about(place / "runs" / "bleu-seed1")
    assert (bleu["reward"], bleu["num_candidates"]) == ("bleu", 4) and "num_candidates" not in found
    assert bleu["label_smoothing"] == 0.1 and "label_smoothing" not in found
    assert about(place / "runs" / "mle-seed1")["objective"] == "maximum likelihood"


def test_the_likelihood_of_the_test_split_is_measured_without_generating_it(runs, place):
    state = json.loads((place / "runs" / "mle-seed1" / "trainer_state.json").read_text())
    (test,) = (entry for entry in state["log_history"] if "test_loss" in entry)
    assert "test_bleu" not in test
    assert "early stopping required" not in runs["mle-seed1"]


@pytest.fixture(scope="module")
def second_split(runs, recipe, place):
    """Name of the evaluations of all runs on the second test split."""
    for name in RUNS:
        options = ["--test_split", "test_second", "--scores", "translation", "--beams", 2, "--max_new_tokens", 8]
        recipe("evaluate", place / "runs" / name, place / "corpus", *options, "--use_cpu", "--resamples", 10)
    return "corpus-test_second"


def test_a_second_test_split_is_evaluated_beside_the_first(second_split, place):
    folder = place / "runs" / "mle-seed1" / "evaluation" / second_split
    table = parquet.read_table(folder / "generations.parquet").to_pydict()
    grouped = load_pairs(place / "corpus").grouped["test_second"]
    assert table["query"] == list(grouped["query"])
    found = Run.read(folder)
    expected = score_translations(table["beam 2"], list(grouped["responses"]), resamples=0)
    assert found.kind == "translation" and found.value("beam 2", "bleu") == pytest.approx(expected["bleu"].value)
    assert about(place / "runs" / "mle-seed1")["split"] == "test_first"  # stays


def test_runs_are_compared_by_a_paired_bootstrap_of_bleu(runs, recipe, place):
    folders = [place / "runs" / name for name in RUNS]
    said = recipe("compare", *folders, "--resamples", 20, "--output", place / "compare.md")
    assert (place / "compare.md").read_text() == said
    assert "| model | runs | dev BLEU | dev nats per token |" in said and "| bleu | 1 | " in said
    assert "| model | BLEU | tokenised BLEU | chrF | length ratio | brevity penalty | words |" in said
    assert "references" not in said.split("## hamming less mle")[0].split("## Scores: greedy")[1]
    table = said.split("## hamming less mle: beam 2")[1].split("##")[0]
    titles = [line.split(" | ")[0].strip("| ") for line in table.splitlines() if line.startswith("|")][2:]
    assert titles == ["seeds 1 and 1", "seeds 2 and 2", "over sentences", "over sentences and seeds"]
    alone = said.split("## bleu less mle: beam 2")[1].split("##")[0]  # one run against two
    assert "over sentences |" in alone and "seeds" not in alone.split("\n\n")[1]
    values = {name: Run.read(place / "runs" / name).value("beam 2", "bleu") for name in RUNS}
    difference = (values["hamming-seed1"] + values["hamming-seed2"] - values["mle-seed1"] - values["mle-seed2"]) / 2
    assert f"| over sentences | {difference:+.2f} |" in table and "paired bootstrap with 20 resamples" in said


def test_the_curve_has_a_line_for_each_payoff_and_a_row_for_each_temperature(runs, recipe, place):
    said = recipe("tau_curve", place / "runs", "--output", place / "curve" / "tau.png")
    assert (place / "curve" / "tau.png").read_bytes().startswith(b"\x89PNG")
    assert (place / "curve" / "tau.md").read_text() == said
    rows = [[cell.strip() for cell in line.strip("|").split("|")] for line in said.splitlines()]
    importance = "importance (bleu, num_candidates 4, label smoothing 0.1)"
    assert [row[0] for row in rows[2:]] == ["maximum likelihood", "hamming", importance]
    assert [row[1] for row in rows[2:]] == ["", "0.8", "0.1"] and [row[3] for row in rows[2:]] == ["2", "2", "1"]
    assert rows[0][5] == "test BLEU, beam 2" and rows[2][6] == "" and rows[3][6][0] in "+-"


def test_the_curve_of_another_test_split_and_over_the_edit_rate(recipe, place, second_split):
    options = ["--evaluation", second_split, "--against", "edit_rate", "--decoding", "greedy"]
    said = recipe("tau_curve", place / "runs", "--output", place / "second.png", *options)
    assert "test BLEU, greedy" in said and (place / "second.png").is_file()
    value = Run.read(place / "runs" / "bleu-seed1" / "evaluation" / second_split).value("greedy", "bleu")
    assert f"| {value:.2f} |" in said.splitlines()[-1]


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (["tau_curve", "nothing"], '"nothing" holds no folder with an evaluation.json'),
        (
            ["tau_curve", "runs", "--decoding", "beam 5"],
            "Not all runs were decoded by beam 5. All of them have: greedy",
        ),
        (["train_raml", "tiny.yaml", "--output_dir", "new", "--temperature", "-1"], "`temperature` must be at least 0"),
        (["train_raml", "tiny.yaml", "--output_dir", "new", "--weighted"], "`weighted` trains .* `payoff: importance`"),
        (["train_raml", "tiny.yaml", "--output_dir", "new", "--scores", "dialogue"], "needs `scores: translation`"),
        (["train_mle", "tiny.yaml", "--output_dir", "new", "--predict_with_generate", "false"], "which needs"),
        (["compare", "runs/mle-seed1", "spoken"], "is an evaluation of translation and .* one of dialogue"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else "",
)
def test_what_cannot_be_meant_ends_a_recipe_in_one_line(runs, recipe, place, words, told):
    spoken = place / "spoken"
    if not spoken.exists():  # a run of another kind
        spoken.mkdir()
        for path in (place / "runs" / "mle-seed1").glob("*.*"):
            (spoken / path.name).write_bytes(path.read_bytes())
        found = json.loads((spoken / "evaluation.json").read_text())
        (spoken / "evaluation.json").write_text(json.dumps(found | {"kind": "dialogue"}))
    with pytest.raises(SystemExit, match=told) as end:
        recipe(*words)
    assert "\n" not in str(end.value.code) and not (place / "new").exists()


def test_the_papers_translation_run_takes_its_first_steps_on_a_stand_in(recipe, place, monkeypatch):
    rows = [json.loads(line) for line in (place / "corpus" / "train.jsonl").read_text().splitlines()]
    (place / "wmt").mkdir()
    for split, some in (("train", rows[:30]), ("validation", rows[30:34]), ("test", rows[34:])):
        text = "".join(json.dumps({"translation": {"en": row["source"], "fr": row["target"]}}) + "\n" for row in some)
        (place / "wmt" / f"{split}.jsonl").write_text(text)
    monkeypatch.setenv("HF_LOCALGAN_WMT14_EN_FR", str(place / "wmt"))
    small = {
        "embedding_size": 8, "hidden_size": 8, "vocab_size": 60, "max_steps": 2, "eval_steps": 2, "save_steps": 2,
        "per_device_train_batch_size": 4, "max_new_tokens": 4, "resamples": 10, "logging_steps": 1, "bf16": "false",
        "use_cpu": "true", "disable_tqdm": "true", "output_dir": place / "wmt14",
    }  # fmt: skip
    options = [word for name, value in small.items() for word in (f"--{name}", value)]
    columns = '{"source": "translation.en", "target": "translation.fr"}'
    with pytest.warns(UserWarning, match="num_stable_steps will be used"):
        said = recipe(
            "train_raml", ROOT / "recipes" / "papers" / "raml_wmt14_en_fr.yaml", *options, "--columns", columns
        )
    assert "HammingPayoff, temperature 0.85" in said
    found = Run.read(place / "wmt14")
    assert list(found.decodings) == ["greedy", "beam 8"] and found.about["last_evaluated_step"] == 2
    state = json.loads((place / "wmt14" / "trainer_state.json").read_text())
    losses = [entry for entry in state["log_history"] if "loss" in entry]
    assert [entry["learning_rate"] for entry in losses] == [0.5, 0.5] and "raml/edit_rate" in losses[0]


@pytest.mark.slow
def test_two_processes_report_the_bleu_of_one(place, run_apart):
    found = {}
    for number in (1, 2):
        folder = place / f"processes-{number}"
        # nothing moves; 10 rows in batches of 3, so that rows are repeated to fill the last batches
        options = ["--output_dir", folder, "--learning_rate", "0", "--per_device_eval_batch_size", "3"]
        launch = ("-m", "torch.distributed.run", "--nproc_per_node", str(number))
        said = run_apart(place, "train_raml", "tiny.yaml", *options, launch=launch)
        assert said.count("draws of the first epoch") == 1
        found[number] = about(folder)
    for name in ("validation_bleu", "validation_nats_per_token", "nats_per_token"):
        assert found[1][name] == pytest.approx(found[2][name])


@pytest.mark.slow
def test_without_a_file_the_shipped_corpus_is_trained_on(recipe, place):
    options = (
        "--max_steps 1 --hidden_size 8 --embedding_size 8 --use_cpu true --disable_tqdm true --resamples 0".split()
    )
    options += ["--max_test_queries", "5", "--temperatures", "1.0", "--output_dir", place / "shipped"]
    said = recipe("train_raml", *options)
    assert "HammingPayoff, temperature 0.85" in said and "Dist-1" in said
    assert about(place / "shipped")["payoff"] == "hamming" and os.path.isfile(
        place / "shipped" / "diversity_relevance.png"
    )
