"""`train-speech`: every file of an experiment, tones from end to end by both objectives, TIMIT's layout."""

import json
import os
import re
from dataclasses import fields
from pathlib import Path

import numpy as np
import pyarrow.parquet as parquet
import pytest
import soundfile
import torch
import yaml
from transformers import pipeline

from hf_localgan.cli import main
from hf_localgan.commands.train_speech import _names_payoff
from hf_localgan.data.speech import Speech
from hf_localgan.data.speech_encoding import phone_tokenizer
from hf_localgan.data.tones import load_tones
from hf_localgan.decoding import transcript_limit
from hf_localgan.functional import edit_log_probs
from hf_localgan.models import LogMelFeatureExtractor, RnnSpeechForConditionalGeneration, RnnSpeechProcessor
from hf_localgan.payoff import EditPayoff
from hf_localgan.recipes import RecipeParser
from hf_localgan.recipes.settings import speech as settings_speech
from hf_localgan.recipes.settings.speech import RecogniserArguments, RecognitionArguments, SpeechArguments
from hf_localgan.trainers import MleConfig, read_samples
from hf_localgan.trainers.raml.config import RamlConfig, make_payoff

RECIPES = Path(__file__).parents[2] / "recipes"
FILES = sorted(path for path in RECIPES.glob("**/*.yaml") if "recipes/train_speech.py" in path.read_text())
QUICK = ["--use_cpu", "--disable_tqdm", "true", "--num_train_epochs", "1", "--max_steps", "2", "--eval_strategy", "no"]
QUICK += ["--save_strategy", "no", "--load_best_model_at_end", "false", "--metric_for_best_model", "none"]
QUICK += ["--beams", "2", "--resamples", "20", "--attention_pictures", "2", "--sample_rows", "0"]
QUICK += ["--max_train_utterances", "12"]


def read(path, tmp_path, monkeypatch, *words):
    for name in re.findall(r"\$\{?(HF_LOCALGAN_\w+)", path.read_text()):
        monkeypatch.setenv(name, str(tmp_path))
    config = RamlConfig if _names_payoff([str(path)]) else MleConfig
    parser = RecipeParser(SpeechArguments, RecogniserArguments, RecognitionArguments, config)
    return parser.read([str(path), "--use_cpu", *words])


@pytest.mark.parametrize("path", FILES, ids=lambda path: f"{path.parent.name}/{path.stem}")
def test_a_file_is_read_and_builds_its_recogniser(path, tmp_path, monkeypatch):
    speech, recogniser, recognition, args = read(path, tmp_path, monkeypatch)
    processor = RnnSpeechProcessor(LogMelFeatureExtractor(), phone_tokenizer(speech.phone_set or "timit39"))
    with torch.device("meta"):
        model = recogniser.make(processor)
    assert isinstance(model, RnnSpeechForConditionalGeneration) and recognition.decodings()
    assert args.metric_for_best_model == "eval_per" and args.greater_is_better is False
    given = yaml.safe_load(path.read_text())
    for name in ("encoder_layers", "encoder_hidden_size", "hidden_size", "reductions", "ctc_weight"):
        if name in given:
            assert getattr(model.config, name) == given[name]


@pytest.mark.parametrize("path", [path for path in FILES if "payoff" in yaml.safe_load(path.read_text())], ids=str)
def test_a_raml_file_differs_from_its_baseline_in_its_payoff_alone(path, tmp_path, monkeypatch):
    *_, args = read(path, tmp_path, monkeypatch)
    papers = path.parent.name == "papers"
    assert make_payoff(args, phone_tokenizer("timit61")).temperature == (0.9 if papers else 0.6)
    baseline = path.parent / ("raml_timit_mle.yaml" if papers else "mle.yaml")
    own, other = (yaml.safe_load(one.read_text()) for one in (path, baseline))
    raml = {one.name for one in fields(RamlConfig)} - {one.name for one in fields(MleConfig)}
    changed = {name for name in own | other if own.get(name) != other.get(name)}
    assert changed <= raml | {"output_dir"} and "payoff" in changed


def test_the_table_of_temperatures_is_what_the_payoff_does():
    text = (RECIPES.parent / "docs" / "speech.md").read_text(encoding="utf-8").split("### Temperature and inventory")[1]
    assert "39 phones, labels of 31 phones" in text
    lines = [[cell.strip() for cell in line.strip("|").split("|")] for line in text.splitlines() if line[:3] == "| 0"]
    assert len(lines) == 6
    for temperature, rate, intact, length in lines:
        payoff = EditPayoff(range(39), temperature=float(temperature))
        assert f"{payoff.edit_rate(31):.3f}"[1:] == rate
        kept = float(np.exp(edit_log_probs(31, 39, float(temperature), 1 + np.log(39))[0]))
        assert f"{kept:.2f}".lstrip("0") == intact
        references = np.random.default_rng(0).integers(0, 39, (1000, 31)).tolist()
        drawn = payoff.draw(references, np.arange(1000, dtype=np.uint64))
        assert np.mean([*map(len, drawn.labels)]) / 31 == pytest.approx(float(length), abs=0.02)


