"""What was asked of the hardware and what it can do, looked at before the trainer looks for its devices."""

import json
import os
import sys
import sysconfig
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Any

import torch
from torch.utils._triton import has_triton_package
from transformers import TrainingArguments
from transformers.utils.import_utils import is_torch_xla_available

from hf_localgan.models.rnn_seq2seq.precision_rnn_seq2seq import processor_has
from hf_localgan.trainers.base.launching import is_set, tell_once

LAUNCHED_PRECISION = "ACCELERATE_MIXED_PRECISION"  # what `accelerate launch --mixed_precision` leaves
BACKENDS_OF_PROCESSORS = (None, "gloo", "mpi", "ccl")
LOOKED_AT = (
    "bf16", "fp16", "bf16_full_eval", "fp16_full_eval", "head_dtype", "tf32", "torch_compile", "torch_compile_backend",
    "torch_compile_mode", "torch_empty_cache_steps", "ddp_backend", "use_cpu",
)  # fmt: skip


@dataclass(frozen=True)
class Hardware:
    """Where a run computes and what is there.

    Args:
        on_processor: whether it computes on the processor; otherwise on an accelerator such as a GPU.
        has_accelerator: whether there is one, used or not.
        bf16: whether the processor has instructions for bfloat16.
        fp16: whether the processor has instructions for float16.
        compiler_fault: why `torch.compile` cannot work here; empty where it can.
    """

    on_processor: bool
    has_accelerator: bool = False
    bf16: bool = True
    fp16: bool = False
    compiler_fault: str = ""

    @classmethod
    def here(cls, use_cpu: bool, compiles: bool) -> "Hardware":
        """That of this process.

        Args:
            use_cpu: whether the processor is asked for where there is an accelerator, too.
            compiles: whether to look for a compiler, which takes a second.
        """
        accelerator = torch.accelerator.current_accelerator(check_available=True)
        has_accelerator = accelerator is not None or is_torch_xla_available()
        on_processor = use_cpu or is_set("ACCELERATE_USE_CPU") or not has_accelerator
        return cls(
            on_processor=on_processor,
            has_accelerator=has_accelerator,
            bf16=processor_has(torch.bfloat16),
            fp16=processor_has(torch.float16),
            compiler_fault=_compiler_fault(on_processor) if compiles else "",
        )


@dataclass
class Settlement:
    """What a run does instead of what was asked.

    Args:
        changes: fields of the training arguments and their new values.
        lines: what to tell, a line for each thing that happens otherwise than asked.
    """

    changes: dict[str, Any] = field(default_factory=dict)
    lines: list[str] = field(default_factory=list)


def settle(asked: Mapping[str, Any], hardware: Hardware, own_refusals: Collection[str] = ()) -> Settlement:
    """What becomes of settings that the hardware may not have.

    bfloat16 on a processor without its instructions, half precision in evaluation and compilation without a compiler
    give way to float32 and to plain code: the results are those of the setting, or closer to exact. What cannot be had
    and has no such substitute is refused. On an accelerator only `torch_compile` is looked at.

    Args:
        asked: the fields `LOOKED_AT`, as far as they are there, by name.
        hardware: what is there.
        own_refusals: fields that are left as they are, because the configuration refuses them itself.

    Returns:
        The fields that change, and a line for each thing that happens otherwise than asked. `use_cpu` is set without
        a line where the run is on the processor anyway.

    Raises:
        ValueError: for `fp16`, `tf32` or a `ddp_backend` of GPUs on the processor.
    """
    asked = {name: value for name, value in asked.items() if name not in own_refusals}
    done = Settlement()
    _settle_compilation(asked, hardware, done)
    if hardware.on_processor:
        _refuse_on_processor(asked, hardware)
        _settle_processor(asked, hardware, done)
    return done


def _refuse_on_processor(asked: Mapping[str, Any], hardware: Hardware):
    if asked.get("fp16"):
        raise ValueError(
            "`fp16: true` (or `--mixed_precision fp16` of the launch) needs a GPU, and this run is on the processor. "
            "Set `bf16: true`, for which float32 takes over where the processor lacks it, or leave both "
            f"out{_or_gpu(hardware)}."
        )
    if asked.get("tf32"):
        raise ValueError(
            "`tf32: true` is a mode of NVIDIA GPUs, Ampere or newer, and this run is on the processor. Leave it "
            f"out{_or_gpu(hardware)}."
        )
    backend = asked.get("ddp_backend")
    if backend not in BACKENDS_OF_PROCESSORS:
        raise ValueError(
            f"`ddp_backend: {backend}` joins GPUs, and this run is on the processor. Leave it out, which takes "
            f"`gloo`{_or_gpu(hardware)}."
        )


