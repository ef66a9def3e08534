"""What sharding a model over processes could save in an update, and how often it would have to gather it.

    python benchmarks/scale_sharding.py [opensubtitles weibo] [--output benchmarks/scale_sharding.json]

The models and batches of `scale_steps.py`. What sharding spreads are parameters, gradients and the two moments of
AdamW. Beside them stands the memory that an update takes at its peak, which sharding leaves on every process, and how
often the operators of an update, those of the backward pass and of the optimizer included, read the player's
parameters: each time a sharded one would have to be there. Reads are those of a player's first update, the peak is
the largest of the later ones. Linux only.
"""

import os

os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")

import argparse
import json
import tempfile
from pathlib import Path

import torch
from protocol import resident
from scale_steps import Bench
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves
from transformers import PrinterCallback, TrainerCallback, logging

from hf_localgan.files import replacing

STATES = 4  # numbers that training holds for each parameter: itself, its gradient and two moments


class Reads(TorchDispatchMode):
    """Counts the operators that read a parameter, and its bytes each time."""

    def __init__(self, module: torch.nn.Module):
        super().__init__()
        self.sizes = {
            one.untyped_storage().data_ptr(): one.numel() * one.element_size()
            for one in module.parameters()
            if one.requires_grad
        }
        self.bytes = 0

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        # a view reads nothing, and what comes of it has the same storage
        if not function.is_view:
            tensors = [one for one in tree_leaves((args, kwargs)) if isinstance(one, torch.Tensor)]
            places = {one.untyped_storage().data_ptr() for one in tensors}
            self.bytes += sum(self.sizes.get(place, 0) for place in places)
        return function(*args, **(kwargs or {}))


class Watch(TrainerCallback):
    """Counts reads in the first update of each player, and takes the peak of its later ones."""

    def __init__(self, trainer, modules: dict[str, torch.nn.Module]):
        self.trainer, self.modules = trainer, modules
        self.reads: dict[str, int] = {}
        self.peaks: dict[str, int] = {}
        self.before, self.player = 0, ""
        self.counting: Reads | None = None

    def on_train_begin(self, args, state, control, **kwargs):
        self.before = resident("VmRSS")

    def on_step_begin(self, args, state, control, **kwargs):
        self.player = getattr(self.trainer, "player", "update")
        if self.player not in self.reads:
            self.counting = Reads(self.modules.get(self.player, self.trainer.model))
            self.counting.__enter__()
        else:
            Path("/proc/self/clear_refs").write_text("5")  # resets the peak to the present

    def on_step_end(self, args, state, control, **kwargs):
        if self.counting is not None:
            self.counting.__exit__(None, None, None)
            self.reads[self.player], self.counting = self.counting.bytes, None
        else:
            peak = resident("VmHWM") - self.before
            self.peaks[self.player] = max(peak, self.peaks.get(self.player, 0))


class ShardingBench(Bench):
    """The same trainers, of which memory and reads are counted instead of the time."""

    def measure(self, name: str, trainer, modules: dict[str, torch.nn.Module], last: int = 0):
        watch = Watch(trainer, modules)
        trainer.remove_callback(PrinterCallback)
        trainer.add_callback(watch)
        trainer.train()
        sizes = {player: learned_bytes(modules.get(player, trainer.model)) for player in watch.peaks}
        for player, peak in watch.peaks.items():
            self.found[name if len(sizes) == 1 else f"{name}, {player}"] = {
                "batch": trainer.args.per_device_train_batch_size, "parameter_bytes": sizes[player],
                "sharded_bytes": STATES * sizes[player],
                # gradients and moments of all players are made after the training has begun
                "peak_bytes": max(0, peak - (STATES - 1) * sum(sizes.values())),
                "reads": watch.reads[player] / sizes[player],
            }  # fmt: skip
            print(f"{self.corpus.recipe}: {name}, {player}: {self.found[list(self.found)[-1]]}", flush=True)


def learned_bytes(module: torch.nn.Module) -> int:
    return sum(one.numel() * one.element_size() for one in module.parameters() if one.requires_grad)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("corpora", nargs="*", default=["opensubtitles"])
    parser.add_argument("--output", type=Path, default=Path(__file__).with_suffix(".json"))
    wanted = parser.parse_args()
    if resident("VmHWM") is None:
        parser.error("this machine does not tell the peak of a process's memory; only Linux does")
    torch.set_num_threads(1)
    logging.set_verbosity_error()
    found = {}
    for name in wanted.corpora:
        with tempfile.TemporaryDirectory() as folder:
            bench = ShardingBench(name, 2, folder)
            bench.dialogue()
        found[name] = bench.found
    with replacing(wanted.output) as path:
        path.write_text(json.dumps(found, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
