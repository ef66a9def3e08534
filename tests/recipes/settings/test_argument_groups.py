"""The settings that recipes share: what they refuse before anything is loaded, and what they build."""

import json
from dataclasses import fields
from types import SimpleNamespace

import pytest
import torch
from datasets import Dataset
from transformers import EvalPrediction

from hf_localgan.data import load_word_vectors
from hf_localgan.models import RnnSeq2SeqConfig
from hf_localgan.models.loading import load_generator
from hf_localgan.recipes import (
    DataArguments,
    EvaluationArguments,
    GeneratorArguments,
    TokenizerArguments,
    checkpoint_to_resume,
)
from hf_localgan.recipes.parser import RecipeParser
from hf_localgan.trainers import MleConfig
from hf_localgan.trainers.base.launching import warn_once

NOT_A_SHAPE = {"generator", "generator_revision", "trust_remote_code", "base_model", "word_vectors"}
NOT_A_SHAPE |= {"lora_rank", "lora_alpha", "lora_dropout", "lora_targets"}
FROM_THE_TOKENIZER = {"vocab_size", "encoder_vocab_size", "pad_token_id", "bos_token_id", "eos_token_id"}
FIXED = {"decoder_start_token_id", "use_cache", "is_encoder_decoder"}


@pytest.fixture
def corpus(tmp_path):
    """Three splits of 6, 2 and 2 queries with two responses each."""
    folder = tmp_path / "corpus"
    folder.mkdir()
    start = 0
    for split, number in (("train", 6), ("validation", 2), ("test", 2)):
        rows = [
            {"query": f"where is room {n} , please ?", "responses": [f"room {n} is here .", "i do not know ."]}
            for n in range(start, start + number)
        ]
        (folder / f"{split}.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
        start += number
    return folder


# ---- data ----


def test_data_are_loaded_limited_and_encoded(corpus, tiny_tokenizer):
    data = DataArguments(dataset=str(corpus), min_response=5, max_source_length=9)
    pairs = data.load()
    assert {split: len(some) for split, some in pairs.items()} == {"train": 12, "validation": 4, "test": 4}
    assert str(pairs.report.limits) == "query any, response 5 to any words"
    # seven words and the end of sequence
    assert data.encode(pairs["test"], tiny_tokenizer)["input_ids"][0][-1] == tiny_tokenizer.eos_token_id


def test_lengths_of_chinese_are_counted_in_characters(corpus):
    assert DataArguments(str(corpus), language="zh", max_query=30).load().report.limits.unit == "characters"


def test_a_streamed_training_split_leaves_the_others_whole(corpus):
    pairs = DataArguments(dataset=str(corpus), streaming=True).load()
    assert not hasattr(pairs["train"], "__len__") and len(list(pairs["train"])) == 12
    assert len(pairs["validation"]) == 4
    assert pairs.grouped["test"]["responses"][0] == ["room 8 is here .", "i do not know ."]


def test_columns_are_mapped_by_json(tmp_path):
    (tmp_path / "train.csv").write_text("post,reply\nhello,hi\n")
    pairs = DataArguments(str(tmp_path / "train.csv"), columns='{"query": "post", "response": "reply"}').load()
    assert pairs["train"][0] == {"query": "hello", "response": "hi"}


@pytest.mark.parametrize(
    ("settings", "told"),
    [
        ({"columns": "query=post"}, "`columns` must be JSON, such as .*'query=post'"),
        ({"columns": '["post"]'}, "`columns` must map `query` and `response` to your columns"),
        ({"language": "en-GB"}, "`language` must be one of en, zh, zh-words, got 'en-GB'"),
    ],
)
def test_data_settings_that_cannot_be_meant_are_refused_at_once(settings, told):
    with pytest.raises(ValueError, match=told):
        DataArguments(**settings)


def test_an_unset_variable_in_the_path_of_the_data_is_told(monkeypatch):
    monkeypatch.delenv("HF_LOCALGAN_DATA", raising=False)
    with pytest.raises(ValueError, match="environment variable is not set"):
        DataArguments("$HF_LOCALGAN_DATA/dailydialog").load()


# ---- tokenizer ----


def test_a_tokenizer_is_trained_on_the_training_split_or_loaded(corpus, tmp_path, monkeypatch):
    pairs = DataArguments(dataset=str(corpus)).load()
    made = TokenizerArguments(vocab_size=12).make(pairs, "en")
    assert len(made) == 12
    made.save_pretrained(tmp_path / "saved")
    monkeypatch.setenv("FOLDER", str(tmp_path))
    assert TokenizerArguments(tokenizer="$FOLDER/saved").make(pairs, "en").get_vocab() == made.get_vocab()


def test_a_tokenizer_without_padding_is_refused(corpus, tmp_path, tiny_tokenizer):
    tiny_tokenizer.pad_token = None
    tiny_tokenizer.save_pretrained(tmp_path / "saved")
    with pytest.raises(ValueError, match="no `pad_token`"):
        TokenizerArguments(tokenizer=str(tmp_path / "saved")).make(DataArguments(str(corpus)).load(), "en")


# ---- generator ----


def test_every_field_of_the_generators_shape_is_offered_with_the_same_default():
    shape = {one.name: one.default for one in fields(RnnSeq2SeqConfig) if one.name in RnnSeq2SeqConfig.__annotations__}
    offered = {one.name: one.default for one in fields(GeneratorArguments) if one.name not in NOT_A_SHAPE}
    assert offered == {name: value for name, value in shape.items() if name not in FROM_THE_TOKENIZER | FIXED}


def test_the_shape_reaches_the_generator_and_the_tokens_come_from_the_tokenizer(tiny_tokenizer):
    chosen = GeneratorArguments(cell_type="lstm", hidden_size=8, embedding_size=6, decoder_layers=2, attention="dot")
    model = chosen.make(tiny_tokenizer)
    config = model.config
    assert (config.cell_type, config.hidden_size, config.embedding_size) == ("lstm", 8, 6)
    assert (config.decoder_layers, config.attention, config.vocab_size) == (2, "dot", 20)
    assert (config.pad_token_id, config.bos_token_id, config.eos_token_id) == (0, 1, 2)
    assert config.decoder_start_token_id == 1


def test_without_a_token_for_the_start_the_decoder_starts_with_the_end(tiny_tokenizer):
    tiny_tokenizer.bos_token = None
    assert GeneratorArguments(hidden_size=8).config(tiny_tokenizer).decoder_start_token_id == 2


@pytest.mark.parametrize("share", [True, False])
def test_word_vectors_start_the_embeddings_of_both_sides(tiny_tokenizer, tmp_path, capsys, share):
    (tmp_path / "vectors.txt").write_text("hello 1 2 3 4\nfine 5 6 7 8\n")
    settings = {"embedding_size": 4, "hidden_size": 8, "share_embeddings": share}
    model = GeneratorArguments(word_vectors=str(tmp_path / "vectors.txt"), **settings).make(tiny_tokenizer)
    hello = tiny_tokenizer.convert_tokens_to_ids("hello")
    vectors = load_word_vectors(tmp_path / "vectors.txt")
    for table in (model.get_input_embeddings(), model.get_decoder().get_input_embeddings()):
        ratio = table.weight[hello] / torch.tensor(vectors["hello"])  # they may be scaled, not turned
        torch.testing.assert_close(ratio, ratio[:1].expand(4))
    assert "2 of" in capsys.readouterr().out


def test_word_vectors_of_another_width_are_refused(tiny_tokenizer, tmp_path):
    (tmp_path / "vectors.txt").write_text("hello 1 2 3\n")
    chosen = GeneratorArguments(word_vectors=str(tmp_path / "vectors.txt"), embedding_size=4, hidden_size=8)
    with pytest.raises(ValueError, match="3"):
        chosen.make(tiny_tokenizer)


def test_a_generator_that_exists_is_loaded_with_its_tokenizer(tiny_generator, tiny_tokenizer, tmp_path, monkeypatch):
    tiny_generator().save_pretrained(tmp_path / "saved")
    tiny_tokenizer.save_pretrained(tmp_path / "saved")
    monkeypatch.setenv("FOLDER", str(tmp_path))
    model, tokenizer = GeneratorArguments(generator="$FOLDER/saved").load()
    same, _ = load_generator(tmp_path / "saved")
    torch.testing.assert_close(model.state_dict(), same.state_dict(), rtol=0, atol=0)
    assert tokenizer.get_vocab() == tiny_tokenizer.get_vocab()


# ---- evaluation ----


def test_decodings_are_greedy_the_beams_and_the_temperatures_each_once():
    names = [one.name for one in EvaluationArguments(beams=[3, 5, 3], temperatures=[0.5, 1.0, 1]).chosen_decodings()]
    assert names == ["greedy", "beam 3", "beam 5", "temperature 0.5", "temperature 1"]
    assert [one.name for one in EvaluationArguments(beams=[], temperatures=[]).chosen_decodings()] == ["greedy"]
    (asked,) = RecipeParser(EvaluationArguments).read(["--beams", "none", "--temperatures", "none"])
    assert [one.name for one in asked.chosen_decodings()] == ["greedy"]


@pytest.mark.parametrize(
    ("settings", "told"),
    [
        ({"beams": [1]}, "at least 2 hypotheses, got 1"),
        ({"temperatures": [0.0]}, "temperature is positive, got 0.0"),
        ({"temperatures": [float("nan")]}, "temperature is positive, got nan"),
        ({"metric_tokenization": "13a"}, "`metric_tokenization` must be one of words, .*'13a'"),
        ({"scores": "bleu"}, "`scores` must be `dialogue` or `translation`, got 'bleu'"),
        ({"answers_per_query": 0}, "`answers_per_query` must be at least 1, got 0"),
        ({"max_new_tokens": 0}, "`max_new_tokens` must be at least 1"),
        ({"max_test_queries": -1}, "`max_test_queries` must be at least 1"),
        ({"answer_batch_size": 0}, "`answer_batch_size` must be at least 1"),
        ({"resamples": -1}, "`resamples` must not be negative, got -1"),
    ],
)
def test_settings_of_the_evaluation_are_refused_before_the_training(settings, told):
    with pytest.raises(ValueError, match=told):
        EvaluationArguments(**settings)


def test_translations_are_decoded_greedily_and_by_a_beam_of_8_without_a_sweep_unless_told_otherwise():
    def names(**settings):
        return [one.name for one in EvaluationArguments(**settings).chosen_decodings()]

    assert names()[:2] == ["greedy", "beam 5"] and names()[-1] == "temperature 1.2" and len(names()) == 8
    assert names(scores="translation") == ["greedy", "beam 8"]
    assert names(scores="translation", beams=[4], temperatures=[1.0]) == ["greedy", "beam 4", "temperature 1"]
    assert names(beams=[], temperatures=[]) == ["greedy"]
    assert names(decodings=["beam 3", "temperature 0.7"]) == ["beam 3", "temperature 0.7"]


# ---- what is watched while training ----


def training(tmp_path, **settings) -> MleConfig:
    return MleConfig(str(tmp_path), use_cpu=True, **settings)


def test_bleu_is_watched_where_translations_are_generated_decoded_as_at_the_end(corpus, tmp_path, tiny_tokenizer):
    data, evaluation = DataArguments(str(corpus)), EvaluationArguments("translation", max_new_tokens=7)
    args = training(tmp_path, predict_with_generate=True)
    compute = evaluation.metrics(args, data.load(), data, tiny_tokenizer)
    # the start token, which `generate` counts, and seven new ones
    assert args.generation_max_length == 8 and args.generation_num_beams == 1 and args.include_for_metrics == ["inputs"]
    queries = list(data.load().grouped["validation"]["query"])
    ids = tiny_tokenizer(queries, padding=True, return_tensors="np").input_ids
    assert compute(EvalPrediction(predictions=ids, label_ids=ids, inputs=ids))["bleu"] >= 0

    args = training(tmp_path, predict_with_generate=True, generation_num_beams=4, generation_max_length=5)
    evaluation.metrics(args, data.load(), data, tiny_tokenizer)
    assert args.generation_num_beams == 4 and args.generation_max_length == 5


def test_only_the_likelihood_is_watched_otherwise_and_bleu_cannot_choose_the_model(corpus, tmp_path, tiny_tokenizer):
    data = DataArguments(str(corpus))
    for scores, generate in (("dialogue", True), ("translation", False)):
        args = training(tmp_path, predict_with_generate=generate)
        assert EvaluationArguments(scores).metrics(args, data.load(), data, tiny_tokenizer) is None
        args.metric_for_best_model = "eval_bleu"
        with pytest.raises(
            ValueError, match=f"needs `scores: translation`.*They are `{scores}` and `{str(generate).lower()}`"
        ):
            EvaluationArguments(scores).metrics(args, data.load(), data, tiny_tokenizer)


def test_metrics_of_chinese_count_characters_unless_told_otherwise():
    assert EvaluationArguments().tokenization("en") == "words"
    assert EvaluationArguments().tokenization("zh-words") == "characters"
    assert EvaluationArguments(metric_tokenization="jieba").tokenization("zh") == "jieba"


def test_vectors_of_the_embedding_scores_are_made_from_the_training_split(corpus):
    data = DataArguments(dataset=str(corpus))
    first, second = (EvaluationArguments(metric_vector_size=4).vectors(data.load(), data) for _ in range(2))
    assert first.dim == 4 and first.name == second.name and first.name.endswith(":corpus")
    assert "room" in first and (first.matrix == second.matrix).all()


def test_few_words_make_smaller_vectors_or_none_and_a_line_says_so(corpus, caplog):
    warn_once.cache_clear()
    data = DataArguments(dataset=str(corpus))
    vectors = EvaluationArguments().vectors(data.load(), data)
    assert len(vectors) == vectors.dim + 1 < 100
    assert f"have {vectors.dim} dimensions and not 100 (`metric_vector_size`)" in caplog.text
    lonely = {"train": Dataset.from_list([{"query": word, "response": word} for word in ("a", "b", "c")])}
    assert EvaluationArguments().vectors(lonely, data) is None and "embedding scores are left out" in caplog.text
    test = {"test": data.load()["test"]}
    with pytest.raises(ValueError, match="training split, and there is none .found: test.*`metric_vectors`"):
        EvaluationArguments().vectors(test, data)


def test_vectors_of_a_file_are_taken_where_it_is_named(corpus, tmp_path):
    (tmp_path / "mine.txt").write_text("room 1 2\nhere 3 4\n")
    data = DataArguments(dataset=str(corpus))
    assert EvaluationArguments(metric_vectors=str(tmp_path / "mine.txt")).vectors(data.load(), data).name == "mine"


# ---- resuming ----


def test_the_checkpoint_to_resume_is_none_the_last_or_the_one_that_is_named(tmp_path):
    def wanted(name):
        return checkpoint_to_resume(SimpleNamespace(resume_from_checkpoint=name, output_dir=str(tmp_path / "run")))

    assert wanted(None) is None
    with pytest.raises(ValueError, match='no checkpoint.*`resume_from_checkpoint` is "last", `output_dir` is ".*run"'):
        wanted("last")
    (tmp_path / "run").mkdir()
    with pytest.raises(ValueError, match="no checkpoint"):
        wanted("last")
    for step in (9, 10):
        (tmp_path / "run" / f"checkpoint-{step}").mkdir()
    assert wanted("last") == str(tmp_path / "run" / "checkpoint-10")  # by number, not by name
    assert wanted(str(tmp_path / "run" / "checkpoint-9")) == str(tmp_path / "run" / "checkpoint-9")
    with pytest.raises(ValueError, match="checkpoint-8"):
        wanted(str(tmp_path / "run" / "checkpoint-8"))