def _settle_processor(asked: Mapping[str, Any], hardware: Hardware, done: Settlement):
    both = asked.get("bf16_full_eval") and asked.get("fp16_full_eval")  # which transformers refuses
    for name, given, instead, precision, there in (
        ("bf16", True, False, "bfloat16", hardware.bf16),
        ("head_dtype", "bfloat16", "float32", "bfloat16", hardware.bf16),
        ("bf16_full_eval", True, False, "bfloat16", hardware.bf16 or both),
        ("fp16_full_eval", True, False, "float16", hardware.fp16 or both),
    ):
        if asked.get(name) == given and not there:
            done.changes[name] = instead
            done.lines.append(
                f"`{name}: {_as_yaml(given)}`: float32 takes its place, because this processor has no instructions for "
                f"{precision} and would compute it more slowly."
            )
    if asked.get("torch_empty_cache_steps"):
        done.lines.append(
            f"`torch_empty_cache_steps: {asked['torch_empty_cache_steps']}` does nothing: the cache is a GPU's."
        )
    stays = [name for name in ("bf16", "bf16_full_eval") if asked.get(name) and name not in done.changes]
    if not asked.get("use_cpu") and (stays or hardware.has_accelerator):
        # transformers asks for it beside `bf16`, even where there is nothing to choose between, and does not read what
        # `accelerate launch --cpu` leaves where there is a GPU.
        done.changes["use_cpu"] = True


def _settle_compilation(asked: Mapping[str, Any], hardware: Hardware, done: Settlement):
    if not _asks_to_compile(asked) or "torch_compile" not in asked or not hardware.compiler_fault:
        return
    if asked.get("torch_compile_backend") not in (None, "inductor"):
        return  # others need no compiler of C++
    done.changes |= {"torch_compile": False, "torch_compile_backend": None, "torch_compile_mode": None}
    done.lines.append(
        f"`torch_compile`: the model is not compiled, for {hardware.compiler_fault}. Results are the same without."
    )


def _asks_to_compile(asked: Mapping[str, Any]) -> bool:
    return any(asked.get(name) for name in ("torch_compile", "torch_compile_backend", "torch_compile_mode"))


def _or_gpu(hardware: Hardware) -> str:
    return ", or leave `use_cpu` out" if hardware.has_accelerator else ""


def settle_precision(args: TrainingArguments):
    """Settles what the hardware may not have, in place, and tells what happens instead, once in a process.

    Precision is settled anew at each start. On the same machine a resumed run therefore computes as it did before;
    `tell_other_precision` tells of another one.

    Args:
        args: training arguments whose `__post_init__` has not looked for devices yet, after `settle_launch`. The
            names in `args.unsupported`, if it has any, are left to its own refusal.

    Raises:
        ValueError: as `settle` does.
    """
    asked = {name: getattr(args, name) for name in LOOKED_AT if hasattr(args, name)}
    launched = os.environ.get(LAUNCHED_PRECISION)
    if not (asked["bf16"] or asked["fp16"]) and launched in ("bf16", "fp16"):
        asked[launched] = True  # transformers takes it where neither field is set
    settlement = settle(asked, Hardware.here(args.use_cpu, _asks_to_compile(asked)), getattr(args, "unsupported", ()))
    for name, value in settlement.changes.items():
        setattr(args, name, value)
    if launched == "bf16" and "bf16" in settlement.changes:
        os.environ[LAUNCHED_PRECISION] = "no"
    for line in settlement.lines:
        tell_once(line)


def tell_other_precision(checkpoint: str | os.PathLike, args: TrainingArguments):
    """Tells that a resumed run computes in another precision than the run that wrote the checkpoint.

    Args:
        checkpoint: its folder. One without `training_args.json` is not looked at.
        args: training arguments of this run.
    """
    path = Path(checkpoint) / "training_args.json"
    if not path.is_file():
        return
    before = json.loads(path.read_text(encoding="utf-8"))
    names = [name for name in ("bf16", "fp16", "head_dtype") if name in before and hasattr(args, name)]
    differences = [name for name in names if before[name] != getattr(args, name)]
    if differences:
        tell_once(
            f"The checkpoint {checkpoint} was trained with "
            + ", ".join(f"`{name}: {_as_yaml(before[name])}`" for name in differences)
            + "; this run goes on with "
            + ", ".join(f"`{name}: {_as_yaml(getattr(args, name))}`" for name in differences)
            + ". Its results will differ from those of a run in one precision."
        )


def _as_yaml(value: Any) -> str:
    return str(value).lower() if isinstance(value, bool) else str(value)


@cache
def _compiler_fault(on_processor: bool) -> str:
    """Why `torch.compile` with its own backend cannot work here, as the end of a sentence; empty where it can."""
    if not on_processor:
        return (
            "" if not torch.cuda.is_available() or has_triton_package() else "triton is missing (`pip install triton`)"
        )
    try:
        from torch._inductor.cpp_builder import get_cpp_compiler  # slow to import, and wanted by few

        get_cpp_compiler()
    except ImportError:
        return ""  # another torch; what it lacks it will say itself
    except RuntimeError:
        return "there is no C++ compiler (install g++, or name yours in `CXX`)"
    if sys.platform == "linux" and not (Path(sysconfig.get_path("include")) / "Python.h").is_file():
        return "Python.h is missing, which its C++ code includes (install python3-dev)"
    return ""
