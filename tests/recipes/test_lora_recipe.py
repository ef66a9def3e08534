"""Recipes with adapters: they are all that is saved, and every later step reads them."""

import json
from functools import partial

import datasets
import pytest
import torch
from safetensors.torch import load_file
from transformers import AutoModelForSeq2SeqLM, T5Config, T5ForConditionalGeneration

from hf_localgan.data import load_pairs, train_tokenizer
from hf_localgan.models.loading import load_generator

STEPS = """
per_device_train_batch_size: 8
eval_strategy: steps
eval_steps: 2
save_strategy: steps
save_steps: 2
logging_steps: 1
max_steps: 4
"""
SCORES = """
beams: [2]
temperatures: [1.0]
max_new_tokens: 5
metric_vector_size: 6
resamples: 5
sample_rows: 2
use_cpu: true
disable_tqdm: true
dataset: $HF_LOCALGAN_DATA/corpus
"""
FILES = {
    "mle.yaml": STEPS
    + SCORES
    + "generator: base\nlora_rank: 2\nlora_dropout: 0.1\nlearning_rate: 0.05\noutput_dir: run\n",
    "matching.yaml": STEPS + "dataset: nowhere\noutput_dir: nowhere\nvector_size: 6\nembedding_size: 4\nfilters: 3\n"
    "widths: [1, 2]\n",
    "gan_ael.yaml": STEPS + SCORES + "generator: run\nlora_rank: 2\nlora_targets: [k]\noutput_dir: ael\n"
    "learning_rate: 0.05\ndiscriminator_warmup_steps: 1\ndiscriminator_steps: 1\nmax_soft_length: 5\n"
    "monitor_queries: 3\nmonitor_max_new_tokens: 5\ncollapse_share: 1.0\ncollapse_length: 100\n"
    "load_best_model_at_end: true\nmetric_for_best_model: eval_loss\n",
}
SMALL = "--use_cpu --beams 2 --temperatures 1.0 --max_new_tokens 5 --metric_vector_size 6 --resamples 5".split()


@pytest.fixture(scope="module")
def place(tmp_path_factory, write_rows):
    """A folder with a corpus, the files of tiny runs, and `base`: a T5 with its tokenizer."""
    place = tmp_path_factory.mktemp("lora")
    rows = [
        {"query": f"do you {verb} the {thing} ?", "responses": [f"yes , i {verb} the {thing} .", "i am not sure ."]}
        for thing in "cat dog car job tea book film bus".split()
        for verb in "like hate want need sell".split()
    ]
    write_rows(place / "corpus", {"train": rows[0::2], "validation": rows[1::4], "test": rows[3::4]})
    for name, text in FILES.items():
        (place / name).write_text(text)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(datasets.config, "HF_DATASETS_CACHE", place / "cache")
        tokenizer = train_tokenizer(load_pairs(str(place / "corpus"))["train"])
    sizes = {"vocab_size": len(tokenizer), "d_model": 8, "d_kv": 4, "d_ff": 16, "num_layers": 1, "num_heads": 2}
    tokens = {"pad_token_id": tokenizer.pad_token_id, "eos_token_id": tokenizer.eos_token_id}
    with torch.random.fork_rng():
        torch.manual_seed(0)
        model = T5ForConditionalGeneration(T5Config(**sizes, **tokens, decoder_start_token_id=tokenizer.pad_token_id))
    model.save_pretrained(place / "base")
    tokenizer.save_pretrained(place / "base")
    return place


@pytest.fixture(scope="module")
def recipe(place, run_here):
    """`recipe(script, *words)`: what the recipe prints, run in this process in the folder `place`."""
    return partial(run_here, place)


@pytest.fixture(scope="module")
def trained(recipe, place):
    """The output folder of one run, and what it printed."""
    return place / "run", recipe("train_mle", "mle.yaml")


def assert_adapters_alone(folder, layers: set[str]):
    names = {path.name for path in folder.iterdir()}
    assert {"adapter_config.json", "adapter_model.safetensors", "tokenizer.json"} <= names
    assert {"config.json", "model.safetensors"}.isdisjoint(names)
    found = {name.split(".lora_")[0].rsplit(".", 1)[-1] for name in load_file(folder / "adapter_model.safetensors")}
    assert found == layers


def test_a_training_of_adapters_leaves_adapters_and_the_usual_scores(trained):
    folder, said = trained
    for place in (folder, folder / "checkpoint-2", folder / "checkpoint-4"):
        assert_adapters_alone(place, {"q", "v"})
    assert "of them trained" in said and "test perplexity" in said
    assert {"evaluation.json", "training.png", "training_args.json"} <= {path.name for path in folder.iterdir()}
    assert json.loads((folder / "adapter_config.json").read_text())["base_model_name_or_path"] == "base"


def test_the_card_is_one_of_an_adapter(trained):
    assert "library_name: peft" in (trained[0] / "README.md").read_text()


def test_the_evaluation_of_the_folder_is_that_of_the_training(trained, recipe, place):
    recipe("evaluate", "run", "corpus", *SMALL, "--output_dir", "again")
    own, again = (json.loads((one / "evaluation.json").read_text()) for one in (trained[0], place / "again"))
    for name in ("greedy", "beam 2"):
        scores = own["decodings"][name]["scores"]
        assert scores["dist_2"]["value"] == pytest.approx(again["decodings"][name]["scores"]["dist_2"]["value"])
    assert own["about"]["perplexity"] == pytest.approx(again["about"]["perplexity"], abs=0.02)


def test_an_interrupted_training_goes_on(trained, recipe, place):
    recipe("train_mle", "mle.yaml", "--output_dir", "resumed", "--resume_from_checkpoint", "run/checkpoint-2")
    own, again = (load_file(folder / "adapter_model.safetensors") for folder in (trained[0], place / "resumed"))
    assert all(torch.equal(own[name], again[name]) for name in own)


def test_adversarial_training_of_new_adapters_of_that_generator(trained, recipe, place, monkeypatch):
    said = recipe("train_gan_ael", "gan_ael.yaml")
    folder = place / "ael"
    assert_adapters_alone(folder, {"k"})
    assert (folder / "discriminator" / "model.safetensors").is_file() and (
        folder / "start" / "evaluation.json"
    ).is_file()
    assert json.loads((folder / "adapter_config.json").read_text())["base_model_name_or_path"] == "run"
    assert "finished before" in recipe("train_gan_ael", "gan_ael.yaml") and "of them trained" in said
    monkeypatch.chdir(place)
    model, _ = load_generator("ael")  # new adapters of the adapters of the base
    merged, _ = load_generator("run")
    base = AutoModelForSeq2SeqLM.from_pretrained("base")
    layers = [one.encoder.block[0].layer[0].SelfAttention for one in (base, merged, model)]
    assert not torch.equal(layers[0].q.weight, layers[1].q.weight)
    assert torch.equal(layers[1].q.weight, layers[2].q.weight)
    assert torch.equal(layers[0].k.weight, layers[1].k.weight)
    assert not torch.equal(layers[1].k.weight, layers[2].k.weight)


def test_adapters_need_a_generator_that_exists(recipe):
    with pytest.raises(
        SystemExit, match="`lora_rank` trains adapters of a generator that exists. Name it by `generator`"
    ):
        recipe("train_mle", "mle.yaml", "--generator", "none")
