"""The recipes from end to end on a tiny corpus, with a tiny generator; the first run in a process of its own."""

import json
import sys
from functools import partial
from pathlib import Path

import pyarrow.parquet as parquet
import pytest
import torch
from safetensors.torch import load_file
from transformers import AutoModelForSeq2SeqLM, AutoTokenizer

import hf_localgan  # noqa: F401  registers the Auto classes
from hf_localgan.trainers import read_samples

ROOT = Path(__file__).parents[2]
RESULTS = {
    "evaluation.json",
    "evaluation.md",
    "generations.parquet",
    "query_scores.parquet",
    "diversity_relevance.png",
}
TRAINED = RESULTS | {
    "README.md",
    "config.json",
    "generation_config.json",
    "model.safetensors",
    "samples.parquet",
    "tokenizer.json",
    "tokenizer_config.json",
    "trainer_state.json",
    "training.png",
    "training_args.json",
}
# hidden 16, four steps of eight pairs
TINY = """
cell_type: gru
embedding_size: 16
hidden_size: 16
max_steps: 4
per_device_train_batch_size: 8
learning_rate: 1.0e-2
eval_strategy: steps
eval_steps: 2
save_strategy: steps
save_steps: 2
logging_steps: 1
use_cpu: true
disable_tqdm: true
sample_rows: 2
beams: [2]
temperatures: [1.0]
max_new_tokens: 5
metric_vector_size: 8
resamples: 10
"""
SMALL_SCORES = "--use_cpu --beams 2 --temperatures 1.0 --max_new_tokens 5 --metric_vector_size 8 --resamples 10".split()


@pytest.fixture(scope="module")
def place(tmp_path_factory, write_dialogue):
    """A folder with a corpus of 40 queries, `corpus`, and the settings of a tiny run, `tiny.yaml`."""
    place = tmp_path_factory.mktemp("recipes")
    write_dialogue(place / "corpus")
    (place / "tiny.yaml").write_text(f"dataset: $HF_LOCALGAN_DATA/corpus\noutput_dir: {place / 'run'}\n{TINY}")
    return place


@pytest.fixture(scope="module")
def process(place, run_apart):
    """`process(name, *words, launch=...)`: what a recipe prints that is run in a process of its own, and ends well."""
    return partial(run_apart, place)


@pytest.fixture
def recipe(place, run_here):
    """`recipe(name, *words)`: what it prints, run in this process; where it does not end well `SystemExit` says why."""
    return partial(run_here, place)


@pytest.fixture(scope="module")
def trained(process, place):
    """The output folder of one run, and what it printed."""
    return place / "run", process("train_mle", "tiny.yaml")


def test_a_training_leaves_model_tokenizer_samples_scores_and_plots_and_nothing_else(trained):
    folder, _ = trained
    names = {path.name for path in folder.iterdir()}
    assert names == TRAINED | {"checkpoint-2", "checkpoint-4"}
    assert {"config.json", "model.safetensors", "tokenizer.json"} <= {
        p.name for p in (folder / "checkpoint-2").iterdir()
    }
    assert not list(folder.rglob(".*")) and not list(folder.rglob("*.bin"))


def test_a_training_prints_what_it_read_what_it_trained_and_the_scores(trained):
    folder, said = trained
    for part in ("train", "RnnSeq2SeqForConditionalGeneration", "parameters", "scores of 10 queries", "references"):
        assert part in said
    assert "sample responses" in said and "nats per token" in said and str(folder / "training.png") in said
    assert "Traceback" not in said


def test_the_trained_generator_reloads_and_answers_as_it_did(trained):
    folder, _ = trained
    model, tokenizer = AutoModelForSeq2SeqLM.from_pretrained(folder), AutoTokenizer.from_pretrained(folder)
    assert model.config.model_type == "rnn_seq2seq" and model.config.hidden_size == 16
    table = parquet.read_table(folder / "generations.parquet").to_pydict()
    batch = tokenizer(table["query"], padding=True, return_tensors="pt")
    with torch.no_grad():
        generated = model.generate(**batch, max_new_tokens=5, do_sample=False, num_beams=1)
    answers = [text.strip() for text in tokenizer.batch_decode(generated, skip_special_tokens=True)]
    assert answers == table["greedy"]


def test_the_scores_say_what_was_scored(trained):
    folder, _ = trained
    found = json.loads((folder / "evaluation.json").read_text())
    about = found["about"]
    assert about["model"] == "run" and about["dataset"] == "$HF_LOCALGAN_DATA/corpus" and about["split"] == "test"
    assert 0 < about["nats_per_token"] < 5 and about["tokens"] > 100
    assert list(found["decodings"]) == ["greedy", "beam 2", "temperature 1"]
    assert "relevance_mean" in found["decodings"]["greedy"]["scores"]


