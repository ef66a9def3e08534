"""What `test_raml_two_processes.py` runs in one process and, under torchrun, in two."""

from pathlib import Path

from datasets import Dataset
from tiny_runs import build, flat, report, rows, settings, tokenizer
from transformers import DataCollatorForSeq2Seq

from hf_localgan.trainers.raml.config import RamlConfig
from hf_localgan.trainers.raml.trainer import RamlTrainer

ROWS = 44  # 11 batches of 4 over all processes: the last update of an epoch has one, the others two
RUNS = {
    "edit": {"payoff": "edit", "temperature": 1.5, "temperature_schedule": "linear", "num_samples": 2},
    "weighted": {
        "payoff": "importance", "temperature": 0.3, "proposal": "edit", "proposal_temperature": 1.5,
        "num_candidates": 3, "weighted": True,
    },
    "similar": {
        "payoff": "weighted_hamming", "edit_rate": 0.3, "neighbours": 3, "temperature_schedule": "cosine_to_zero",
    },
    "unigram": {"payoff": "edit", "temperature": 1.5, "base_measure": "unigram"},
    "local scale": {"payoff": "edit", "temperature": 1.5, "average_tokens_across_devices": False},
    "stream": {"temperature": 1.5, "temperature_schedule": "cosine", "max_steps": 5},
}  # fmt: skip


class Watched(RamlTrainer):
    """Keeps the labels that each update was made of."""

    def __init__(self, *args, **kwargs):
        self.seen: dict[int, list] = {}
        super().__init__(*args, **kwargs)

    def compute_loss(self, model, inputs, *args, **kwargs):
        labels = [[token for token in row if token != -100] for row in inputs["labels"].tolist()]
        self.seen.setdefault(self.state.global_step, []).extend(labels)
        return super().compute_loss(model, inputs, *args, **kwargs)


def train(name: str, processes: int, folder: Path, resume: int | None = None) -> dict:
    words = tokenizer()
    data, collator = rows(ROWS, seed=1), DataCollatorForSeq2Seq(words)
    if name == "stream":  # one process makes the batches of both, and joins them: they must be equally long
        data = Dataset.from_list(data).to_iterable_dataset()
        collator = DataCollatorForSeq2Seq(words, pad_to_multiple_of=16)
    arguments = settings(processes, num_train_epochs=2, save_strategy="steps", save_steps=3, **RUNS[name])
    args = RamlConfig(str(folder / name), **arguments)
    run = Watched(build("t5"), args, data_collator=collator, train_dataset=data, processing_class=words)
    assert run.args.world_size == run.accelerator.num_processes == processes
    run.train(resume_from_checkpoint=resume and str(folder / name / f"checkpoint-{resume}"))
    lines = [row for row in run.state.log_history if "loss" in row]
    keys = {key for row in lines for key in row if key.startswith("raml/")} | {"loss"}
    return {
        "parameters": flat(run.model).tolist(),
        "seen": {str(step): labels for step, labels in run.seen.items()},
        "log": {key: [row[key] for row in lines] for key in sorted(keys)},
    }


def measure(processes: int, folder: Path) -> dict:
    measured = {name: train(name, processes, folder) for name in RUNS}
    measured["stream resumed"] = train("stream", processes, folder, resume=3)
    return measured


if __name__ == "__main__":
    report(measure)
