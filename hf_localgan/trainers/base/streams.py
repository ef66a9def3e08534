"""Streams as training data: shuffled anew in each pass, grouped by length, and resumed where they stopped."""

from collections.abc import Callable, Iterable, Iterator
from itertools import islice
from typing import Any, NamedTuple

import datasets
import numpy as np
import torch
from torch.utils.data import IterableDataset, get_worker_info
from transformers import TrainerCallback, TrainerControl, TrainerState, TrainingArguments
from transformers.trainer_callback import ExportableState

from hf_localgan.trainers.base.callbacks import resumed_attributes, saved_states

GROUPED_BATCHES = 50  # batches that are made of rows sorted together, as in transformers' sampler


def arranged(
    stream: IterableDataset,
    *,
    seed: int,
    buffer_size: int,
    length: Callable[[Any], int] | None = None,
    batch_size: int = 1,
    whole: int = 1,
) -> IterableDataset:
    """A stream whose rows come in another order in each pass; arguments as for `ArrangedStream`.

    A stream of the `datasets` library shuffles itself, its shards as well, and stays one if it can, so that its shards
    are shared out over processes.
    """
    if isinstance(stream, datasets.IterableDataset) and buffer_size > 1:
        stream, buffer_size = stream.shuffle(seed=seed, buffer_size=buffer_size), 1
    if buffer_size == whole == 1 and length is None:
        return stream
    return ArrangedStream(
        stream, seed=seed, buffer_size=buffer_size, length=length, batch_size=batch_size, whole=whole
    )  # fmt: skip


class ArrangedStream(IterableDataset):
    """A stream whose rows come in an order that depends on the seed, the pass and the loader's worker alone.

    Args:
        stream: any stream of torch. One that draws its order itself draws by its method `set_epoch` or its attribute
            `generator`, as transformers' Trainer asks for.
        seed: seed of the order.
        buffer_size: rows that are held and drawn from at random; 1 keeps the stream's order.
        length: returns a row's length, to make batches of rows of about equal length; `None` to leave them mixed.
        batch_size: rows of a batch that is grouped by length.
        whole: leave out the last rows of a pass that fill no `whole` rows; 1 keeps all.
    """

    def __init__(
        self,
        stream: IterableDataset,
        *,
        seed: int,
        buffer_size: int,
        length: Callable[[Any], int] | None = None,
        batch_size: int = 1,
        whole: int = 1,
    ):
        self.stream: Any = stream
        self.seed, self.buffer_size, self.length = seed, buffer_size, length
        self.batch_size, self.whole = batch_size, whole
        self._epoch = torch.tensor(0).share_memory_()  # for workers that live on from pass to pass

    def __len__(self) -> int:
        rows = len(self.stream)  # a `TypeError` where it has no length
        return rows // self.whole * self.whole

    @property
    def num_shards(self) -> int:
        """Shards of the stream, which bound the number of workers that get rows."""
        return self.stream.num_shards

    def set_epoch(self, epoch: int):
        """Sets the number of the pass that begins next."""
        self._epoch.fill_(epoch)
        generator = getattr(self.stream, "generator", None)
        if hasattr(self.stream, "set_epoch"):
            self.stream.set_epoch(epoch)
        elif isinstance(generator, torch.Generator):
            generator.manual_seed(self.seed + epoch)

    def __iter__(self) -> Iterator[Any]:
        worker = get_worker_info()
        draw = np.random.default_rng([self.seed, int(self._epoch), 0 if worker is None else worker.id])
        rows: Iterable[Any] = self.stream
        if self.buffer_size > 1:
            rows = shuffled(rows, self.buffer_size, draw)
        if self.length is not None:
            rows = grouped(rows, self.length, self.batch_size, draw)
        return iter(rows) if self.whole == 1 else whole_batches(rows, self.whole)


def shuffled(rows: Iterable[Any], buffer_size: int, draw: np.random.Generator) -> Iterator[Any]:
    """The rows in an order drawn through a buffer: each place in the buffer is equally likely to be the next row."""
    source = iter(rows)
    buffer = list(islice(source, buffer_size))
    for row in source:
        place = int(draw.integers(len(buffer)))
        yield buffer[place]
        buffer[place] = row
    draw.shuffle(buffer)  # type: ignore[arg-type]  # lists are shuffled, too
    yield from buffer


def grouped(
    rows: Iterable[Any], length: Callable[[Any], int], batch_size: int, draw: np.random.Generator
) -> Iterator[Any]:
    """The rows so that every `batch_size` of them have about equal lengths; batches come in random order.

    `GROUPED_BATCHES` batches are sorted together. A last batch that is not full comes last.
    """
    source = iter(rows)
    while chunk := list(islice(source, GROUPED_BATCHES * batch_size)):
        chunk.sort(key=length, reverse=True)
        full = len(chunk) // batch_size
        for batch in draw.permutation(full):
            yield from chunk[batch * batch_size : (batch + 1) * batch_size]
        yield from chunk[full * batch_size :]


def whole_batches(rows: Iterable[Any], size: int) -> Iterator[Any]:
    """The rows without the last ones that fill no batch of `size`."""
    source = iter(rows)
    while len(batch := list(islice(source, size))) == size:
        yield from batch


class StreamPass(NamedTuple):
    """The pass over a stream that a training was in.

    Attributes:
        number: counted from 0.
        first_step: updates before the pass.
    """

    number: int
    first_step: int


class StreamPosition(TrainerCallback, ExportableState):
    """Keeps the pass over a stream in every checkpoint: the Trainer takes all passes over a stream for one epoch."""

    def __init__(self):
        self.number, self.first_step = -1, 0
        self._resumes = False

    def on_train_begin(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs):
        saved = resumed_attributes(self, state)
        self._resumes = state.global_step > 0
        self.number, self.first_step = saved.get("number", 0 if self._resumes else -1), saved.get("first_step", 0)

    def on_epoch_begin(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs):
        if not self._resumes:
            self.number, self.first_step = self.number + 1, state.global_step
        self._resumes = False

    def state(self) -> dict[str, Any]:
        return {"args": {}, "attributes": {"number": self.number, "first_step": self.first_step}}


def saved_pass(state: TrainerState) -> StreamPass | None:
    """The pass that a resumed checkpoint was written in; `None` in a new training and where none was kept."""
    saved = saved_states(state).get(StreamPosition.__name__) if state.global_step else None
    attributes = saved.get("attributes", {}) if isinstance(saved, dict) else {}
    if attributes.get("number", -1) < 0:
        return None
    return StreamPass(attributes["number"], attributes["first_step"])
