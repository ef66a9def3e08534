"""Translations: their scores, the evaluation and its files, and BLEU of the validation set while training."""

import json

import numpy as np
import pyarrow.parquet as parquet
import pytest
import sacrebleu
import torch
from datasets import Dataset
from torch import nn
from transformers import DataCollatorForSeq2Seq, EvalPrediction

from hf_localgan.data import encode_pairs
from hf_localgan.decoding import Decoding, answer_queries
from hf_localgan.evaluation import evaluate_translations, plot_training, score_translations, translation_metrics
from hf_localgan.trainers import MleConfig, MleTrainer

REFERENCES = [["L'homme est assis , hello .", "Un homme."], ["Deux chiens courent vite."], ["Elle n'est pas là."]]
GENERATIONS = ["L'homme est assis ici.", "Deux chiens courent vite.", "Elle est là."]
SOURCES = ["hello", "how are you ?", "what is your name ?", "are you fine ?", "i am fine thanks", "my name ?"]


class Copier(nn.Module):
    """A generator whose translation of a sentence is the sentence itself."""

    device = torch.device("cpu")

    def generate(self, input_ids, attention_mask, num_return_sequences=1, **settings):
        return input_ids.repeat_interleave(num_return_sequences, dim=0)


# ---- scores ----


def test_scores_are_sacrebleus_with_its_signatures():
    report = score_translations(GENERATIONS, REFERENCES, resamples=0)
    streams = [[one[0] for one in REFERENCES], ["Un homme.", None, None]]
    metric = sacrebleu.BLEU()
    assert report["bleu"].value == metric.corpus_score(GENERATIONS, streams).score
    assert report["bleu"].signature == f"BLEU|{metric.get_signature()}"
    assert "case:mixed" in report["bleu"].signature and "tok:13a" in report["bleu"].signature
    assert report["chrf"].value == sacrebleu.CHRF().corpus_score(GENERATIONS, streams).score
    assert report["chrf"].signature.startswith("chrF2|nrefs:var|") and np.isnan(report["bleu"].interval.low)


def test_tokenised_bleu_counts_words_and_marks_apart_with_their_case():
    # L ' homme est assis ici .            7 tokens; reference: L ' homme est assis . of 6
    # 1-grams 6/7, 2-grams 4/6 (' , homme est assis), 3-grams 3/5, 4-grams 2/4; longer than the reference, so no penalty
    report = score_translations(["L'homme est assis ici."], [["L'homme est assis."]], resamples=0)
    expected = 100 * (6 / 7 * 4 / 6 * 3 / 5 * 2 / 4) ** (1 / 4)
    assert report["bleu_tokenized"].value == pytest.approx(expected)
    assert report["mean_length"].value == 7
    # 13a leaves "L'homme" whole: L'homme est assis ici . against L'homme est assis .
    assert report["length_ratio"].value == pytest.approx(5 / 4)
    signature = report["bleu_tokenized"].signature
    assert "tok:words|case:mixed|N:1" in signature and "tok:none" in signature and "sacrebleu" in signature
    lower = score_translations(["l'homme est assis ici."], [["L'homme est assis."]], resamples=0)
    assert lower["bleu_tokenized"].value < report["bleu_tokenized"].value


def test_a_short_translation_is_penalised():
    # 5 tokens of 10: exp(1 - 10 / 5)
    report = score_translations(["a b c d e"], [["a b c d e f g h i j"]], resamples=0)
    assert report["brevity_penalty"].value == pytest.approx(np.exp(-1))
    assert report["bleu"].value == pytest.approx(100 * np.exp(-1)) and report["length_ratio"].value == 0.5


def test_intervals_are_sacrebleus_bootstrap(monkeypatch):
    monkeypatch.delenv("SACREBLEU_SEED", raising=False)
    report = score_translations(GENERATIONS, REFERENCES, resamples=50)
    streams = [[one[0] for one in REFERENCES], ["Un homme.", None, None]]
    expected = sacrebleu.BLEU().corpus_score(GENERATIONS, streams, n_bootstrap=50)
    interval = report["bleu"].interval
    assert (interval.low + interval.high) / 2 == pytest.approx(expected._mean)
    assert (interval.high - interval.low) / 2 == pytest.approx(expected._ci)
    assert interval.method == "bootstrap" and interval.seed == 12345 and interval.resamples == 50
    assert "bs:50|seed:12345" in report["bleu"].signature


def test_values_of_single_sentences_are_kept():
    report = score_translations(GENERATIONS, REFERENCES, resamples=0)
    assert report.per_query["sentence_chrf"][1] == pytest.approx(100)
    assert report.per_query["sentence_bleu"][1] == pytest.approx(100)
    assert report.per_query["sentence_bleu"].shape == (3,) and report.per_query["sentence_bleu"][2] < 60
    assert report.bleu_statistics.score() == pytest.approx(report["bleu"].value)


