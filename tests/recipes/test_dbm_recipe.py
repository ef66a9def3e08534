"""The recipe of an energy on a tiny corpus: what it leaves, how it goes on, what it refuses."""

import json
import sys
from functools import partial
from pathlib import Path

import pytest
import torch
from transformers import AutoModel, AutoTokenizer

from hf_localgan import load_pairs, measure_locality, rank_responses
from hf_localgan.cli import main
from hf_localgan.commands.exits import STOPPED

ROOT = Path(__file__).parents[2]
LEFT = {
    "README.md",
    "config.json",
    "energy.json",
    "energy.md",
    "energy_clusters.png",
    "energy_gap.png",
    "energy_histograms.png",
    "model.safetensors",
    "tokenizer.json",
    "tokenizer_config.json",
    "trainer_state.json",
    "training.png",
    "training_args.json",
}
# two periods of layers and the joint one, two steps each
TINY = """
dataset: $HF_LOCALGAN_DATA/corpus
vector_size: 6
hidden_size: 8
top_size: 5
bottom_share: 0.33
top_share: 0.33
max_steps: 6
per_device_train_batch_size: 16
chains: 8
eval_strategy: steps
eval_steps: 3
save_strategy: steps
save_steps: 3
logging_steps: 1
use_cpu: true
disable_tqdm: true
resamples: 20
curvature_queries: 3
clusters: 2
ais_chains: 10
ais_temperatures: 20
"""


@pytest.fixture(scope="module")
def place(tmp_path_factory, write_dialogue):
    """A folder with a corpus of 40 queries with three responses each, `corpus`, and settings, `tiny.yaml`."""
    place = tmp_path_factory.mktemp("energy")
    write_dialogue(place / "corpus", adjectives=True)
    (place / "tiny.yaml").write_text(TINY)
    return place


@pytest.fixture(scope="module")
def recipe(place, run_here):
    """`recipe(folder, *words)`: what the recipe prints, run in this process."""
    return lambda folder, *words: run_here(place, "train_dbm", "tiny.yaml", "--output_dir", place / folder, *words)


@pytest.fixture(scope="module")
def trained(recipe, place):
    """The output folder of one run, and what it printed."""
    return place / "dbm", recipe("dbm")


def test_a_training_leaves_energy_tokenizer_report_and_plots_and_nothing_else(trained):
    folder, said = trained
    assert {path.name for path in folder.iterdir()} == LEFT | {"checkpoint-3", "checkpoint-6"}
    assert not list(folder.rglob(".*"))
    for part in ("train", "DbmModel", "parameters", "6 + 6, 8 and 5 units", "tokens have a vector", "Matching"):
        assert part in said
    assert "Theorem 1" in said and "Log-likelihood" in said and str(folder / "energy_gap.png") in said


def test_the_report_is_of_the_test_split(trained):
    found = json.loads((trained[0] / "energy.json").read_text())
    about = found["about"]
    assert (about["model"], about["dataset"], about["split"]) == ("dbm", "$HF_LOCALGAN_DATA/corpus", "test")
    assert (about["test_pairs"], about["test_queries"], about["train_pairs"]) == (30, 10, 60)
    assert (about["steps"], about["last_evaluated_step"]) == (6, 6)
    assert found["gap"]["by_size"]["sizes"] == [1, 2, 3] and found["gap"]["by_spread"]["queries"] == [2] * 5
    assert {"DBM", "Gaussian, Ledoit-Wolf"} <= set(found["likelihood"])
    periods = [
        entry["dbm/period"]
        for entry in json.loads((trained[0] / "trainer_state.json").read_text())["log_history"]
        if "dbm/period" in entry
    ]
    assert periods == [0, 0, 1, 1, 2, 2]


def test_the_trained_energy_reloads_and_ranks(trained, place, monkeypatch):
    folder, _ = trained
    model, tokenizer = AutoModel.from_pretrained(folder), AutoTokenizer.from_pretrained(folder)
    assert model.config.model_type == "query_response_dbm" and model.query_scaler.is_fitted
    query, candidates = "do you like the cat today ?", ["yes , i like the cat .", "i am not sure .", "the bus is bad ."]
    ranked = rank_responses(model, tokenizer, query, candidates)
    assert {one.text for one in ranked} == set(candidates)
    assert [one.difference for one in ranked] == sorted(one.difference for one in ranked)
    assert measure_locality(model, tokenizer, query, candidates).radii.shape == (3,)


def test_a_run_is_resumed_from_its_last_checkpoint(recipe, trained, place, shown):
    recipe("whole", "--max_steps", 9)
    words = ["--resume_from_checkpoint", place / "whole" / "checkpoint-6", "--report_to", "tensorboard"]
    recipe("resumed", "--max_steps", 9, *words)
    assert {"pictures/training", "reports/energy"} <= shown(place / "resumed")
    whole, resumed = (AutoModel.from_pretrained(place / name).state_dict() for name in ("whole", "resumed"))
    torch.testing.assert_close(resumed, whole, rtol=0, atol=0)
    recipe("whole", "--max_steps", 12, "--resume_from_checkpoint", "last")
    assert (place / "whole" / "checkpoint-12").is_dir()


