"""What the generator says, shown while it trains."""

from pathlib import Path

import torch
from rich.console import Console
from rich.table import Table
from transformers import TrainerCallback

from hf_localgan.files import replacing

COLUMNS = ("step", "query", "reference", "generation")


def sample_table(rows: list[dict], title: str) -> Table:
    """Rows of `query`, `reference` and `generation` as a rich table."""
    table = Table(title=title, title_justify="left", expand=True)
    for column in COLUMNS[1:]:
        table.add_column(column, ratio=1, overflow="fold")
    for row in rows:
        table.add_row(*(row[column] for column in COLUMNS[1:]))
    return table


def read_samples(path: str | Path) -> list[dict]:
    """The rows of a `samples.parquet`, with the columns `step`, `query`, `reference` and `generation`."""
    import pyarrow.parquet as parquet

    return parquet.read_table(path).to_pylist()


class SampleTableCallback(TrainerCallback):
    """Answers the same queries greedily at each evaluation.

    The table goes to the console, to TensorBoard or trackio where they are on, and with all earlier ones into
    `samples.parquet` in the output folder. Greedy decoding draws nothing, so training is the same with and without it.
    """

    def __init__(self, trainer, examples: list[dict]):
        self.trainer = trainer
        self.examples = examples

    def on_evaluate(self, args, state, control, **kwargs):
        if not state.is_world_process_zero or not self.examples:
            return
        path = Path(args.output_dir) / "samples.parquet"
        # Rows of later steps are from a run that was interrupted after them and resumed before.
        earlier = [row for row in read_samples(path) if row["step"] < state.global_step] if path.exists() else []
        rows = [{"step": state.global_step, **row} for row in self.answer(args)]
        _write_samples(path, earlier + rows)
        if not args.disable_tqdm:
            Console().print(sample_table(rows, f"step {state.global_step}"))
        self._report(rows, state.global_step)

    @torch.no_grad()
    def answer(self, args) -> list[dict[str, str]]:
        """Query, reference and greedy generation of each example, as text."""
        trainer, tokenizer = self.trainer, self.trainer.processing_class
        model = trainer.accelerator.unwrap_model(trainer.model)
        columns = ("input_ids", "attention_mask")
        features = [{name: row[name] for name in columns if name in row} for row in self.examples]
        batch = tokenizer.pad(features, return_tensors="pt").to(model.device)
        training = model.training
        model.eval()
        generated = model.generate(**batch, max_new_tokens=args.sample_max_new_tokens, do_sample=False, num_beams=1)
        model.train(training)
        labels = [[token for token in row["labels"] if token != -100] for row in self.examples]
        decoded = (
            tokenizer.batch_decode(ids, skip_special_tokens=True) for ids in (batch["input_ids"], labels, generated)
        )
        return [dict(zip(COLUMNS[1:], texts, strict=True)) for texts in zip(*decoded, strict=True)]

    def _report(self, rows: list[dict], step: int):
        for callback in self.trainer.callback_handler.callbacks:
            kind = type(callback).__name__
            if kind == "TensorBoardCallback" and getattr(callback, "tb_writer", None) is not None:
                callback.tb_writer.add_text("samples", _markdown(rows), step)
            elif kind == "TrackioCallback" and getattr(callback, "_initialized", False):
                import trackio

                trackio.log(
                    {"samples": trackio.Table(columns=list(COLUMNS), data=[[row[c] for c in COLUMNS] for row in rows])}
                )


def _markdown(rows: list[dict]) -> str:
    lines = ["| " + " | ".join(COLUMNS[1:]) + " |", "| --- " * 3 + "|"]
    lines += ["| " + " | ".join(row[column].replace("|", "\\|") for column in COLUMNS[1:]) + " |" for row in rows]
    return "\n".join(lines)


def _write_samples(path: Path, rows: list[dict]):
    import pyarrow
    import pyarrow.parquet as parquet

    with replacing(path) as temporary:
        parquet.write_table(pyarrow.Table.from_pylist(rows), temporary)
