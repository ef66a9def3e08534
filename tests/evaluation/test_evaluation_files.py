"""One generator scored under several decodings: tables, files and plots."""

import io
import json
import sys

import numpy as np
import pyarrow.parquet as parquet
import pytest
import torch
from rich.console import Console
from torch import nn

from hf_localgan.data import WordVectors
from hf_localgan.decoding import Decoding
from hf_localgan.evaluation import Evaluation, evaluate_generator, plot_diversity_relevance, plot_training
from hf_localgan.evaluation.dialogue import SHOWN, _cell_with_interval
from hf_localgan.metrics import bleu, distinct_n, score_references, score_responses
from hf_localgan.trainers import ExpectedRewardTrainer

QUERIES = ["hello", "how are you ?", "what is your name ?", "are you fine ?"]
REFERENCES = [
    ["hello how are you", "hello my name is what"],
    ["i am fine thanks", "fine thanks !"],
    ["my name is thanks !", "what is your name ?"],
    ["i am fine , thanks", "you are fine"],
]
DECODINGS = [Decoding.greedy(), Decoding.beam(2), Decoding.sampling(0.5), Decoding.sampling(1.0)]


class Copier(nn.Module):
    """A generator whose answer to a query is the query itself."""

    device = torch.device("cpu")

    def generate(self, input_ids, attention_mask, num_return_sequences=1, **settings):
        return input_ids.repeat_interleave(num_return_sequences, dim=0)


def vectors() -> WordVectors:
    words = "hello how are you i am fine thanks what is your name my ? . ! ,".split()
    return WordVectors(words, np.random.default_rng(0).normal(size=(len(words), 5)), name="random")


@pytest.fixture
def evaluate(tiny_generator, tiny_tokenizer):
    """`evaluate(**settings)`: the evaluation of a tiny generator."""

    def run(**settings) -> Evaluation:
        given = dict(decodings=DECODINGS, vectors=vectors(), resamples=20, max_new_tokens=6)
        return evaluate_generator(tiny_generator(), tiny_tokenizer, QUERIES, REFERENCES, **{**given, **settings})

    return run


def test_a_generator_that_says_the_reference_reaches_bleu_100(tiny_tokenizer):
    references = [[query, "fine"] for query in QUERIES]
    result = evaluate_generator(
        Copier(), tiny_tokenizer, QUERIES, references, decodings=DECODINGS[:1], vectors=vectors(), resamples=0
    )
    report = result.reports["greedy"]
    assert result.answers["greedy"] == QUERIES
    assert report["bleu_2"].value == pytest.approx(100)
    # one of two references is met exactly
    assert report["average_max"].value == pytest.approx(1)
    assert report["local_coverage"].value >= 0.5


def test_scores_are_those_of_the_answers(evaluate):
    result = evaluate()
    for name, answers in result.answers.items():
        report = result.reports[name]
        tokens = [answer.split() for answer in answers]
        assert report["dist_1"].value == pytest.approx(distinct_n(tokens, 1))
        assert report["bleu_2"].value == pytest.approx(
            bleu([" ".join(one) for one in tokens], REFERENCES, max_order=2, tokenize="none").score
        )
    own = score_references(REFERENCES, vectors=vectors(), resamples=20)
    assert result.references_report["relevance_mean"].value == own["relevance_mean"].value


def test_an_evaluation_is_repeated_exactly_by_its_seed(evaluate):
    first, second = evaluate(seed=3).to_dict(), evaluate(seed=3).to_dict()
    for one in (first, second):
        for decoding in one["decodings"].values():
            assert decoding.pop("seconds") >= 0
    assert first == second


def test_several_samples_serve_local_coverage_and_the_first_all_else(evaluate):
    one, four = evaluate(), evaluate(num_samples=4)
    assert "samples:4" in four.reports["temperature 1"]["local_coverage"].signature
    assert "samples:1" in four.reports["greedy"]["local_coverage"].signature
    for report in four.reports.values():
        assert report.queries == len(QUERIES)
    assert one.answers["greedy"] == four.answers["greedy"]
    answers = four.answers["temperature 1"]
    assert len(answers) == 4
    assert four.reports["temperature 1"]["dist_2"].value == score_responses(answers, resamples=0)["dist_2"].value


