"""The order and the number of the examples that a trainer trains on."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import datasets
from torch.utils.data import DataLoader, Dataset, IterableDataset
from transformers import Trainer
from transformers.trainer_pt_utils import BatchRebalanceSampler, LengthGroupedSampler
from transformers.trainer_utils import has_length

from hf_localgan.trainers.base.launching import warn_once
from hf_localgan.trainers.base.length_grouping import EpochLengthGroupedSampler
from hf_localgan.trainers.base.method import MethodMixin
from hf_localgan.trainers.base.streams import StreamPosition, arranged, saved_pass

SOURCES = ("input_ids", "input_features")  # columns whose length counts where no column holds the lengths


class DataOrderMixin(MethodMixin, Trainer):
    """Orders the training data by the seed and the epoch alone, streams included, and evaluates all rows.

    A stream is shuffled through a buffer of `stream_buffer_size` rows, anew in each pass. With `group_by_length` its
    batches are made of rows of about equal length, and with `dataloader_drop_last` a last batch that is not full is
    left out. Batches at the end of a pass that do not fill an update of `gradient_accumulation_steps` are left out. A
    resumed run goes on in the pass and at the batch where its checkpoint was written. (For the stock Trainer streams
    are never shuffled, both settings do nothing, and a resumed run starts over in the first pass.) Rows are grouped by
    the column `length_column_name`, where there is one; evaluations by the length of the source.

    `dataloader_drop_last` is about training alone: evaluations count every row.
    """

    def __init__(self, *args: Any, **kwargs: Any):
        super().__init__(*args, **kwargs)
        if self._is_endless:
            self.add_callback(StreamPosition())

    @property
    def _is_endless(self) -> bool:
        """Whether the training data are a stream without a length, which begins anew until `max_steps` are made."""
        return isinstance(self.train_dataset, IterableDataset) and not has_length(self.train_dataset)

    @property
    def _order_seed(self) -> int:
        return self.args.seed if self.args.data_seed is None else self.args.data_seed

    # ---- loaders ----

    def get_train_dataloader(self) -> DataLoader:
        given = self.train_dataset
        if isinstance(given, IterableDataset):
            self.train_dataset = self._arranged(given)
        try:
            loader = super().get_train_dataloader()
        finally:
            self.train_dataset = given
        self._refuse_no_batch(loader)
        return loader

    def _arranged(self, stream: IterableDataset) -> IterableDataset:
        args, length = self.args, None
        strategy, buffer_size = args.train_sampling_strategy, args.stream_buffer_size
        if strategy == "group_by_length":
            length = self._row_length
            warn_once(
                "`train_sampling_strategy: group_by_length`: the lengths of a stream are not known beforehand, so its "
                f"batches are grouped within the next rows alone, after shuffling through a buffer of {buffer_size:,}."
            )
        elif strategy == "batch_rebalance":
            warn_once(
                "`train_sampling_strategy: batch_rebalance` cannot be had for a stream, whose lengths are not known "
                f"beforehand: its rows are shuffled through a buffer of {buffer_size:,}. Set `group_by_length` for "
                "batches of about equal length, or load the data without streaming."
            )
        batch_size = self._train_batch_size * args.world_size
        return arranged(
            stream, seed=self._order_seed, buffer_size=1 if strategy == "sequential" else buffer_size, length=length,
            batch_size=batch_size * args.gradient_accumulation_steps,
            whole=batch_size if args.dataloader_drop_last else 1,
        )  # fmt: skip

    def _row_length(self, row: Any) -> int:
        if self.args.length_column_name in row:
            return int(row[self.args.length_column_name])
        source = next((name for name in SOURCES if name in row), None)
        if source is None:
            raise ValueError(
                "`train_sampling_strategy: group_by_length` needs the length of each row of the stream, and there is "
                f"neither a `{self.args.length_column_name}` nor a `{SOURCES[0]}` column (found: "
                f"{', '.join(f'`{name}`' for name in row)}). Make the data set by `encode_pairs`, or leave the "
                "setting out."
            )
        return len(row[source])

    def _refuse_no_batch(self, loader: DataLoader):
        if not (has_length(loader) and len(loader) == 0):
            return
        rows, batch = len(self.train_dataset), self._train_batch_size * self.args.world_size  # type: ignore[arg-type]
        raise ValueError(
            f"`train_dataset` has {rows} rows, which is less than one batch of {batch} on all processes, and "
            "`dataloader_drop_last: true` leaves out batches that are not full, so nothing would be trained. Set it to "
            f"false, or set `per_device_train_batch_size` (now {self._train_batch_size}) to {rows} or less in all."
        )

    def _get_train_sampler(self, train_dataset: Dataset | None = None) -> Any:
        column, given = self.args.length_column_name, self.train_dataset
        if isinstance(given, datasets.Dataset) and column in given.column_names:
            # By now the columns that the model does not take are gone, this one among them, and the Trainer would count
            # the tokens of each source, row by row.
            train_dataset = given.select_columns([column]).with_format("numpy")
        sampler = super()._get_train_sampler(train_dataset)
        if isinstance(sampler, BatchRebalanceSampler):
            sampler.seed = self._order_seed  # a constant of its own by default
        if not isinstance(sampler, LengthGroupedSampler):
            return sampler
        # The stock sampler draws from the global random state, which a resumed run does not have, and which differs
        # between processes once dropout has drawn from it.
        batch_size = self.args.train_batch_size * self.args.gradient_accumulation_steps * self.args.world_size
        return EpochLengthGroupedSampler(batch_size, sampler.lengths[:], self._order_seed, lambda: self.state.epoch)

    @contextmanager
    def _keeping_all_rows(self) -> Iterator[None]:
        drop_last = self.args.dataloader_drop_last
        self.args.dataloader_drop_last = False
        try:
            yield
        finally:
            self.args.dataloader_drop_last = drop_last

    def get_eval_dataloader(self, eval_dataset: Any = None) -> DataLoader:
        with self._keeping_all_rows():
            return super().get_eval_dataloader(eval_dataset)

    def get_test_dataloader(self, test_dataset: Any) -> DataLoader:
        with self._keeping_all_rows():
            return super().get_test_dataloader(test_dataset)

    # ---- passes over a stream ----

    def get_batch_samples(self, epoch_iterator: Iterator, num_batches: int, device: Any) -> Any:
        try:
            batches, number = super().get_batch_samples(epoch_iterator, num_batches, device)
        except ValueError as error:  # accelerate's, for a pass without a batch
            if not (self._is_endless and "does not contain any data" in str(error)):
                raise
            return [], None
        if self._is_endless and len(batches) < num_batches:
            return [], number  # the Trainer would leave their gradients to the first update of the next pass
        return batches, number

    def _init_training_state(
        self, max_steps, num_update_steps_per_epoch, num_train_epochs, resume_from_checkpoint, trial
    ) -> tuple[int, int]:
        progress = super()._init_training_state(
            max_steps, num_update_steps_per_epoch, num_train_epochs, resume_from_checkpoint, trial
        )
        last = saved_pass(self.state) if self._is_endless and resume_from_checkpoint is not None else None
        if last is None:
            return progress
        updates = 0 if self.args.ignore_data_skip else self.state.global_step - last.first_step
        return last.number, updates * self.args.gradient_accumulation_steps

    def _run_epoch(self, *args: Any, **kwargs: Any):
        before, resumed = self.state.global_step, kwargs.get("resume_from_checkpoint") is not None
        super()._run_epoch(*args, **kwargs)
        is_whole_pass = not (resumed and kwargs.get("epoch") == kwargs.get("epochs_trained"))
        if self._is_endless and is_whole_pass and self.state.global_step == before:
            size = (
                f"An update takes `gradient_accumulation_steps` {self.args.gradient_accumulation_steps} batches of "
                f"{self._train_batch_size * self.args.world_size} rows."
            )
            if before == 0:
                raise ValueError(
                    "The stream of `train_dataset` ended before the first update, so nothing would be trained. "
                    f"{size} Give more rows, or make the batches smaller."
                )
            raise ValueError(
                f"The stream of `train_dataset` gave no rows for a further pass after {before} of "
                f"{self.args.max_steps} updates. {size} Give a stream that starts over, such as one of "
                f"the `datasets` library, or set `max_steps` to {before} or less."
            )