def test_the_papers_recogniser(tmp_path, monkeypatch):
    speech, recogniser, recognition, args = read(RECIPES / "papers" / "raml_timit.yaml", tmp_path, monkeypatch)
    assert (speech.dataset, speech.phone_set, recognition.fold) == (["timit"], "timit61", "timit39")
    assert (recogniser.encoder_layers, recogniser.encoder_hidden_size, recogniser.hidden_size) == (3, 512, 256)
    assert (args.payoff, args.temperature) == ("edit", 0.9)
    processor = RnnSpeechProcessor(LogMelFeatureExtractor(), phone_tokenizer("timit61"))
    assert len(make_payoff(args, processor.tokenizer).tokens) == 61 and processor.feature_extractor.feature_size == 123


@pytest.mark.parametrize(
    "options", [["--label_smoothing_factor", "0.1"], ["--payoff", "edit", "--temperature", "0.9"]], ids=["mle", "raml"]
)
def test_tones_from_end_to_end(options, tmp_path, capsys, monkeypatch):
    monkeypatch.setattr(settings_speech, "load_tones", lambda: load_tones(24, 8, 8))
    out = tmp_path / "run"
    raml = "--payoff" in options
    assert main(["train-speech", *QUICK, *options, "--output_dir", str(out)]) == 0
    said = capsys.readouterr().out
    saved = json.loads((out / "evaluation.json").read_text())
    assert saved["about"]["objective"] == ("raml" if raml else "maximum likelihood")
    assert saved["about"].get("label_smoothing") == (None if raml else 0.1)
    assert set(saved["decodings"]) == {"greedy", "beam 2"} and saved["decodings"]["greedy"]["queries"] == 8
    assert {"attention.png", "training.png", "README.md", "processor_config.json"} <= {p.name for p in out.iterdir()}
    assert "tones:\ntrain: 24 utterances" in said and ("EditPayoff" in said) == raml
    if raml:
        assert (saved["about"]["temperature"], saved["about"]["ctc_labels"]) == (0.9, "reference")
        return
    soundfile.write(tmp_path / "a.wav", np.random.default_rng(0).normal(size=8_000) * 0.1, 16_000)
    assert main(["transcribe", str(tmp_path / "a.wav"), "--model", str(out), "--num-beams", "1"]) == 0
    assert capsys.readouterr().out.startswith(f"{tmp_path / 'a.wav'}\t")


def test_the_limit_is_a_multiple_of_the_longest_label():
    assert transcript_limit([[4] * 7, [4] * 10, []]) == 15  # int(13.0) + 2
    with pytest.raises(ValueError, match="`labels` holds no label"):
        transcript_limit([[]])


def test_one_limit_holds_on_dev_and_test_in_the_samples_and_for_the_saved_model(tmp_path, monkeypatch, capsys):
    make = RecogniserArguments.make

    def endless(self, processor):
        model = make(self, processor)
        model.generation_config.suppress_tokens = [0, 1, 2, 3]  # the end and all that is not shown: all loop
        return model

    monkeypatch.setattr(RecogniserArguments, "make", endless)
    speech = load_tones(24, 12, 8)
    short = speech["validation"].filter(lambda row: len(row["phones"]) < 6)  # than the longest
    tones = Speech({**speech, "validation": short}, speech.report)
    monkeypatch.setattr(settings_speech, "load_tones", lambda: tones)
    out = tmp_path / "run"
    options = ["--eval_strategy", "steps", "--eval_steps", "2", "--sample_rows", "2", "--output_dir", str(out)]
    assert main(["train-speech", *QUICK, *options]) == 0
    longest = {name: max(len(phones) + 1 for phones in tones[name]["phones"]) for name in ("train", "validation")}
    longest["train"] = max(len(phones) + 1 for phones in tones["train"].select(range(12))["phones"])  # see `QUICK`
    limit = int(1.3 * longest["train"]) + 2
    assert limit != int(1.3 * longest["validation"]) + 2  # or this proves nothing
    long = limit - 1  # behind the start token
    answers = parquet.read_table(out / "generations.parquet").to_pydict()
    assert {len(text.split()) for name in ("greedy", "beam 2") for text in answers[name]} == {long}
    assert {len(row["generation"].split()) for row in read_samples(out / "samples.parquet")} == {long}
    history = json.loads((out / "trainer_state.json").read_text())["log_history"]
    dev = next(row for row in history if "eval_per" in row)
    phones = list(map(len, tones["validation"]["phones"]))
    added = len(phones) * long - sum(phones)
    assert dev["eval_insertions"] - dev["eval_deletions"] == pytest.approx(added / sum(phones))
    assert json.loads((out / "evaluation.json").read_text())["about"]["transcript_limit"] == limit
    # the saved model
    sound = tmp_path / "a.wav"
    soundfile.write(sound, np.random.default_rng(0).normal(size=48_000) * 0.1, 16_000)
    capsys.readouterr()
    for more, expected in ((["--num-beams", "1"], long), ([], long), (["--max-new-tokens", "3"], 3)):
        assert main(["transcribe", str(sound), "--model", str(out), *more]) == 0
        assert len(capsys.readouterr().out.split("\t")[1].split()) == expected
    hear = pipeline("automatic-speech-recognition", model=str(out))
    assert len(hear(str(sound))["text"].split()) == long
    assert len(hear(str(sound), max_new_tokens=3)["text"].split()) == 3


