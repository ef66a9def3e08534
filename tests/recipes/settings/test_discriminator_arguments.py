"""Settings of the recipe that trains a discriminator: what they refuse, what they build, and every file of them."""

import json
import re
from dataclasses import fields
from pathlib import Path

import pytest
import torch
import yaml

from hf_localgan import DbmConfig, DbmModel, MatchingConfig, PairDiscriminatorConfig
from hf_localgan.data import train_token_vectors
from hf_localgan.recipes import (
    DataArguments,
    DiscriminatorArguments,
    RecipeParser,
    TokenizerArguments,
    expand_path,
    load_discriminator,
)

RECIPES = Path(__file__).parents[3] / "recipes"
FILES = sorted(RECIPES.glob("*/matching*.yaml"))
KINDS = (DataArguments, TokenizerArguments, DiscriminatorArguments, MatchingConfig)
SMALL = {"embedding_size": 3, "filters": 2, "widths": [1, 2]}


@pytest.fixture
def corpus(tmp_path):
    """Three splits of 12, 4 and 4 queries with two responses each."""
    folder = tmp_path / "corpus"
    folder.mkdir()
    texts = [(colour, thing) for colour in "red blue green black".split() for thing in "cat dog car cup hat".split()]
    for split, some in (("train", texts[:12]), ("validation", texts[12:16]), ("test", texts[16:])):
        rows = [
            {"query": f"where is the {colour} {thing} ?", "responses": [f"the {thing} is here .", f"not {colour} ."]}
            for colour, thing in some
        ]
        (folder / f"{split}.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    return folder


def made(corpus, **settings):
    """Discriminator and tokenizer that the settings describe, for the corpus."""
    pairs = DataArguments(dataset=str(corpus)).load()
    return DiscriminatorArguments(**{**SMALL, **settings}).load_or_make(TokenizerArguments(), pairs, "en")


# ---- refused at once ----


@pytest.mark.parametrize(
    ("settings", "told"),
    [
        ({"generator": "a", "word_vectors": "b"}, "Only one of `generator` and `word_vectors`"),
        ({"discriminator": "a", "energy": "b"}, "Only one of `discriminator` and `energy`"),
        ({"head": "linear"}, '`head` must be one of "mlp", "bilinear", "cosine", got "linear"'),
        ({"filters": 0}, "`filters` must be at least 1, got 0"),
        ({"vector_size": -1}, "`vector_size` must not be negative, got -1"),
        ({"tune_vectors": True}, "`tune_vectors` needs `word_vectors`"),
        ({"embedding_size": 0}, "reads no words"),
    ],
)
def test_settings_that_cannot_be_built_are_refused_before_anything_is_loaded(settings, told):
    with pytest.raises(ValueError, match=told):
        DiscriminatorArguments(**settings)


def test_names_of_one_parser_do_not_clash():
    names = [field.name for kind in KINDS for field in fields(kind) if field.init]
    assert len(names) == len(set(names))


def test_the_command_line_takes_back_the_files_source(tmp_path):
    (tmp_path / "some.yaml").write_text("generator: folder\noutput_dir: out\nuse_cpu: true\n")
    _, _, found, _ = RecipeParser(*KINDS).read([str(tmp_path / "some.yaml"), "--word_vectors", "file.txt"])
    assert (found.generator, found.word_vectors) == (None, "file.txt")


# ---- built ----


def test_without_vectors_all_embeddings_are_learned(corpus):
    model, tokenizer = made(corpus, head="mlp", interaction="product", share_filters=True, dropout=0.1)
    config = model.config
    assert (config.body, config.vocab_size, config.embedding_size, config.vector_size) == ("cnn", len(tokenizer), 3, 0)
    assert (config.head, config.interaction, config.share_filters, config.dropout) == ("mlp", "product", True, 0.1)
    assert (config.widths, config.filters) == ([1, 2], 2)
    assert config.tokens_around_text == [tokenizer.pad_token_id, tokenizer.bos_token_id, tokenizer.eos_token_id]


def test_vectors_made_from_the_training_split_are_frozen_beside_learned_ones(corpus):
    model, tokenizer = made(corpus, vector_size=5)
    assert (model.config.embedding_size, model.config.vector_size) == (3, 5)
    texts = [text for row in DataArguments(str(corpus)).load()["train"] for text in (row["query"], row["response"])]
    expected = train_token_vectors(tokenizer, texts, 5)
    torch.testing.assert_close(model.body.vectors, scaled(expected.vectors))
    assert "body.vectors" not in dict(model.named_parameters())


def scaled(vectors: torch.Tensor) -> torch.Tensor:
    """With the standard deviation that learned embeddings begin with."""
    rows = vectors[(vectors != 0).any(dim=1)]
    return vectors * 0.1 / rows.pow(2).mean().sqrt()


def test_a_file_lends_its_vectors_and_learned_embeddings_may_start_from_them(corpus, tmp_path, monkeypatch):
    (tmp_path / "vectors.txt").write_text("cat 1 2\nwhere 3 4\ntea 5 6\n")
    monkeypatch.setenv("FOLDER", str(tmp_path))
    model, tokenizer = made(corpus, word_vectors="$FOLDER/vectors.txt", tune_vectors=True)
    assert (model.config.embedding_size, model.config.vector_size) == (2, 0)
    ids = [tokenizer.get_vocab()[word] for word in ("▁cat", "▁where") if word in tokenizer.get_vocab()]
    ids = ids or [tokenizer.get_vocab()[word] for word in ("cat", "where")]
    found = model.body.embeddings.weight.detach()[ids]
    torch.testing.assert_close(found, scaled(torch.tensor([[1.0, 2.0], [3.0, 4.0]])))


def test_a_generator_lends_its_tokenizer_and_its_embeddings(corpus, tmp_path, tiny_generator, tiny_tokenizer):
    generator = tiny_generator()
    generator.save_pretrained(tmp_path / "generator")
    tiny_tokenizer.save_pretrained(tmp_path / "generator")
    model, tokenizer = made(corpus, generator=str(tmp_path / "generator"))
    assert tokenizer.get_vocab() == tiny_tokenizer.get_vocab() and model.config.vector_size == 6
    torch.testing.assert_close(model.body.vectors, scaled(generator.get_input_embeddings().weight.detach()))


def test_an_energy_lends_its_body_and_its_tokenizer(corpus, tmp_path, tiny_tokenizer):
    energy = DbmModel(DbmConfig(query_size=4, response_size=4, hidden_size=3, top_size=2, vocab_size=20))
    energy.word_vectors.load(torch.randn(20, 4), range(4, 20))
    energy.save_pretrained(tmp_path / "energy")
    tiny_tokenizer.save_pretrained(tmp_path / "energy")
    model, tokenizer = made(corpus, energy=str(tmp_path / "energy"), mean_field_steps=3, head_size=6, dropout=0)
    config = model.config
    assert (config.body, config.head, config.mean_field_steps, config.head_size) == ("dbm", "mlp", 3, 6)
    assert torch.equal(model.body.visible_to_hidden, energy.visible_to_hidden)
    assert tokenizer.get_vocab() == tiny_tokenizer.get_vocab()


def test_a_discriminator_that_exists_is_loaded_with_its_tokenizer(corpus, tmp_path, tiny_generator):
    model, tokenizer = made(corpus)
    model.save_pretrained(tmp_path / "discriminator")
    tokenizer.save_pretrained(tmp_path / "discriminator")
    found, own = made(corpus, discriminator=str(tmp_path / "discriminator"), filters=9)
    torch.testing.assert_close(found.state_dict(), model.state_dict())
    assert own.get_vocab() == tokenizer.get_vocab()
    tiny_generator().save_pretrained(tmp_path / "generator")
    with pytest.raises(ValueError, match="and no discriminator"):
        load_discriminator(str(tmp_path / "generator"))


# ---- more training pairs ----


def test_pairs_of_other_data_sets_are_added_without_the_queries_that_are_watched(corpus, tmp_path, monkeypatch):
    pairs = DataArguments(dataset=str(corpus)).load()
    rows = [
        {"query": "Where is the black hat?", "response": "it stands in the test split"},
        {"query": "what now ?", "response": "nothing"},
    ]
    (tmp_path / "more").mkdir()
    (tmp_path / "more" / "train.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    (tmp_path / "more" / "test.jsonl").write_text(json.dumps(rows[1]) + "\n")
    monkeypatch.setenv("FOLDER", str(tmp_path))
    settings = DiscriminatorArguments(extra_datasets=["$FOLDER/more"])
    joined = settings.add_pairs(pairs, DataArguments(dataset=str(corpus)))
    assert joined["train"]["query"] == [*pairs["train"]["query"], "what now ?"]
    for split in ("validation", "test"):
        assert joined[split].to_list() == pairs[split].select_columns(["query", "response"]).to_list()
    assert DiscriminatorArguments().add_pairs(pairs, DataArguments()) is pairs
    with pytest.raises(ValueError, match="Leave out `streaming`"):
        settings.add_pairs(pairs, DataArguments(dataset=str(corpus), streaming=True))


# ---- files ----


def test_there_is_a_file_for_every_corpus_that_the_recipe_is_meant_for():
    assert {path.parent.name for path in FILES} >= {"smalltalk", "dailydialog_pp", "subtitles_en"}


@pytest.mark.parametrize("path", FILES, ids=lambda path: f"{path.parent.name}/{path.stem}")
def test_a_file_is_read_and_describes_a_discriminator_that_is_chosen_by_its_matching(path, tmp_path, monkeypatch):
    for name in re.findall(r"\$\{?(HF_LOCALGAN_\w+)", path.read_text()):
        monkeypatch.setenv(name, str(tmp_path))
    data, tokens, discriminator, args = RecipeParser(*KINDS).read([str(path), "--use_cpu"])
    assert args.output_dir and not Path(args.output_dir).is_absolute()
    where = expand_path(data.dataset, "dataset")
    assert not Path(data.dataset).is_absolute() and (where == data.dataset or where.startswith(str(tmp_path)))
    config, given = discriminator.config(discriminator.vector_size), yaml.safe_load(path.read_text())
    for name in PairDiscriminatorConfig().to_dict().keys() & given.keys() - {"vocab_size"}:  # that is the tokenizer's
        assert getattr(config, name) == given[name]
    assert tokens.vocab_size == given.get("vocab_size", TokenizerArguments().vocab_size)
    assert args.load_best_model_at_end and args.metric_for_best_model == "eval_matching"
