"""Damaged model folders: each loads as the model that was saved, or is refused in words that name it.

What no reader can tell is let through: another number where a number stands, in a configuration or among the weights.
"""

import json
import shutil
import tempfile
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from peft import LoraConfig, get_peft_model
from safetensors.torch import load_file
from tokenizers import Tokenizer, models, pre_tokenizers
from torch import nn
from transformers import AutoModelForSeq2SeqLM, AutoTokenizer, PreTrainedTokenizerFast

from hf_localgan.data.speech_encoding import phone_tokenizer
from hf_localgan.data.vocabulary import vocabulary_fingerprint
from hf_localgan.models import (
    DbmConfig,
    DbmModel,
    LogMelFeatureExtractor,
    PairDiscriminator,
    PairDiscriminatorConfig,
    RnnSpeechConfig,
    RnnSpeechForConditionalGeneration,
    RnnSpeechProcessor,
)
from hf_localgan.models.loading import load_generator
from hf_localgan.models.recognisers import load_recogniser
from hf_localgan.recipes.parts import load_discriminator, load_energy

from ..damage import BYTE_WAYS, Damage, damaged

SHORT, LONG = 10, 1_000  # of a model; of all models together
QUIET = [HealthCheck.too_slow, HealthCheck.function_scoped_fixture, HealthCheck.data_too_large]
LOADERS: dict[str, Callable[[Path], tuple]] = {
    "rnn_seq2seq": load_generator,
    "t5": load_generator,
    "adapter": load_generator,
    "energy": lambda folder: load_energy(str(folder)),
    "discriminator": lambda folder: load_discriminator(str(folder)),
    "speech": load_recogniser,
}
NEEDED = ("config.json", "model.safetensors", "tokenizer.json", "adapter_config.json", "adapter_model.safetensors")


def save_all(place: Path, generator: nn.Module, t5: nn.Module, tokenizer: Any):
    """A folder of each kind, by its name."""
    with torch.random.fork_rng():
        torch.manual_seed(0)
        own = {"vocab_size": 20, "vocabulary": vocabulary_fingerprint(tokenizer)}
        energy = DbmModel(DbmConfig(query_size=4, response_size=4, hidden_size=6, top_size=3, **own))
        energy.word_vectors.load(torch.randn(20, 4), range(3, 20))
        cnn = {"body": "cnn", "embedding_size": 5, "widths": [1, 2], "filters": 4, "head_size": 6}
        judge = PairDiscriminator(PairDiscriminatorConfig(**cnn, **own, pad_token_id=0, eos_token_id=2))
        sizes = {"vocab_size": 12, "feature_size": 6, "encoder_layers": 1, "encoder_hidden_size": 8, "hidden_size": 8}
        speech = RnnSpeechForConditionalGeneration(RnnSpeechConfig(**sizes, embedding_size=6))
    for name, model in (("rnn_seq2seq", generator), ("t5", t5), ("energy", energy), ("discriminator", judge)):
        model.save_pretrained(place / name)
        tokenizer.save_pretrained(place / name)
    speech.save_pretrained(place / "speech")
    extractor = LogMelFeatureExtractor(num_mel_filters=2, energy=False)
    extractor = extractor.fit([np.random.default_rng(0).normal(size=(50, 6))])
    phones = phone_tokenizer([f"p{number}" for number in range(8)])
    RnnSpeechProcessor(extractor, phones).save_pretrained(place / "speech")
    base = AutoModelForSeq2SeqLM.from_pretrained(place / "t5")
    adapted = get_peft_model(base, LoraConfig(task_type="SEQ_2_SEQ_LM", r=2, target_modules=["q", "v"]))
    for name, parameter in adapted.named_parameters():
        if "lora_B" in name:
            nn.init.normal_(parameter)
    adapted.save_pretrained(place / "adapter")
    tokenizer.save_pretrained(place / "adapter")


