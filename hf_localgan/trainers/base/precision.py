"""Fits requested precision and compilation to the hardware, before the trainer chooses its devices."""

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
from hf_localgan.trainers.base.launching import is_set, warn_once

LAUNCHED_PRECISION = "ACCELERATE_MIXED_PRECISION"  # the variable that `accelerate launch --mixed_precision` sets
PROCESSOR_BACKENDS = (None, "gloo", "mpi", "ccl")
HARDWARE_FIELDS = (
    "bf16", "fp16", "bf16_full_eval", "fp16_full_eval", "head_dtype", "tf32", "torch_compile", "torch_compile_backend",
    "torch_compile_mode", "torch_empty_cache_steps", "ddp_backend", "use_cpu",
)  # fmt: skip


@dataclass(frozen=True)
class Hardware:
    """The hardware of a run.

    Args:
        on_processor: whether the run computes on the processor; otherwise on an accelerator such as a GPU.
        has_accelerator: whether the machine has an accelerator, used or not.
        bf16: whether the processor has instructions for bfloat16.
        fp16: whether the processor has instructions for float16.
        compiler_fault: why `torch.compile` cannot work here; empty if it can.
    """

    on_processor: bool
    has_accelerator: bool = False
    bf16: bool = True
    fp16: bool = False
    compiler_fault: str = ""

    @classmethod
    def here(cls, use_cpu: bool, compiles: bool) -> "Hardware":
        """The hardware of this process.

        Args:
            use_cpu: whether the run uses the processor even if there is an accelerator.
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
    """The changes that the hardware makes to a run's settings.

    Args:
        changes: fields of the training arguments and their new values.
        lines: one warning for each request that is not met.
    """

    changes: dict[str, Any] = field(default_factory=dict)
    lines: list[str] = field(default_factory=list)


def settle(requested: Mapping[str, Any], hardware: Hardware, own_refusals: Collection[str] = ()) -> Settlement:
    """Fits settings to the hardware.

    bfloat16 on a processor without its instructions, half precision in evaluation and compilation without a compiler
    are replaced by float32 and plain code: the results are those of the setting, or closer to exact. Settings that the
    hardware lacks and that have no such substitute are refused. On an accelerator only `torch_compile` is checked.

    Args:
        requested: the values of `HARDWARE_FIELDS` by name; some may be missing.
        hardware: the run's hardware.
        own_refusals: fields that are left as they are, because the configuration refuses them itself.

    Returns:
        The fields that change, and a warning for each. `use_cpu` is set without a warning where the run is on the
        processor anyway.

    Raises:
        ValueError: for `fp16`, `tf32` or a `ddp_backend` of GPUs on the processor.
    """
    requested = {name: value for name, value in requested.items() if name not in own_refusals}
    settlement = Settlement()
    _settle_compilation(requested, hardware, settlement)
    if hardware.on_processor:
        _refuse_on_processor(requested, hardware)
        _settle_processor(requested, hardware, settlement)
    return settlement


def _refuse_on_processor(requested: Mapping[str, Any], hardware: Hardware):
    if requested.get("fp16"):
        raise ValueError(
            "`fp16: true` (or `--mixed_precision fp16` of the launch) needs a GPU, and this run is on the processor. "
            "Set `bf16: true`, which becomes float32 where the processor lacks it, or leave both "
            f"out{_or_gpu(hardware)}."
        )
    if requested.get("tf32"):
        raise ValueError(
            "`tf32: true` is a mode of NVIDIA GPUs, Ampere or newer, and this run is on the processor. Leave it "
            f"out{_or_gpu(hardware)}."
        )
    backend = requested.get("ddp_backend")
    if backend not in PROCESSOR_BACKENDS:
        raise ValueError(
            f"`ddp_backend: {backend}` joins GPUs, and this run is on the processor. Leave it out to use "
            f"`gloo`{_or_gpu(hardware)}."
        )


def _settle_processor(requested: Mapping[str, Any], hardware: Hardware, settlement: Settlement):
    both = requested.get("bf16_full_eval") and requested.get("fp16_full_eval")  # transformers refuses them together
    for name, value, substitute, precision, available in (
        ("bf16", True, False, "bfloat16", hardware.bf16),
        ("head_dtype", "bfloat16", "float32", "bfloat16", hardware.bf16),
        ("bf16_full_eval", True, False, "bfloat16", hardware.bf16 or both),
        ("fp16_full_eval", True, False, "float16", hardware.fp16 or both),
    ):
        if requested.get(name) == value and not available:
            settlement.changes[name] = substitute
            settlement.lines.append(
                f"`{name}: {as_yaml(value)}`: float32 takes its place, because this processor has no instructions for "
                f"{precision} and would compute it more slowly."
            )
    if requested.get("torch_empty_cache_steps"):
        settlement.lines.append(
            f"`torch_empty_cache_steps: {requested['torch_empty_cache_steps']}` does nothing: only GPUs have the cache."
        )
    kept = [name for name in ("bf16", "bf16_full_eval") if requested.get(name) and name not in settlement.changes]
    if not requested.get("use_cpu") and (kept or hardware.has_accelerator):
        # transformers wants `use_cpu` beside `bf16`, even on a machine without an accelerator, and ignores what
        # `accelerate launch --cpu` sets on a machine with a GPU.
        settlement.changes["use_cpu"] = True


def _settle_compilation(requested: Mapping[str, Any], hardware: Hardware, settlement: Settlement):
    if not _requests_compilation(requested) or "torch_compile" not in requested or not hardware.compiler_fault:
        return
    if requested.get("torch_compile_backend") not in (None, "inductor"):
        return  # other backends need no C++ compiler
    settlement.changes |= {"torch_compile": False, "torch_compile_backend": None, "torch_compile_mode": None}
    settlement.lines.append(
        f"`torch_compile`: the model is not compiled, for {hardware.compiler_fault}. Results are the same without."
    )


def _requests_compilation(requested: Mapping[str, Any]) -> bool:
    return any(requested.get(name) for name in ("torch_compile", "torch_compile_backend", "torch_compile_mode"))


def _or_gpu(hardware: Hardware) -> str:
    return ", or leave `use_cpu` out" if hardware.has_accelerator else ""


def settle_precision(args: TrainingArguments):
    """Fits the arguments to the hardware, in place, and warns of each change, once in a process.

    Precision is settled anew at each start. On the same machine a resumed run therefore computes as before; on another
    one `warn_of_new_precision` warns.

    Args:
        args: training arguments whose `__post_init__` has not chosen devices yet, after `settle_launch`. Names in
            `args.unsupported`, if it exists, are left to the configuration's own refusal.

    Raises:
        ValueError: as `settle` does.
    """
    requested = {name: getattr(args, name) for name in HARDWARE_FIELDS if hasattr(args, name)}
    launched = os.environ.get(LAUNCHED_PRECISION)
    if not (requested["bf16"] or requested["fp16"]) and launched in ("bf16", "fp16"):
        requested[launched] = True  # transformers uses it where neither field is set
    hardware = Hardware.here(args.use_cpu, _requests_compilation(requested))
    settlement = settle(requested, hardware, getattr(args, "unsupported", ()))
    for name, value in settlement.changes.items():
        setattr(args, name, value)
    if launched == "bf16" and "bf16" in settlement.changes:
        os.environ[LAUNCHED_PRECISION] = "no"
    for line in settlement.lines:
        warn_once(line)


def warn_of_new_precision(checkpoint: str | os.PathLike, args: TrainingArguments):
    """Warns if a resumed run computes in another precision than the run that wrote the checkpoint.

    Args:
        checkpoint: folder of the checkpoint. Without a `training_args.json` in it nothing is compared.
        args: training arguments of this run.
    """
    path = Path(checkpoint) / "training_args.json"
    if not path.is_file():
        return
    saved = json.loads(path.read_text(encoding="utf-8"))
    names = [name for name in ("bf16", "fp16", "head_dtype") if name in saved and hasattr(args, name)]
    differences = [name for name in names if saved[name] != getattr(args, name)]
    if differences:
        warn_once(
            f"The checkpoint {checkpoint} was trained with "
            + ", ".join(f"`{name}: {as_yaml(saved[name])}`" for name in differences)
            + "; this run continues with "
            + ", ".join(f"`{name}: {as_yaml(getattr(args, name))}`" for name in differences)
            + ". Its results will differ from those of a run in one precision."
        )


def as_yaml(value: Any) -> str:
    """A value as a settings file has it, for messages."""
    return str(value).lower() if isinstance(value, bool) else str(getattr(value, "value", value))


@cache
def _compiler_fault(on_processor: bool) -> str:
    """Why `torch.compile` with its own backend cannot work here, as the end of a sentence; empty if it can."""
    if not on_processor:
        return (
            "" if not torch.cuda.is_available() or has_triton_package() else "triton is missing (`pip install triton`)"
        )
    try:
        from torch._inductor.cpp_builder import get_cpp_compiler  # slow to import, and few runs need it

        get_cpp_compiler()
    except ImportError:
        return ""  # another torch, which reports a missing compiler itself
    except RuntimeError:
        return "there is no C++ compiler (install g++, or name yours in `CXX`)"
    if sys.platform == "linux" and not (Path(sysconfig.get_path("include")) / "Python.h").is_file():
        return "Python.h is missing, which its C++ code includes (install python3-dev)"
    return ""
