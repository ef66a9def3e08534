"""Log-mel features: held against Kaldi's own, against scipy's differences, saved and loaded."""

import json

import kaldi_native_fbank
import numpy as np
import pytest
import torch
from scipy.signal import savgol_filter
from transformers import AutoFeatureExtractor, AutoProcessor

from hf_localgan.models import (
    LogMelFeatureExtractor,
    RnnSpeechConfig,
    RnnSpeechForConditionalGeneration,
    RnnSpeechProcessor,
)


def sound(seconds=1.5, rate=16_000, seed=0):
    """A swept tone with noise, which differs from frame to frame."""
    time = np.arange(int(seconds * rate)) / rate
    noise = np.random.default_rng(seed).standard_normal(len(time))
    return (0.3 * np.sin(2 * np.pi * (200 + 900 * time) * time) + 0.02 * noise).astype(np.float32)


@pytest.mark.parametrize("rate", [16_000, 8_000])
def test_the_filters_and_the_energy_are_kaldis(rate):
    options = kaldi_native_fbank.FbankOptions()
    options.frame_opts.samp_freq, options.frame_opts.dither, options.mel_opts.num_bins = rate, 0.0, 40
    options.use_energy, options.energy_floor = True, 0.0
    fbank = kaldi_native_fbank.OnlineFbank(options)
    waveform = sound(rate=rate)
    fbank.accept_waveform(rate, (waveform * 32768).tolist())
    fbank.input_finished()
    expected = np.stack([fbank.get_frame(number) for number in range(fbank.num_frames_ready)])
    actual = LogMelFeatureExtractor(sampling_rate=rate).extract(waveform)
    assert actual.shape == (len(expected), 123)
    np.testing.assert_allclose(actual[:, :41], expected, atol=3e-4)


def test_differences_are_slopes_of_regression_lines():
    features = LogMelFeatureExtractor().extract(sound()).numpy()
    for part in (0, 1):
        values = np.pad(features[:, 41 * part : 41 * part + 41], ((2, 2), (0, 0)), mode="edge")
        slopes = savgol_filter(values, 5, 1, deriv=1, axis=0)[2:-2]
        np.testing.assert_allclose(features[:, 41 * part + 41 : 41 * part + 82], slopes, atol=2e-5)


def test_global_means_and_deviations_are_of_all_frames():
    extractor = LogMelFeatureExtractor()
    raw = [extractor.extract(sound(seed=seed, seconds=seconds)) for seed, seconds in ((0, 1.0), (1, 2.0))]
    extractor.fit(raw)
    together = torch.cat([extractor.normalize(rows) for rows in raw])
    torch.testing.assert_close(together.mean(dim=0), torch.zeros(123), atol=1e-4, rtol=0)
    torch.testing.assert_close(together.std(dim=0, unbiased=False), torch.ones(123), atol=1e-3, rtol=0)


def test_a_known_speaker_has_statistics_of_its_own_and_another_the_global_ones():
    extractor = LogMelFeatureExtractor(normalization="speaker")
    raw = [extractor.extract(sound(seed=seed)) for seed in (0, 1, 2)]
    extractor.fit(raw, ["a", "a", "b"])
    of_a = torch.cat([extractor.normalize(rows, "a") for rows in raw[:2]])
    torch.testing.assert_close(of_a.mean(dim=0), torch.zeros(123), atol=1e-4, rtol=0)
    as_global = (raw[0] - torch.tensor(extractor.mean)) / torch.tensor(extractor.std)
    torch.testing.assert_close(extractor.normalize(raw[0], "c"), as_global)
    assert not torch.allclose(extractor.normalize(raw[0], "b"), as_global)


def test_what_does_not_vary_is_centred_and_not_divided_by_nothing():
    for normalization in ("global", "utterance"):
        extractor = LogMelFeatureExtractor(normalization=normalization)
        silent = extractor.extract(np.zeros(4_000, dtype=np.float32))
        extractor.fit([silent])
        assert extractor.normalize(silent).abs().max() < 1e-4


