"""Which rows are trained on, and in what order: streams, batches that are not full, lengths, passes after a resume."""

from functools import partial

import pytest
import torch
from datasets import Dataset

from hf_localgan.trainers import GanAelTrainer, MatchingConfig, MatchingTrainer, MleTrainer, RamlConfig, RamlTrainer
from hf_localgan.trainers.base.launching import warn_once
from hf_localgan.trainers.base.length_grouping import EpochLengthGroupedSampler
from hf_localgan.trainers.base.streams import grouped, shuffled

ROWS = 24


class TorchStream(torch.utils.data.IterableDataset):
    """A stream of torch that is none of the `datasets` library's."""

    def __init__(self, rows):
        self.rows = rows

    def __iter__(self):
        return iter(self.rows)


@pytest.fixture
def rows(pairs):
    """Rows that the first token of their query tells apart, with their lengths."""
    made = [{**row, "input_ids": [100 + number, *row["input_ids"]]} for number, row in enumerate(pairs(ROWS))]
    return [
        {**row, "attention_mask": [1] * len(row["input_ids"]), "length": len(row["input_ids"]) + len(row["labels"])}
        for row in made
    ]


@pytest.fixture(params=["datasets", "torch"])
def stream(request, rows):
    """A stream of these rows, in two shards if it is one of the `datasets` library's."""
    return TorchStream(rows) if request.param == "torch" else Dataset.from_list(rows).to_iterable_dataset(num_shards=2)


def passes(run, number: int = 2) -> list[list[int]]:
    """Numbers of the rows in the order of each of the first passes."""
    loader, orders = run.get_train_dataloader(), []
    for epoch in range(number):
        loader.set_epoch(epoch)
        orders.append([int(row[0]) - 100 for batch in loader for row in batch["input_ids"]])
    return orders


def test_a_stream_is_shuffled_by_seed_and_pass(trainer, family, stream, rows):
    def run(**settings):
        return trainer(family("rnn_seq2seq"), stream, max_steps=2, **settings)

    first, second = passes(run())
    assert sorted(first) == sorted(second) == list(range(ROWS))
    assert len({tuple(order) for order in (first, second, range(ROWS), *passes(run(seed=7)))}) == 5
    assert passes(run()) == passes(run(seed=7, data_seed=42)) == [first, second]
    assert passes(run(stream_buffer_size=1, seed=7))[0] == list(range(ROWS))
    kept = passes(run(train_sampling_strategy="sequential"))
    assert kept == [list(range(ROWS))] * 2
    if not isinstance(stream, TorchStream):  # each worker has its shard; they live on from pass to pass
        split = passes(run(dataloader_num_workers=2, dataloader_persistent_workers=True))
        assert split[0] != split[1] and sorted(split[0]) == sorted(split[1]) == list(range(ROWS))


def test_every_trainer_shuffles_its_stream(
    family, trainer, players, energy_trainer, token_energy, tiny_discriminator, collate, rows
):
    rows = [{**row, "input_ids": [4 + number % 16, *row["input_ids"]]} for number, row in enumerate(rows)]
    stream = Dataset.from_list([{k: v for k, v in row.items() if k != "length"} for row in rows]).to_iterable_dataset()
    generator = family("rnn_seq2seq")
    runs = [
        trainer(generator, stream, max_steps=1, cls=RamlTrainer, config=RamlConfig),
        players(generator, stream, cls=GanAelTrainer),
        energy_trainer(token_energy(), stream, max_steps=1),
        MatchingTrainer(
            tiny_discriminator(), MatchingConfig(max_steps=1, output_dir="unused", use_cpu=True), train_dataset=stream,
            data_collator=collate,
        ),
    ]  # fmt: skip
    for run in runs:
        loader, orders = run.get_train_dataloader(), []
        for epoch in range(2):
            loader.set_epoch(epoch)
            orders.append([[int(i) for i in row[:2]] for batch in loader for row in batch["input_ids"]])
        assert orders[0] != orders[1] and sorted(orders[0]) == sorted(orders[1]), type(run).__name__


def test_a_buffer_gives_each_place_a_fair_chance_and_batches_group_by_length():
    import numpy as np

    firsts = [next(shuffled(range(30), 10, np.random.default_rng(seed))) for seed in range(2000)]
    assert set(firsts) == set(range(10))  # what is in the buffer at the start
    counts = np.bincount(firsts)
    assert ((counts - 200) ** 2 / 200).sum() < 33.7  # chi-squared with 9 degrees of freedom: one failure in 10,000
    numbers = np.random.default_rng(0).permutation(103)
    order = list(grouped(numbers, int, 4, np.random.default_rng(1)))
    assert sorted(order) == list(range(103))
    batches = [order[start : start + 4] for start in range(0, 100, 4)]
    assert all(max(batch) - min(batch) == 3 for batch in batches)
    assert [batch[0] for batch in batches] != sorted(batch[0] for batch in batches)
    assert order[100:] == [2, 1, 0]


def test_a_stream_is_grouped_by_length_within_what_is_held_and_says_so(trainer, family, stream, caplog):
    warn_once.cache_clear()

    def padding(**settings) -> int:
        run = trainer(family("rnn_seq2seq"), stream, max_steps=1, per_device_train_batch_size=4, **settings)
        return sum(int((batch["labels"] == -100).sum()) for batch in run.get_train_dataloader())

    assert padding(train_sampling_strategy="group_by_length") < padding() / 2
    assert "the lengths of a stream are not known beforehand" in caplog.text
    warn_once.cache_clear()
    padding(train_sampling_strategy="batch_rebalance")
    assert "`train_sampling_strategy: batch_rebalance` cannot be had for a stream" in caplog.text


