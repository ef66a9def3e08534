"""`pipeline("automatic-speech-recognition")` and `hf-localgan transcribe`: one recogniser, every way in."""

import io

import numpy as np
import pytest
import soundfile
import soxr
import torch
from transformers import AutomaticSpeechRecognitionPipeline, pipeline
from transformers.utils import logging

from hf_localgan.cli import main
from hf_localgan.data.speech_encoding import phone_tokenizer
from hf_localgan.data.tones import TONES
from hf_localgan.decoding import Decoding
from hf_localgan.decoding.transcripts import attention_maps, transcribe
from hf_localgan.models import (
    LogMelFeatureExtractor,
    RnnSpeechConfig,
    RnnSpeechForConditionalGeneration,
    RnnSpeechProcessor,
)
from hf_localgan.models.recognisers import load_recogniser
from hf_localgan.pipelines import SpeechRecognitionPipeline


def chirp(seconds, rate=16_000):
    time = np.arange(round(seconds * rate)) / rate
    return (0.4 * np.sin(2 * np.pi * (300 + 700 * time) * time)).astype(np.float32)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("recogniser")
    extractor = LogMelFeatureExtractor(num_mel_filters=6)
    extractor.fit([extractor.extract(chirp(1.0))])
    with torch.random.fork_rng(), torch.no_grad():
        torch.manual_seed(0)
        sizes = {"encoder_layers": 2, "encoder_hidden_size": 8, "hidden_size": 8, "embedding_size": 6}
        model = RnnSpeechForConditionalGeneration(RnnSpeechConfig(vocab_size=16, feature_size=21, **sizes))
        for parameter in model.parameters():
            parameter.add_(torch.randn_like(parameter), alpha=0.5)
    model.save_pretrained(folder)
    RnnSpeechProcessor(extractor, phone_tokenizer(TONES)).save_pretrained(folder)
    return folder


@pytest.fixture(autouse=True)
def restore_logging():
    verbosity = logging.get_verbosity()
    yield
    logging.set_verbosity(verbosity)
    logging.enable_progress_bar()


@pytest.fixture(scope="module")
def files(tmp_path_factory):
    """Sounds of three lengths as FLAC, the last one at 48 kHz with two channels."""
    folder = tmp_path_factory.mktemp("sounds")
    soundfile.write(folder / "a.flac", chirp(0.5), 16_000)
    soundfile.write(folder / "b.wav", chirp(0.9), 16_000)
    soundfile.write(folder / "c.flac", np.stack([chirp(0.7, 48_000)] * 2, axis=1), 48_000)
    return [str(folder / name) for name in ("a.flac", "b.wav", "c.flac")]


def expected(folder, samples, **settings):
    model, processor = load_recogniser(folder)
    inputs = processor(audio=samples, sampling_rate=16_000, return_tensors="pt")
    return processor.tokenizer.decode(model.generate(**inputs, **settings)[0], skip_special_tokens=True)


def test_arrays_files_bytes_and_batches_are_heard_alike(folder, files):
    hear = pipeline("automatic-speech-recognition", model=str(folder), device="cpu")
    assert type(hear) is SpeechRecognitionPipeline and hear.type == "seq2seq"
    settings = {"num_beams": 3, "max_new_tokens": 8}
    samples = [soundfile.read(path, dtype="float32")[0] for path in files[:2]]
    samples.append(soxr.resample(soundfile.read(files[2], dtype="float32")[0].mean(axis=1), 48_000, 16_000))
    wanted = [{"text": expected(folder, one, **settings)} for one in samples]
    assert all(one["text"] for one in wanted)
    assert hear(files, **settings) == wanted
    assert hear(files, batch_size=3, **settings) == wanted
    assert hear({"raw": samples[0], "sampling_rate": 16_000}, **settings) == wanted[0]
    content = io.BytesIO()
    soundfile.write(content, samples[1], 16_000, format="FLAC")
    assert hear(content.getvalue(), **settings) == wanted[1]
    assert hear(samples[0], **settings) == wanted[0]
    stereo, rate = soundfile.read(files[2], dtype="float32")
    assert hear({"array": stereo, "sampling_rate": rate, "path": None}, **settings) == wanted[2]
    model, processor = load_recogniser(folder)
    parts = {"tokenizer": processor.tokenizer, "feature_extractor": processor.feature_extractor, "device": "cpu"}
    instance = pipeline("automatic-speech-recognition", model=model, **parts)
    assert instance(files[0], **settings) == wanted[0]


