"""Rows, models and settings of the scripts that tests run in two processes, and how such a script reports.

A script lies beside this file, so that it finds it by its name as torchrun starts it.
"""

import gc
import json
import random
import sys
from collections.abc import Callable
from pathlib import Path

import torch
from transformers import (
    BartConfig,
    BartForConditionalGeneration,
    PreTrainedModel,
    PreTrainedTokenizerBase,
    T5Config,
    T5ForConditionalGeneration,
)

from hf_localgan.data import train_tokenizer
from hf_localgan.models import RnnSeq2SeqConfig, RnnSeq2SeqForConditionalGeneration

GLOBAL_BATCH = 8  # of two accumulated batches each, over all processes


def rows(number: int, seed: int) -> list[dict]:
    draw = random.Random(seed)
    made = []
    for _ in range(number):
        query, response = ([draw.randrange(4, 12) for _ in range(draw.randint(1, 9))] + [2] for _ in range(2))
        made.append({"input_ids": query, "attention_mask": [1] * len(query), "labels": response})
    return made


def tokenizer() -> PreTrainedTokenizerBase:
    return train_tokenizer(["a b c d e f g h"] * 3)


def build(name: str, dropout: float = 0.0) -> PreTrainedModel:
    torch.manual_seed(3)
    tokens = {"pad_token_id": 0, "eos_token_id": 2, "decoder_start_token_id": 1}
    if name == "t5":
        sizes = {"vocab_size": 16, "d_model": 8, "d_kv": 4, "d_ff": 16, "num_layers": 1, "num_heads": 2}
        return T5ForConditionalGeneration(T5Config(**sizes, **tokens, dropout_rate=dropout))
    if name == "bart":  # has a buffer, which data parallelism sends around before each forward
        sizes = {"vocab_size": 16, "d_model": 8, "max_position_embeddings": 64, "dropout": dropout}
        for side in ("encoder", "decoder"):
            sizes |= {f"{side}_layers": 1, f"{side}_attention_heads": 2, f"{side}_ffn_dim": 16}
        return BartForConditionalGeneration(BartConfig(**sizes, **tokens, bos_token_id=1))
    config = RnnSeq2SeqConfig(vocab_size=16, embedding_size=6, hidden_size=8, dropout=dropout)
    return RnnSeq2SeqForConditionalGeneration(config)


def settings(processes: int, **others) -> dict:
    """Arguments of a trainer: the same global batch on any number of processes."""
    return {
        "use_cpu": True, "optim": "sgd", "max_grad_norm": 1.0, "learning_rate": 0.5, "logging_steps": 1,
        "gradient_accumulation_steps": 2, "per_device_train_batch_size": GLOBAL_BATCH // 2 // processes,
        "save_strategy": "no", "disable_tqdm": True, "seed": 5, **others,
    }  # fmt: skip


def flat(model: torch.nn.Module) -> torch.Tensor:
    return torch.cat([parameter.detach().flatten().double() for parameter in model.parameters()])


def report(measure: Callable[[int, Path], dict]) -> None:
    """What a script does: `measure(processes, folder)`, the script's arguments, written to `rank<i>.json` in it."""
    torch.set_num_threads(1)
    gc.freeze()  # each trainer collects garbage when it starts, over all that is loaded
    folder = Path(sys.argv[2])
    measured = measure(int(sys.argv[1]), folder)
    (folder / f"rank{torch.distributed.get_rank()}.json").write_text(json.dumps(measured))
    torch.distributed.destroy_process_group()
