"""The card of a recogniser: its scores, the papers of its objective and its architecture, and that its code runs."""

import re

import numpy as np
import pytest
import soundfile
import torch
from huggingface_hub import ModelCard
from transformers import TrainerState

from hf_localgan.data.speech_encoding import phone_tokenizer
from hf_localgan.decoding.answers import Decoding
from hf_localgan.evaluation.recognition import RecognitionEvaluation, score_transcripts
from hf_localgan.hub import write_model_card
from hf_localgan.models import (
    LogMelFeatureExtractor,
    RnnSpeechConfig,
    RnnSpeechForConditionalGeneration,
    RnnSpeechProcessor,
)
from hf_localgan.trainers import DbmTrainer, RamlConfig
from hf_localgan.trainers.base.cards import write_card
from hf_localgan.trainers.speech.trainer import SpeechMleTrainer, SpeechRamlTrainer

NAMES, REFERENCES, TRANSCRIPTS = ["u0", "u1"], ["aa d b", "k"], ["aa b", "b b"]


@pytest.fixture
def evaluation() -> RecognitionEvaluation:
    decodings = [Decoding.greedy(), Decoding.beam(2)]
    report = score_transcripts(TRANSCRIPTS, REFERENCES, fold="timit39", resamples=50)
    about = {"dataset": "/somewhere/sounds", "split": "dev", "objective": "RAML"}
    return RecognitionEvaluation(
        about, NAMES, [[text] for text in REFERENCES], {one.name: report for one in decodings}, None,
        {one.name: TRANSCRIPTS for one in decodings}, decodings,
    )  # fmt: skip


@pytest.fixture
def folder(tmp_path):
    """A saved recogniser with its processor."""
    folder = tmp_path / "tiny-recogniser"
    sizes = {"encoder_layers": 1, "encoder_hidden_size": 8, "hidden_size": 8, "embedding_size": 6}
    with torch.random.fork_rng():
        torch.manual_seed(0)
        RnnSpeechForConditionalGeneration(RnnSpeechConfig(vocab_size=43, feature_size=9, **sizes)).save_pretrained(
            folder
        )
    extractor = LogMelFeatureExtractor(num_mel_filters=2, normalization="utterance")
    RnnSpeechProcessor(extractor, phone_tokenizer("timit39")).save_pretrained(folder)
    return folder


def test_the_card_states_objective_scores_and_papers(evaluation, folder):
    (folder / "attention.png").touch()
    path = write_model_card(
        folder, trainer=SpeechRamlTrainer, evaluation=evaluation, settings=[("seed", "3")], progress={"steps": 1200},
        repo_id="owner/mine", license="cc0-1.0",
    )  # fmt: skip
    card = ModelCard.load(path)
    data, text = card.data.to_dict(), card.text
    assert data["pipeline_tag"] == "automatic-speech-recognition" and data["tags"] == ["hf-localgan", "raml"]
    scores = {result.metric_name: result for result in card.data.eval_results}
    per = evaluation.reports["greedy"]["per"]
    assert scores["PER %, greedy"].metric_value == pytest.approx(75) and scores["PER %, beam 2"].metric_type == "per"
    assert scores["PER %, greedy"].metric_args["interval"]["high"] == pytest.approx(per.interval.high, abs=1e-6)
    assert "On the dev split" in text and "| u1 | k | b b |" in text and "![The decoder's attention" in text
    assert "| runaways | 0 | 0 |" in text
    assert "By `SpeechRamlTrainer`." in text and "| `seed` | 3 |" in text and "* steps: 1200" in text
    assert text.index("norouzi2016raml") < text.index("chan2016las") and "/somewhere" not in text


def test_the_code_of_the_card_hears(folder, monkeypatch, capsys):
    path = write_model_card(folder, trainer=SpeechMleTrainer, repo_id=str(folder))
    sound = np.random.default_rng(0).normal(scale=0.1, size=8_000)
    soundfile.write(folder.parent / "speech.flac", sound, 16_000)
    monkeypatch.chdir(folder.parent)
    (code,) = re.findall(r"```python\n(.*?)```", path.read_text(), flags=re.DOTALL)
    exec(compile(code, "card", "exec"), {})
    assert "'text': " in capsys.readouterr().out


def test_scores_of_other_weights_are_not_shown(evaluation, folder):
    evaluation.about["weights"] = "0" * 16
    evaluation.write(folder, plots=False)
    args = RamlConfig(str(folder), use_cpu=True)
    text = write_card(folder, SpeechRamlTrainer, args, TrainerState(global_step=1200)).read_text()
    assert "PER" not in text and "* steps: 1200" in text
    del evaluation.about["weights"]
    evaluation.write(folder, plots=False)
    assert "PER %" in write_card(folder, SpeechRamlTrainer, args, TrainerState(global_step=1200)).read_text()


def test_the_trainer_of_a_scorer_is_refused(folder):
    with pytest.raises(ValueError, match="`DbmTrainer` trains no generator or recogniser; its role is `energy`"):
        write_model_card(folder, trainer=DbmTrainer)
    assert not (folder / "README.md").exists()