def test_a_run_that_has_ended_takes_no_further_step_when_it_is_resumed(recipe, place):
    recipe("ended", "--max_steps", 7)  # in the middle of an epoch
    files = [place / "ended" / name for name in ("model.safetensors", "energy.json")]
    left = [file.read_bytes() for file in files]
    for checkpoint in ("last", place / "ended" / "checkpoint-7"):
        files[0].unlink()
        recipe("ended", "--max_steps", 7, "--resume_from_checkpoint", checkpoint)
        assert [file.read_bytes() for file in files] == left


def test_training_goes_on_from_an_energy_and_rivals_are_measured_beside_it(recipe, trained, place):
    folder, _ = trained
    options = ["--energy", folder, "--max_steps", 3, "--learning_rate", 0, "--bottom_share", 0, "--top_share", 0]
    said = recipe("more", *options, "--rivals", folder)
    before, after = (AutoModel.from_pretrained(path).state_dict() for path in (folder, place / "more"))
    torch.testing.assert_close(after, before, rtol=0, atol=0)
    found = json.loads((place / "more" / "energy.json").read_text())
    assert found["matching"]["DBM"] == found["matching"]["dbm"] and "dbm" in said


def test_one_layer_is_trained_by_the_same_recipe(recipe, place):
    recipe("rbm", "--top_size", 0, "--max_steps", 3, "--visible_std", "learned", "--normalize_vectors", "true")
    found = json.loads((place / "rbm" / "energy.json").read_text())
    assert "RBM" in found["likelihood"] and found["about"]["sizes"] == [12, 8, 0]


def test_a_streamed_training_split_trains_as_well(recipe, place):
    recipe("streamed", "--streaming", "true", "--max_steps", 3)
    assert LEFT <= {path.name for path in (place / "streamed").iterdir()}


@pytest.fixture
def message(place, recipe, message_of):
    """`message(*words)`: what the recipe ends with; it has left nothing behind."""
    return partial(message_of, place, recipe, "new")


@pytest.mark.parametrize(
    ("options", "told"),
    [
        (["--energy_type", "printed"], "Eq. 8 as printed cannot be trained"),
        (["--word_vectors", "missing.txt"], 'no word vector file "missing.txt"'),
        (["--rivals", "./nowhere"], "nowhere"),
        (["--energy", "./nowhere"], "nowhere"),
        (["--resume_from_checkpoint", "last"], "no checkpoint to resume from"),
        (["--test_split", "exam"], "no split `exam`"),
        (["--bottom_share", "0.7", "--top_share", "0.5"], "leave no steps for joint training"),
        (["--others", "0"], "`others` must be at least 1"),
    ],
    ids=lambda value: "".join(value).strip("-") if isinstance(value, list) else "",
)
def test_wrong_settings_end_the_recipe_before_it_begins(message, options, told):
    assert told in message(*options)


def test_a_training_that_diverges_ends_with_a_code_of_its_own(place, monkeypatch, capsys):
    monkeypatch.chdir(place)
    monkeypatch.setenv("HF_LOCALGAN_DATA", str(place))
    words = ["tiny.yaml", "--output_dir", str(place / "diverged"), "--free_energy_bound", "1e-9"]
    assert main(["train-dbm", *words]) == STOPPED
    said = capsys.readouterr().err.strip().splitlines()[-1]
    assert said.startswith("hf-localgan train-dbm: Training diverged after") and "free_energy_bound" in said


def test_without_matplotlib_a_training_ends_before_it_begins(message, monkeypatch):
    for name in [name for name in sys.modules if name.split(".")[0] == "matplotlib"]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    assert 'pip install "hf-localgan[plots]"' in message()


@pytest.mark.slow
def test_two_processes_train_together_and_report_once(place, run_apart):
    launch = ("-m", "torch.distributed.run", "--nproc_per_node", "2")
    said = run_apart(place, "train_dbm", "tiny.yaml", "--output_dir", place / "two", launch=launch)
    assert LEFT <= {path.name for path in (place / "two").iterdir()}
    assert said.count("chains that count") == 1


@pytest.mark.slow
def test_the_shipped_corpus_trains_and_true_responses_match(place, run_here):
    folder = place / "smalltalk"
    run_here(place, "train_dbm", "--output_dir", folder, "--use_cpu", "--disable_tqdm", "true")
    found = json.loads((folder / "energy.json").read_text())
    assert found["matching"]["DBM"]["difference"]["low"] > 0.5
    assert found["center_cosine"]["DBM"]["true"]["low"] > found["center_cosine"]["DBM"]["shuffled"]["high"]
    assert found["about"]["test_queries"] == len(load_pairs("smalltalk").grouped["test"])
