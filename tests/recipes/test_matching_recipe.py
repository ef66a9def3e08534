"""The recipe of a discriminator on a tiny corpus: what it leaves, how it goes on, what it refuses."""

import json
from pathlib import Path

import pytest
import torch
from transformers import AutoModel, AutoTokenizer

from hf_localgan import DbmConfig, DbmModel

ROOT = Path(__file__).parents[2]
LEFT = {
    "README.md",
    "config.json",
    "matching.json",
    "matching.md",
    "model.safetensors",
    "tokenizer.json",
    "tokenizer_config.json",
    "trainer_state.json",
    "training_args.json",
}
TINY = """
dataset: $HF_LOCALGAN_DATA/corpus
embedding_size: 6
filters: 4
max_steps: 6
per_device_train_batch_size: 16
eval_negatives: 3
eval_strategy: steps
eval_steps: 3
save_strategy: steps
save_steps: 3
logging_steps: 1
use_cpu: true
disable_tqdm: true
"""


@pytest.fixture(scope="module")
def place(tmp_path_factory, write_dialogue):
    """A folder with a corpus of 40 queries with three responses each, `corpus`, and settings, `tiny.yaml`."""
    place = tmp_path_factory.mktemp("matching")
    write_dialogue(place / "corpus")
    (place / "tiny.yaml").write_text(TINY)
    return place


@pytest.fixture(scope="module")
def recipe(place, run_here):
    """`recipe(folder, *words)`: what the recipe prints, run in this process."""
    return lambda folder, *words: run_here(place, "train_matching", "tiny.yaml", "--output_dir", place / folder, *words)


@pytest.fixture(scope="module")
def trained(recipe, place):
    """The output folder of one run, and what it printed."""
    return place / "run", recipe("run")


def test_a_training_leaves_the_discriminator_its_tokenizer_and_its_matching_and_nothing_else(trained):
    folder, said = trained
    assert {path.name for path in folder.iterdir()} == LEFT | {"checkpoint-3", "checkpoint-6"}
    assert not list(folder.rglob(".*"))
    for part in ("train", 'PairDiscriminator "cnn"', "parameters", "Matching of 30 pairs", str(folder / "matching.md")):
        assert part in said


def test_the_report_is_of_the_test_split(trained):
    found = json.loads((trained[0] / "matching.json").read_text())
    about = found["about"]
    assert (about["model"], about["dataset"], about["split"]) == ("run", "$HF_LOCALGAN_DATA/corpus", "test")
    assert (found["pairs"], found["queries"], found["candidates"]) == (30, 10, 4)
    assert (about["steps"], about["step"]) == (6, 6) and 0 < about["validation_matching"] < 1
    for name in ("matching", "recall_at_1"):
        assert 0 <= found[name]["low"] <= found[name]["value"] <= found[name]["high"] <= 1
    assert found["matching"]["low"] < found["matching"]["high"] and found["matching"]["method"] == "bootstrap"
    text = (trained[0] / "matching.md").read_text()
    assert f"{found['matching']['value']:.4g} [" in text and "recall@1 of 4" in text


def test_the_trained_discriminator_reloads_and_scores_text(trained):
    folder, _ = trained
    model, tokenizer = AutoModel.from_pretrained(folder), AutoTokenizer.from_pretrained(folder)
    queries = tokenizer(["do you like the cat today ?"] * 2, return_tensors="pt", return_token_type_ids=False)
    answers = tokenizer(["yes , i like the cat .", "the bus is bad ."], padding=True, return_tensors="pt")
    with torch.no_grad():
        logits = model(**queries, labels=answers.input_ids, response_mask=answers.attention_mask).logits
    assert logits.shape == (2,) and logits.isfinite().all()


def test_a_run_is_resumed_from_its_last_checkpoint(recipe, trained, place, shown):
    recipe("whole", "--max_steps", 9)
    words = ["--resume_from_checkpoint", place / "whole" / "checkpoint-6", "--report_to", "tensorboard"]
    recipe("resumed", "--max_steps", 9, *words)
    assert {"reports/matching"} <= shown(place / "resumed")
    whole, resumed = (AutoModel.from_pretrained(place / name).state_dict() for name in ("whole", "resumed"))
    torch.testing.assert_close(resumed, whole, rtol=0, atol=0)
    recipe("whole", "--max_steps", 12, "--resume_from_checkpoint", "last")
    assert (place / "whole" / "checkpoint-12").is_dir()


