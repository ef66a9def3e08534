"""Settings of the recipe that trains an energy: what they refuse, what they build, and every file of them."""

import json
import re
from dataclasses import fields
from pathlib import Path

import pytest
import torch
import yaml
from transformers import AutoModel

from hf_localgan import DbmConfig, DbmTrainingConfig
from hf_localgan.data import train_token_vectors
from hf_localgan.recipes import (
    DataArguments,
    EnergyArguments,
    EnergyReportArguments,
    RecipeParser,
    TokenizerArguments,
    expand_path,
    load_energy,
)
from hf_localgan.trainers.base.launching import warn_once

RECIPES = Path(__file__).parents[3] / "recipes"
FILES = sorted(RECIPES.glob("*/dbm*.yaml"))
KINDS = (DataArguments, TokenizerArguments, EnergyArguments, EnergyReportArguments, DbmTrainingConfig)


@pytest.fixture
def corpus(tmp_path):
    """Three splits of 12, 4 and 4 queries with two responses each."""
    folder = tmp_path / "corpus"
    folder.mkdir()
    colours, things, start = "red blue green black".split(), "cat dog car cup hat".split(), 0
    texts = [(colour, thing) for colour in colours for thing in things]
    for split, number in (("train", 12), ("validation", 4), ("test", 4)):
        rows = [
            {"query": f"where is the {colour} {thing} ?", "responses": [f"the {thing} is here .", f"not {colour} ."]}
            for colour, thing in texts[start : start + number]
        ]
        (folder / f"{split}.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
        start += number
    return folder


def made(corpus, **settings):
    """Energy and tokenizer that the settings describe, for the corpus."""
    pairs = DataArguments(dataset=str(corpus)).load()
    return EnergyArguments(**settings).load_or_make(TokenizerArguments(), pairs, "en")


# ---- refused at once ----


@pytest.mark.parametrize(
    ("settings", "told"),
    [
        ({"generator": "a", "word_vectors": "b"}, "Only one of `generator` and `word_vectors`"),
        ({"vector_size": 0}, "`vector_size` must be at least 1, got 0"),
        ({"hidden_size": 0}, "`hidden_size` must be at least 1, got 0"),
        ({"energy_type": "boltzmann"}, '`energy_type` must be one of "dbm", "printed", "rbm_pair", got "boltzmann"'),
        ({"energy": "rbm_pair"}, "is a type of energies. Set `energy_type: rbm_pair`"),
        ({"visible_std": "2"}, '`visible_std` must be one of "unit", "learned", got "2"'),
        ({"energy_type": "rbm_pair", "visible_std": "learned"}, "learned"),
    ],
)
def test_settings_that_cannot_be_built_are_refused_before_anything_is_loaded(settings, told):
    with pytest.raises(ValueError, match=told):
        EnergyArguments(**settings)


@pytest.mark.parametrize("settings", [{"others": 0}, {"max_test_pairs": 0}, {"resamples": -1}, {"clusters": 0}])
def test_a_report_of_nothing_is_refused(settings):
    (name,) = settings
    with pytest.raises(ValueError, match=f"`{name}` must"):
        EnergyReportArguments(**settings)


def test_names_of_one_parser_do_not_clash_and_defaults_are_the_models():
    names = [field.name for kind in KINDS for field in fields(kind) if field.init]
    assert len(names) == len(set(names))
    shape = {field.name: field.default for field in fields(EnergyArguments)}
    config = DbmConfig()
    shape["energy"] = shape.pop("energy_type")
    for name in set(shape) & {field.name for field in fields(DbmConfig)}:
        assert shape[name] == getattr(config, name), name


def test_the_command_line_takes_back_the_files_source_of_vectors(tmp_path):
    (tmp_path / "some.yaml").write_text("generator: folder\noutput_dir: out\nuse_cpu: true\n")
    *_, energy, _, _ = RecipeParser(*KINDS).read([str(tmp_path / "some.yaml"), "--word_vectors", "file.txt"])
    assert (energy.generator, energy.word_vectors) == (None, "file.txt")


# ---- built ----


def test_vectors_are_made_from_the_training_split(corpus):
    model, tokenizer = made(corpus, vector_size=5, hidden_size=7, top_size=0, visible_std="learned")
    config = model.config
    assert (config.query_size, config.response_size, config.hidden_size, config.top_size) == (5, 5, 7, 0)
    assert config.vocab_size == len(tokenizer) and config.visible_std == "learned"
    texts = [text for row in DataArguments(str(corpus)).load()["train"] for text in (row["query"], row["response"])]
    expected = train_token_vectors(tokenizer, texts, 5)
    torch.testing.assert_close(model.word_vectors.vectors, expected.vectors)
    assert model.word_vectors.regular.nonzero().flatten().tolist() == expected.tokens
    assert not model.query_scaler.is_fitted  # that is the trainer's


def test_few_pairs_will_do_and_normalized_vectors_have_length_1(corpus):
    model, tokenizer = made(corpus, vector_size=3, vector_pairs=8, normalize_vectors=True)
    table = model.word_vectors
    assert 4 < int(table.regular.sum()) < len(tokenizer) - 4  # of four queries
    torch.testing.assert_close(table.vectors[table.regular].norm(dim=1), torch.ones(int(table.regular.sum())))


def test_a_generator_lends_its_tokenizer_and_its_embeddings(corpus, tmp_path, tiny_generator, tiny_tokenizer):
    generator = tiny_generator()
    generator.save_pretrained(tmp_path / "generator")
    tiny_tokenizer.save_pretrained(tmp_path / "generator")
    model, tokenizer = made(corpus, generator=str(tmp_path / "generator"))
    assert tokenizer.get_vocab() == tiny_tokenizer.get_vocab() and model.config.query_size == 6
    torch.testing.assert_close(model.word_vectors.vectors, generator.get_input_embeddings().weight.detach())
    assert model.word_vectors.regular.nonzero().flatten().tolist() == list(range(4, 20))


def test_a_file_lends_its_vectors(corpus, tmp_path, monkeypatch):
    (tmp_path / "vectors.txt").write_text("cat 1 2\nwhere 3 4\ntea 5 6\n")
    monkeypatch.setenv("FOLDER", str(tmp_path))
    model, tokenizer = made(corpus, word_vectors="$FOLDER/vectors.txt")
    words = tokenizer.convert_ids_to_tokens(model.word_vectors.regular.nonzero().flatten().tolist())
    assert {word.lstrip("▁") for word in words} == {"cat", "where"} and model.config.query_size == 2


def test_few_words_make_smaller_vectors_and_too_few_say_which_setting_to_change(corpus, tmp_path, caplog):
    warn_once.cache_clear()
    model, _ = made(corpus, vector_size=500)
    size = model.config.query_size
    assert size < 500 and f"have {size} dimensions and not 500 (`vector_size`)" in caplog.text
    for split in ("train", "validation", "test"):
        rows = [{"query": word, "response": word} for word in ("tea", "rain", "snow")]
        (tmp_path / f"{split}.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    with pytest.raises(ValueError, match="No word vectors can be made.*`vector_size`.*`word_vectors`.*`generator`"):
        made(tmp_path, vector_size=500)


def test_an_energy_that_exists_is_loaded_with_its_tokenizer(corpus, tmp_path, tiny_generator, tiny_tokenizer):
    model, tokenizer = made(corpus, vector_size=4, hidden_size=3)
    model.query_scaler.mean.fill_(0.5)
    model.save_pretrained(tmp_path / "energy")
    with pytest.raises((OSError, ValueError)):  # no tokenizer yet
        load_energy(str(tmp_path / "energy"))
    tokenizer.save_pretrained(tmp_path / "energy")
    found, own = made(corpus, energy=str(tmp_path / "energy"), vector_size=9)
    torch.testing.assert_close(found.state_dict(), model.state_dict())
    assert own.get_vocab() == tokenizer.get_vocab()
    rivals = EnergyReportArguments(rivals=[str(tmp_path / "energy")], clusters=2).settings()
    assert list(rivals["rivals"]) == ["energy"] and rivals["clusters"] == 2


def test_what_is_no_energy_of_text_is_refused(tmp_path, tiny_generator):
    tiny_generator().save_pretrained(tmp_path / "generator")
    with pytest.raises(ValueError, match="and no energy model"):
        load_energy(str(tmp_path / "generator"))
    AutoModel.from_config(DbmConfig(query_size=2, response_size=2)).save_pretrained(tmp_path / "vectors")
    with pytest.raises(ValueError, match="holds no word vectors"):
        load_energy(str(tmp_path / "vectors"))


# ---- files ----


def test_there_is_a_file_for_every_corpus_that_the_recipe_is_meant_for():
    assert {path.parent.name for path in FILES} >= {"smalltalk", "dailydialog_pp", "subtitles_en", "weibo_lccc"}


@pytest.mark.parametrize("path", FILES, ids=lambda path: f"{path.parent.name}/{path.stem}")
def test_a_file_is_read_and_describes_an_energy_that_can_be_trained(path, tmp_path, monkeypatch):
    for name in re.findall(r"\$\{?(HF_LOCALGAN_\w+)", path.read_text()):
        monkeypatch.setenv(name, str(tmp_path))
    data, _, energy, _, args = RecipeParser(*KINDS).read([str(path), "--use_cpu"])
    assert args.output_dir and not Path(args.output_dir).is_absolute()
    where = expand_path(data.dataset, "dataset")
    assert not Path(data.dataset).is_absolute() and (where == data.dataset or where.startswith(str(tmp_path)))
    given = yaml.safe_load(path.read_text())
    config = energy.config(energy.vector_size, None)
    assert config.energy != "printed" and config.query_size == given.get("vector_size", 100)
    assert config.visible_std == given.get("visible_std", "unit")
    assert args.ais_temperatures >= 1000 and args.learning_rate == given["learning_rate"]
