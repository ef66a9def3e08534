"""Utterances from files, bytes and arrays; what is wrong with them; features and labels; TIMIT's layout."""

import io
import os

import numpy as np
import pytest
import soundfile
from datasets import Audio, Dataset

from hf_localgan.data.audio import read_audio, resample
from hf_localgan.data.speech import load_speech
from hf_localgan.data.speech_collator import SpeechCollator
from hf_localgan.data.speech_encoding import encode_speech, fit_features, phone_tokenizer
from hf_localgan.data.timit import load_timit
from hf_localgan.data.tones import TONES, load_tones
from hf_localgan.models import LogMelFeatureExtractor, RnnSpeechProcessor
from hf_localgan.phones import fold_phones


def tone(seconds=0.3, rate=16_000, frequency=440.0, channels=1):
    wave = 0.3 * np.sin(2 * np.pi * frequency * np.arange(round(seconds * rate)) / rate)
    return np.stack([wave] * channels, axis=1).squeeze().astype(np.float32)


def flac(rate=16_000, **settings) -> bytes:
    file = io.BytesIO()
    soundfile.write(file, tone(rate=rate, **settings), rate, format="FLAC")
    return file.getvalue()


def rows(*sounds, **columns) -> Dataset:
    columns = {"phones": [["AA", "B"]] * len(sounds), **columns}
    return Dataset.from_dict(
        {"audio": [{"bytes": one, "path": f"{i}.flac"} for i, one in enumerate(sounds)], **columns}
    )


# ---- sound ----


def test_sound_is_the_same_from_a_file_bytes_and_an_array(tmp_path):
    (tmp_path / "a.flac").write_bytes(flac())
    samples, rate = read_audio(tmp_path / "a.flac")
    assert rate == 16_000 and samples.dtype == np.float32 and samples.shape == (4_800,)
    for source in (flac(), {"bytes": flac(), "path": "a"}, {"path": str(tmp_path / "a.flac"), "bytes": None}):
        assert np.array_equal(read_audio(source)[0], samples)
    assert np.array_equal(read_audio({"array": samples.tolist(), "sampling_rate": 16_000})[0], samples)
    np.testing.assert_allclose(read_audio(flac(channels=2))[0], samples, atol=1e-4)
    integers = {"raw": np.array([0, 16_384, -32_768], np.int16), "sampling_rate": 8_000}
    assert read_audio(integers)[0].tolist() == [0.0, 0.5, -1.0]


def test_a_resampled_tone_keeps_its_pitch():
    samples, rate = read_audio(flac(rate=48_000), 16_000)
    assert rate == 16_000 and len(samples) == 4_800
    np.testing.assert_allclose(samples[500:-500], tone()[500:-500], atol=2e-3)
    assert resample(samples, 16_000, 16_000) is samples


def test_what_holds_no_sound_is_named(tmp_path):
    with pytest.raises(FileNotFoundError, match="no sound file .*gone.wav"):
        read_audio(tmp_path / "gone.wav")
    with pytest.raises(ValueError, match="the bytes cannot be read as sound"):
        read_audio(b"text")
    with pytest.raises(ValueError, match="needs its `sampling_rate`"):
        read_audio({"array": [0.0, 0.1]})
    with pytest.raises(ValueError, match="needs `bytes`, `path`, or `array`"):
        read_audio({"bytes": None, "path": None})


# ---- utterances ----


def test_columns_of_bytes_paths_and_audio_features_are_read(tmp_path):
    (tmp_path / "clip.flac").write_bytes(flac())
    paths = Dataset.from_dict({"file": ["clip.flac"], "sentence": ["hello"], "speaker": [7]})
    named = load_speech(paths, columns={"audio": "file", "text": "sentence"}, root=tmp_path)["train"][0]
    assert named["text"] == "hello" and named["speaker"] == "7" and named["seconds"] == pytest.approx(0.3)
    typed = rows(flac()).cast_column("audio", Audio())
    loaded = load_speech(typed)["train"][0]
    assert loaded["draw_key"] == named["draw_key"] != 0  # of the same bytes
    written = tmp_path / "data"
    written.mkdir()
    rows(flac(), flac(frequency=300.0), phones=["AA B", "B"]).to_parquet(written / "train.parquet")
    folder = load_speech(written)
    assert folder["train"]["phones"][:] == [["AA", "B"], ["B"]] and folder.report.splits["train"].utterances == 2
    (tmp_path / "dev.jsonl").write_text('{"audio": "clip.flac", "text": "hello"}\n')
    assert load_speech(tmp_path / "dev.jsonl")["validation"]["draw_key"][:] == [named["draw_key"]]
    assert load_speech({"test": tmp_path / "dev.jsonl"}, root=tmp_path)["test"]["text"][:] == ["hello"]


