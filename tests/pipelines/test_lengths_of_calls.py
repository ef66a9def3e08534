"""`max_length` and `max_new_tokens` are one limit: the one that is given nearer to the call holds."""

import numpy as np
import pytest
from transformers import GenerationConfig, pipeline

from hf_localgan.data.speech_encoding import phone_tokenizer
from hf_localgan.data.tones import TONES
from hf_localgan.decoding import Decoding
from hf_localgan.models import LogMelFeatureExtractor, RnnSpeechConfig, RnnSpeechForConditionalGeneration

SAVED = {"max_new_tokens": 9}
LENGTH_5 = GenerationConfig(max_length=5, num_beams=1)


@pytest.fixture(params=["rnn_seq2seq", "t5"])
def length(request, tiny_generator, tiny_t5, tiny_tokenizer):
    """`length(saved, constructor, call)`: new tokens of an answer that never ends by itself."""
    model = {"rnn_seq2seq": tiny_generator, "t5": tiny_t5}[request.param]()

    def measure(saved: dict, constructor: dict, call: dict) -> int:
        model.generation_config = GenerationConfig(decoder_start_token_id=1, pad_token_id=0, **saved)
        constructor = {"num_beams": 1, "device": "cpu", **constructor}
        pipe = pipeline("text2text-generation", model=model, tokenizer=tiny_tokenizer, **constructor)
        pipe.model.generation_config.eos_token_id = None
        (answer,) = pipe("hello how", return_tensors=True, **call)
        return len(answer["generated_token_ids"]) - 1  # without the start token

    return measure


@pytest.mark.parametrize(
    ("saved", "constructor", "call", "expected"),
    [
        ({}, {"max_new_tokens": 9}, {"max_length": 5}, 4),
        (SAVED, {}, {"max_length": 5}, 4),
        (SAVED, {"max_length": 5}, {}, 4),
        ({"max_length": 5}, {}, {"max_new_tokens": 9}, 9),
        (SAVED, {}, {"generation_config": LENGTH_5}, 4),
        ({}, {"generation_config": GenerationConfig(max_new_tokens=9, num_beams=1)}, {"max_length": 5}, 4),
        (SAVED, {"generation_config": LENGTH_5}, {"max_new_tokens": 3}, 3),
        (SAVED, {"max_length": 5, "decoding": Decoding.greedy()}, {}, 4),
        (SAVED, {"decoding": Decoding.greedy()}, {"max_length": 5}, 4),
        ({}, {}, {"max_new_tokens": None}, 256),
        ({}, {"max_new_tokens": 7}, {"max_new_tokens": None}, 256),
        (SAVED, {"max_new_tokens": 7}, {"max_new_tokens": None}, 9),
        (SAVED, {}, {"max_new_tokens": None, "max_length": 5}, 4),
        (SAVED, {}, {"num_beams": None}, 9),
    ],
)
def test_the_limit_that_is_given_nearer_to_the_call_holds(length, saved, constructor, call, expected):
    assert length(saved, constructor, call) == expected


def test_a_shortest_length_of_a_call_holds_too(tiny_generator, tiny_tokenizer):
    model = tiny_generator()
    model.generation_config.min_new_tokens = 8
    pipe = pipeline("text2text-generation", model=model, tokenizer=tiny_tokenizer, device="cpu", min_new_tokens=6)
    assert pipe.merge_generation({"min_length": 2})["min_new_tokens"] is None  # as an argument, so it beats the model's
    assert pipe.merge_generation({})["min_new_tokens"] == 6
    # 3 tokens with the start token, under the name that `generate` would otherwise take from the model
    merged = pipe.merge_generation({"generation_config": GenerationConfig(min_length=3)})["generation_config"]
    assert (merged.min_length, merged.min_new_tokens) == (None, 2)
    first = pipe("hello", max_new_tokens=1, min_new_tokens=0, return_tensors=True, num_beams=1)[0]
    model.generation_config.eos_token_id = int(first["generated_token_ids"][1])  # an end at once, were there no limit
    ends = [
        len(pipe("hello", min_length=n, return_tensors=True, num_beams=1)[0]["generated_token_ids"]) for n in (1, 5)
    ]
    assert ends[0] == 2 and ends[1] > 5


def test_the_speech_pipeline_goes_by_the_same_rule():
    extractor = LogMelFeatureExtractor(num_mel_filters=6)
    sound = np.sin(np.arange(8_000) / 9).astype(np.float32)
    extractor.fit([extractor.extract(sound)])
    sizes = {"encoder_layers": 1, "encoder_hidden_size": 8, "hidden_size": 8, "embedding_size": 6}
    model = RnnSpeechForConditionalGeneration(RnnSpeechConfig(vocab_size=16, feature_size=21, **sizes))
    model.generation_config.update(max_new_tokens=9, eos_token_id=None)
    hear = pipeline(
        "automatic-speech-recognition", model=model, tokenizer=phone_tokenizer(TONES), feature_extractor=extractor,
        device="cpu", num_beams=1,
    )  # fmt: skip
    lengths = []
    hear.model.register_forward_pre_hook(lambda *_: lengths.append(1))  # a call for each token
    for settings, expected in (({}, 9), ({"max_length": 5}, 4), ({"max_new_tokens": 3}, 3)):
        lengths.clear()
        hear(sound, **settings)
        assert len(lengths) == expected, settings
