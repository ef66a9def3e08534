"""Draws through loaders: workers, epochs, schedules, streams, processes, resumed runs."""

import math

import numpy as np
import pytest
from accelerate import skip_first_batches
from accelerate.data_loader import BatchSamplerShard
from datasets import Dataset
from torch.utils.data import BatchSampler, DataLoader, SequentialSampler
from transformers import DataCollatorForSeq2Seq

from hf_localgan.payoff.hamming import HammingPayoff
from hf_localgan.trainers.raml.clock import EpochClock, TemperatureSchedule
from hf_localgan.trainers.raml.collator import RamlCollator

pytestmark = pytest.mark.filterwarnings("ignore:This DataLoader will create")  # more workers than cores

EOS, TOKENS = 2, range(4, 20)
LINEAR = TemperatureSchedule("linear", start=0.5, end=5.0, total_steps=30)


def examples_of(number: int) -> list[dict]:
    """Different sources, and targets of 1 to 8 tokens and the end token."""
    rng = np.random.default_rng(0)
    targets = [[*rng.integers(4, 20, rng.integers(1, 9)).tolist(), EOS] for _ in range(number)]
    sources = [[4 + i % 16, 4 + i // 16, EOS] for i in range(number)]
    return [
        {"input_ids": s, "attention_mask": [1] * 3, "labels": t} for s, t in zip(sources, targets, strict=True)
    ]  # fmt: skip


@pytest.fixture
def collator_of(tiny_tokenizer):
    def build(**settings) -> RamlCollator:
        return RamlCollator(DataCollatorForSeq2Seq(tiny_tokenizer), HammingPayoff(TOKENS, 3.0), **settings)

    return build


def loader_of(examples, collator, num_workers=0, **settings) -> DataLoader:
    if num_workers:
        settings = {"multiprocessing_context": "fork", "persistent_workers": True, "prefetch_factor": 4} | settings
    return DataLoader(examples, batch_size=4, collate_fn=collator, num_workers=num_workers, **settings)


def rows_of(batch) -> list[tuple]:
    """Source, drawn label and temperature of each row."""
    labels = [tuple(token for token in row if token != -100) for row in batch["labels"].tolist()]
    sources = map(tuple, batch["input_ids"].tolist())
    return list(zip(sources, labels, batch["raml_temperature"].tolist(), strict=True))


def epochs_of(loader, collator, epochs=3, **start) -> list[list[list[tuple]]]:
    """Rows of the batches of each epoch, as a trainer with one batch to a step goes through them."""
    found, step = [], 0
    for epoch in range(epochs):
        collator.start_epoch(epoch, step, **start)
        found.append([rows_of(batch) for batch in loader])
        step += len(found[-1])
    return found


# ---- workers ----


def test_workers_change_no_draw_and_no_temperature(collator_of):
    examples = examples_of(38)  # 10 batches an epoch, the last one short
    found = {}
    for workers, settings in ((0, {}), (1, {}), (2, {}), (3, {"persistent_workers": False, "prefetch_factor": 2})):
        collator = collator_of(schedule=LINEAR)
        found[workers] = epochs_of(loader_of(examples, collator, workers, **settings), collator)
    assert found[1] == found[0] and found[2] == found[0] and found[3] == found[0]
    temperatures = [batch[0][2] for epoch in found[0] for batch in epoch]
    # Batch n of 30 is consumed by step n: 0.5 + 4.5 n / 30 = 0.5 + 0.15 n.
    assert temperatures == pytest.approx([0.5 + 0.15 * n for n in range(30)])
    labels = [[row[1] for batch in epoch for row in batch] for epoch in found[0]]
    assert labels[0] != labels[1] and labels[1] != labels[2] and labels[0] != labels[2]


@pytest.mark.slow
def test_spawned_workers_change_no_draw_and_no_temperature(collator_of):
    examples = examples_of(24)
    alone, collator = collator_of(schedule=LINEAR), collator_of(schedule=LINEAR)
    spawned = loader_of(examples, collator, 2, multiprocessing_context="spawn")
    assert epochs_of(spawned, collator) == epochs_of(loader_of(examples, alone), alone)


def test_an_epoch_reaches_workers_that_have_started(collator_of):
    collator = collator_of()
    loader = loader_of(examples_of(16), collator, 2)
    epochs = []
    for epoch in (0, 1, 0):
        collator.set_epoch(epoch)
        epochs.append([rows_of(batch) for batch in loader])
    assert epochs[0] == epochs[2] != epochs[1]


def test_batches_made_before_the_workers_start_are_not_counted_by_them(collator_of):
    collator = collator_of(schedule=LINEAR)
    collator.start_epoch(0, 0)
    examples = examples_of(16)
    for _ in range(3):  # a look at the first batch
        collator(examples[:4])
    temperatures = [batch["raml_temperature"][0].item() for batch in loader_of(examples, collator, 2)]
    assert temperatures == pytest.approx([0.5, 0.65, 0.8, 0.95])


def test_the_same_epoch_again_counts_from_its_start(collator_of):
    collator = collator_of(schedule=LINEAR)
    loader = loader_of(examples_of(16), collator, 2)
    runs = []
    for _ in range(2):
        collator.start_epoch(0, 7)
        runs.append([rows_of(batch) for batch in loader])
    assert runs[0] == runs[1]
    assert runs[0][0][0][2] == pytest.approx(0.5 + 0.15 * 7)


def test_batches_of_one_optimizer_step_share_its_temperature(collator_of):
    examples = examples_of(48)  # 12 batches
    for workers in (0, 2):
        collator = collator_of(schedule=LINEAR)
        loader = loader_of(examples, collator, workers)
        collator.start_epoch(0, 4, accumulation=3)
        steps = [round((batch["raml_temperature"][0].item() - 0.5) / 0.15) for batch in loader]
        assert steps == [4, 4, 4, 5, 5, 5, 6, 6, 6, 7, 7, 7]
        collator.start_epoch(0, 4, accumulation=3, batches_per_step=2)
        steps = [round((batch["raml_temperature"][0].item() - 0.5) / 0.15) for batch in loader]
        assert steps == [4] * 6 + [5] * 6


# ---- resumed runs ----


@pytest.mark.parametrize("workers", [0, 2])
def test_an_epoch_taken_up_in_the_middle_equals_the_rest_of_the_whole_one(collator_of, workers):
    examples = examples_of(40)
    whole = collator_of(schedule=LINEAR)
    tail = epochs_of(loader_of(examples, whole), whole)[1][3:]
    resumed = collator_of(schedule=LINEAR)
    loader = skip_first_batches(loader_of(examples, resumed, workers), 3)
    resumed.start_epoch(1, 10 + 3)
    assert [rows_of(batch) for batch in loader] == tail


@pytest.mark.parametrize("workers", [0, 2])
def test_batches_that_a_resumed_stream_throws_away_do_not_count(collator_of, workers):
    stream = Dataset.from_list(examples_of(40)).to_iterable_dataset(num_shards=2)
    whole = collator_of(schedule=LINEAR)
    tail = epochs_of(loader_of(stream, whole, workers), whole, epochs=1)[0][3:]
    resumed = collator_of(schedule=LINEAR)
    resumed.start_epoch(0, 3, discarded=3)
    assert [rows_of(batch) for batch in loader_of(stream, resumed, workers)][3:] == tail


# ---- streams and processes ----


def test_sharding_a_stream_changes_no_draw(collator_of):
    data = Dataset.from_list(examples_of(40))
    found = []
    for shards, workers in ((1, 0), (4, 2), (3, 2), (5, 0)):
        collator = collator_of()
        collator.set_epoch(2)
        loader = loader_of(data.to_iterable_dataset(num_shards=shards), collator, workers)
        found.append(sorted(row for batch in loader for row in rows_of(batch)))
    assert len(found[0]) == 40
    assert all(rows == found[0] for rows in found)


@pytest.mark.filterwarnings("ignore:Too many dataloader workers")
def test_a_stream_of_one_shard_leaves_workers_idle_and_the_schedule_right(collator_of):
    stream = Dataset.from_list(examples_of(40)).to_iterable_dataset(num_shards=1)
    alone, collator = collator_of(schedule=LINEAR), collator_of(schedule=LINEAR)
    assert epochs_of(loader_of(stream, collator, 3), collator, 2) == epochs_of(loader_of(stream, alone), alone, 2)


def test_two_processes_draw_what_one_draws(collator_of):
    examples, alone = examples_of(40), collator_of(schedule=LINEAR)
    batches = epochs_of(loader_of(examples, alone), alone, epochs=1, accumulation=2)[0]
    for process in range(2):
        collator = collator_of(schedule=LINEAR)  # each process has its own
        order = BatchSampler(SequentialSampler(examples), batch_size=4, drop_last=False)
        loader = DataLoader(examples, batch_sampler=BatchSamplerShard(order, 2, process), collate_fn=collator)
        collator.start_epoch(0, 0)
        # Two processes take two batches in one step, as one process does that accumulates two.
        assert [rows_of(batch) for batch in loader] == batches[process::2]


def test_length_groups_change_no_draw(collator_of):
    examples, collator = examples_of(40), collator_of()
    plain = sorted(row for batch in loader_of(examples, collator) for row in rows_of(batch))
    grouped = sorted(examples, key=lambda row: len(row["labels"]))
    assert sorted(row for batch in loader_of(grouped, collator) for row in rows_of(batch)) == plain


# ---- schedules ----


def test_linear_schedule_by_hand():
    schedule = TemperatureSchedule("linear", start=1.0, end=0.2, total_steps=4)
    assert [schedule(step) for step in range(4)] == pytest.approx([1.0, 0.8, 0.6, 0.4])
    assert schedule(4) == schedule(1000) == 0.2


def test_cosine_schedule_by_hand():
    schedule = TemperatureSchedule("cosine", start=1.0, end=0.0, total_steps=4)
    # 1 - (1 - cos(pi / 4)) / 2 = (1 + 0.7071) / 2
    assert [schedule(step) for step in range(3)] == pytest.approx([1.0, (1 + math.sqrt(0.5)) / 2, 0.5])
    assert schedule(4) == schedule(5) == 0.0


def test_constant_schedule_ignores_its_start():
    schedule = TemperatureSchedule("constant", start=float("nan"), end=0.85, total_steps=3)
    assert [schedule(step) for step in (0, 2, 9)] == [0.85] * 3


@pytest.mark.parametrize(
    "settings, message",
    [
        ({"curve": "step"}, '`curve` must be "constant", "linear" or "cosine", got \'step\''),
        ({"curve": "linear", "start": -0.1}, "`temperature` must be at least 0, got -0.1"),
        ({"curve": "linear", "end": float("nan")}, "`temperature` must be at least 0, got nan"),
        ({"curve": "cosine", "start": math.inf}, "`start` of a schedule must be finite"),
        ({"curve": "linear", "total_steps": 0}, "`total_steps` must be a whole number of at least 1, got 0"),
        ({"curve": "linear", "total_steps": 2.5}, "`total_steps` must be a whole number of at least 1, got 2.5"),
    ],
)
def test_bad_schedules_are_refused(settings, message):
    with pytest.raises(ValueError, match=message):
        TemperatureSchedule(**settings)


def test_a_step_before_the_first_is_refused():
    with pytest.raises(ValueError, match="`step` must be at least 0, got -1"):
        LINEAR(-1)


def test_a_schedule_needs_the_step_too(collator_of):
    with pytest.raises(ValueError, match="Call `start_epoch"):
        collator_of(schedule=LINEAR).set_epoch(1)


@pytest.mark.parametrize(
    "bad", [{"epoch": -1}, {"step": -1}, {"discarded": -1}, {"accumulation": 0}, {"batches_per_step": 0}, {"step": 1.5}]
)
def test_bad_times_are_refused(collator_of, bad):
    (name, value), *_ = bad.items()
    with pytest.raises(ValueError, match=rf"`{name}` must be a whole number of at least \d, got {value}"):
        collator_of().start_epoch(**({"epoch": 0, "step": 0} | bad))


def test_the_clock_counts_batches_that_are_thrown_away():
    clock = EpochClock()
    clock.start(epoch=2, step=10, discarded=3, accumulation=2, batches_per_step=1)
    # Batches 0 to 2 are thrown away; 3 and 4 make step 10, 5 and 6 step 11.
    assert [clock.tick() for _ in range(7)] == [(2, 10)] * 5 + [(2, 11)] * 2
