"""What training lines hold beside the loss."""

import time

import pytest
import torch

from hf_localgan.trainers import MleTrainer
from hf_localgan.trainers.base import token_loss as base


class Recording(MleTrainer):
    """Records two terms at each accumulated batch: 1, 2, 3, ... and a vector that is averaged."""

    times = 0

    def compute_loss(self, model, inputs, return_outputs=False, num_items_in_batch=None):
        if self.model.training:
            self.times += 1
            self.record(**{"gan/count": torch.tensor(float(self.times))}, vector=torch.tensor([0.0, 4.0]))
        return super().compute_loss(model, inputs, return_outputs, num_items_in_batch)


def test_terms_are_averaged_since_the_last_line_and_logged_once(family, trainer, pairs, losses):
    # Two updates per line, two batches per update: lines average 1..4 and 5..8.
    run = trainer(
        family("t5"), pairs(16), pairs(2), cls=Recording, logging_steps=2, max_steps=4, per_device_train_batch_size=2,
        gradient_accumulation_steps=2, eval_strategy="steps", eval_steps=1,
    )  # fmt: skip
    run.train()
    assert losses(run, "gan/count") == [2.5, 6.5]
    assert losses(run, "vector") == [2.0, 2.0]
    assert all("loss" in row for row in run.state.log_history if "vector" in row)  # no evaluation line has them


def test_a_recorded_term_keeps_no_graph(family, trainer):
    run = trainer(family("t5"))
    value = torch.ones(3, requires_grad=True) * 2
    run.record(term=value)
    assert not run._terms["term"][0].requires_grad


@pytest.fixture
def clock(monkeypatch):
    """Seconds that pass only when the test says so."""

    class Clock:
        now = 100.0

        def perf_counter(self) -> float:
            return self.now

        def __getattr__(self, name):
            return getattr(time, name)

    stopped = Clock()
    monkeypatch.setattr(base, "time", stopped)
    return stopped


def test_tokens_per_second_counts_labels_and_leaves_out_evaluation_and_saving(
    family, trainer, pairs, clock, losses, monkeypatch
):
    # Each accumulated batch takes 1 s, each evaluated batch 10 s, saving 100 s, setting up 1000 s.
    class Timed(MleTrainer):
        def get_train_dataloader(self):
            clock.now += 1000
            return super().get_train_dataloader()

        def training_step(self, *args, **kwargs):
            clock.now += 1
            return super().training_step(*args, **kwargs)

        def prediction_step(self, *args, **kwargs):
            clock.now += 10
            return super().prediction_step(*args, **kwargs)

        def save_model(self, *args, **kwargs):
            clock.now += 100
            super().save_model(*args, **kwargs)

    rows = pairs(16)
    run = trainer(
        family("t5"), rows, {"a": pairs(3), "b": pairs(4)}, cls=Timed, max_steps=4, gradient_accumulation_steps=2,
        per_device_train_batch_size=2, train_sampling_strategy="sequential", eval_strategy="steps", eval_steps=1,
        save_strategy="steps", save_steps=2, eval_on_start=True,
    )  # fmt: skip
    run.train()
    labels = [sum(len(row["labels"]) for row in rows[i : i + 4]) for i in range(0, 16, 4)]
    assert losses(run, "tokens_per_second") == [pytest.approx(count / 2) for count in labels]


def test_tokens_per_second_is_positive_on_the_real_clock(family, trainer, pairs, losses):
    run = trainer(family("rnn_seq2seq"), pairs(8), max_steps=3)
    run.train()
    assert len(losses(run, "tokens_per_second")) == 3
    assert all(value > 0 for value in losses(run, "tokens_per_second"))
