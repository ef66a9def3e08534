"""A table of sample generations, shown while the generator trains."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any, Protocol

from rich.table import Table
from rich.text import Text
from torch import Tensor
from transformers import (
    PreTrainedModel,
    PreTrainedTokenizerBase,
    TrainerCallback,
    TrainerControl,
    TrainerState,
    TrainingArguments,
)
from transformers.data.data_collator import pad_without_fast_tokenizer_warning

from hf_localgan.decoding.answers import Decoding, evaluation_mode, generate_answers
from hf_localgan.files import replacing
from hf_localgan.terminal import report_console
from hf_localgan.trainers.base.settings import TokenLossConfig, output_folder

COLUMNS = ("step", "query", "reference", "generation")
LONGEST = 30  # tokens of a generation where `sample_max_new_tokens` says nothing


class TableTrainer(Protocol):
    """What a sample table needs from its trainer."""

    args: TokenLossConfig
    model: PreTrainedModel
    processing_class: PreTrainedTokenizerBase | None
    accelerator: Any
    is_in_train: bool

    def track_table(self, name: str, columns: Sequence[str], rows: Sequence[dict[str, Any]]): ...


def sample_table(rows: list[dict[str, Any]], title: str) -> Table:
    """Rows of `query`, `reference` and `generation` as a rich table."""
    table = Table(title=title, title_justify="left", expand=True)
    for column in COLUMNS[1:]:
        table.add_column(column, ratio=1, overflow="fold")
    for row in rows:
        table.add_row(*(Text(row[column]) for column in COLUMNS[1:]))  # as `Text`, brackets are no markup
    return table


def read_samples(path: str | Path) -> list[dict[str, Any]]:
    """The rows of a `samples.parquet`, with the columns `step`, `query`, `reference` and `generation`."""
    import pyarrow.parquet as parquet

    return parquet.read_table(path).to_pylist()


class SampleTableCallback(TrainerCallback):
    """Answers the same queries at each evaluation while training.

    The table goes to the console, to the active trackers, and with all earlier tables into `samples.parquet` in the
    output folder. The global random state is restored, so training is the same with and without the table.

    Args:
        trainer: the trainer, whose model answers and whose tokenizer decodes.
        examples: rows of `input_ids`, `attention_mask` (if there is padding) and `labels`.
        decoding: how the queries are answered, by default greedily.
    """

    def __init__(self, trainer: TableTrainer, examples: list[dict[str, Any]], decoding: Decoding | None = None):
        self.trainer = trainer
        self.examples = examples
        self.decoding = Decoding.greedy() if decoding is None else decoding
        self.rows: list[dict[str, Any]] = []

    def on_train_begin(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs):
        if not state.is_world_process_zero:
            return
        path = _path(args)
        for leftover in path.parent.glob(".samples-*.parquet"):  # from a process that was killed while it wrote
            leftover.unlink()
        earlier = read_samples(path) if state.global_step and path.exists() else []
        # Rows of later steps come from a run that was interrupted after the checkpoint that is resumed.
        self.rows = [row for row in earlier if row["step"] <= state.global_step]

    def on_evaluate(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs):
        if not (state.is_world_process_zero and self.examples and self.trainer.is_in_train):
            return
        if self.rows and self.rows[-1]["step"] == state.global_step:  # several data sets are evaluated at this step
            return
        rows = [{"step": state.global_step, **row} for row in self.answer(self.trainer.args)]
        _write_samples(_path(args), self.rows + rows)
        self.rows += rows
        if not args.disable_tqdm:
            report_console().print(sample_table(rows, f"step {state.global_step}"))
        self.trainer.track_table("samples", COLUMNS, rows)

    def answer(self, args: TokenLossConfig) -> list[dict[str, str]]:
        """Query, reference and generation of each example, as text."""
        trainer, tokenizer = self.trainer, self.trainer.processing_class
        assert tokenizer is not None
        model = trainer.accelerator.unwrap_model(trainer.model)
        columns = ("input_ids", "attention_mask")
        features = [{name: row[name] for name in columns if name in row} for row in self.examples]
        batch = pad_without_fast_tokenizer_warning(tokenizer, features, return_tensors="pt").to(model.device)
        with evaluation_mode(model, args.seed):
            generated = generate_answers(
                self.decoding, model, batch, tokenizer=tokenizer, max_new_tokens=args.sample_max_new_tokens or LONGEST
            )
        return [
            {
                "query": decode_tokens(tokenizer, row["input_ids"]),
                "reference": decode_tokens(tokenizer, row["labels"]),
                "generation": decode_tokens(tokenizer, tokens[1:]),  # behind the start token
            }
            for row, tokens in zip(self.examples, generated, strict=True)
        ]


def decode_tokens(tokenizer: PreTrainedTokenizerBase, ids: Sequence[int] | Tensor) -> str:
    """The text of one sequence without padding, start and end; other special tokens such as `<unk>` are shown."""
    hidden = {-100, tokenizer.pad_token_id, tokenizer.bos_token_id, tokenizer.eos_token_id}
    return str(tokenizer.decode([token for token in map(int, ids) if token not in hidden]))


def _path(args: TrainingArguments) -> Path:
    return output_folder(args) / "samples.parquet"


def _write_samples(path: Path, rows: list[dict[str, Any]]):
    import pyarrow
    import pyarrow.parquet as parquet

    with replacing(path) as temporary:
        parquet.write_table(pyarrow.Table.from_pylist(rows), temporary)