def test_a_folder_of_sound_files_with_metadata(tmp_path):
    for name in ("a.flac", "b.flac"):
        (tmp_path / name).write_bytes(flac())
    (tmp_path / "metadata.csv").write_text("file_name,text\na.flac,one\nb.flac,two\n")
    (tmp_path / "dev").mkdir()
    (tmp_path / "dev" / "c.flac").write_bytes(flac())
    (tmp_path / "dev" / "metadata.jsonl").write_text('{"file_name": "c.flac", "text": "three"}\n')
    speech = load_speech(tmp_path)
    assert speech["train"]["text"][:] == ["one", "two"] and speech["validation"]["text"][:] == ["three"]
    (tmp_path / "metadata.csv").write_text("file,text\na.flac,one\n")
    with pytest.raises(ValueError, match="no column `file_name`"):
        load_speech(tmp_path)


PROBLEMS = {
    "missing file": (rows(None), "no sound file"),
    "unreadable sound": (rows(b"text"), "cannot be read"),
    "another sampling rate than stated": (rows(flac(), sampling_rate=[8_000]), "8000 Hz stated, 16000 Hz"),
    "silence": (rows(flac(frequency=0.0)), "peak 0.0e"),
    "too short": (rows(flac(seconds=0.05)), "0.05 s, at least 0.1 s"),
    "too long": (rows(flac(seconds=2.5)), "2.5 s, at most 2 s"),
    "no transcript": (rows(flac(), phones=[[]]), "neither text nor phones"),
}


@pytest.mark.parametrize("problem", PROBLEMS)
def test_a_bad_utterance_is_an_error_or_left_out_with_a_count(problem):
    bad, detail = PROBLEMS[problem]
    with pytest.raises(ValueError, match=rf"Split `train`: 1 with {problem}: row 0 \(.*{detail}.*on_bad=\"drop\""):
        load_speech(bad, max_seconds=2.0)
    good = rows(flac(), **({"sampling_rate": [16_000]} if "sampling_rate" in bad.column_names else {}))
    both = Dataset.from_list([*good, *bad], features=good.features)
    with pytest.warns(UserWarning, match=f"1 with {problem}"):
        kept = load_speech(both, max_seconds=2.0, on_bad="drop")
    assert len(kept["train"]) == 1 and kept.report.splits["train"].removed == {problem: 1}
    assert f"1 left out: {problem}" in str(kept.report)


def test_missing_columns_and_splits_are_named():
    with pytest.raises(ValueError, match="no `audio` column"):
        load_speech(Dataset.from_dict({"text": ["a"]}))
    with pytest.raises(ValueError, match="neither `text` nor `phones`"):
        load_speech(rows(flac()).remove_columns("phones"))
    with pytest.raises(ValueError, match="no column `x` for `text`"):
        load_speech(rows(flac()), columns={"text": "x"})
    with pytest.raises(ValueError, match=r"no split `test` \(found: `train`\)"):
        load_speech(rows(flac()), splits=["test"])


# ---- encoding ----


@pytest.fixture(scope="module")
def tones(tmp_path_factory):
    return load_tones(6, 2, 2)


def test_encoded_utterances_are_what_the_processor_makes_of_their_sound(tones):
    processor = RnnSpeechProcessor(LogMelFeatureExtractor(), phone_tokenizer(TONES))
    fit_features(tones["train"], processor.feature_extractor)
    encoded = encode_speech(tones["test"], processor)
    row = tones["test"][1]
    samples, rate = read_audio(row["audio"])
    wanted = processor(audio=samples, sampling_rate=rate, text=" ".join(row["phones"]), return_tensors="np")
    np.testing.assert_allclose(encoded[1]["input_features"], wanted["input_features"][0], atol=1e-6)
    assert encoded[1]["labels"] == wanted["labels"].tolist()[0] and encoded[1]["labels"][-1] == 2
    assert encoded[1]["length"] == len(encoded[1]["input_features"]) and encoded[1]["draw_key"] == row["draw_key"]

    batch = SpeechCollator(processor)([encoded[0], encoded[1]])
    lengths = [encoded[0]["length"], encoded[1]["length"]]
    assert batch["attention_mask"].sum(dim=1).tolist() == lengths
    assert batch["input_features"].shape == (2, max(lengths), 123)
    assert [row[row != -100].tolist() for row in batch["labels"]] == [encoded[0]["labels"], encoded[1]["labels"]]
    assert "labels" not in SpeechCollator(processor)([{"input_features": encoded[0]["input_features"]}])
    with pytest.raises(ValueError, match="no `input_features`"):
        SpeechCollator(processor)([{"labels": [1]}])


