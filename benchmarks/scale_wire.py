"""What two processes exchange in an update of each trainer, counted where it is handed over to be sent.

    accelerate launch --config_file recipes/accelerate_configs/cpu_two.yaml benchmarks/scale_wire.py \
        [opensubtitles weibo] [--output benchmarks/scale_wire.json]

The models of `scale_steps.py` in batches of 4 pairs: what is exchanged does not depend on the batch. Counted are the
bytes of gradients that a hook of data parallelism sees, of buffers that it sends around before a forward, and of
everything that is reduced, gathered or broadcast besides, in all updates but the first. A line is logged at every
update, which is more often than usual: `other` is the most that there is.
"""

import argparse
import json
import os
import tempfile
from pathlib import Path

import torch
import torch.distributed as dist
from scale_steps import Bench
from torch.nn.parallel import DistributedDataParallel
from torch.nn.parallel import distributed as data_parallel
from transformers import TrainerCallback, logging

from hf_localgan.files import replacing

BATCH, UPDATES = 4, 4
WRAPPED = ("all_reduce", "broadcast", "all_gather", "all_gather_into_tensor", "reduce", "gather")


class Meter:
    """Bytes by kind since the last `take`."""

    def __init__(self):
        self.bytes = dict.fromkeys(("gradients", "buffers", "other"), 0)
        for name in WRAPPED:
            setattr(dist, name, self._counted(getattr(dist, name)))
        self._count_buffers()
        self._count_gradients()

    def add(self, kind: str, *tensors: torch.Tensor):
        self.bytes[kind] += sum(one.numel() * one.element_size() for one in tensors)

    def take(self) -> dict[str, int]:
        taken, self.bytes = self.bytes, dict.fromkeys(self.bytes, 0)
        return taken

    def _counted(self, function):
        def call(*args, **kwargs):
            self.add("other", next(one for one in (*args, *kwargs.values()) if isinstance(one, torch.Tensor)))
            return function(*args, **kwargs)

        return call

    def _count_buffers(self):
        send = data_parallel.dist._broadcast_coalesced

        def call(group, tensors, *args, **kwargs):
            self.add("buffers", *tensors)
            return send(group, tensors, *args, **kwargs)

        data_parallel.dist._broadcast_coalesced = call

    def _count_gradients(self):
        meter, make = self, DistributedDataParallel.__init__

        def hook(group, bucket):
            meter.add("gradients", bucket.buffer())
            reduced = dist.distributed_c10d.all_reduce(bucket.buffer().div_(dist.get_world_size()), async_op=True)
            return reduced.get_future().then(lambda done: done.value()[0])

        def init(self, *args, **kwargs):
            make(self, *args, **kwargs)
            self.register_comm_hook(None, hook)

        DistributedDataParallel.__init__ = init


class Updates(TrainerCallback):
    """Takes what an update has exchanged, from the beginning of one to that of the next."""

    def __init__(self, trainer, meter: Meter):
        self.trainer, self.meter, self.player, self.found = trainer, meter, None, {}

    def on_step_begin(self, args, state, control, **kwargs):
        taken = self.meter.take()
        if self.player is not None and state.global_step > 2:
            self.found.setdefault(self.player, []).append(taken)
        self.player = getattr(self.trainer, "player", "update")


class WireBench(Bench):
    """The same trainers, of which what they exchange is counted instead of the time."""

    def __init__(self, name: str, folder: str, meter: Meter):
        super().__init__(name, UPDATES, folder)
        self.meter = meter

    def arguments(self, settings: dict, updates: int, **others) -> dict:
        small = {"per_device_train_batch_size": BATCH, "logging_strategy": "steps", "logging_steps": 1}
        return super().arguments(settings, min(updates, 12), **others) | small

    def measure(self, name: str, trainer, modules: dict[str, torch.nn.Module], last: int = 0):
        assert trainer.args.world_size == 2
        watch = Updates(trainer, self.meter)
        trainer.add_callback(watch)
        trainer.train()
        for player, taken in watch.found.items():
            module = modules.get(player, trainer.model)
            learned = sum(one.numel() * one.element_size() for one in module.parameters() if one.requires_grad)
            most = {kind: max(one[kind] for one in taken) for kind in taken[0]}
            self.found[name if player == "update" else f"{name}, {player}"] = {**most, "parameter_bytes": learned}


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("corpora", nargs="*", default=["opensubtitles", "weibo"])
    parser.add_argument("--output", type=Path, default=Path(__file__).with_suffix(".json"))
    wanted = parser.parse_args()
    torch.set_num_threads(1)
    logging.set_verbosity_error()
    meter, found = Meter(), {}
    for name in wanted.corpora:
        with tempfile.TemporaryDirectory() as folder:
            bench = WireBench(name, folder, meter)
            bench.dialogue()
        found[name] = bench.found
    if os.environ["RANK"] == "0":
        with replacing(wanted.output) as path:
            path.write_text(json.dumps(found, indent=1) + "\n", encoding="utf-8")
        print(json.dumps(found, indent=1))
    dist.destroy_process_group()


if __name__ == "__main__":
    main()
