"""Time and memory of rollouts with a gradient beside teacher-forced passes of the same model and batch."""

import json
import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import torch
from tables import number_table, spread
from torch import Tensor
from workload import BATCH_SIZE, EOS, FIRST_WORD

from hf_localgan import RnnSeq2SeqConfig, RnnSeq2SeqForConditionalGeneration
from hf_localgan.decoding.soft_rollout import soft_rollout
from hf_localgan.functional import linear_cross_entropy
from hf_localgan.models.output_head import finish_inside

TOKENS = 15  # of every query, response and rollout
ROLLOUTS = {
    "softmax": {"relaxation": "softmax"},
    "softmax, 64 best": {"relaxation": "softmax", "top_k": 64},
    "straight-through": {"relaxation": "straight_through", "noise_scale": 0.5},
    "straight-through, 64 best": {"relaxation": "straight_through", "noise_scale": 0.5, "top_k": 64},
}
WITHOUT_GRADIENT = {
    "straight-through, 64 best, no gradient": ROLLOUTS["straight-through, 64 best"],
    "greedy, no gradient": {"relaxation": "straight_through", "noise_scale": 0.0, "top_k": 1},
}
FAST, PLAIN = "teacher-forced pass, fast loss", "teacher-forced pass, loss of logits"


class Clock:
    """Seconds of this process: of its processor ("cpu"), or of the wall when the device has done what it was told."""

    def __init__(self, kind: str, device: str):
        self.kind, self.device = kind, device

    def __call__(self) -> float:
        if self.device != "cpu":
            torch.cuda.synchronize()
        return time.process_time() if self.kind == "cpu" else time.perf_counter()


def make_generator(vocabulary: int, device: str) -> RnnSeq2SeqForConditionalGeneration:
    """The recipes' generator, untrained: it hardly ever ends a response, so that all rollouts have full length."""
    torch.manual_seed(1)
    config = RnnSeq2SeqConfig(vocab_size=vocabulary, tie_word_embeddings=True)  # GRU, 256, general attention
    return RnnSeq2SeqForConditionalGeneration(config).to(device)