@pytest.mark.parametrize(
    ("generations", "references", "told"),
    [
        ([], [], "is empty"),
        (["a"], [["a"], ["b"]], "got 1 and 2"),
        (["a"], ["a"], "list of references"),
        (["a", "b"], [["a"], []], "Query 1 has no reference"),
    ],
)
def test_translations_without_their_references_are_refused(generations, references, told):
    with pytest.raises(ValueError, match=told):
        score_translations(generations, references)


# ---- the evaluation ----


@pytest.fixture
def evaluation(tiny_tokenizer):
    references = [[source, "fine"] for source in SOURCES[:5]] + [["hello ?"]]
    return evaluate_translations(
        Copier(), tiny_tokenizer, SOURCES, references, decodings=[Decoding.greedy(), Decoding.beam(8)], resamples=20,
        about={"model": "copier"},
    )  # fmt: skip


def test_an_evaluation_leaves_the_same_files_as_one_of_dialogue_without_its_plot(evaluation, tmp_path):
    written = evaluation.write(tmp_path)
    names = {"evaluation.json", "evaluation.md", "generations.parquet", "query_scores.parquet"}
    assert {path.name for path in written} == names == {path.name for path in tmp_path.iterdir()}
    found = json.loads((tmp_path / "evaluation.json").read_text())
    assert found["kind"] == "translation" and found["references"] is None and found["about"] == {"model": "copier"}
    assert list(found["decodings"]) == ["greedy", "beam 8"]
    assert found["decodings"]["beam 8"]["scores"]["bleu"]["value"] == evaluation.reports["beam 8"]["bleu"].value
    table = parquet.read_table(tmp_path / "generations.parquet").to_pydict()
    assert table["query"] == SOURCES == table["greedy"] and table["references"][5] == ["hello ?"]
    scores = parquet.read_table(tmp_path / "query_scores.parquet").to_pylist()
    assert len(scores) == 12 and scores[0]["sentence_chrf"] == pytest.approx(100)


def test_the_markdown_speaks_of_translations(evaluation):
    text = evaluation.to_markdown(rows=2)
    assert "| decoding | BLEU | tokenised BLEU | chrF | length ratio | brevity penalty | words |" in text
    assert "## Sample translations" in text and "| source | a reference | greedy | beam 8 |" in text
    assert [line.split(" | ")[0] for line in text.split("\n\n")[1].splitlines()[2:]] == ["| greedy", "| beam 8"]
    assert "nan" not in text  # ratios of the whole set have no interval


def test_no_sentence_is_refused(tiny_tokenizer):
    with pytest.raises(ValueError, match="no query to answer"):
        evaluate_translations(Copier(), tiny_tokenizer, [], [], decodings=[Decoding.greedy()])


# ---- BLEU while training ----

TARGETS = [["hello how are you fine"], ["i am fine thanks .", "i am fine"], ["my name is what ?"], ["i am fine ."]]


def predicted(tokenizer, sources, translations, order, width=12) -> EvalPrediction:
    """What a trainer hands on: start token, translation, end, padding of -100 (gathered) and of the tokenizer."""

    def padded(rows, first):
        rows = [[*first, *tokenizer(row).input_ids] for row in rows]
        return np.array([row + [0] + [-100] * (width - len(row) - 1) for row in rows])

    ids, inputs = padded(translations, [1])[order], padded(sources, [])[order]
    return EvalPrediction(predictions=ids, label_ids=ids, inputs=inputs)


@pytest.mark.parametrize("order", [[0, 1, 2, 3], [3, 1, 0, 2]])
def test_bleu_of_the_generated_set_in_any_order_and_with_any_padding(tiny_tokenizer, order):
    translations = ["hello how are you fine", "i am fine thanks .", "is my name what ?", "hello"]
    metrics = translation_metrics(tiny_tokenizer, SOURCES[:4], TARGETS)
    found = metrics(predicted(tiny_tokenizer, SOURCES[:4], translations, order))
    expected = score_translations(translations, TARGETS, resamples=0)
    assert found == {"bleu": pytest.approx(expected["bleu"].value), "length_ratio": expected["length_ratio"].value}


def test_a_source_with_several_rows_counts_once_and_unknown_words_are_told_apart(tiny_tokenizer):
    # "cat" and "dog" are both <unk>: equal inputs, hence equal translations, but two sentences with their references.
    # "hello" stands in three rows, one for each of its references, and counts once.
    queries, references = ["hello", "cat", "dog"], [["hello .", "hello ?", "hello !"], ["my name"], ["your name"]]
    metrics = translation_metrics(tiny_tokenizer, queries, references)
    sources = ["hello", "dog", "hello", "cat", "hello"]
    translations = ["hello !", "my name", "hello !", "my name", "hello !"]
    found = metrics(predicted(tiny_tokenizer, sources, translations, [0, 1, 2, 3, 4]))
    expected = score_translations(["hello !", "my name", "my name"], references, resamples=0)
    assert found["bleu"] == pytest.approx(expected["bleu"].value)