def test_the_stock_pipeline_is_left_to_other_models():
    assert issubclass(SpeechRecognitionPipeline, AutomaticSpeechRecognitionPipeline)
    other = object.__new__(SpeechRecognitionPipeline)
    other.model = torch.nn.Linear(1, 1)
    with pytest.raises(TypeError, match="numpy ndarray"):  # the stock check, which comes first for them
        next(other.preprocess(3))


def test_transcripts_are_those_of_single_utterances_in_the_order_given(folder):
    model, processor = load_recogniser(folder)
    extractor = processor.feature_extractor
    features = [extractor(chirp(s), return_tensors="np")["input_features"][0] for s in (0.4, 1.0, 0.6)]
    together = transcribe(model, processor, features, Decoding.beam(3), batch_size=2)
    alone = [transcribe(model, processor, [one], Decoding.beam(3), max_new_tokens=40)[0] for one in features]
    limits = [-(-len(one) // 3) + 1 for one in features]
    # the limit is that of the longest of a batch, so shorter ones agree up to theirs
    assert [t.split()[:n] for t, n in zip(together, limits, strict=True)] == [
        t.split()[:n] for t, n in zip(alone, limits, strict=True)
    ]
    (look,) = attention_maps(model, processor, [{"input_features": features[0], "labels": [5, 6, 2]}])
    assert look.shape == (3, limits[0] - 1)
    np.testing.assert_allclose(look.sum(axis=1), 1, atol=1e-5)


def test_the_command_writes_a_line_for_each_file(folder, files, capsys, monkeypatch, tmp_path):
    options = ["--model", str(folder), "--num-beams", "3", "--max-new-tokens", "8", "--device", "cpu"]
    assert main(["transcribe", *files[:2], *options]) == 0
    samples = [soundfile.read(path, dtype="float32")[0] for path in files[:2]]
    wanted = [expected(folder, one, num_beams=3, max_new_tokens=8) for one in samples]
    assert capsys.readouterr().out.splitlines() == [f"{f}\t{t}" for f, t in zip(files[:2], wanted, strict=True)]

    broken = tmp_path / "broken.wav"
    broken.write_bytes(b"no sound")
    monkeypatch.setattr("sys.stdin", io.StringIO(f"{files[0]}\n{broken}\n{tmp_path / 'gone.wav'}\n{files[1]}\n"))
    assert main(["transcribe", "-", *options, "--batch-size", "3"]) == 1
    said = capsys.readouterr()
    assert said.out.splitlines() == [f"{f}\t{t}" for f, t in zip(files[:2], wanted, strict=True)]
    assert "broken.wav cannot be read as sound" in said.err and 'no sound file "' in said.err


def test_mistakes_of_the_command_are_named(folder, files, capsys, tiny_generator, tmp_path):
    tiny_generator().save_pretrained(tmp_path)
    assert main(["transcribe", files[0], "--model", str(tmp_path)]) == 1
    assert "is no recogniser of speech (model type `rnn_seq2seq`)" in capsys.readouterr().err
    assert main(["transcribe", files[0], "--model", str(folder), "--num-beams", "0"]) == 2
    assert main(["transcribe", files[0]]) == 2


@pytest.mark.parametrize(
    ("sound", "error", "message"),
    [
        (None, TypeError, "path of a sound file, its bytes, an array .* got NoneType: None"),
        ([0.1, 0.2], TypeError, "got float: 0.1"),
        ({"raw": chirp(0.5), "sampling_rate": "x"}, ValueError, "`sampling_rate` must be a number above 0, .* got 'x'"),
        ({"raw": chirp(0.5), "sampling_rate": 0}, ValueError, "`sampling_rate` must be a number above 0, .* got 0"),
        ("http://127.0.0.1:1/a.wav", OSError, 'The sound "http://127.0.0.1:1/a.wav" cannot be read'),
    ],
)
def test_what_is_no_sound_is_named(folder, sound, error, message):
    hear = pipeline("automatic-speech-recognition", model=str(folder), device="cpu")
    with pytest.raises(error, match=message):
        hear(sound)
    assert hear([]) == []
    samples = chirp(0.5)
    assert hear((samples,), max_new_tokens=3) == [hear(samples, max_new_tokens=3)]
