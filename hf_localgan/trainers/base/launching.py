"""What a launch asked for and what it got, looked at before the trainer looks for its devices."""

import logging
import os
from functools import cache

import torch
from transformers import TrainingArguments

CONFIGS = "recipes/accelerate_configs"
OF_MPI = ("PMI_SIZE", "OMPI_COMM_WORLD_SIZE", "MV2_COMM_WORLD_SIZE")  # numbers of processes, as MPI's launchers tell

logger = logging.getLogger(__name__)


def settle_launch(args: TrainingArguments):
    """Joins processes that have no accelerator, and tells of a launch that started fewer processes than it should.

    Several processes that a launcher has started train together only where they have an accelerator each, or where
    `use_cpu` is set. Without either, each would train the whole model by itself and write over what the others write;
    `use_cpu` is therefore set for them. The other way round, `accelerate launch` starts a single process for
    `distributed_type` `NO` or `MULTI_CPU` however many are asked for.

    Args:
        args: training arguments whose `__post_init__` has not looked for devices yet.

    Raises:
        ValueError: for sharded parameters on processors, where accelerate does not shard them.
    """
    several = _number("WORLD_SIZE") > 1
    accelerator = torch.accelerator.current_accelerator(check_available=True)
    if several and (accelerator is None or accelerator.type == "mps"):
        args.use_cpu = True
    on_processors = args.use_cpu or is_set("ACCELERATE_USE_CPU")
    if on_processors and (args.fsdp or is_set("ACCELERATE_USE_FSDP")):
        raise ValueError(
            "FSDP was asked for, but accelerate spreads parameters over accelerators only: on processors each process "
            f"would hold them all without a word. Leave FSDP out, as {CONFIGS}/cpu_two.yaml does, or start it where "
            "there are GPUs."
        )
    launched = "ACCELERATE_MIXED_PRECISION" in os.environ and "MASTER_PORT" in os.environ
    if launched and not several and _number("LOCAL_RANK") < 0 and not any(_number(name) > 1 for name in OF_MPI):
        tell_once(
            "`accelerate launch` was asked for several processes and has started one: this one, which trains alone. "
            "It starts more only for the `distributed_type` `MULTI_GPU` or `FSDP`, on processors, too: give "
            f"`--config_file {CONFIGS}/cpu_two.yaml` (or gpu_several.yaml), or start the script by `torchrun "
            "--nproc_per_node 2`. If one is what you want, unset `MASTER_ADDR` and `MASTER_PORT`."
        )


def check_sharding(trainer):
    """Refuses what would fail or wait for ever when FSDP spreads the generator's parameters over processes.

    Args:
        trainer: a `TokenLossTrainer`, before its model is wrapped.

    Raises:
        ValueError: under FSDP, for a sample table and for parameters that modules share.
    """
    if not trainer.is_fsdp_enabled:
        return
    if trainer.args.sample_rows:
        raise ValueError(
            f"`sample_rows={trainer.args.sample_rows}`: the sample table is generated on one process, which has not "
            "all parameters under FSDP. Set it to 0."
        )
    names: dict[int, list[str]] = {}
    for name, parameter in trainer.model.named_parameters(remove_duplicate=False):
        names.setdefault(id(parameter), []).append(name)
    shared = next((some for some in names.values() if len(some) > 1), None)
    if shared:
        raise ValueError(
            f"FSDP cannot spread parameters that modules share, such as {' = '.join(shared)}. Make an `rnn_seq2seq` "
            "with `share_embeddings: false` and `tie_word_embeddings: false`, or train with plain data parallelism, as "
            f"{CONFIGS}/gpu_several.yaml does."
        )


def refuse_several_gpus(args: TrainingArguments, reason: str):
    """Refuses one process for several GPUs, which would cut batches behind the trainer's back (`DataParallel`).

    Args:
        args: after their `__post_init__`.
        reason: what depends on whole batches, for the message.

    Raises:
        ValueError: where there are several.
    """
    if args.n_gpu > 1:
        raise ValueError(
            f"One process for {args.n_gpu} GPUs would cut batches, {reason}. Start one process for each, with "
            "`accelerate launch` or `torchrun`, or set `CUDA_VISIBLE_DEVICES`."
        )


def refuse_sharding(trainer, reason: str):
    """Refuses FSDP and DeepSpeed, which spread the parameters of one model over processes.

    Args:
        trainer: after its `Trainer.__init__`.
        reason: what needs the whole model on every process, for the message.

    Raises:
        ValueError: where one of them is on.
    """
    if trainer.is_fsdp_enabled or trainer.is_deepspeed_enabled:
        raise ValueError(
            f"`{type(trainer).__name__}` {reason}, but FSDP and DeepSpeed may spread its parameters over processes. "
            f"Train with plain data parallelism, as {CONFIGS}/gpu_several.yaml does."
        )


@cache
def tell_once(message: str):
    """A warning, once in a process: a recipe of several stages makes several configurations."""
    logger.warning(message)


def _number(name: str) -> int:
    """An environment variable as a number, -1 where there is none."""
    value = os.environ.get(name, "")
    return int(value) if value.isdigit() else -1


def is_set(name: str) -> bool:
    """Whether an environment variable says yes, in the words that accelerate takes."""
    return os.environ.get(name, "").lower() in ("1", "true", "yes", "on", "y", "t")