class RolloutBench:
    """One call of everything that is timed, on a batch of 64 pairs of 15 tokens."""

    def __init__(self, vocabulary: int, device: str):
        self.model = make_generator(vocabulary, device).train()
        words = torch.randint(FIRST_WORD, vocabulary, (2, BATCH_SIZE, TOKENS))
        words[:, :, -1] = EOS
        self.query, self.labels = words.to(device)
        self.mask = torch.ones_like(self.query)
        self.device, self.vocabulary = device, vocabulary
        self.gradients: dict[int, Tensor] = {}  # what comes back to the weights of every step, by their number

    def turns(self) -> dict[str, Callable[[], None]]:
        made = {FAST: self.fast, PLAIN: self.plain}
        made |= {name: lambda how=how: self.roll_out(how) for name, how in ROLLOUTS.items()}
        return made | {name: lambda how=how: self.roll_out(how, False) for name, how in WITHOUT_GRADIENT.items()}

    def fast(self):
        def loss(hidden: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
            return linear_cross_entropy(hidden, weight, self.labels, bias=bias, divisor=self.labels.numel())

        decoder_input = self.model.prepare_decoder_input_ids_from_labels(labels=self.labels)
        inputs = {"input_ids": self.query, "attention_mask": self.mask, "decoder_input_ids": decoder_input}
        finish_inside(self.model, self.model, {**inputs, "use_cache": False}, loss).backward()

    def plain(self):
        inputs = {"input_ids": self.query, "attention_mask": self.mask, "labels": self.labels}
        self.model(**inputs, use_cache=False).loss.backward()

    def roll_out(self, how: dict, with_gradient: bool = True):
        with torch.set_grad_enabled(with_gradient):
            rollout = soft_rollout(self.model, self.query, self.mask, max_length=TOKENS, end_probabilities=False, **how)
        if rollout.weights.shape[1] != TOKENS:
            raise RuntimeError(f"The rollout ended after {rollout.weights.shape[1]} of {TOKENS} steps.")
        if with_gradient:
            torch.autograd.backward(rollout.weights, self.gradient(rollout.weights.shape[2]))

    def gradient(self, columns: int) -> Tensor:
        if columns not in self.gradients:
            self.gradients[columns] = torch.randn(BATCH_SIZE, TOKENS, columns, device=self.device)
        return self.gradients[columns]

    def forget(self):
        self.model.zero_grad(set_to_none=True)

    # ---- memory, bytes ----

    def kept(self, turn: Callable[[], None]) -> int:
        """What the forward keeps for the backward, parameters left out; every storage once."""
        own = {parameter.untyped_storage().data_ptr() for parameter in self.model.parameters()}
        storages: dict[int, int] = {}

        def pack(tensor: Tensor) -> Tensor:
            storage = tensor.untyped_storage()
            if storage.data_ptr() not in own:
                storages[storage.data_ptr()] = storage.nbytes()
            return tensor

        with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
            turn()
        self.forget()
        return sum(storages.values())

    def peak(self, turn: Callable[[], None]) -> int:
        """Largest sum of what was allocated in forward and backward, the parameters' gradients among it."""
        if self.device != "cpu":
            before = torch.cuda.memory_allocated()
            torch.cuda.reset_peak_memory_stats()
            turn()
            largest = torch.cuda.max_memory_allocated() - before
            self.forget()
            return largest
        with torch.profiler.profile(activities=[torch.profiler.ProfilerActivity.CPU], profile_memory=True) as profile:
            turn()
            self.forget()
        with tempfile.TemporaryDirectory() as folder:
            trace = Path(folder) / "trace.json"
            profile.export_chrome_trace(str(trace))
            events = json.loads(trace.read_text(encoding="utf-8"))["traceEvents"]
        events = sorted((event for event in events if event["name"] == "[memory]"), key=lambda event: event["ts"])
        largest = total = 0
        for event in events:
            total += event["args"]["Bytes"]
            largest = max(largest, total)
        return largest


def measure_rollouts(vocabulary: int, device: str, clock: Clock, rounds: int, calls: int) -> dict:
    """Seconds a call in each round, all taking turns, and memory in bytes."""
    bench = RolloutBench(vocabulary, device)
    turns = bench.turns()
    taken: dict[str, list[float]] = {name: [] for name in turns}
    for number in range(-1, rounds):  # one round warms up
        for name, turn in turns.items():
            started = clock()
            for _ in range(calls):
                turn()
                bench.forget()
            if number >= 0:
                taken[name].append((clock() - started) / calls)
    memory = {name: {"peak": bench.peak(turn), "kept": bench.kept(turn)} for name, turn in turns.items()}
    return {"seconds": taken, "memory": memory}


def ratios(over: list[float], under: list[float]) -> list[float]:
    return [o / u for o, u in zip(over, under, strict=True)]


def report_rollouts(found: dict) -> list[str]:
    times, memory = found["seconds"], found["memory"]
    columns = (
        "", "ms", "ms a step", f"ratio to {FAST}", f"ratio to {PLAIN}", "peak, MiB", "kept for the backward, MiB",
    )  # fmt: skip
    rows = []
    for name, values in times.items():
        rows.append((
            name, spread([1e3 * value for value in values], ".1f"),
            "" if name in (FAST, PLAIN) else f"{1e3 * statistics.median(values) / TOKENS:.2f}",
            spread(ratios(values, times[FAST]), ".2f"), spread(ratios(values, times[PLAIN]), ".2f"),
            f"{memory[name]['peak'] / 2**20:,.0f}", f"{memory[name]['kept'] / 2**20:,.0f}",
        ))  # fmt: skip
    return [number_table(columns, rows)]