def test_samples_of_every_evaluation_are_kept(trained):
    rows = read_samples(trained[0] / "samples.parquet")
    assert {row["step"] for row in rows} >= {2, 4}
    assert all(row["query"].startswith("do you") for row in rows)


def test_a_run_is_resumed_from_its_last_checkpoint(recipe, trained, place):
    folder, _ = trained
    recipe("train_mle", "tiny.yaml", "--resume_from_checkpoint", "last", "--max_steps", 6)
    history = json.loads((folder / "trainer_state.json").read_text())["log_history"]
    assert [entry["step"] for entry in history if "loss" in entry] == [1, 2, 3, 4, 5, 6]  # 1 to 4 from the first run
    assert (folder / "checkpoint-6").is_dir()


@pytest.mark.parametrize(
    "script",
    ["train_mle", *(pytest.param(name, marks=pytest.mark.slow) for name in ("train_raml", "train_expected_reward"))],
)
def test_a_run_that_was_stopped_early_takes_no_further_step_when_it_is_resumed(recipe, place, script):
    folder = place / f"early-{script}"
    words = [
        script, "tiny.yaml", "--output_dir", folder, "--max_steps", 8, "--load_best_model_at_end",
        "--metric_for_best_model", "eval_loss", "--early_stopping_patience", 1, "--early_stopping_threshold", 99,
    ]  # fmt: skip

    def left() -> tuple[bytes, dict]:
        scores = json.loads((folder / "evaluation.json").read_text())
        for decoding in scores["decodings"].values():
            decoding.pop("seconds")
        return (folder / "model.safetensors").read_bytes(), scores

    recipe(*words)
    whole = left()
    assert not (folder / "checkpoint-6").exists()  # no evaluation is better by 99 nats, so the second one is the last
    for checkpoint in ("last", folder / "checkpoint-4"):
        (folder / "model.safetensors").unlink()
        recipe(*words, "--resume_from_checkpoint", checkpoint)
        assert left() == whole
        assert json.loads((folder / "trainer_state.json").read_text())["global_step"] == 4
    assert not (folder / "checkpoint-6").exists()
    recipe(*words, "--resume_from_checkpoint", "last", "--early_stopping_patience", 3)
    assert (folder / "checkpoint-8").is_dir()


def test_training_goes_on_from_a_model_and_that_model_is_scored(recipe, trained, place, shown):
    folder, _ = trained
    options = ["--generator", folder, "--output_dir", place / "more", "--max_steps", 1, "--eval_strategy", "no"]
    recipe("train_mle", "tiny.yaml", *options, "--learning_rate", 0, "--report_to", "tensorboard")
    before, after = (AutoModelForSeq2SeqLM.from_pretrained(path) for path in (folder, place / "more"))
    torch.testing.assert_close(after.state_dict(), before.state_dict(), rtol=0, atol=0)
    assert {"pictures/diversity_relevance", "reports/evaluation"} <= shown(place / "more")
    assert (place / "more" / "tokenizer.json").read_bytes() == (folder / "tokenizer.json").read_bytes()

    recipe("evaluate", place / "more", place / "corpus", *SMALL_SCORES, "--max_test_queries", 5)
    results = place / "more" / "evaluation" / "corpus"
    assert {path.name for path in results.iterdir()} == RESULTS
    found = json.loads((results / "evaluation.json").read_text())
    assert found["about"]["model"] == "more" and found["decodings"]["greedy"]["queries"] == 5
    trained_scores = json.loads((place / "more" / "evaluation.json").read_text())
    assert found["about"]["nats_per_token"] == trained_scores["about"]["nats_per_token"]


def test_what_a_training_leaves_can_be_compared(trained, monkeypatch, capsys, run_script):
    folder, _ = trained
    monkeypatch.setattr(sys, "argv", ["compare.py", str(folder), "--decodings", "greedy"])
    run_script("compare")
    said = capsys.readouterr().out
    assert "| run | 1 | " in said and "| references | " in said


@pytest.mark.slow
@pytest.mark.parametrize(
    "launch",
    [
        ("-m", "accelerate.commands.launch", "--multi_gpu", "--num_processes", "2", "--mixed_precision", "no"),
        ("-m", "torch.distributed.run", "--nproc_per_node", "2"),
    ],
    ids=["accelerate", "torchrun"],
)
def test_two_processes_train_together_and_write_once(process, place, launch):
    folder = place / launch[1]
    said = process("train_mle", "tiny.yaml", "--output_dir", folder, "--per_device_train_batch_size", 4, launch=launch)
    state = json.loads((folder / "trainer_state.json").read_text())
    # 60 pairs, two processes of 4: 8 batches an epoch instead of 15
    assert state["log_history"][0]["epoch"] == pytest.approx(1 / 8)
    assert json.loads((folder / "training_args.json").read_text())["per_device_train_batch_size"] == 4
    assert said.count("scores of 10 queries") == 1
    assert TRAINED <= {path.name for path in folder.iterdir()}


