"""Pairs a second that the deep Boltzmann machine learns from and gives free energies for, on one core.

    python benchmarks/dbm.py [--rounds 9] [--output benchmarks/dbm]

Vectors of 2 x 200 dimensions, 128 and 128 binary units, batches of 256. In each round all take a turn, in processor
time: the steps of training, `free_energy`, the matrix products alone that each of them cannot do without, and
scikit-learn's `BernoulliRBM.partial_fit` of the bottom RBM's size. Ratios are medians over the rounds, with the
smallest and the largest. Writes `OUTPUT.md` and `OUTPUT.json`.
"""

import os

os.environ.setdefault("OMP_NUM_THREADS", "1")  # before numpy and torch are imported: one core is timed
os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")

import argparse
import json
import platform
import statistics
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import sklearn
import torch
from sklearn.neural_network import BernoulliRBM
from tables import number_table, spread

from hf_localgan import DbmConfig, DbmModel
from hf_localgan.files import replacing
from hf_localgan.models.dbm.contrastive_dbm import (
    Chains,
    bottom_loss,
    bottom_means,
    bottom_phases,
    joint_loss,
    joint_phases,
    top_loss,
    top_phases,
)

SIZE, HIDDEN, TOP, BATCH = 200, 128, 128, 256
MEAN_FIELD_STEPS, GIBBS_STEPS = 10, 5
WARM_UP, STEPS = 300, 30  # steps of training before anything is timed; calls that are timed in a row
OPENSUBTITLES = 5_200_000  # pairs
AIMS = {"bottom step, SGD / BernoulliRBM.partial_fit": 3.0, "joint step / its products": 0.5}


