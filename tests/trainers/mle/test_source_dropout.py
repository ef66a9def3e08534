"""Emptied queries: which rows, what their loss is, and that a resumed run empties the same ones."""

from functools import partial

import pytest
import torch

from hf_localgan.decoding.likelihood import EmptySource, language_model_log_probs
from hf_localgan.trainers import MleConfig


@pytest.mark.parametrize("name", ["rnn_seq2seq", "t5"])
def test_without_any_query_the_loss_is_that_of_the_decoder_on_an_empty_source(name, family, trainer, pairs, losses):
    model, rows = family(name), pairs(6)
    longest = max(len(row["labels"]) for row in rows)
    labels = torch.tensor([row["labels"] + [-100] * (longest - len(row["labels"])) for row in rows])
    nats = -language_model_log_probs(model.eval(), EmptySource(model), labels).sum() / (labels != -100).sum()
    run = trainer(family(name), rows, max_steps=1, source_dropout=1.0)
    run.train()
    assert losses(run) == [pytest.approx(nats.item(), abs=1e-4)]


def test_so_many_rows_are_emptied_whole_and_others_stay(family, trainer, pairs):
    run = trainer(family("t5"), pairs(2), source_dropout=0.3)
    batch = {"input_ids": torch.arange(4, 8).expand(4_000, 4), "attention_mask": torch.ones(4_000, 4).long()}
    emptied = run.without_queries(batch)
    gone = emptied["attention_mask"].sum(dim=1) == 0
    # Five standard deviations, 6e-7: sqrt(.3 * .7 / 4000) is .0072.
    assert abs(gone.float().mean() - 0.3) < 5 * 0.0072
    assert (emptied["input_ids"][gone] == 0).all() and (emptied["input_ids"][~gone] == batch["input_ids"][0]).all()
    assert (emptied["attention_mask"][~gone] == 1).all() and (batch["attention_mask"] == 1).all()
    for _ in range(2):  # the first and the second batch of the update
        run._draws.next_batch()
    assert not torch.equal(run.without_queries(batch)["input_ids"], emptied["input_ids"])


def test_a_resumed_run_empties_the_same_queries(family, pairs, interrupted, assert_equal_runs):
    whole, resumed, start = interrupted(
        partial(family, "rnn_seq2seq", dropout=True), pairs(12), None, 3, max_steps=4, save_steps=2,
        eval_strategy="no", source_dropout=0.5,
    )  # fmt: skip
    assert whole.state.global_step == 4 and start == 2
    assert_equal_runs(whole, resumed)


def test_evaluation_reads_every_query(family, trainer, pairs):
    model, rows = family("t5"), pairs(5)
    without, plain = (trainer(model, rows, rows, source_dropout=share).evaluate()["eval_loss"] for share in (1.0, 0.0))
    assert without == plain


@pytest.mark.parametrize("share", [-0.1, 1.1, float("nan")])
def test_a_share_that_is_none_is_refused(share, tmp_path):
    with pytest.raises(ValueError, match="`source_dropout` must be from 0 to 1"):
        MleConfig(str(tmp_path), source_dropout=share)