def test_a_batch_is_padded_on_either_side_and_each_row_is_as_if_alone():
    waveforms = [sound(1.0), sound(0.5, seed=1)]
    for side in ("right", "left"):
        extractor = LogMelFeatureExtractor(normalization="utterance", padding_side=side)
        batch = extractor(waveforms, sampling_rate=16_000, return_tensors="pt")
        alone = extractor(waveforms[1], return_tensors="pt")
        assert batch["input_features"].shape == (2, 98, 123) and batch["attention_mask"].sum(dim=1).tolist() == [98, 48]
        kept = batch["input_features"][1][batch["attention_mask"][1].bool()]
        torch.testing.assert_close(kept, alone["input_features"][0])
        assert bool(batch["attention_mask"][1, 0]) == (side == "right")


def test_sixteen_bit_integers_are_the_same_sound():
    extractor = LogMelFeatureExtractor()
    integers = (sound() * 32768).round().astype(np.int16)
    torch.testing.assert_close(extractor.extract(integers), extractor.extract(integers / 32768))


@pytest.mark.parametrize(
    ("waveform", "message"),
    [
        (np.zeros((2, 800), np.float32), r"one channel.*got \(2, 800\)"),
        (np.zeros(100, np.float32), "100 samples, 6 ms, which is less than one frame of 25 ms"),
        (np.zeros(800, np.int32), "16-bit integers, got torch.int32"),
        (np.full(800, np.nan, np.float32), "must be finite"),
    ],
    ids=["channels", "short", "integers", "nan"],
)
def test_sound_that_has_no_features_is_refused(waveform, message):
    with pytest.raises(ValueError, match=message):
        LogMelFeatureExtractor(normalization="none")(waveform)


def test_mistakes_in_settings_and_rates_are_named():
    with pytest.raises(ValueError, match="at 16000 Hz, got 8000 Hz"):
        LogMelFeatureExtractor(normalization="none")(sound(), sampling_rate=8_000)
    with pytest.raises(ValueError, match="`feature_size` must be 123 for 40 filters"):
        LogMelFeatureExtractor(feature_size=80)
    with pytest.raises(ValueError, match="one of none, global, speaker, utterance, got 'cmvn'"):
        LogMelFeatureExtractor(normalization="cmvn")
    with pytest.raises(ValueError, match="Call `fit`"):
        LogMelFeatureExtractor()(sound())


def test_processor_and_model_of_one_folder(tmp_path, tiny_tokenizer):
    extractor = LogMelFeatureExtractor(normalization="speaker")
    extractor.fit([extractor.extract(sound())], ["a"])
    processor = RnnSpeechProcessor(extractor, tiny_tokenizer)
    processor.save_pretrained(tmp_path)
    RnnSpeechForConditionalGeneration(RnnSpeechConfig(vocab_size=20, hidden_size=8)).save_pretrained(tmp_path)
    saved = json.loads((tmp_path / "preprocessor_config.json").read_text())
    assert saved["mean"] == extractor.mean and list(saved["speaker_statistics"]) == ["a"]
    assert {"mel_filters", "window"}.isdisjoint(saved)

    loaded = AutoProcessor.from_pretrained(tmp_path)
    assert type(loaded) is RnnSpeechProcessor
    assert type(AutoFeatureExtractor.from_pretrained(tmp_path)) is LogMelFeatureExtractor
    wanted = processor(audio=sound(), text=["hello you"], sampling_rate=16_000, return_tensors="pt")
    actual = loaded(audio=sound(), text=["hello you"], sampling_rate=16_000, return_tensors="pt")
    assert torch.equal(actual["input_features"], wanted["input_features"])
    assert actual["labels"].tolist() == [[4, 7, 2]]
    with pytest.raises(ValueError, match="`audio`, `text` or both"):
        loaded()