def make_vectors(count: int, seed: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Standardised vectors whose dimensions depend on each other and whose sides do: 40 factors in common."""
    rng = np.random.default_rng(seed)
    mixing = np.random.default_rng(0).normal(size=(40, 2 * SIZE))
    values = np.tanh(rng.normal(size=(count, 40))) @ mixing + 3 * rng.normal(size=(count, 2 * SIZE))
    values = (values - values.mean(axis=0)) / values.std(axis=0)
    return torch.from_numpy(values.astype(np.float32)).split(SIZE, dim=1)


class Bench:
    """A model that has learned for a while, and one call of everything that is timed."""

    def __init__(self, visible_std: str, batch: int):
        torch.manual_seed(0)
        config = DbmConfig(
            query_size=SIZE, response_size=SIZE, hidden_size=HIDDEN, top_size=TOP, visible_std=visible_std
        )
        self.model = DbmModel(config)
        self.optimizer = torch.optim.AdamW(self.model.parameters(), lr=1e-3, fused=True)  # the Trainer's default
        fair = torch.full((batch, HIDDEN), 0.5).bernoulli(), torch.full((batch, TOP), 0.5).bernoulli()
        self.chains = Chains(*fair)
        self.plain = torch.optim.SGD(self.model.parameters(), lr=1e-6, fused=True)  # scikit-learn's kind of update
        data = make_vectors(batch * 16, seed=1)
        self.batches = list(zip(data[0].split(batch), data[1].split(batch), strict=True))
        self.turn = 0
        for step in range(3 * WARM_UP):
            (self.bottom, self.top, self.joint)[step // WARM_UP]()
        query, response = self.batches[0]
        means = self.model.mean_field(query, response)
        self.steps, self.residual = means.steps.float(), float(means.residual.max())
        visible = torch.rand(batch, 2 * SIZE)
        self.rbm = BernoulliRBM(n_components=HIDDEN, learning_rate=0.01, batch_size=batch, random_state=0)
        self.binary = (visible > 0.5).numpy().astype(np.float32)
        self.rbm.partial_fit(self.binary)
        self.wide, self.narrow = self.model.visible_to_hidden.detach(), self.model.hidden_to_top.detach()
        self.hidden, self.visible = torch.rand(batch, HIDDEN), visible

    def batch(self):
        self.turn = (self.turn + 1) % len(self.batches)
        return self.batches[self.turn]

    def bottom(self):
        phases = bottom_phases(self.model, torch.cat(self.batch(), dim=1))
        self._update(bottom_loss(self.model, *phases))

    def bottom_as_scikit_learn(self):
        self.plain, self.optimizer = self.optimizer, self.plain
        self.bottom()
        self.plain, self.optimizer = self.optimizer, self.plain

    def top(self):
        hidden = bottom_means(self.model, torch.cat(self.batch(), dim=1))
        self._update(top_loss(self.model, *top_phases(self.model, hidden)))

    def joint(self):
        *phases, self.chains = joint_phases(
            self.model, *self.batch(), self.chains, mean_field_steps=MEAN_FIELD_STEPS, gibbs_steps=GIBBS_STEPS
        )
        self._update(joint_loss(self.model, *phases))

    def _update(self, loss: torch.Tensor):
        self.optimizer.zero_grad()
        loss.backward()
        self.optimizer.step()

    def free_energy(self):
        with torch.no_grad():
            self.model.free_energy(*self.batch())

    def free_energy_with_gradient(self):
        query, response = self.batch()
        response = response.clone().requires_grad_()
        self.model.free_energy(query, response).sum().backward()

    def scikit_learn(self):
        self.rbm.partial_fit(self.binary)

    @torch.no_grad()
    def products(self, up: int, down: int, between: int, statistics_of_visible: int, statistics_of_top: int):
        """So many products of a batch with the couplings and of a batch with another."""
        for _ in range(up):
            self.visible @ self.wide.T
        for _ in range(down):
            self.hidden @ self.wide
        for number in range(between):
            self.hidden @ (self.narrow if number % 2 else self.narrow.T)
        for _ in range(statistics_of_visible):
            self.hidden.T @ self.visible
        for _ in range(statistics_of_top):
            self.hidden.T @ self.hidden

    def bottom_products(self):
        self.products(2, 1, 0, 2, 0)

    def joint_products(self):
        # The mean field has the visible units' input once, then two products a step; a sweep goes up and down in both.
        self.products(1 + GIBBS_STEPS, GIBBS_STEPS, 1 + 2 * MEAN_FIELD_STEPS + 2 * GIBBS_STEPS, 2, 2)

    def free_energy_products(self):
        # Examples that have converged need no more: counted are the mean number of steps, not the largest.
        self.products(1, 0, 2 + round(2 * float(self.steps.mean())), 0, 0)


TURNS = {
    "bottom step": Bench.bottom,
    "bottom step, SGD": Bench.bottom_as_scikit_learn,
    "its products (bottom)": Bench.bottom_products,
    "BernoulliRBM.partial_fit": Bench.scikit_learn,
    "top step": Bench.top,
    "joint step": Bench.joint,
    "its products (joint)": Bench.joint_products,
    "free_energy": Bench.free_energy,
    "its products (free_energy)": Bench.free_energy_products,
    "free_energy and gradient for the response": Bench.free_energy_with_gradient,
}
RATIOS = {
    "bottom step, SGD / BernoulliRBM.partial_fit": ("BernoulliRBM.partial_fit", "bottom step, SGD"),
    "bottom step / BernoulliRBM.partial_fit": ("BernoulliRBM.partial_fit", "bottom step"),
    "bottom step / its products": ("its products (bottom)", "bottom step"),
    "joint step / its products": ("its products (joint)", "joint step"),
    "free_energy / its products": ("its products (free_energy)", "free_energy"),
}


def seconds(run: Callable[[], None]) -> float:
    start = time.process_time()
    for _ in range(STEPS):
        run()
    return (time.process_time() - start) / STEPS


def measure(bench: Bench, rounds: int) -> dict[str, list[float]]:
    """Seconds a call in each round."""
    for turn in TURNS.values():
        turn(bench)
    times = {name: [] for name in TURNS}
    for _ in range(rounds):
        for name, turn in TURNS.items():
            times[name].append(seconds(lambda turn=turn: turn(bench)))
    return times


def report(settings: list[dict]) -> str:
    versions = f"torch {torch.__version__}, scikit-learn {sklearn.__version__}, Python {platform.python_version()}"
    lines = [
        "# Speed of the deep Boltzmann machine", "",
        f"One core, processor time, {versions}. Vectors of 2 x {SIZE}, {HIDDEN} and {TOP} units, chains as many as "
        f"pairs; joint training with {MEAN_FIELD_STEPS} steps of the mean field and {GIBBS_STEPS} sweeps of Gibbs "
        "sampling, AdamW included. Medians over the rounds (smallest to largest).",
    ]  # fmt: skip
    for setting in settings:
        times, batch = setting["seconds"], setting["batch"]
        lines += ["", f"## Visible noise {setting['visible_std']}, batches of {batch}", ""]
        lines += [
            f"The mean field of `free_energy` took {setting['steps']:.1f} steps on average (largest "
            f"{setting['most_steps']}) to a residual of {setting['residual']:.1e}.", "",
        ]  # fmt: skip
        rows = []
        for name, values in times.items():
            pairs = [batch / value for value in values]
            minutes = f"{statistics.median(values) / batch * OPENSUBTITLES / 60:.1f} min"
            rows.append((name, spread([1e3 * v for v in values], ".2f"), spread(pairs, ",.0f"), minutes))
        lines += [number_table(("", "milliseconds a batch", "pairs a second", "5.2 million pairs"), rows), ""]
        rows = []
        for name, (over, under) in RATIOS.items():
            ratios = [o / u for o, u in zip(times[over], times[under], strict=True)]
            rows.append((name, spread(ratios, ".2f"), AIMS.get(name, "")))
        lines.append(number_table(("speed as a ratio", "", "aim"), rows))
    return "\n".join(lines) + "\n"


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=9)
    parser.add_argument("--output", default=str(Path(__file__).parent / "dbm"))
    args = parser.parse_args()
    torch.set_num_threads(1)
    settings = []
    for visible_std in ("unit", "learned"):
        bench = Bench(visible_std, BATCH)
        settings.append({
            "visible_std": visible_std, "batch": BATCH, "steps": float(bench.steps.mean()),
            "most_steps": int(bench.steps.max()), "residual": bench.residual, "seconds": measure(bench, args.rounds),
        })  # fmt: skip
        print(f"{visible_std}: done", flush=True)
    text = report(settings)
    with replacing(args.output + ".md") as path:
        path.write_text(text, encoding="utf-8")
    with replacing(args.output + ".json") as path:
        path.write_text(json.dumps({"rounds": args.rounds, "settings": settings}, indent=1) + "\n")
    print(text)


if __name__ == "__main__":
    main()
