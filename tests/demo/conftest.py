"""Folders as trainers leave them, with tiny models: two generators, an energy that knows the tiny words, a data set."""

import json

import pytest
import torch

from hf_localgan import DbmConfig, DbmModel
from hf_localgan.demo.loading import PageModels, Speaker
from hf_localgan.demo.references import Reader, measure_references

ROWS = [
    {"query": "hello", "responses": ["hello you", "how are you ?"]},
    {"query": "how are you ?", "responses": ["i am fine thanks", "fine !", "my name is what"]},
    {"query": "what is your name ?", "responses": ["my name is hello", "! ?"]},
]


@pytest.fixture(scope="session")
def text_energy():
    """`text_energy(seed=0, **fields)`: random word vectors for the tiny tokenizer's words but `?`, `.` and `!`."""

    def build(seed: int = 0, **fields) -> DbmModel:
        sizes = {"query_size": 3, "response_size": 3, "hidden_size": 5, "top_size": 4, "vocab_size": 20}
        with torch.random.fork_rng(), torch.no_grad():
            torch.manual_seed(seed)
            model = DbmModel(DbmConfig(**{**sizes, **fields})).eval()
            for parameter in model.parameters():
                parameter.normal_()
        words = model.config.vocab_size
        vectors = torch.randn(words, 3, generator=torch.Generator().manual_seed(seed))
        model.word_vectors.load(vectors, range(4, words - 3))
        return model

    return build


@pytest.fixture
def page_models(tiny_generator, tiny_tokenizer, text_energy) -> PageModels:
    """Two generators of different weights, an energy, and the radii of `ROWS`."""
    speakers = [
        Speaker(name, name, objective, tiny_generator(seed), tiny_tokenizer)
        for seed, (name, objective) in enumerate([("first", "LocalGAN"), ("second", "")])
    ]
    reader = Reader("energy", text_energy(), tiny_tokenizer)
    return PageModels(speakers, reader, measure_references(reader, ROWS, "tiny, test", progress=False))


@pytest.fixture
def saved(tmp_path, tiny_generator, tiny_tokenizer, text_energy):
    """`saved(name, seed=0, energy=False, about=None)`: the folder of a trained generator."""

    def save(name: str, seed: int = 0, energy: bool = False, about: dict | None = None):
        folder = tmp_path / name
        tiny_generator(seed).save_pretrained(folder)
        tiny_tokenizer.save_pretrained(folder)
        if energy:
            text_energy().save_pretrained(folder / "energy")
            tiny_tokenizer.save_pretrained(folder / "energy")
        if about is not None:
            (folder / "evaluation.json").write_text(json.dumps({"kind": "dialogue", "about": about}))
        return folder

    return save


@pytest.fixture
def data(tmp_path):
    """A folder with `ROWS` as its test split."""
    folder = tmp_path / "data"
    folder.mkdir()
    (folder / "test.jsonl").write_text("".join(json.dumps(row) + "\n" for row in ROWS))
    return folder
