"""The table of sample generations."""

import io
import os
from types import SimpleNamespace

import pytest
import torch
from datasets import DatasetDict
from rich.console import Console

from hf_localgan.trainers import SampleTableCallback, read_samples, sample_table

EVALUATED = {
    "sample_rows": 3, "sample_max_new_tokens": 5, "eval_strategy": "steps", "eval_steps": 2, "max_steps": 4,
    "per_device_train_batch_size": 4,
}  # fmt: skip


@pytest.fixture
def rows(tiny_tokenizer):
    """Three queries, two of them with two responses each, row after row as several responses are expanded."""
    texts = [
        ("hello you", "hello !"), ("hello you", "how are you ?"), ("what is zebra ?", "i am zebra"),
        ("what is zebra ?", "my name is zebra"), ("are you fine ?", "i am fine thanks"),
    ]  # fmt: skip
    made = []
    for query, response in texts:
        made.append({**tiny_tokenizer(query), "labels": tiny_tokenizer(response).input_ids})
    return made


def callback_of(run) -> SampleTableCallback:
    return next(c for c in run.callback_handler.callbacks if isinstance(c, SampleTableCallback))


def test_rows_have_distinct_queries_their_first_references_and_visible_unknown_words(
    family, trainer, pairs, rows, tmp_path, tiny_tokenizer
):
    model = family("rnn_seq2seq")
    run = trainer(model, pairs(8), rows, **EVALUATED)
    run.train()
    table = read_samples(tmp_path / "run" / "samples.parquet")
    expected = [
        ("hello you", "hello !"), ("what is <unk> ?", "i am <unk>"), ("are you fine ?", "i am fine thanks")
    ]  # fmt: skip
    assert [(row["query"], row["reference"]) for row in table] == 2 * expected
    assert [row["step"] for row in table] == [2, 2, 2, 4, 4, 4]
    for row, ids in zip(table[3:], (rows[0], rows[2], rows[4]), strict=True):  # the model is as it was at step 4
        query = torch.tensor([ids["input_ids"]])
        alone = model.generate(query, attention_mask=torch.ones_like(query), max_new_tokens=5, do_sample=False)
        assert row["generation"] == tiny_tokenizer.decode([t for t in alone[0].tolist() if t > 2])


def test_queries_are_looked_for_in_the_first_of_several_data_sets_and_in_streams(family, trainer, rows):
    from datasets import Dataset

    dataset = Dataset.from_list(rows)
    for evaluated in ({"a": dataset, "b": rows}, DatasetDict({"a": dataset}), dataset.to_iterable_dataset()):
        chosen = callback_of(trainer(family("t5"), rows, evaluated, sample_rows=2)).examples
        assert [row["input_ids"] for row in chosen] == [rows[0]["input_ids"], rows[2]["input_ids"]]


def test_fewer_queries_than_rows_are_all_shown_and_zero_turns_the_table_off(family, trainer, rows):
    assert len(callback_of(trainer(family("t5"), rows, rows, sample_rows=50)).examples) == 3
    run = trainer(family("t5"), rows, rows, sample_rows=0)
    assert not any(isinstance(c, SampleTableCallback) for c in run.callback_handler.callbacks)


def test_several_data_sets_are_answered_once_per_step(family, trainer, rows, tmp_path, monkeypatch):
    calls, answer = [], SampleTableCallback.answer
    monkeypatch.setattr(SampleTableCallback, "answer", lambda self, args: calls.append(1) or answer(self, args))
    run = trainer(family("t5"), rows, {"a": rows, "b": rows}, **EVALUATED)
    run.train()
    assert len(calls) == 2
    assert len(read_samples(tmp_path / "run" / "samples.parquet")) == 6


@pytest.mark.parametrize("name", ["rnn_seq2seq", "bart"])
def test_training_is_the_same_with_and_without_the_table(name, family, trainer, pairs, rows, losses):
    ends = []
    for number in (0, 3):
        run = trainer(family(name, dropout=True), pairs(8), rows, **{**EVALUATED, "sample_rows": number})
        run.train()
        ends.append((losses(run), losses(run, "eval_loss"), dict(run.model.state_dict()), torch.get_rng_state()))
    assert ends[0][:2] == ends[1][:2]
    assert all(torch.equal(ends[0][2][key], value) for key, value in ends[1][2].items())
    assert torch.equal(ends[0][3], ends[1][3])


def test_a_new_run_in_the_same_folder_starts_a_new_table(family, trainer, pairs, rows, tmp_path):
    trainer(family("t5"), pairs(8), rows, **{**EVALUATED, "eval_steps": 1}).train()
    trainer(family("t5"), pairs(8), rows, **{**EVALUATED, "eval_steps": 3}).train()
    steps = [row["step"] for row in read_samples(tmp_path / "run" / "samples.parquet")]
    assert steps == [3] * 3 + [4] * 3  # the end of training is evaluated, too


def test_an_evaluation_outside_of_training_leaves_the_table_alone(family, trainer, pairs, rows, tmp_path):
    run = trainer(family("t5"), pairs(8), rows, **EVALUATED)
    run.evaluate()
    assert not (tmp_path / "run" / "samples.parquet").exists()


def test_only_the_main_process_answers(family, trainer, rows, monkeypatch):
    run = trainer(family("t5"), rows, rows, **EVALUATED)
    run.is_in_train = True
    callback = callback_of(run)
    monkeypatch.setattr(callback, "answer", lambda args: pytest.fail("another process has answered"))
    callback.on_evaluate(run.args, SimpleNamespace(is_world_process_zero=False, global_step=2), run.control)


@pytest.mark.parametrize("shown", [True, False])
def test_the_console_shows_the_table_where_progress_is_shown(shown, family, trainer, pairs, rows, capsys):
    trainer(family("t5"), pairs(8), rows, **EVALUATED, disable_tqdm=not shown).train()
    output = capsys.readouterr().out
    assert ("what is <unk> ?" in output) is shown
    assert ("step 4" in output) is shown


def test_brackets_in_texts_are_shown_as_they_are():
    row = {"query": "[/b] [red]", "reference": "a | b", "generation": "two\nlines"}
    console = Console(file=io.StringIO(), width=100)
    console.print(sample_table([row], "step 1"))
    assert "[/b] [red]" in console.file.getvalue()


def test_the_leftover_of_a_killed_process_is_removed_when_training_begins(family, trainer, pairs, rows, tmp_path):
    leftover = tmp_path / "run" / ".samples-abc123.parquet"
    leftover.parent.mkdir()
    leftover.write_bytes(b"half")
    trainer(family("t5"), pairs(8), rows, **EVALUATED).train()
    assert sorted(os.listdir(tmp_path / "run")) == ["samples.parquet"]
