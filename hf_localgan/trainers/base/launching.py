"""Checks of how a run was launched, made before the trainer chooses its devices."""

import logging
import os
from functools import cache

import torch
from transformers import Trainer, TrainingArguments

CONFIGS = "recipes/accelerate_configs"
MPI_SIZES = ("PMI_SIZE", "OMPI_COMM_WORLD_SIZE", "MV2_COMM_WORLD_SIZE")  # MPI launchers' numbers of processes

logger = logging.getLogger(__name__)


def settle_launch(args: TrainingArguments):
    """Joins processes that have no accelerator, and warns of a launch that started fewer processes than requested.

    Several launched processes train together only where each has an accelerator, or where `use_cpu` is set. Without
    either, each would train the whole model by itself and overwrite the files of the others; `use_cpu` is therefore set
    for them. Conversely, `accelerate launch` starts a single process for `distributed_type` `NO` or `MULTI_CPU`,
    however many are requested.

    Args:
        args: training arguments whose `__post_init__` has not chosen devices yet.

    Raises:
        ValueError: for sharded parameters on processors, where accelerate does not shard them.
    """
    has_peers = _number("WORLD_SIZE") > 1
    accelerator = torch.accelerator.current_accelerator(check_available=True)
    if has_peers and (accelerator is None or accelerator.type == "mps"):
        args.use_cpu = True
    on_processors = args.use_cpu or is_set("ACCELERATE_USE_CPU")
    if on_processors and (args.fsdp or is_set("ACCELERATE_USE_FSDP")):
        raise ValueError(
            "FSDP was requested, but accelerate spreads parameters over accelerators only: on processors each process "
            f"would silently hold all of them. Leave FSDP out, as {CONFIGS}/cpu_two.yaml does, or run on GPUs."
        )
    launched = "ACCELERATE_MIXED_PRECISION" in os.environ and "MASTER_PORT" in os.environ
    if launched and not has_peers and _number("LOCAL_RANK") < 0 and not any(_number(name) > 1 for name in MPI_SIZES):
        warn_once(
            "`accelerate launch` was asked for several processes and has started one, which trains alone. It starts "
            "several only for the `distributed_type` `MULTI_GPU` or `FSDP`, on processors, too: give `--config_file "
            f"{CONFIGS}/cpu_two.yaml` (or gpu_several.yaml), or start the script by `torchrun --nproc_per_node 2`. To "
            "train in one process, unset `MASTER_ADDR` and `MASTER_PORT`."
        )


def check_sharding(trainer: Trainer, sample_rows: int):
    """Refuses settings that would fail or hang when FSDP spreads the generator's parameters over processes.

    Args:
        trainer: the trainer, before its model is wrapped.
        sample_rows: rows of its sample table.

    Raises:
        ValueError: under FSDP, for a sample table and for parameters that several modules share.
    """
    if not trainer.is_fsdp_enabled:
        return
    if sample_rows:
        raise ValueError(
            f"`sample_rows={sample_rows}`: one process generates the sample table, and under FSDP it does not hold all "
            "parameters. Set it to 0."
        )
    assert trainer.model is not None
    names: dict[int, list[str]] = {}
    for name, parameter in trainer.model.named_parameters(remove_duplicate=False):
        names.setdefault(id(parameter), []).append(name)
    shared = next((aliases for aliases in names.values() if len(aliases) > 1), None)
    if shared:
        raise ValueError(
            f"FSDP cannot shard parameters that modules share, such as {' = '.join(shared)}. Make an `rnn_seq2seq` "
            "with `share_embeddings: false` and `tie_word_embeddings: false`, or train with plain data parallelism, as "
            f"{CONFIGS}/gpu_several.yaml does."
        )


def refuse_several_gpus(args: TrainingArguments, reason: str):
    """Refuses one process for several GPUs, for `DataParallel` would split each batch without the trainer's knowledge.

    Args:
        args: training arguments after their `__post_init__`.
        reason: a relative clause for the message: what depends on whole batches.

    Raises:
        ValueError: if the process has several GPUs.
    """
    if args.n_gpu > 1:
        raise ValueError(
            f"One process for {args.n_gpu} GPUs would split the batches, {reason}. Start one process for each GPU, "
            "with `accelerate launch` or `torchrun`, or set `CUDA_VISIBLE_DEVICES`."
        )


def refuse_sharding(trainer: Trainer, reason: str):
    """Refuses FSDP and DeepSpeed, which spread the parameters of one model over processes.

    Args:
        trainer: the trainer after its `Trainer.__init__`.
        reason: a predicate for the message: what needs the whole model on every process.

    Raises:
        ValueError: if FSDP or DeepSpeed is on.
    """
    if trainer.is_fsdp_enabled or trainer.is_deepspeed_enabled:
        raise ValueError(
            f"`{type(trainer).__name__}` {reason}, but FSDP and DeepSpeed may spread its parameters over processes. "
            f"Train with plain data parallelism, as {CONFIGS}/gpu_several.yaml does."
        )


@cache
def warn_once(message: str):
    """Logs a warning once in a process, for a recipe of several stages makes several configurations."""
    logger.warning(message)


def _number(name: str) -> int:
    """An environment variable as a number; -1 if it is not set or no number."""
    value = os.environ.get(name, "")
    return int(value) if value.isdigit() else -1


def is_set(name: str) -> bool:
    """Whether an environment variable means yes, by the words that accelerate accepts."""
    return os.environ.get(name, "").lower() in ("1", "true", "yes", "on", "y", "t")
