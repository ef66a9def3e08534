"""What a place holds that is no whole model, and why a file of it cannot be had: each cause in its own words."""

import re

import huggingface_hub.constants
import pytest
from huggingface_hub import hf_hub_download
from peft import LoraConfig, get_peft_model
from safetensors.torch import load_file, save_file
from transformers import AutoModelForSeq2SeqLM

from hf_localgan.models import DbmConfig, DbmModel
from hf_localgan.models.loading import load_generator
from hf_localgan.models.recognisers import load_recogniser
from hf_localgan.recipes.parts import load_discriminator, load_energy


@pytest.fixture
def repositories(hub, tmp_path, tiny_t5, tiny_tokenizer):
    """Repositories of `somebody`: whole, an adapter of it, and others that lack something."""
    base = tmp_path / "whole"
    tiny_t5().save_pretrained(base)
    tiny_tokenizer.save_pretrained(base)
    model = AutoModelForSeq2SeqLM.from_pretrained(base)
    model.name_or_path = "somebody/whole"
    adapted = get_peft_model(model, LoraConfig(task_type="SEQ_2_SEQ_LM", target_modules=["q"]))
    adapted.save_pretrained(tmp_path / "adapter")
    energy = tmp_path / "energy"
    DbmModel(DbmConfig(query_size=5, response_size=5, hidden_size=6, top_size=4, vocab_size=20)).save_pretrained(
        energy / "energy"
    )
    tiny_tokenizer.save_pretrained(energy / "energy")

    def put(name, folder, pattern="."):
        files = {path.relative_to(folder).as_posix(): path for path in folder.rglob("*") if path.is_file()}
        hub.commits[f"somebody/{name}"] = {"main": []}
        kept = {name: path.read_bytes() for name, path in files.items() if re.search(pattern, name)}
        hub.commit(f"somebody/{name}", "main", "all", kept)

    for name in ("whole", "adapter", "energy"):
        put(name, tmp_path / name)
    put("tokenizer", base, "tokenizer")
    put("untrained", base, "json")
    put("mute", base, "config.json|model.safetensors")
    put("cut", tmp_path / "adapter", "json")
    return hub


def refused(load, place, *parts, error=OSError, **arguments):
    with pytest.raises(error) as caught:
        load(place, **arguments)
    for part in parts:
        assert part in str(caught.value)


def test_repositories_that_are_no_whole_model_are_called_what_they_are(repositories):
    refused(load_generator, "somebody/tokenizer", "no config.json", "It holds a tokenizer alone")
    refused(load_recogniser, "somebody/tokenizer", "no config.json", "It holds a tokenizer alone")
    refused(
        load_generator, "somebody/energy", "no whole model", "folders with one are: energy", "`somebody/energy/energy`"
    )
    refused(load_energy, "somebody/energy", "Its folder energy/ does: name `somebody/energy/energy`")
    refused(load_discriminator, "somebody/tokenizer", "no discriminator", "no config.json", "a tokenizer alone")
    refused(load_generator, "somebody/untrained", "has no model.safetensors. Give that")
    refused(load_generator, "somebody/mute", "`somebody/mute` has no tokenizer")
    refused(load_generator, "somebody/cut", "The adapter `somebody/cut` has no adapter_model.safetensors")
    refused(load_recogniser, "somebody/adapter", "is no recogniser of speech", error=ValueError)
    assert load_energy("somebody/energy/energy")[0].word_vectors is not None
    load_generator("somebody/adapter")


def test_names_and_revisions_that_do_not_exist(repositories):
    refused(load_generator, "somebody/nothing", "neither a folder", "nor a repository", "`hf auth login`")
    refused(load_generator, "somebody/whole", "has no revision `v2`", revision="v2")


@pytest.mark.parametrize(
    ("file", "status", "subject"),
    [
        ("adapter_model", 500, "weights of the adapter `somebody/adapter`"),
        ("adapter_model", 403, "weights of the adapter `somebody/adapter`"),
        ("whole/.*/tokenizer", 503, "tokenizer of `somebody/whole`"),
    ],
)
def test_a_server_that_fails_is_no_missing_file(file, status, subject, repositories):
    repositories.fail("HEAD", file, status)
    refused(load_generator, "somebody/adapter", f"{subject} cannot be found", "the Hub does not give it", str(status))


def test_offline_the_file_that_was_not_downloaded_is_named(repositories, monkeypatch):
    def offline(yes: bool):
        monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", yes)

    words = "downloaded before", "offline (no connection, or `HF_HUB_OFFLINE`)"
    offline(True)
    refused(load_generator, "somebody/adapter", "`config.json`", *words)
    refused(load_recogniser, "somebody/whole", "`config.json`", *words)
    refused(load_energy, "somebody/energy", "`config.json`", *words)
    offline(False)
    hf_hub_download("somebody/adapter", "adapter_config.json")
    offline(True)
    refused(load_generator, "somebody/adapter", "needs its base model, `somebody/whole`", "`config.json`", *words)
    offline(False)
    for name in ("config.json", "model.safetensors"):
        hf_hub_download("somebody/whole", name)
    offline(True)
    refused(
        load_generator, "somebody/whole", "tokenizer of `somebody/whole` cannot be found", "`tokenizer.json`", *words
    )
    refused(load_generator, "somebody/adapter", "weights of the adapter `somebody/adapter`", *words)
    offline(False)
    load_generator("somebody/adapter")
    offline(True)
    load_generator("somebody/adapter")


def test_a_part_whose_weights_are_not_its_own_is_refused(repositories, tmp_path):
    path = tmp_path / "energy" / "energy" / "model.safetensors"
    weights = load_file(path)
    lost = next(iter(weights))
    save_file({name: weight for name, weight in weights.items() if name != lost}, path)
    refused(load_energy, str(path.parent), "are not those of DbmModel", lost, error=ValueError)
    path.write_bytes(path.read_bytes()[:100])
    refused(load_energy, str(path.parent), "no complete safetensors file", error=ValueError)
