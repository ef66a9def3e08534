import logging

import pytest
import torch
from transformers import pipeline

from hf_localgan.pipelines import register_pipeline

register_pipeline()


@pytest.fixture
def parts(tiny_t5, tiny_tokenizer):
    return {"model": tiny_t5(initializer_factor=5.0), "tokenizer": tiny_tokenizer, "device": "cpu"}


@pytest.fixture
def warnings(caplog):
    """What the pipelines warn of; transformers' loggers do not reach pytest by themselves."""
    logger = logging.getLogger("hf_localgan.pipelines.text2text")
    logger.addHandler(caplog.handler)
    yield caplog
    logger.removeHandler(caplog.handler)


def test_a_summary_is_found_with_the_parameters_of_its_task(parts):
    parts["model"].config.task_specific_params = {
        "summarization": {"prefix": "what is ", "max_length": 5, "num_beams": 2}
    }
    pipe = pipeline("summarization", **parts)
    ids = parts["model"].generate(
        **parts["tokenizer"]("what is hello how", return_tensors="pt"), max_length=5, num_beams=2
    )
    expected = parts["tokenizer"].decode(ids[0], skip_special_tokens=True)
    assert pipe("hello how") == [{"summary_text": expected}]
    assert pipe(["hello how"] * 2) == [{"summary_text": expected}] * 2
    assert set(pipe("hello", return_tensors=True)[0]) == {"summary_token_ids"}


def test_a_summary_that_may_be_longer_than_its_text_is_warned_of(parts, warnings):
    # "hello how are you" and the end of sequence: 5 tokens
    pipe = pipeline("summarization", **parts)
    pipe("hello how are you", max_new_tokens=5)
    assert not warnings.records
    pipe("hello how are you", max_new_tokens=6)
    assert "has 5 tokens and its summary may have 6" in warnings.text


def test_a_translation_that_may_be_cut_is_warned_of(parts, warnings):
    pipe = pipeline("translation_en_to_de", **parts)
    pipe("hello how are you", max_new_tokens=6)  # 5 <= 0.9 * 6 = 5.4
    assert not warnings.records
    pipe("hello how are you", max_new_tokens=5)  # 5 > 4.5
    assert "has 5 tokens and its translation may have 5" in warnings.text


def test_each_pair_of_languages_has_the_parameters_of_its_task(parts):
    parts["model"].config.task_specific_params = {
        "translation_en_to_de": {"prefix": "how "},
        "translation_en_to_fr": {"prefix": "what is "},
    }
    plain = pipeline("translation", **parts)
    for task, prefix in (("translation_en_to_de", "how "), ("translation_en_to_fr", "what is ")):
        pipe = pipeline(task, **parts)
        assert pipe.task == task
        assert pipe(["hello", "fine"], max_new_tokens=6) == plain([f"{prefix}hello", f"{prefix}fine"], max_new_tokens=6)


def test_languages_reach_the_tokenizer_of_a_multilingual_model(parts, monkeypatch):
    seen, words = [], {"de": 14, "fr": 15, "nl": 16}

    def build(self, text, return_tensors, src_lang, tgt_lang, **kwargs):
        seen.append((src_lang, tgt_lang))
        return {**self(text, return_tensors=return_tensors, **kwargs), "forced_bos_token_id": words[tgt_lang]}

    monkeypatch.setattr(type(parts["tokenizer"]), "_build_translation_inputs", build, raising=False)
    pipe = pipeline("translation_en_to_de", **parts)
    answers = pipe(["hello", "how are you"], return_tensors=True, max_new_tokens=4, batch_size=2)
    assert [answer["translation_token_ids"][1].item() for answer in answers] == [14, 14]
    pipe = pipeline("translation", **parts, src_lang="en", tgt_lang="fr")
    assert pipe("hello", return_tensors=True, max_new_tokens=4)[0]["translation_token_ids"][1] == 15
    assert pipe("hello", return_tensors=True, max_new_tokens=4, tgt_lang="nl")[0]["translation_token_ids"][1] == 16
    assert seen == [("en", "de")] * 2 + [("en", "fr"), ("en", "nl")]


def test_a_task_that_is_not_one_is_still_refused(parts):
    for task in ("translation_en_de", "translation_", "text2text"):
        with pytest.raises(KeyError, match=task):
            pipeline(task, **parts)


def test_no_gradients_are_kept(parts):
    with torch.enable_grad():
        (answer,) = pipeline("translation", **parts)("hello", return_tensors=True, max_new_tokens=4)
    assert not answer["translation_token_ids"].requires_grad
