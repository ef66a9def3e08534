"""What `test_expected_reward_processes.py` runs in one process and, under torchrun, in two."""

from pathlib import Path

import torch
from tiny_runs import build, flat, report, settings, tokenizer
from transformers import DataCollatorForSeq2Seq

from hf_localgan.trainers.expected_reward.config import ExpectedRewardConfig
from hf_localgan.trainers.expected_reward.trainer import ExpectedRewardTrainer


def rows(number: int) -> list[dict]:
    draw = torch.Generator().manual_seed(1)
    made = []
    for _ in range(number):
        query, response = ((torch.randint(4, 12, (3,), generator=draw).tolist() + [2]) for _ in range(2))
        made.append({"input_ids": query, "attention_mask": [1] * 4, "labels": response})
    return made


class Recording(ExpectedRewardTrainer):
    """Keeps its samples."""

    samples: list

    def sample(self, inputs):
        drawn = super().sample(inputs)
        self.samples.append(drawn[0]["labels"].tolist())
        return drawn


class Fixed(ExpectedRewardTrainer):
    """Samples that depend on the query alone, so that one process and two have the same."""

    samples: list

    def sample(self, inputs):
        number = self.args.num_samples
        repeated = {name: inputs[name].repeat_interleave(number, dim=0) for name in ("input_ids", "attention_mask")}
        drawn = [[4 + (int(query.sum()) * (k + 1)) % 12, 4 + k] for query in inputs["input_ids"] for k in range(number)]
        return {**repeated, "labels": torch.tensor(drawn)}, torch.zeros(len(drawn), dtype=torch.bool)


def overlap(candidate, reference) -> float:
    return len(set(candidate) & set(reference)) / 4 - len(candidate) / 50


def train(cls, name: str, processes: int, folder: Path, dropout: float, **arguments) -> dict:
    words = tokenizer()
    arguments = {"max_steps": 4, "policy_max_new_tokens": 4, "num_samples": 3, "temperature": 0.02, **arguments}
    config = ExpectedRewardConfig(
        str(folder / f"{cls.__name__}-{name}"), **settings(processes, mle_weight=0.2, **arguments)
    )
    run = cls(
        build(name, dropout), config, reward=overlap, train_dataset=rows(32),
        data_collator=DataCollatorForSeq2Seq(words), processing_class=words,
    )  # fmt: skip
    assert run.args.world_size == run.accelerator.num_processes == processes
    run.samples = []
    run.train()
    history = run.state.log_history
    return {
        "parameters": flat(run.model).tolist(),
        "logged": [[row[key] for key in ("loss", "policy/reward", "policy/baseline", "policy/entropy")]
                   for row in history if "loss" in row],
        "running_mean": run.running_mean.value,
        "samples": run.samples,
    }  # fmt: skip


def measure(processes: int, folder: Path) -> dict:
    measured = {}
    for name in ("t5", "bart", "rnn_seq2seq"):
        measured[f"sampled {name}"] = train(Recording, name, processes, folder, 0.2, baseline="mean")
        measured[f"fixed {name}"] = train(Fixed, name, processes, folder, 0.0)
    return measured


if __name__ == "__main__":
    report(measure)
