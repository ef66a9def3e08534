"""Prints versions and devices: what a report of a fault should hold. Nothing is sent anywhere."""

import argparse
from collections.abc import Sequence
from importlib.metadata import PackageNotFoundError, version

from hf_localgan.commands.exits import ending
from hf_localgan.options import CommandParser

LIBRARIES = (
    "transformers", "torch", "accelerate", "datasets", "tokenizers", "peft", "evaluate", "huggingface_hub",
    "safetensors", "numpy", "pyarrow",
)  # fmt: skip


def command_parser(prog: str | None = None) -> argparse.ArgumentParser:
    return CommandParser(prog=prog, description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)


def main(argv: Sequence[str] | None = None, prog: str | None = None) -> int:
    parser = command_parser(prog)
    return ending(parser.prog, lambda: (parser.parse_args(argv),), _print)


def _print(args: argparse.Namespace):
    for name, value in environment().items():
        print(f"{name}: {value}")


def environment() -> dict[str, str]:
    """Versions of the package and of the libraries it stands on, the system, the processor and the accelerators."""
    import os
    import platform

    import torch

    from hf_localgan.version import __version__

    facts = {"hf_localgan": __version__, "Python": platform.python_version(), "system": platform.platform()}
    facts |= {name: _version(name) for name in LIBRARIES}
    capability = torch.backends.cpu.get_cpu_capability()
    facts["processor"] = f"{processor_name()}, {os.cpu_count()} cores, {capability}, {torch.get_num_threads()} threads"
    accelerator = torch.accelerator.current_accelerator(check_available=True)
    if accelerator is None:
        facts["accelerators"] = "none"
    elif accelerator.type == "cuda":
        names = [torch.cuda.get_device_name(index) for index in range(torch.cuda.device_count())]
        facts["accelerators"] = f"{', '.join(names)} (CUDA {torch.version.cuda})"
    else:
        facts["accelerators"] = f"{torch.accelerator.device_count()} x {accelerator.type}"
    return facts


def _version(name: str) -> str:
    try:
        return version(name)
    except PackageNotFoundError:
        return "not installed"


def processor_name() -> str:
    """Name of the processor, as the system tells it."""
    import platform
    from pathlib import Path

    info = Path("/proc/cpuinfo")
    if info.is_file():
        for line in info.read_text(encoding="utf-8", errors="replace").splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    return platform.processor() or platform.machine()
