"""What `test_gan_processes.py` runs in one process and, under torchrun, in two."""

from pathlib import Path

import torch
from tiny_runs import build, flat, report, rows, settings, tokenizer
from transformers import DataCollatorForSeq2Seq

from hf_localgan.models import DbmConfig, DbmModel, PairDiscriminator, PairDiscriminatorConfig
from hf_localgan.trainers.adversarial.gan_ael_config import GanAelConfig
from hf_localgan.trainers.adversarial.gan_ael_trainer import GanAelTrainer
from hf_localgan.trainers.adversarial.localgan_config import LocalGanConfig
from hf_localgan.trainers.adversarial.localgan_trainer import LocalGanTrainer
from hf_localgan.trainers.adversarial.monitor import ResponseMonitor

LOGGED = (
    "loss", "loss/generator", "loss/adversarial", "loss/radial", "loss/discriminator", "gan/real_accuracy",
    "gan/fake_accuracy", "gan/soft_length", "gan/delta_alpha", "gan/generator_grad_norm",
    "gan/discriminator_grad_norm", "eval_loss", "eval_ent_4", "eval_length",
)  # fmt: skip
STILL = {"noise_scale": 0.0, "mismatched_weight": 0.0}  # nothing is drawn: runs of one and of two processes agree
NOISY = {"noise_scale": 1.0, "dropout": 0.3}


class CountingMonitor(ResponseMonitor):
    measured = 0

    def measure(self, model):
        self.measured += 1
        return super().measure(model)


def discriminator(dropout: float) -> PairDiscriminator:
    torch.manual_seed(4)
    sizes = {"vocab_size": 16, "embedding_size": 4, "filters": 4, "widths": [1, 2], "head_size": 4}
    around = {"pad_token_id": 0, "bos_token_id": 1, "eos_token_id": 2}
    return PairDiscriminator(
        PairDiscriminatorConfig(**sizes, **around, dropout=dropout, embedding_dropout=dropout, initializer_range=1.0)
    )


def energy() -> DbmModel:
    torch.manual_seed(6)
    model = DbmModel(DbmConfig(query_size=4, response_size=4, hidden_size=5, top_size=3, vocab_size=16))
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.normal_(std=0.5)
    model.word_vectors.load(torch.randn(16, 4), range(4, 16))
    for scaler in (model.query_scaler, model.response_scaler):
        scaler.count.fill_(9)
    return model


class Runs:
    def __init__(self, processes: int, folder: Path):
        self.processes, self.folder, self.tokenizer = processes, folder, tokenizer()

    def train(self, name: str, output: str, cls=LocalGanTrainer, resume: str | None = None, **arguments) -> dict:
        """Eight updates of a global batch of 8 in two parts: warm-up of two, then one of each in turn."""
        dropout = arguments.pop("dropout", 0.0)
        arguments = {
            "max_steps": 8, "learning_rate": 0.1, "discriminator_learning_rate": 0.1, "discriminator_warmup_steps": 2,
            "discriminator_steps": 1, "max_soft_length": 5, "relaxation_top_k": 6, "eval_strategy": "steps",
            "eval_steps": 4, "sample_rows": 0, "collapse_share": 1.0, "collapse_length": 100.0, **arguments,
        }  # fmt: skip
        config = LocalGanConfig if cls is LocalGanTrainer else GanAelConfig
        parts = {"discriminator": discriminator(dropout)}
        if cls is LocalGanTrainer:
            parts["energy"] = energy()
        monitor = CountingMonitor(["a b c", "d e"], [["f g"], ["h"]], self.tokenizer, max_new_tokens=5)
        run = cls(
            build(name, dropout), config(str(self.folder / output), **settings(self.processes, **arguments)),
            train_dataset=rows(28, 1), eval_dataset=rows(5, 2), processing_class=self.tokenizer, monitor=monitor,
            data_collator=DataCollatorForSeq2Seq(self.tokenizer), **parts,
        )  # fmt: skip
        assert run.args.world_size == run.accelerator.num_processes == self.processes
        run.train(resume_from_checkpoint=resume and str(self.folder / resume))
        return {
            "steps": run.state.global_step,
            "generator": flat(run.model).tolist(),
            "discriminator": flat(run.discriminator).tolist(),
            "spread": run.energy.config.radius_spread if cls is LocalGanTrainer else None,
            "measured": monitor.measured,
            "log": {key: [row[key] for row in run.state.log_history if key in row] for key in LOGGED},
        }


def measure(processes: int, folder: Path) -> dict:
    runs = Runs(processes, folder)
    saved = {
        **NOISY,
        "radial_gradient": "score",
        "optim": "adamw_torch",
        "learning_rate": 3e-3,
        "save_strategy": "steps",
        "save_steps": 5,
    }
    return {
        "t5": runs.train("t5", "t5", **STILL),
        "bart": runs.train("bart", "bart", relaxation="softmax", relaxation_top_k=None, **STILL),
        "rnn_seq2seq": runs.train(
            "rnn_seq2seq",
            "rnn",
            teacher_forcing_weight=0.0,
            radial_target="cluster",
            radial_measure="distance",
            **STILL,
        ),
        # With a close bound many embeddings lie on it and are equal, and rounding decides which of them is the largest.
        "gan-ael": runs.train("rnn_seq2seq", "ael", cls=GanAelTrainer, weight_clip=0.7, **STILL),
        "parts": runs.train("t5", "parts", generator_parts="decoder", discriminator_parts="head", **STILL),
        "noisy": runs.train("t5", "noisy", **saved),
        "resumed": runs.train("t5", "noisy-resumed", resume="noisy/checkpoint-5", **saved),
    }


if __name__ == "__main__":
    report(measure)