@pytest.mark.parametrize("best", [True, False], ids=["best", "last"])
def test_a_run_that_was_stopped_early_takes_no_further_step_when_it_is_resumed(recipe, place, best):
    name = f"early-{best}"
    words = ["--max_steps", 12, "--early_stopping_patience", 1, "--early_stopping_threshold", 2]  # matching is below 1
    words += ["--load_best_model_at_end", best]
    recipe(name, *words)
    left = [(place / name / file).read_bytes() for file in ("model.safetensors", "matching.json")]
    for checkpoint in ("last", place / name / "checkpoint-6"):
        (place / name / "model.safetensors").unlink()
        recipe(name, *words, "--resume_from_checkpoint", checkpoint)
        assert [(place / name / file).read_bytes() for file in ("model.safetensors", "matching.json")] == left
    assert sorted(path.name for path in (place / name).glob("checkpoint-*")) == ["checkpoint-3", "checkpoint-6"]


def test_training_goes_on_from_a_discriminator(recipe, trained, place):
    folder, _ = trained
    recipe("more", "--discriminator", folder, "--max_steps", 3, "--learning_rate", 0)
    before, after = (AutoModel.from_pretrained(path).state_dict() for path in (folder, place / "more"))
    torch.testing.assert_close(after, before, rtol=0, atol=0)
    found = [json.loads((path / "matching.json").read_text())["matching"] for path in (folder, place / "more")]
    assert found[0] == found[1]


def test_an_energy_lends_its_body(recipe, trained, place):
    tokenizer = AutoTokenizer.from_pretrained(trained[0])
    energy = DbmModel(DbmConfig(query_size=4, response_size=4, hidden_size=5, top_size=3, vocab_size=len(tokenizer)))
    energy.word_vectors.load(torch.randn(len(tokenizer), 4), range(4, len(tokenizer)))
    energy.save_pretrained(place / "energy")
    tokenizer.save_pretrained(place / "energy")
    said = recipe("boltzmann", "--energy", place / "energy", "--max_steps", 3)
    found = AutoModel.from_pretrained(place / "boltzmann")
    assert 'PairDiscriminator "dbm"' in said and torch.equal(found.body.vectors[4:], energy.word_vectors.vectors[4:])
    assert not torch.equal(found.body.visible_to_hidden, energy.visible_to_hidden)


def test_a_streamed_training_split_trains_as_well(recipe, place):
    recipe("streamed", "--streaming", "true", "--max_steps", 3)
    assert LEFT <= {path.name for path in (place / "streamed").iterdir()}


@pytest.mark.parametrize(
    ("options", "told"),
    [
        (["--head", "linear"], "`head` must be one of"),
        (["--per_device_train_batch_size", "1"], "must be at least 2"),
        (["--word_vectors", "missing.txt"], 'no word vector file "missing.txt"'),
        (["--energy", "./nowhere"], "nowhere"),
        (["--resume_from_checkpoint", "last"], "no checkpoint to resume from"),
        (["--test_split", "exam"], "no split `exam`"),
    ],
    ids=lambda value: "".join(value).strip("-") if isinstance(value, list) else "",
)
def test_wrong_settings_end_the_recipe_before_it_begins(recipe, place, options, told):
    with pytest.raises(SystemExit) as end:
        recipe("new", *options)
    assert told in end.value.code and "\n" not in end.value.code
    assert not (place / "new").exists()


@pytest.mark.slow
def test_two_processes_train_together_and_report_once(place, run_apart):
    launch = ("-m", "torch.distributed.run", "--nproc_per_node", "2")
    said = run_apart(place, "train_matching", "tiny.yaml", "--output_dir", place / "two", launch=launch)
    assert LEFT <= {path.name for path in (place / "two").iterdir()}
    assert said.count("Matching of 30 pairs") == 1