def test_speakers_of_another_split_are_normalised_by_their_own_sound(tones):
    processor = RnnSpeechProcessor(LogMelFeatureExtractor(normalization="speaker"), phone_tokenizer(TONES))
    fit_features(tones["train"], processor.feature_extractor)
    known = set(processor.feature_extractor.speaker_statistics)
    other = tones["test"].remove_columns("speaker").add_column("speaker", ["new", "new"])
    encoded = encode_speech(other, processor)
    together = np.concatenate([encoded[0]["input_features"], encoded[1]["input_features"]])
    np.testing.assert_allclose(together.mean(axis=0), 0, atol=1e-4)
    assert set(processor.feature_extractor.speaker_statistics) == known  # the processor is left as it was


def test_labels_that_cannot_be_made_are_named(tones):
    processor = RnnSpeechProcessor(LogMelFeatureExtractor(normalization="none"), phone_tokenizer("arpabet"))
    with pytest.raises(ValueError, match="phones that the tokenizer does not know: 't"):
        encode_speech(tones["test"], processor)
    with pytest.raises(ValueError, match="has no `text`"):
        encode_speech(tones["test"], processor, target="text")


def test_phone_tokenizers_keep_marks_inside_of_phones():
    tokenizer = phone_tokenizer("timit61")
    assert len(tokenizer) == 65
    ids = tokenizer("h# ax-h q h#").input_ids
    assert tokenizer.decode(ids, skip_special_tokens=True) == "h# ax-h q h#" and ids[-1] == tokenizer.eos_token_id
    with pytest.raises(ValueError, match="differ and be free of spaces, got 'a b'"):
        phone_tokenizer(["a b"])


# ---- TIMIT ----


@pytest.fixture
def corpus(tmp_path):
    """A stand-in for TIMIT: its layout, a few of its speakers, made-up sound."""
    speakers = {
        "TRAIN/DR1/FCJF0": 3,
        "TRAIN/DR2/MABC0": 2,
        "TEST/DR1/FAKS0": 2,
        "TEST/DR1/MDAB0": 2,
        "TEST/DR1/MXYZ0": 1,
    }
    for place, number in speakers.items():
        folder = tmp_path / "TIMIT" / place
        folder.mkdir(parents=True)
        for sentence in ["SA1", *(f"SX{i}" for i in range(number))]:
            soundfile.write(folder / f"{sentence}.WAV", tone(), 16_000, format="NIST", subtype="PCM_16")
            (folder / f"{sentence}.PHN").write_text("0 900 h#\n900 1800 sh\n1800 3000 ix\n3000 4800 h#\n")
            (folder / f"{sentence}.TXT").write_text("0 4800 She is.\n")
    return tmp_path


def test_timit_is_split_as_kaldi_splits_it(corpus, monkeypatch):
    monkeypatch.setenv("HF_LOCALGAN_TIMIT", str(corpus))
    speech = load_timit(check_counts=False)
    assert {split: len(speech[split]) for split in speech} == {"train": 5, "validation": 2, "test": 2}
    row = speech["validation"][0]
    assert row["speaker"] == "faks0" and row["id"] == "faks0_sx0" and row["phones"] == ["h#", "sh", "ix", "h#"]
    assert row["text"] == "She is." and not any("sa" in name for name in speech["train"]["id"])
    with pytest.raises(ValueError, match="'train': 5.*TIMIT has {'train': 3696"):
        load_timit()


def test_where_timit_lies_must_be_known(corpus, monkeypatch, tmp_path):
    monkeypatch.delenv("HF_LOCALGAN_TIMIT", raising=False)
    with pytest.raises(ValueError, match="environment variable HF_LOCALGAN_TIMIT.*LDC93S1"):
        load_timit()
    (corpus / "TIMIT/TRAIN/DR1/FCJF0/SX1.PHN").unlink()
    with pytest.raises(ValueError, match="no transcript SX1.PHN"):
        load_timit(corpus, check_counts=False)
    (tmp_path / "empty").mkdir()
    with pytest.raises(ValueError, match="no folders TRAIN and TEST"):
        load_timit(tmp_path / "empty")


# ---- corpora ----


@pytest.mark.corpora
@pytest.mark.parametrize("name", ["arctic_cathy", "speechocean762", "speechocean762_more", "timit_sample", "fsdd"])
def test_a_real_corpus_is_read_without_a_problem_and_falls_into_the_39_classes(name):
    folder = os.environ.get("HF_LOCALGAN_DATA") or pytest.skip("HF_LOCALGAN_DATA is not set")
    speech = load_speech(os.path.join(folder, name))
    assert all(not split.removed for split in speech.report.splits.values())
    for split in speech:
        assert all(fold_phones(phones) for phones in speech[split]["phones"][:])
        assert len(set(speech[split]["draw_key"][:])) > 0.99 * len(speech[split])
