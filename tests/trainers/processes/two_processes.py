"""What `test_two_processes.py` runs in one process and, under torchrun, in two."""

from pathlib import Path

import torch
from tiny_runs import build, flat, report, rows, settings, tokenizer
from transformers import DataCollatorForSeq2Seq

from hf_localgan.trainers import MleConfig, MleTrainer
from hf_localgan.trainers.base.sample_table import read_samples

ROWS = 68  # 17 batches of 4 over all processes: the last update of an epoch has one, the others two
EVALUATED = 7  # in batches of 2 for each of two processes, one example is repeated to fill the last


def accuracy(prediction) -> dict:
    """Counts the examples as well, so that a repeated one would show."""
    logits = prediction.predictions
    logits = torch.as_tensor(logits[0] if isinstance(logits, tuple) else logits)
    labels = torch.as_tensor(prediction.label_ids)
    kept = labels != -100
    return {"accuracy": (logits.argmax(-1) == labels)[kept].float().mean().item(), "examples": len(labels)}


class RecordingTrainer(MleTrainer):
    def compute_loss(self, model, inputs, return_outputs=False, num_items_in_batch=None):
        if self.model.training:
            self.record(**{"test/rank": torch.tensor([0.0, 2.0 * self.args.process_index])})
        return super().compute_loss(model, inputs, return_outputs, num_items_in_batch)


class Runs:
    def __init__(self, processes: int, folder: Path):
        self.processes, self.folder = processes, folder
        self.tokenizer = tokenizer()

    def trainer(self, model, output: str, compute_metrics=accuracy, **arguments) -> RecordingTrainer:
        arguments = {
            "per_device_eval_batch_size": 2, "num_train_epochs": 2, "eval_strategy": "epoch", "sample_rows": 2,
            "sample_max_new_tokens": 4, **arguments,
        }  # fmt: skip
        config = MleConfig(str(self.folder / output), **settings(self.processes, **arguments))
        return RecordingTrainer(
            model, config, train_dataset=rows(ROWS, 1),
            eval_dataset=rows(EVALUATED, 2), data_collator=DataCollatorForSeq2Seq(self.tokenizer),
            processing_class=self.tokenizer, compute_metrics=compute_metrics,
        )  # fmt: skip

    def train(self, name: str, sampling: str, fast_loss: bool) -> dict:
        run = self.trainer(
            build(name), f"{name}-{sampling}-{fast_loss}", train_sampling_strategy=sampling, fast_loss=fast_loss
        )
        assert run.args.world_size == run.accelerator.num_processes == self.processes
        run.train()
        assert run._separable is fast_loss
        history = run.state.log_history
        return {
            "parameters": flat(run.model).tolist(),
            "loss": [row["loss"] for row in history if "loss" in row],
            "eval": [[row[f"eval_{key}"] for key in ("loss", "tokens", "accuracy", "examples")]
                     for row in history if "eval_loss" in row],
            "terms": [row["test/rank"] for row in history if "test/rank" in row],
            "tokens_per_second": [row["tokens_per_second"] for row in history if "loss" in row],
            "samples": read_samples(run.args.output_dir + "/samples.parquet"),
        }  # fmt: skip

    def generate(self) -> dict:
        run = self.trainer(
            build("t5"), "generate", compute_metrics=lambda p: {"examples": len(p.predictions)},
            predict_with_generate=True, generation_max_length=5,
        )  # fmt: skip
        metrics = run.evaluate()
        return {"examples": metrics["eval_examples"], "loss": metrics["eval_loss"]}

    def resume(self, sampling: str) -> dict:
        """With dropout: whole, and from a checkpoint in the middle of the second epoch of 9 updates."""
        ends = []
        for name, start in (("whole", None), ("resumed", f"whole-{sampling}/checkpoint-12")):
            run = self.trainer(
                build("t5", dropout=0.3), f"{name}-{sampling}", save_strategy="steps", save_steps=12, sample_rows=0,
                train_sampling_strategy=sampling,
            )  # fmt: skip
            run.train(resume_from_checkpoint=start and str(self.folder / start))
            ends.append(flat(run.model))
        return {"steps": run.state.global_step, "difference": (ends[0] - ends[1]).abs().max().item()}


def measure(processes: int, folder: Path) -> dict:
    runs = Runs(processes, folder)
    measured = {
        f"{name} {sampling} {fast}": runs.train(name, sampling, fast)
        for name, sampling, fast in [
            ("t5", "random", True),
            ("t5", "group_by_length", False),
            ("rnn_seq2seq", "random", True),
        ]
    }
    measured["generate"] = runs.generate()
    measured["resume random"] = runs.resume("random")
    measured["resume group_by_length"] = runs.resume("group_by_length")
    return measured


if __name__ == "__main__":
    report(measure)