@pytest.mark.slow
def test_the_accelerate_config_of_the_processor_starts_a_run(process, place):
    config = str(ROOT / "recipes" / "accelerate_configs" / "cpu.yaml")
    launch = ("-m", "accelerate.commands.launch", "--config_file", config)
    process("train_mle", "tiny.yaml", "--output_dir", place / "cpu", launch=launch)
    assert TRAINED <= {path.name for path in (place / "cpu").iterdir()}


@pytest.mark.slow
def test_a_streamed_training_split_trains_as_well(recipe, place):
    recipe("train_mle", "tiny.yaml", "--output_dir", place / "streamed", "--streaming")
    assert TRAINED <= {path.name for path in (place / "streamed").iterdir()}


@pytest.mark.parametrize("method", [["train_mle"], ["train_raml", "--payoff", "hamming", "--edit_rate", "0.2"]])
def test_a_stream_trains_the_generator_that_loaded_pairs_train(recipe, place, method):
    name, *words = method
    words += ["--train_sampling_strategy", "sequential", "--decodings", "greedy", "--beams", "none"]
    words += ["--temperatures", "none", "--save_strategy", "no", "--eval_strategy", "no", "--on_shared", "drop"]
    weights = {}
    for streaming in ("true", "false"):
        folder = place / f"{name}-{streaming}"
        recipe(name, "tiny.yaml", *words, "--output_dir", folder, "--streaming", streaming)
        weights[streaming] = load_file(folder / "model.safetensors")
    for parameter, values in weights["false"].items():
        torch.testing.assert_close(weights["true"][parameter], values, rtol=0, atol=0)


@pytest.fixture
def message(place, recipe, message_of):
    """`message(name, *words)`: what the recipe, run in this process, ends with; it has left nothing behind."""
    return partial(message_of, place, recipe)


def test_an_unknown_key_ends_the_recipe_in_one_line(message, place):
    (place / "wrong.yaml").write_text("hiden_size: 16\noutput_dir: new\n")
    said = message("train_mle", "wrong.yaml")
    assert said.startswith("train_mle.py: Unknown key") and "`hiden_size` (did you mean `hidden_size`" in said


def test_a_corpus_of_which_nothing_is_left_ends_the_recipe_in_one_line(message, place):
    said = message("train_mle", "tiny.yaml", "--output_dir", place / "new", "--min_response", 50)
    assert said.startswith("train_mle.py: Split `train` has no pair left of 20 rows") and "response too short" in said


@pytest.mark.parametrize(
    ("options", "told"),
    [
        (["--hidden_size", "15"], "`hidden_size` must be even"),
        (["--beams", "1"], "at least 2 hypotheses"),
        (["--resume_from_checkpoint", "last"], "no checkpoint to resume from"),
        (["--dataset", "$HF_LOCALGAN_NOWHERE/x"], "environment variable is not set"),
        (["--dataset", "nowhere/at/all"], 'no file or folder "nowhere/at/all"'),
        (["--test_split", "exam"], "no split `exam` (found: train, validation, test)"),
        (["--streaming", "--test_split", "exam"], "no split `exam`"),
        (["--streaming", "--max_steps", "-1"], "`streaming: true` needs `max_steps`"),
        (["--metric_vectors", "missing.txt"], "missing.txt"),
        (["--generator", "./nowhere"], "nowhere"),
        (["--early_stopping_patience", "2", "--eval_strategy", "no"], "needs evaluations"),
    ],
    ids=lambda value: "".join(value).strip("-") if isinstance(value, list) else "",
)
def test_wrong_settings_end_a_training_before_it_begins(message, place, options, told):
    assert told in message("train_mle", "tiny.yaml", "--output_dir", place / "new", *options)


def test_an_output_folder_that_is_a_file_ends_the_training_and_the_file_stays(message, place):
    (place / "taken").write_text("mine")
    assert "taken" in message("train_mle", "tiny.yaml", "--output_dir", place / "taken")
    assert (place / "taken").read_text() == "mine"


def test_missing_words_and_folders_end_the_other_recipes_in_one_line(message, place):
    assert "Name the generator and the data" in message("evaluate")
    assert "nowhere" in message("evaluate", "./nowhere", place / "corpus", *SMALL_SCORES)
    assert "has no evaluation.json" in message("compare", place / "corpus")


def test_without_matplotlib_a_training_ends_before_it_begins(message, place, monkeypatch):
    for name in [name for name in sys.modules if name.split(".")[0] == "matplotlib"]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    said = message("train_mle", "tiny.yaml", "--output_dir", place / "new")
    assert 'pip install "hf-localgan[plots]"' in said
