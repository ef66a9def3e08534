"""Transcripts scored by hand, and what an evaluation of a recogniser leaves."""

import json

import numpy as np
import pytest
import torch
from transformers import EvalPrediction

from hf_localgan.data.speech_encoding import phone_tokenizer
from hf_localgan.decoding.answers import Decoding
from hf_localgan.evaluation.recognition import evaluate_recognition, recognition_metrics, score_transcripts
from hf_localgan.evaluation.stored import stored_evaluation
from hf_localgan.models import (
    LogMelFeatureExtractor,
    RnnSpeechConfig,
    RnnSpeechForConditionalGeneration,
    RnnSpeechProcessor,
)


def test_scores_by_hand():
    report = score_transcripts(["aa b", "b b"], ["aa d b", "k"], fold="timit39", resamples=200)
    # aa d b -> aa b: d deleted; k -> b b: k substituted, b inserted
    assert report["per"].value == pytest.approx(100 * 3 / 4)
    parts = [report[name].value for name in ("substitutions", "deletions", "insertions")]
    assert parts == pytest.approx([25.0, 25.0, 25.0]) and sum(parts) == pytest.approx(report["per"].value)
    assert report["length_ratio"].value == pytest.approx(4 / 4)
    assert report.per_query["edits"].tolist() == [1, 2] and report.per_query["reference_tokens"].tolist() == [3, 1]
    assert report["per"].interval.low < 75 < report["per"].interval.high + 1e-9
    assert "fold:timit39" in report["per"].signature
    words = score_transcripts(["Hello you"], ["hello there you"], target="text", resamples=0)
    assert words["wer"].value == pytest.approx(100 / 3)


def test_transcripts_that_run_away_are_counted_and_the_rate_is_given_without_them():
    reference = "aa b k d"
    # 4 phones: 1.5 times are 6, 5 more are 9. Of 12 phones 18 are not more than 1.5 times as many, 19 are.
    transcripts = ["aa b k", "aa b k d d d d d", "aa b k d d d d d d", "aa " * 18, "aa " * 19]
    references = [reference, reference, reference, "aa " * 12, "aa " * 12]
    report = score_transcripts(transcripts, references, resamples=50)
    assert report["runaways"].value == 2 and "ratio:1.5|excess:5|per|" in report["runaways"].signature
    # edits 1, 4, 5, 6, 7 of 4, 4, 4, 12, 12 phones
    assert report["per"].value == pytest.approx(100 * 23 / 36)
    assert report["per_without_runaways"].value == pytest.approx(100 * 11 / 20)
    assert report["per_without_runaways"].interval.low < 55 < report["per_without_runaways"].interval.high
    assert report.per_query["generated_tokens"].tolist() == [3, 8, 9, 18, 19]
    # what is folded away makes no transcript long
    folded = score_transcripts(["aa b k d" + " q" * 9], [reference], fold="timit39", resamples=0)
    assert folded["runaways"].value == 0
    lost = score_transcripts(["aa " * 9], ["aa"], silence="optional", resamples=0)
    assert lost["runaways"].value == 1 and "per_without_runaways" not in lost.scores


def test_the_error_rate_of_a_validation_set_ignores_padding_and_order_of_padding():
    tokenizer = phone_tokenizer("timit39")
    ids = [tokenizer("aa b").input_ids, tokenizer("sil k").input_ids]
    predictions = np.array([[1, *ids[0], 0, 0], [1, *ids[1], -100, -100]])
    labels = np.array([[*tokenizer("aa d b").input_ids, -100], [*ids[1], -100, -100]])
    found = recognition_metrics(tokenizer)(EvalPrediction(predictions, labels))
    assert found == {"per": pytest.approx(1 / 5), "substitutions": 0, "deletions": pytest.approx(0.2), "insertions": 0}
    with pytest.raises(ValueError, match="predict_with_generate"):
        recognition_metrics(tokenizer)(EvalPrediction(np.zeros((1, 2, 3)), labels[:1]))


@pytest.fixture(scope="module")
def evaluation():
    rng = np.random.default_rng(0)
    extractor = LogMelFeatureExtractor(num_mel_filters=2, energy=False).fit([rng.normal(size=(40, 6))])
    processor = RnnSpeechProcessor(extractor, phone_tokenizer("timit39"))
    with torch.random.fork_rng():
        torch.manual_seed(0)
        sizes = {"encoder_layers": 1, "encoder_hidden_size": 8, "hidden_size": 8, "embedding_size": 6}
        model = RnnSpeechForConditionalGeneration(RnnSpeechConfig(vocab_size=43, feature_size=6, **sizes)).train()
    rows = [
        {"input_features": rng.normal(size=(12 + 6 * i, 6)), "labels": [5 + i, 9, 2], "id": f"u{i}"} for i in range(3)
    ]
    decodings = [Decoding.greedy(), Decoding.beam(2)]
    result = evaluate_recognition(
        model, processor, rows, decodings=decodings, fold="timit39", pictures=3, resamples=20, about={"model": "m"},
        batch_size=2,
    )  # fmt: skip
    assert model.training  # as it was
    return result, processor, rows


def test_an_evaluation_is_written_and_read_back(evaluation, tmp_path):
    result, processor, rows = evaluation
    tokenizer = processor.tokenizer
    assert result.references[1] == [tokenizer.decode(rows[1]["labels"], skip_special_tokens=True)]
    assert [weights.shape for _, _, weights in result.attention] == [(3, 4), (3, 6), (3, 8)]
    assert result.attention[0][1][-1] == "</s>"
    files = {path.name for path in result.write(tmp_path)}
    assert files == {"evaluation.json", "evaluation.md", "generations.parquet", "query_scores.parquet", "attention.png"}
    saved = json.loads((tmp_path / "evaluation.json").read_text())
    assert saved["kind"] == "recognition" and saved["about"]["frames_per_second_greedy"] > 0
    report = (tmp_path / "evaluation.md").read_text()
    assert "## Most frequent errors" in report and "PER %" in report
    runaways = [saved["decodings"][name]["scores"]["runaways"]["value"] for name in ("greedy", "beam 2")]
    lines = [line.split(" | ") for line in report.splitlines() if line.startswith("| ")]
    lines = [line for line in lines if "---" not in line[0]]
    place = lines[0].index("runaways")
    assert [line[place] for line in lines[1:3]] == [f"{number:.0f}" for number in runaways]
    assert lines[0][place + 1].rstrip(" |") == "PER % without them"
    again = stored_evaluation(tmp_path)
    assert type(again) is type(result) and again.answers == result.answers
    assert again.reports["beam 2"]["per"].value == result.reports["beam 2"]["per"].value


def test_an_empty_split_is_refused(evaluation):
    _, processor, _ = evaluation
    with pytest.raises(ValueError, match="no utterance"):
        evaluate_recognition(None, processor, [], decodings=[Decoding.greedy()])
