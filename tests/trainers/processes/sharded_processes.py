"""What `test_sharded_processes.py` runs in one process and, under torchrun with sharded parameters, in two.

accelerate shards on accelerators only. Here it is told that its processes have some, whose backend is gloo: what is
wrapped, sharded, gathered and saved is then as on GPUs, by the same code.
"""

import os
from pathlib import Path

import torch
from accelerate.state import PartialState
from accelerate.utils import DistributedType
from safetensors.torch import load_file
from tiny_runs import build, report, rows, settings, tokenizer
from transformers import DataCollatorForSeq2Seq

from hf_localgan.models import RnnSeq2SeqConfig, RnnSeq2SeqForConditionalGeneration
from hf_localgan.trainers import MleConfig, MleTrainer, RamlConfig, RamlTrainer, mle_config

# As `accelerate launch` tells what recipes/accelerate_configs/gpu_fsdp.yaml says.
SHARDING = {
    "ACCELERATE_USE_FSDP": "true", "FSDP_VERSION": "2", "FSDP_AUTO_WRAP_POLICY": "NO_WRAP",
    "FSDP_RESHARD_AFTER_FORWARD": "true", "FSDP_STATE_DICT_TYPE": "FULL_STATE_DICT",
    "FSDP_CPU_RAM_EFFICIENT_LOADING": "false", "FSDP_OFFLOAD_PARAMS": "false", "ACCELERATE_TORCH_DEVICE": "cpu",
}  # fmt: skip
TRAINERS = {
    "mle": (MleTrainer, MleConfig, {}),
    "raml": (RamlTrainer, RamlConfig, {"payoff": "edit", "temperature": 1.5}),
}


def pretend_accelerators():
    os.environ.update(SHARDING)
    PartialState._prepare_backend = lambda *args, **kwargs: ("gloo", DistributedType.MULTI_GPU)
    mle_config.settle_launch = lambda args: None  # would join the processes on the processor, and refuse FSDP there


def generator() -> RnnSeq2SeqForConditionalGeneration:
    torch.manual_seed(3)
    sizes = {"vocab_size": 16, "embedding_size": 6, "hidden_size": 8, "dropout": 0.0}
    return RnnSeq2SeqForConditionalGeneration(RnnSeq2SeqConfig(**sizes, share_embeddings=False))


def trainer(kind: str, model, processes: int, folder: Path, name: str, **others):
    cls, config, own = TRAINERS[kind]
    # An optimizer with a state: torch (2.13) cannot load that of plain SGD, which has none, into sharded parameters.
    optimizer = {"optim": "adamw_torch", "learning_rate": 1e-2, "adam_epsilon": 1e-3}
    steps = {"max_steps": 6, "eval_strategy": "steps", "eval_steps": 3, "sample_rows": 0}
    arguments = settings(processes, **steps, **own) | optimizer | others
    if processes > 1:
        del arguments["use_cpu"]
    words = tokenizer()
    return cls(
        model, config(str(folder / name), **arguments), train_dataset=rows(32, 1), eval_dataset=rows(7, 2),
        data_collator=DataCollatorForSeq2Seq(words), processing_class=words,
    )  # fmt: skip


def train(kind: str, processes: int, folder: Path) -> dict:
    saving = {"save_strategy": "steps", "save_steps": 3}
    run = trainer(kind, generator(), processes, folder, kind, **saving)
    assert run.args.world_size == processes and run.is_fsdp_enabled is (processes > 1)
    run.train()
    run.save_model()
    sharded = {type(parameter).__name__ for parameter in run.model.parameters()}
    resumed = trainer(kind, generator(), processes, folder, kind, **saving)
    resumed.train(resume_from_checkpoint=str(folder / kind / "checkpoint-3"))
    resumed.save_model(str(folder / f"{kind}-resumed"))
    run.accelerator.wait_for_everyone()
    return {
        "loss": [row["loss"] for row in run.state.log_history if "loss" in row],
        "eval": [row["eval_loss"] for row in run.state.log_history if "eval_loss" in row],
        "sharded": sorted(sharded),
        **{name: _saved(folder / where) for name, where in
           (("saved", kind), ("checkpoint", f"{kind}/checkpoint-6"), ("resumed", f"{kind}-resumed"))},
    }  # fmt: skip


def _saved(folder: Path) -> dict[str, list]:
    return {name: value.tolist() for name, value in load_file(folder / "model.safetensors").items()}


def refused(name: str, processes: int, folder: Path, **others) -> str:
    try:
        trainer("mle", build(name), processes, folder, f"refused-{name}", **others).train()
    except ValueError as error:
        return str(error)
    return ""


def measure(processes: int, folder: Path) -> dict:
    if processes > 1:
        pretend_accelerators()
    measured = {kind: train(kind, processes, folder) for kind in TRAINERS}
    measured["refused"] = {name: refused(name, processes, folder) for name in ("t5", "bart", "rnn_seq2seq")}
    measured["refused"]["samples"] = refused("t5", processes, folder, sample_rows=2)
    return measured


if __name__ == "__main__":
    report(measure)