def test_a_dev_rate_that_is_the_smallest_of_several_is_said_to_be_biased(tmp_path, monkeypatch):
    monkeypatch.setattr(settings_speech, "load_tones", lambda: load_tones(24, 8, 8))
    watched = ["--eval_strategy", "steps", "--save_strategy", "steps"]
    for name, steps, best in (("several", "1", "true"), ("single", "2", "true"), ("last", "1", "false")):
        out = tmp_path / name
        options = [*watched, "--eval_steps", steps, "--save_steps", steps, "--load_best_model_at_end", best]
        options += ["--metric_for_best_model", "eval_per", "--learning_rate", "0.01", "--output_dir", str(out)]
        assert main(["train-speech", *QUICK, *options]) == 0
        about, text = (json.loads((out / "evaluation.json").read_text())["about"], (out / "evaluation.md").read_text())
        history = json.loads((out / "trainer_state.json").read_text())["log_history"]
        rates = [round(100 * row["eval_per"], 2) for row in history if "eval_per" in row]
        assert about["validation_error_rate"] == (rates[-1] if name == "last" else min(rates))
        assert about.get("best_of_evaluations") == (2 if name == "several" else None)
        assert ("is the smallest of all evaluations of its training, so that it is biased low" in text) == (
            name == "several"
        )
        assert "Runaways are transcripts that are longer than 1.5 times their reference, and by at least 5." in text


def test_several_processes_compute_the_same_features(monkeypatch):
    monkeypatch.setattr(settings_speech, "load_tones", lambda: load_tones(6, 2, 2))
    encoded, environment = [], os.environ  # which `datasets` replaces
    for number in (2, None):
        speech = SpeechArguments(["tones"], num_proc=number)
        train = speech.load()["train"]
        encoded.append(speech.encode(train, speech.processor(train))["input_features"][:])
    assert all(np.array_equal(one, two) for one, two in zip(*encoded, strict=True)) and len(encoded[0]) == 6
    assert os.environ is environment


def test_the_papers_run_starts_on_a_corpus_of_timits_layout(tmp_path, monkeypatch, capsys):
    rng = np.random.default_rng(0)
    for place in ("TRAIN/DR1/FCJF0", "TEST/DR1/FAKS0", "TEST/DR1/MDAB0"):
        folder = tmp_path / "timit" / place
        folder.mkdir(parents=True)
        for sentence in ("SA1", "SX1", "SI2"):
            sound = 0.1 * rng.normal(size=8_000)
            soundfile.write(folder / f"{sentence}.WAV", sound, 16_000, format="NIST", subtype="PCM_16")
            (folder / f"{sentence}.PHN").write_text("0 900 h#\n900 1800 sh\n1800 3000 ix\n3000 8000 h#\n")
            (folder / f"{sentence}.TXT").write_text("0 8000 She is.\n")
    monkeypatch.setenv("HF_LOCALGAN_TIMIT", str(tmp_path / "timit"))
    small = ["--encoder_hidden_size", "16", "--hidden_size", "8", "--output_dir", str(tmp_path / "run")]
    command = ["train-speech", str(RECIPES / "papers" / "raml_timit.yaml"), *QUICK, *small]
    assert main(command) == 1
    assert "TIMIT has {'train': 3696" in capsys.readouterr().err
    assert main([*command, "--check_counts", "false"]) == 0
    saved = json.loads((tmp_path / "run" / "evaluation.json").read_text())
    assert "fold:timit39" in saved["decodings"]["greedy"]["scores"]["per"]["signature"]
    assert saved["about"]["payoff"] == "edit"


def test_mistakes_are_named_before_anything_is_loaded(tmp_path, capsys):
    command = ["train-speech", "--output_dir", str(tmp_path / "run"), "--use_cpu"]
    assert main([*command, "--greater_is_better", "true"]) == 1
    assert "Set `greater_is_better: false`" in capsys.readouterr().err
    assert main([*command, "--target", "letters"]) == 2
    assert "`target` must be `phones` or `text`, got 'letters'" in capsys.readouterr().err
    assert main([*command, "--ctc_labels", "both"]) == 2
    assert "`ctc_labels` must be one of reference, drawn, got 'both'" in capsys.readouterr().err
    assert main([*command, "--ctc_labels", "drawn"]) == 1
    assert "`ctc_labels: drawn` needs draws" in capsys.readouterr().err
    assert main([*command, "--temperature", "0.9"]) == 2  # an option of RAML without its payoff
    assert "temperature" in capsys.readouterr().err
    assert main(["train-speech", "gone.yaml"]) == 2
