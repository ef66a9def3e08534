"""What `test_matching_two_processes.py` runs in one process and, under torchrun, in two."""

from pathlib import Path

import torch
from tiny_runs import flat, report, rows, tokenizer
from transformers import DataCollatorForSeq2Seq

from hf_localgan.models import PairDiscriminator, PairDiscriminatorConfig
from hf_localgan.trainers.matching.config import MatchingConfig
from hf_localgan.trainers.matching.trainer import MatchingTrainer

BATCH = 4  # of one process and one forward; 8 pairs make an update


def build(dropout: float) -> PairDiscriminator:
    torch.manual_seed(3)
    config = PairDiscriminatorConfig(
        vocab_size=16, embedding_size=4, filters=4, widths=[1, 2], head_size=4, dropout=dropout, embedding_dropout=0.0
    )
    return PairDiscriminator(config)


def train(name: str, processes: int, folder: Path, dropout: float = 0.0, resume: int | None = None) -> dict:
    args = MatchingConfig(
        str(folder / name), use_cpu=True, disable_tqdm=True, logging_steps=1, seed=5, learning_rate=1e-2, negatives=2,
        per_device_train_batch_size=BATCH, gradient_accumulation_steps=2 // processes, num_train_epochs=2,
        per_device_eval_batch_size=3, eval_strategy="epoch", eval_negatives=2, save_strategy="steps", save_steps=3,
    )  # fmt: skip
    words = tokenizer()
    run = MatchingTrainer(
        build(dropout), args, train_dataset=rows(32, 1), eval_dataset=rows(7, 2), processing_class=words,
        data_collator=DataCollatorForSeq2Seq(words),
    )  # fmt: skip
    assert run.args.world_size == run.accelerator.num_processes == processes
    run.train(resume_from_checkpoint=resume and str(folder / name / f"checkpoint-{resume}"))
    keys = ("loss", "eval_loss", "eval_matching", "eval_accuracy", "matching/real_accuracy", "matching/uncounted")
    return {
        "steps": run.state.global_step,
        "parameters": flat(run.model).tolist(),
        "log": {key: [row[key] for row in run.state.log_history if key in row] for key in keys},
        "scores": run.predict(rows(7, 2)).predictions.tolist(),
    }


def measure(processes: int, folder: Path) -> dict:
    return {
        "plain": train("plain", processes, folder),
        "dropout": train("dropout", processes, folder, dropout=0.3),
        "resumed": train("dropout", processes, folder, dropout=0.3, resume=6),
    }


if __name__ == "__main__":
    report(measure)