def test_no_query_is_refused(tiny_generator, tiny_tokenizer):
    with pytest.raises(ValueError, match="no query to answer"):
        evaluate_generator(tiny_generator(), tiny_tokenizer, [], [], decodings=DECODINGS)


# ---- files ----


def test_all_files_are_written_and_nothing_else(evaluate, tmp_path):
    written = evaluate(about={"model": "tiny"}).write(tmp_path / "new" / "folder")
    names = {path.name for path in written}
    assert names == {path.name for path in (tmp_path / "new" / "folder").iterdir()}
    assert names == {
        "evaluation.json",
        "evaluation.md",
        "generations.parquet",
        "query_scores.parquet",
        "diversity_relevance.png",
    }


def strictly(text: str):
    """Parses JSON as other programs do, which know no NaN."""

    def refuse(word):
        raise AssertionError(f"{word} is not JSON")

    return json.loads(text, parse_constant=refuse)


def test_the_json_file_holds_all_scores_and_no_nan(evaluate, tmp_path):
    result = evaluate(resamples=0, about={"model": "tiny", "perplexity": float("inf"), "list": [float("nan"), 1]})
    result.write(tmp_path, plots=False)
    read = strictly((tmp_path / "evaluation.json").read_text())
    assert read["about"] == {"model": "tiny", "perplexity": None, "list": [None, 1]}
    assert list(read["decodings"]) == ["greedy", "beam 2", "temperature 0.5", "temperature 1"]
    beam = read["decodings"]["beam 2"]
    assert beam["generate"] == {"do_sample": False, "num_beams": 2} and beam["queries"] == 4
    assert beam["scores"]["bleu_2"]["value"] == result.reports["beam 2"]["bleu_2"].value
    assert beam["scores"]["bleu_2"]["low"] is None and "tok:words" in beam["scores"]["bleu_2"]["signature"]
    assert read["references"]["scores"]["dist_1"]["value"] > 0


def test_the_parquet_files_hold_answers_and_the_values_behind_the_means(evaluate, tmp_path):
    result = evaluate()
    result.write(tmp_path, plots=False)
    table = parquet.read_table(tmp_path / "generations.parquet").to_pydict()
    assert table["query"] == QUERIES and table["references"] == REFERENCES
    assert table["temperature 1"] == result.answers["temperature 1"]
    scores = parquet.read_table(tmp_path / "query_scores.parquet").to_pylist()
    assert len(scores) == len(DECODINGS) * len(QUERIES)
    for name in ("relevance_mean", "local_coverage", "mean_length"):
        some = [row[name] for row in scores if row["decoding"] == "beam 2" and row[name] is not None]
        assert sum(some) / len(some) == pytest.approx(result.reports["beam 2"][name].value)
    assert [row["query"] for row in scores if row["decoding"] == "greedy"] == [0, 1, 2, 3]


def test_a_failing_write_leaves_the_files_of_an_earlier_evaluation_whole(evaluate, tmp_path, monkeypatch):
    evaluate(about={"model": "first"}).write(tmp_path, plots=False)
    before = {path.name: path.read_bytes() for path in tmp_path.iterdir()}
    second = evaluate(about={"model": object()})  # which JSON cannot hold
    with pytest.raises(TypeError):
        second.write(tmp_path, plots=False)
    assert {path.name: path.read_bytes() for path in tmp_path.iterdir()} == before

    def full(*args, **kwargs):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(parquet, "write_table", full)
    with pytest.raises(OSError, match="No space left"):
        evaluate(about={"model": "third"}).write(tmp_path, plots=False)
    assert set(before) == {path.name for path in tmp_path.iterdir()}
    assert before["generations.parquet"] == (tmp_path / "generations.parquet").read_bytes()


# ---- tables ----


def test_sample_rows_are_evenly_spaced(evaluate):
    result = evaluate()
    result.queries = [f"q{n}" for n in range(10)]
    assert result._sample_indices(4) == [0, 2, 5, 7]  # n * 10 // 4
    assert result._sample_indices(10) == result._sample_indices(99) == list(range(10))