@st.composite
def damages(draw, folder: Path) -> Damage:
    """One file of the folder cut, flipped, emptied, removed, replaced by another or with another value of JSON."""
    names = sorted(path.name for path in folder.iterdir() if path.suffix in (".json", ".safetensors"))
    name = draw(st.sampled_from(names))
    content = (folder / name).read_bytes()
    ways = [*BYTE_WAYS, *["value"] * 4 * name.endswith(".json")]
    way = draw(st.sampled_from(ways))
    if way == "value":
        after = changed_json(draw, content)
    else:
        after = damaged(draw, way, content, [folder / other for other in names if other != name])
    return Damage(name, way, content, after, NEEDED)


VALUES = st.sampled_from([None, True, -1, 0, 1, 3, 10**6, 0.5, "", "x", "gru", "1", [], [1], {}, {"a": 1}])


def changed_json(draw, content: bytes) -> bytes:
    """JSON with one value changed or taken out, or a new one put in."""
    values = json.loads(content)
    inside = values
    while True:
        if not inside:
            break
        key = draw(st.sampled_from(sorted(inside) if isinstance(inside, dict) else range(len(inside))))
        if isinstance(inside[key], (dict, list)) and inside[key] and draw(st.booleans()):
            inside = inside[key]
            continue
        way = draw(st.sampled_from(["change", "change", "remove", "add"]))
        if way == "change":
            inside[key] = draw(VALUES)
        elif way == "remove":
            del inside[key]
        elif isinstance(inside, dict):
            inside[draw(st.sampled_from(["new", "dtype", "vocab_size", "auto_map", "quantization_config"]))] = draw(
                VALUES
            )
        break
    return json.dumps(values).encode()


def check_damage(name: str, whole: Path, damage: Damage):
    """Loads a damaged copy of a folder, and compares what is loaded with what is in the whole one."""
    with tempfile.TemporaryDirectory() as place:
        folder = Path(place) / name
        shutil.copytree(whole, folder)
        damage.apply(folder)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            try:
                model, tokenizer = LOADERS[name](folder)
            except (OSError, ValueError) as error:
                message = str(error)
                assert str(folder) in message and len(message) < 3_000, message
                return
        assert not damage.is_told(), f"loaded with {damage.file} {damage.way}"
        expected, own = LOADERS[name](whole)
        left = model.state_dict()
        if damage.file.endswith(".json"):
            if damage.file in ("generation_config.json",):
                same_weights(left, expected.state_dict())
            return
        changed = {key for key, tensor in expected.state_dict().items() if not torch.equal(tensor, left[key])}
        # only numbers that were flipped; a reader has no sum to check them by
        if damage.way in ("flip", "zeros"):
            stored = stored_names(damage.before, damage.after)
            places = {left[key].data_ptr() for key in stored if key in left}  # of ties one name is stored
            assert name == "adapter" or {left[key].data_ptr() for key in changed} <= places, (changed, stored)
        else:
            assert not changed, changed


def same_weights(left: dict[str, torch.Tensor], right: dict[str, torch.Tensor]):
    assert left.keys() == right.keys() and all(torch.equal(left[key], right[key]) for key in left)


def stored_names(before: bytes, after: bytes) -> set[str]:
    """Names of the tensors that differ between two safetensors files."""
    with tempfile.TemporaryDirectory() as place:
        tensors = []
        for number, content in enumerate((before, after)):
            path = Path(place) / f"{number}.safetensors"
            path.write_bytes(content)
            tensors.append(load_file(path))
    first, second = tensors
    return {key for key in first if key not in second or not torch.equal(first[key], second[key])}


def examples(count: int):
    return settings(
        max_examples=count, deadline=None, database=None, derandomize=count == SHORT, suppress_health_check=QUIET
    )


@pytest.fixture(scope="module")
def saved(tmp_path_factory, tiny_generator, tiny_t5):
    place = tmp_path_factory.mktemp("whole")

    def build(tokenizer) -> Path:
        if not any(place.iterdir()):
            save_all(place, tiny_generator(), tiny_t5(), tokenizer)
        return place

    return build