def test_what_cannot_be_scored_is_refused_with_what_to_set(tiny_tokenizer):
    metrics = translation_metrics(tiny_tokenizer, SOURCES[:4], TARGETS)
    ids = np.ones((4, 3), dtype=int)
    for broken in (
        EvalPrediction(predictions=ids, label_ids=ids),
        EvalPrediction(predictions=np.ones((4, 3, 20)), label_ids=ids, inputs=ids),
    ):
        with pytest.raises(ValueError, match="predict_with_generate=True.*include_for_metrics"):
            metrics(broken)
    with pytest.raises(ValueError, match="none of `queries`: 'thanks'"):
        metrics(predicted(tiny_tokenizer, ["thanks"], ["hello"], [0]))


@pytest.fixture
def watched(tiny_generator, tiny_tokenizer, tmp_path):
    """`watched(**arguments)`: a trainer that watches BLEU of 24 sentences in rows grouped by length, and these.

    References are what the untrained model says, every third with another last word, every second with a second one.
    """
    model = tiny_generator(seed=1)
    model.generation_config.min_new_tokens = 4
    words = "how are you i am fine thanks what is your name my".split()
    queries = [" ".join(words[start : start + 1 + start % 5]) for start in range(12)]
    queries += [f"{query} !" for query in queries]
    said = [one[0] for one in answer_queries(model, tiny_tokenizer, queries, Decoding.greedy(), max_new_tokens=6)]
    references = [
        [f"{text.rsplit(' ', 1)[0]} hello" if index % 3 == 0 else text, "my name is fine !"][: 1 + index % 2]
        for index, text in enumerate(said)
    ]
    rows = [{"query": q, "response": r} for q, some in zip(queries, references, strict=True) for r in some]
    encoded = encode_pairs(Dataset.from_list(rows), tiny_tokenizer)

    def build(**arguments) -> tuple[MleTrainer, list, list]:
        args = MleConfig(
            str(tmp_path), use_cpu=True, predict_with_generate=True, include_for_metrics=["inputs"],
            generation_max_length=7, generation_num_beams=1, train_sampling_strategy="group_by_length",
            per_device_eval_batch_size=5, sample_rows=0, disable_tqdm=True, **arguments,
        )  # fmt: skip
        trainer = MleTrainer(
            model, args, train_dataset=encoded, eval_dataset=encoded, processing_class=tiny_tokenizer,
            data_collator=DataCollatorForSeq2Seq(tiny_tokenizer, model=model),
            compute_metrics=translation_metrics(tiny_tokenizer, queries, references),
        )  # fmt: skip
        return trainer, queries, references

    return build


def test_a_trainer_reports_the_bleu_that_the_evaluation_will_report(watched, tiny_tokenizer):
    trainer, queries, references = watched()
    found = trainer.evaluate()
    answers = answer_queries(trainer.model, tiny_tokenizer, queries, Decoding.greedy(), max_new_tokens=6)
    expected = score_translations([one[0] for one in answers], references, resamples=0)
    assert found["eval_bleu"] == pytest.approx(expected["bleu"].value) and 0 < found["eval_bleu"] < 100
    assert found["eval_length_ratio"] == pytest.approx(expected["length_ratio"].value)
    assert found["eval_tokens"] > 0 and found["eval_loss"] > 0


def test_the_model_with_the_highest_bleu_is_kept_and_training_stops_when_it_no_longer_rises(watched):
    trainer, *_ = watched(
        eval_strategy="steps", eval_steps=1, save_strategy="steps", save_steps=1, max_steps=6, learning_rate=0.0,
        load_best_model_at_end=True, metric_for_best_model="eval_bleu", early_stopping_patience=2,
        logging_strategy="no", lr_scheduler_type="constant",
    )  # fmt: skip
    assert trainer.args.greater_is_better
    trainer.train()
    values = [entry["eval_bleu"] for entry in trainer.state.log_history if "eval_bleu" in entry]
    # nothing moves, so that the first evaluation stays the best and two more exhaust the patience
    assert len(values) == 3 and trainer.state.best_metric == values[0] and trainer.state.best_global_step == 1


def test_a_training_that_watched_bleu_has_a_second_panel(tmp_path):
    history = [{"step": 1, "loss": 3.0}, {"step": 2, "eval_loss": 2.5, "eval_bleu": 12.0}]
    plot_training(history, tmp_path / "with.png")
    plot_training(
        [{key: value for key, value in row.items() if key != "eval_bleu"} for row in history], tmp_path / "without.png"
    )
    widths = [int.from_bytes((tmp_path / f"{name}.png").read_bytes()[16:20], "big") for name in ("with", "without")]
    assert widths[0] == 2 * widths[1]