@pytest.mark.parametrize("strategy", ["group_by_length", "batch_rebalance"])
def test_rows_are_grouped_by_their_length_column_and_else_by_their_sources(strategy, trainer, family):
    rows = [{"input_ids": [4 + n % 3] * (1 + n % 4), "labels": [5] * (1 + n * 7 % 11)} for n in range(24)]
    both = [len(row["input_ids"]) + len(row["labels"]) for row in rows]
    with_lengths = [{**row, "length": length} for row, length in zip(rows, both, strict=True)]
    for data, expected in ((with_lengths, both), (rows, [len(row["input_ids"]) for row in rows])):
        run = trainer(family("rnn_seq2seq"), Dataset.from_list(data), max_steps=1, train_sampling_strategy=strategy)
        batches = run.get_train_dataloader().batch_sampler
        sampler = batches if strategy == "batch_rebalance" else batches.sampler
        assert [int(length) for length in sampler.lengths] == expected


def test_a_stream_without_lengths_cannot_be_grouped(trainer, family):
    nameless = TorchStream([{"source": [1], "labels": [2]}])
    run = trainer(family("rnn_seq2seq"), nameless, max_steps=1, train_sampling_strategy="group_by_length")
    with pytest.raises(ValueError, match=r"neither a `length` nor a `input_ids` column \(found: `source`, `labels`\)"):
        next(iter(run.get_train_dataloader()))


def test_batches_that_are_not_full_are_dropped_from_streams_too(trainer, family, stream):
    sizes = {
        drop: [
            len(batch["labels"])
            for batch in trainer(
                family("rnn_seq2seq"), stream, max_steps=1, per_device_train_batch_size=5, dataloader_drop_last=drop
            ).get_train_dataloader()
        ]
        for drop in (False, True)
    }
    assert sizes == {False: [5, 5, 5, 5, 4], True: [5, 5, 5, 5]}


@pytest.mark.parametrize("method", [MleTrainer, RamlTrainer])
def test_a_run_resumed_in_a_later_pass_equals_an_uninterrupted_one(
    method, family, pairs, interrupted, assert_equal_runs
):
    # 22 rows are 11 batches of 2, so 5 updates of 2 batches and a rest that is left out; resumed in the second pass.
    settings = {"cls": method}
    if method is RamlTrainer:
        settings |= {"config": RamlConfig, "temperature": 1.5, "temperature_schedule": "linear"}
    stream = Dataset.from_list(pairs(22)).to_iterable_dataset(num_shards=2)
    model = partial(family, "rnn_seq2seq", dropout=True)
    whole, resumed, start = interrupted(
        model, stream, None, 12, max_steps=14, save_steps=7, eval_strategy="no", **settings
    )  # fmt: skip
    assert start == 7 and whole.state.global_step == 14
    assert_equal_runs(whole, resumed)


@pytest.mark.parametrize("number", ["max_steps", "num_train_epochs"])
def test_less_than_one_batch_is_refused_and_not_trained(number, trainer, family, pairs, tmp_path):
    data, model = Dataset.from_list(pairs(3)), family("rnn_seq2seq")
    settings = {number: 2, "dataloader_drop_last": True, "per_device_train_batch_size": 4}
    with pytest.raises(ValueError, match="`train_dataset` has 3 rows, which is less than one batch of 4"):
        trainer(model, data, **settings).train()
    if number == "max_steps":
        for more in ({}, {"dataloader_drop_last": False, "gradient_accumulation_steps": 2}):
            run = trainer(model, data.to_iterable_dataset(), **{**settings, **more})
            with pytest.raises(ValueError, match="ended before the first update, so nothing would be trained"):
                run.train()
        once = TorchStream(iter(pairs(10)))
        with pytest.raises(ValueError, match="gave no rows for a further pass after 3 of 9 updates"):
            trainer(model, once, max_steps=9, per_device_train_batch_size=4).train()


def test_evaluation_counts_rows_that_fill_no_batch(trainer, family, pairs, energy_trainer, tiny_energy, vectors):
    def scores(run):
        return {name: value for name, value in run.evaluate().items() if name in ("eval_loss", "eval_tokens")}

    model = family("rnn_seq2seq")
    all_rows, dropping = (
        scores(trainer(model, None, Dataset.from_list(pairs(6)), per_device_eval_batch_size=4, **drop))
        for drop in ({}, {"dataloader_drop_last": True})
    )
    assert all_rows == dropping and all_rows["eval_tokens"] > 0
    run = energy_trainer(tiny_energy(), vectors(20), vectors(3), dataloader_drop_last=True, max_steps=1)
    run.train()
    assert "eval_matching" in run.evaluate()


def test_orders_by_length_follow_the_seed_in_every_trainer(trainer, family, rows, energy_trainer, token_energy):
    data = Dataset.from_list(rows)
    lengths = energy_trainer(token_energy(), data, train_sampling_strategy="group_by_length")
    assert isinstance(lengths._get_train_sampler(), EpochLengthGroupedSampler)
    rebalanced = [
        trainer(family("rnn_seq2seq"), data, train_sampling_strategy="batch_rebalance", seed=seed)._get_train_sampler()
        for seed in (1, 2, 1)
    ]
    assert list(rebalanced[0]) == list(rebalanced[2]) != list(rebalanced[1])