def try_damages(name: str, whole: Path, count: int):
    @examples(count)
    @given(damages(whole / name))
    def tried(damage):
        check_damage(name, whole / name, damage)

    tried()


@pytest.mark.parametrize("name", LOADERS)
def test_damaged_folders_load_as_they_were_or_are_refused(name, saved, tiny_tokenizer):
    try_damages(name, saved(tiny_tokenizer), SHORT)


@pytest.mark.slow
@pytest.mark.timeout(3600)
@pytest.mark.parametrize("name", LOADERS)
def test_a_thousand_damaged_folders_load_as_they_were_or_are_refused(name, saved, tiny_tokenizer):
    try_damages(name, saved(tiny_tokenizer), -(-LONG // len(LOADERS)))


# ---- tokenizers that do not fit ----

SPECIAL = {"pad_token": "<pad>", "eos_token": "</s>", "unk_token": "<unk>"}


@st.composite
def vocabularies(draw, own: dict[str, int]) -> dict[str, int]:
    """The vocabulary, or one with tokens taken out, added, exchanged or with other ids."""
    vocabulary = dict(own)
    for _ in range(draw(st.integers(0, 2))):
        way = draw(st.sampled_from(["take", "add", "far", "swap", "rename"]))
        names = sorted(vocabulary)
        if way == "take":
            del vocabulary[draw(st.sampled_from(names))]
        elif way == "add":
            vocabulary[draw(st.sampled_from(["new", "é", "你"]))] = max(vocabulary.values()) + 1
        elif way == "far":
            vocabulary["far"] = draw(st.sampled_from([10**3, 10**6]))
        elif way == "swap":
            first, second = draw(st.sampled_from(names)), draw(st.sampled_from(names))
            vocabulary[first], vocabulary[second] = vocabulary[second], vocabulary[first]
        else:
            name = draw(st.sampled_from(names))
            vocabulary[f"{name}x"] = vocabulary.pop(name)
    return vocabulary


def check_vocabulary(name: str, whole: Path, vocabulary: dict[str, int]):
    """Puts a tokenizer with another vocabulary beside a model, and loads both."""
    expected = AutoTokenizer.from_pretrained(whole).get_vocab()
    with tempfile.TemporaryDirectory() as place:
        folder = Path(place) / name
        shutil.copytree(whole, folder)
        tokenizer = Tokenizer(models.WordLevel(vocabulary, unk_token="<unk>"))
        tokenizer.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
        special = {key: token for key, token in SPECIAL.items() if token in vocabulary}
        PreTrainedTokenizerFast(tokenizer_object=tokenizer, **special).save_pretrained(folder)
        try:
            loaded = LOADERS[name](folder)[1]
        except (OSError, ValueError) as error:
            assert str(folder) in str(error), str(error)
            fits = vocabulary == expected
            assert not fits, str(error)
            return
        loaded = getattr(loaded, "tokenizer", loaded)
        assert loaded.get_vocab() == vocabulary and {"pad_token", "eos_token"} <= special.keys()
        if name in ("energy", "discriminator"):  # they know their tokens
            assert vocabulary == expected
        else:
            assert max(vocabulary.values()) <= max(expected.values())


def try_vocabularies(name: str, whole: Path, count: int):
    own = AutoTokenizer.from_pretrained(whole / name).get_vocab()

    @examples(count)
    @given(vocabularies(own))
    def tried(vocabulary):
        check_vocabulary(name, whole / name, vocabulary)

    tried()


@pytest.mark.parametrize("name", LOADERS)
def test_a_tokenizer_of_another_model_is_refused(name, saved, tiny_tokenizer):
    try_vocabularies(name, saved(tiny_tokenizer), SHORT)


@pytest.mark.slow
@pytest.mark.timeout(3600)
@pytest.mark.parametrize("name", LOADERS)
def test_a_thousand_tokenizers_of_other_models_are_refused(name, saved, tiny_tokenizer):
    try_vocabularies(name, saved(tiny_tokenizer), -(-LONG // len(LOADERS)))
