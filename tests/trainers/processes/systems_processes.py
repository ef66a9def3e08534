"""What `test_systems_processes.py` runs in one process and, under torchrun, in two."""

from pathlib import Path

import torch
from tiny_runs import build, flat, report, rows, settings, tokenizer
from transformers import DataCollatorForSeq2Seq

from hf_localgan.decoding.sampling import Responses
from hf_localgan.models import PairDiscriminator, PairDiscriminatorConfig
from hf_localgan.trainers.adversarial.adver_regs_config import AdverRegsConfig
from hf_localgan.trainers.adversarial.adver_regs_trainer import AdverRegsTrainer
from hf_localgan.trainers.adversarial.aim_config import AimConfig, DaimConfig
from hf_localgan.trainers.adversarial.aim_trainer import AimTrainer, DaimTrainer

TIMES = ("epoch", "step", "tokens_per_second")


class FixedSamples(AdverRegsTrainer):
    """Samples that depend on the query alone, so that one process and two have the same."""

    def sample(self, inputs):
        sums = (inputs["input_ids"] * inputs["attention_mask"]).sum(dim=1, keepdim=True)
        labels = torch.cat([4 + sums % 8, 4 + sums % 7, torch.full_like(sums, 2)], dim=1)
        return Responses(
            {"input_ids": inputs["input_ids"], "attention_mask": inputs["attention_mask"], "labels": labels},
            torch.ones(len(labels), dtype=torch.bool),
        )

    def random_beginnings(self, labels):
        return labels[:, :2]


def discriminator(seed: int, dropout: float, **fields) -> PairDiscriminator:
    torch.manual_seed(seed)
    sizes = {"vocab_size": 16, "embedding_size": 4, "filters": 4, "widths": [1, 2], "head_size": 4}
    around = {"pad_token_id": 0, "bos_token_id": 1, "eos_token_id": 2, "initializer_range": 1.0}
    return PairDiscriminator(
        PairDiscriminatorConfig(**sizes, **around, dropout=dropout, embedding_dropout=dropout, **fields)
    )


class Runs:
    def __init__(self, processes: int, folder: Path):
        self.processes, self.folder, self.tokenizer = processes, folder, tokenizer()

    def train(self, name: str, output: str, cls, config, resume: str | None = None, **arguments) -> dict:
        """Updates of a global batch of 8 in two parts."""
        dropout = arguments.pop("dropout", 0.0)
        parts = {
            "discriminator": discriminator(4, dropout, **({} if config is AdverRegsConfig else {"head": "cosine"}))
        }
        if config is not AdverRegsConfig:
            parts["backward"] = build("rnn_seq2seq", dropout)
        if config is DaimConfig:
            parts["backward_discriminator"] = discriminator(5, dropout, head="cosine")
        arguments = {
            "max_steps": 6, "learning_rate": 0.1, "discriminator_learning_rate": 0.1, "discriminator_warmup_steps": 1,
            "sample_rows": 0, "monitor_queries": 0, **arguments,
        }  # fmt: skip
        run = cls(
            build(name, dropout), config(str(self.folder / output), **settings(self.processes, **arguments)),
            train_dataset=rows(28, 1), processing_class=self.tokenizer,
            data_collator=DataCollatorForSeq2Seq(self.tokenizer), **parts,
        )  # fmt: skip
        assert run.args.world_size == run.accelerator.num_processes == self.processes
        run.train(resume_from_checkpoint=resume and str(self.folder / resume))
        lines = [row for row in run.state.log_history if "loss" in row]
        return {
            "parts": {key: flat(part).tolist() for key, part in {"generator": run.model, **run.parts}.items()},
            "log": [{key: value for key, value in row.items() if key not in TIMES} for row in lines],
        }


def measure(processes: int, folder: Path) -> dict:
    runs = Runs(processes, folder)
    soft = {"max_soft_length": 5, "relaxation_top_k": 6}
    still = {**soft, "noise_scale": 0.0, "latent_noise_scale": 0.0}
    dual = {"backward_learning_rate": 0.1, "backward_discriminator_learning_rate": 0.1}
    saved = {
        **soft, **dual, "noise_scale": 1.0, "dropout": 0.3, "optim": "adamw_torch", "save_strategy": "steps",
        "save_steps": 4, "learning_rate": 3e-3,
    }  # fmt: skip
    return {
        "adver-regs": runs.train("t5", "regs", FixedSamples, AdverRegsConfig, mismatched_weight=0.0),
        "aim": runs.train("rnn_seq2seq", "aim", AimTrainer, AimConfig, backward_update="real", **still),
        "daim": runs.train("t5", "daim", DaimTrainer, DaimConfig, **still, **dual),
        "noisy": runs.train("rnn_seq2seq", "noisy", DaimTrainer, DaimConfig, **saved),
        "resumed": runs.train(
            "rnn_seq2seq", "noisy-resumed", DaimTrainer, DaimConfig, resume="noisy/checkpoint-4", **saved
        ),
    }


if __name__ == "__main__":
    report(measure)
