"""What `test_publishing.py` runs in two processes: a training that pushes, and one that goes on from the Hub."""

import shutil
from pathlib import Path

from tiny_runs import build, flat, report, rows, settings, tokenizer
from transformers import DataCollatorForSeq2Seq

from hf_localgan.trainers import MleConfig, MleTrainer


def train(folder: Path, processes: int, steps: int, resume: str | None = None) -> MleTrainer:
    arguments = settings(processes, max_steps=steps, save_strategy="steps", save_steps=2, hub_always_push=True)
    arguments |= {"lr_scheduler_type": "constant", "sample_rows": 0}
    args = MleConfig(
        str(folder), **arguments, push_to_hub=True, hub_model_id="somebody/tiny", hub_strategy="checkpoint"
    )
    words = tokenizer()
    run = MleTrainer(
        build("rnn_seq2seq", dropout=0.2), args, train_dataset=rows(32, 1), processing_class=words,
        data_collator=DataCollatorForSeq2Seq(words),
    )  # fmt: skip
    assert run.accelerator.num_processes == processes
    run.train(resume_from_checkpoint=resume)
    return run


def measure(processes: int, folder: Path) -> dict:
    begun = train(folder / "begun", processes, 2)
    begun.push_to_hub()
    begun.accelerator.wait_for_everyone()
    if begun.is_world_process_zero():
        shutil.rmtree(folder / "begun")
    begun.accelerator.wait_for_everyone()
    resumed = train(folder / "begun", processes, 4, "last-checkpoint")
    own = flat(resumed.model)
    whole = train(folder / "whole", processes, 4)
    return {"steps": resumed.state.global_step, "equal": bool((own == flat(whole.model)).all())}


if __name__ == "__main__":
    report(measure)
