"""What `test_dbm_two_processes.py` runs in one process and, under torchrun, in two."""

from pathlib import Path

import torch
from datasets import Dataset
from tiny_runs import flat, report
from transformers import TrainerCallback

from hf_localgan.models import DbmConfig, DbmModel
from hf_localgan.trainers import DbmTrainer, DbmTrainingConfig, DivergenceError

PERIODS = {"bottom_share": 0.25, "top_share": 0.25, "max_steps": 12}  # 3, 3 and 6 updates
MODELS = {
    "dbm": {"top_size": 3, "visible_std": "learned"},
    "rbm": {"top_size": 0, "visible_std": "learned"},
    "pair": {"top_size": 3, "energy": "rbm_pair"},
    "stream": {"top_size": 3, "visible_std": "learned"},
}
METRICS = ("eval_free_energy", "eval_reconstruction", "eval_residual", "eval_matching", "eval_center_cosine")


class Watched(DbmTrainer):
    """Keeps the gradient of each of its own batches before it is averaged."""

    def __init__(self, *args, **kwargs):
        self.own: list[torch.Tensor] = []
        super().__init__(*args, **kwargs)

    def _inside(self, model, loss):
        parameters = list(self.model.parameters())
        found = torch.autograd.grad(loss(), parameters, allow_unused=True)
        pairs = zip(parameters, found, strict=True)
        self.own.append(
            torch.cat([(torch.zeros_like(one) if gradient is None else gradient).flatten() for one, gradient in pairs])
        )
        return super()._inside(model, loss)


class Averaged(TrainerCallback):
    """Keeps the gradient of every update, zeros for parameters that have none, and the parameters after it."""

    def __init__(self):
        self.gradients, self.parameters = [], []

    def on_pre_optimizer_step(self, args, state, control, model=None, **kwargs):
        found = [(torch.zeros_like(one) if one.grad is None else one.grad).flatten() for one in model.parameters()]
        self.gradients.append(torch.cat(found).tolist())

    def on_step_end(self, args, state, control, model=None, **kwargs):
        self.parameters.append(flat(model).tolist())


class Spoiler(TrainerCallback):
    def on_step_end(self, args, state, control, model=None, **kwargs):
        if state.global_step == 8:
            model.visible_bias.data.fill_(float("nan"))


def rows(number: int, seed: int) -> list[dict]:
    draw = torch.Generator().manual_seed(seed)
    mixing = torch.randn(2, 7, generator=torch.Generator().manual_seed(99))
    values = torch.randn(number, 2, generator=draw).sign() @ mixing + torch.randn(number, 7, generator=draw) / 2 + 3
    return [{"query_features": row[:3].tolist(), "response_features": row[3:].tolist()} for row in values]


def build(name: str, processes: int, folder: Path, callbacks=None, **others) -> Watched:
    torch.manual_seed(3)
    model = DbmModel(DbmConfig(query_size=3, response_size=4, hidden_size=5, **MODELS[name]))
    data = rows(41, seed=1)
    if name == "stream":
        data = Dataset.from_list(data).to_iterable_dataset()
    arguments = {
        "use_cpu": True, "disable_tqdm": True, "seed": 5, "logging_steps": 1, "learning_rate": 0.02, "chains": 10,
        "gradient_accumulation_steps": 2, "per_device_train_batch_size": 4 // processes, "save_strategy": "steps",
        "save_steps": 8, "per_device_eval_batch_size": 3, "final_log_likelihood": False, **PERIODS, **others,
    }  # fmt: skip
    args = DbmTrainingConfig(str(folder / name), **arguments)
    run = Watched(model, args, train_dataset=data, eval_dataset=rows(22, seed=2), callbacks=callbacks)
    assert run.args.world_size == run.accelerator.num_processes == processes
    return run


def train(name: str, processes: int, folder: Path, resume: int | None = None) -> dict:
    watcher = Averaged()
    run = build(name, processes, folder, [watcher])
    run.train(resume_from_checkpoint=resume and str(folder / name / f"checkpoint-{resume}"))
    chains = run._progress.chains
    lines = [row for row in run.state.log_history if "loss" in row]
    return {
        "own": [gradient.tolist() for gradient in run.own],
        "gradients": watcher.gradients,
        "parameters": watcher.parameters,
        "scalers": torch.cat([one.flatten().double() for one in run.model.buffers()]).tolist(),
        "chains": None if chains is None else chains.hidden.tolist(),
        "log": [{key: value for key, value in row.items() if key.startswith("dbm/") or key == "loss"} for row in lines],
        "noise": torch.rand(3, generator=run._generator("cpu")).tolist(),
        "files": sorted(path.name for path in (folder / name / "checkpoint-8").glob("dbm_*")),
    }


def score(processes: int, folder: Path) -> dict:
    """A model that training has not touched, so that it is the same on any number of processes."""
    run = build("dbm", processes, folder)
    run.fit_scalers()
    with torch.no_grad():
        for parameter in run.model.parameters():
            parameter.add_(torch.randn(parameter.shape, generator=torch.Generator().manual_seed(0)), alpha=0.4)
    metrics = run.evaluate()
    likelihood = run.log_likelihood(chains=200, temperatures=100)
    exact = -run.model.exact_log_partition().item() - metrics["eval_free_energy"]
    return {
        "metrics": [metrics[name] for name in METRICS],
        "likelihood": [likelihood.log_likelihood, likelihood.log_partition_error, likelihood.pairs],
        "exact": exact,
    }


def diverge(processes: int, folder: Path) -> list:
    run = build("dbm", processes, folder / "diverged", [Spoiler()], logging_steps=3, save_steps=4)
    try:
        run.train()
    except DivergenceError as error:
        return [error.step, Path(error.checkpoint).name]
    return []


def measure(processes: int, folder: Path) -> dict:
    measured = {name: train(name, processes, folder) for name in MODELS}
    measured["resumed"] = train("dbm", processes, folder, resume=8)
    return {**measured, "score": score(processes, folder), "diverged": diverge(processes, folder)}


if __name__ == "__main__":
    report(measure)