def test_markdown_has_a_row_per_decoding_and_escapes_bars(evaluate):
    result = evaluate(about={"model": "tiny"})
    result.queries[0], result.answers["greedy"][0] = "a | b", "two\nlines"
    text = result.to_markdown(rows=2)
    assert "| a \\| b | hello how are you | two lines |" in text
    assert "* model: tiny" in text
    scores = text.split("## Sample responses")[0].splitlines()
    assert [line.split(" | ")[0] for line in scores if line.startswith("| ")][2:] == [
        "| greedy",
        "| beam 2",
        "| temperature 0.5",
        "| temperature 1",
        "| references",
    ]
    widths = {line.count(" | ") for line in scores if line.startswith("| ") and "---" not in line}
    assert len(widths) == 1


def test_the_console_shows_text_in_brackets_and_every_number_at_80_columns(evaluate):
    result = evaluate()
    result.queries[0] = "[bold]hello[/bold] [sighs]"
    console = Console(width=80, file=io.StringIO())
    result.print(console)
    said = console.file.getvalue()
    assert "[sighs]" in said and "[bold]" in said
    scores = said.split("sample responses")[0]
    assert "…" not in scores and "95% intervals beneath them" in scores
    for _, report in result.rows():  # every number of evaluation.md, with its interval
        for name in [name for name in SHOWN if name in report.scores]:
            value, *ends = _cell_with_interval(report, name).rstrip(")").split(" (")
            assert value in scores and all(end in scores for end in ends), name


def test_samples_show_greedy_the_widest_beam_and_the_middle_temperature(evaluate):
    every = [*DECODINGS, Decoding.sampling(2.0), Decoding.beam(3)]
    assert evaluate(decodings=every)._decodings_shown() == ["greedy", "beam 3", "temperature 1"]
    assert evaluate(decodings=DECODINGS[:1])._decodings_shown() == ["greedy"]


# ---- plots ----

PNG = b"\x89PNG\r\n\x1a\n"


@pytest.mark.parametrize(
    "settings",
    [
        {},
        {"vectors": None},
        {"decodings": DECODINGS[:1]},
        {"decodings": DECODINGS[2:]},
        {"decodings": [Decoding.greedy(), *(Decoding.beam(width) for width in range(2, 8))], "resamples": 0},
    ],
    ids=["all", "no vectors", "greedy alone", "sampling alone", "more searches than markers"],
)
def test_diversity_is_plotted_against_relevance(evaluate, tmp_path, settings):
    plot_diversity_relevance(evaluate(**settings), tmp_path / "plot.png")
    assert (tmp_path / "plot.png").read_bytes().startswith(PNG) and len(list(tmp_path.iterdir())) == 1


def test_the_losses_are_plotted_over_the_steps(tmp_path):
    history = [{"step": 1, "loss": 4.0}, {"step": 2, "loss": 3.0}, {"step": 2, "eval_loss": 3.5}, {"step": 2, "x": 1}]
    for name, some in (("both.png", history), ("training.png", history[:1]), ("neither.png", [])):
        plot_training(some, tmp_path / name)
        assert (tmp_path / name).read_bytes().startswith(PNG)


def test_a_loss_in_a_unit_of_its_own_has_a_panel_of_its_own(tmp_path, drawn_curves):
    history = [{"step": 1, "loss": 0.4}, {"step": 2, "loss": 0.3}, {"step": 2, "eval_loss": 3.5}]
    plot_training(history, tmp_path / "nats.png")
    plot_training(history, tmp_path / "reward.png", unit=ExpectedRewardTrainer.loss_unit)
    training, validation = {"training": ([1, 2], [0.4, 0.3])}, {"validation": ([2], [3.5])}
    assert drawn_curves["nats.png"] == {"nats per token": training | validation}
    assert drawn_curves["reward.png"] == {"nats per token": validation, "loss (units of the reward)": training}


def test_without_matplotlib_the_error_names_the_extra_and_the_scores_are_there(evaluate, tmp_path, monkeypatch):
    result = evaluate()
    for name in [name for name in sys.modules if name.split(".")[0] == "matplotlib"]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    with pytest.raises(ImportError, match=r'pip install "hf-localgan\[plots\]"'):
        result.write(tmp_path)
    assert strictly((tmp_path / "evaluation.json").read_text())["decodings"]
