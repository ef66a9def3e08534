"""Whether the metric that chooses the best model exists, looked at before the training starts."""

import random
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from itertools import islice
from typing import Any

import numpy as np
import torch
from transformers import Trainer

UNCHOSEN = {"model_preparation_time", "jit_compilation_time"}  # of the first evaluation alone
SPEED = ("runtime", "samples_per_second", "steps_per_second")  # which the Trainer adds to every evaluation
LOADERS = "_eval_dataloaders"  # the Trainer's attribute
PROBED_ROWS = 8  # rows of a process


def check_best_metric(trainer: Trainer, known: frozenset[str]):
    """Refuses a `metric_for_best_model` that no evaluation has.

    A name that is not among the trainer's own is looked for in an evaluation of the first rows, which leaves no trace:
    `compute_metrics` or a subclass may add it. Where these rows cannot be evaluated, or `evaluate` itself or a callback
    is the user's, the name is taken as it is.

    Args:
        trainer: not yet training.
        known: names of what the trainer itself measures, without prefix.

    Raises:
        ValueError: naming the metrics that there are.
    """
    args = trainer.args
    data: Any = trainer.eval_dataset
    name = args.metric_for_best_model
    if name is None or data is None or args.eval_strategy == "no":
        return
    key = name if name.startswith("eval_") else f"eval_{name}"
    splits: dict[str, Any] = {f"eval_{split}_": rows for split, rows in data.items()} if _is_several(data) else {}
    splits = splits or {"eval_": data}
    if any(key == f"{prefix}{metric}" for prefix in splits for metric in (*known, *SPEED)):
        return
    prefix, rows = next(iter(splits.items()))
    measured = _measured(trainer, rows, prefix)
    if (measured is None and getattr(trainer, "compute_metrics", None) is not None) or _may_measure_more(trainer):
        return
    names = {*known} if measured is None else measured - UNCHOSEN
    if any(key == f"{other}{metric}" for other in splits for metric in names):
        return
    accepted = [f"{other}{metric}" for other in splits for metric in sorted(names)]
    several = (
        f" `eval_dataset` has {len(splits)} sets, and each metric has the name of its set." if _is_several(data) else ""
    )
    raise ValueError(
        f'`metric_for_best_model` is "{name}", and the evaluations have no `{key}`.{several} They have '
        f"{', '.join(f'`{metric}`' for metric in accepted)}. Set `metric_for_best_model` to one of them"
        f"{'' if measured is None else ', or let `compute_metrics` return it'}."
    )


def _may_measure_more(trainer: Trainer) -> bool:
    """Whether code of the user's may add metrics behind the evaluation loop: `evaluate`, or a callback."""
    functions = [type(callback).on_evaluate for callback in trainer.callback_handler.callbacks]
    return "evaluate" in vars(trainer) or any(
        not function.__module__.startswith(("transformers.", "hf_localgan."))
        for function in (type(trainer).evaluate, *functions)
    )


def _is_several(data: Any) -> bool:
    return isinstance(data, dict)


def _measured(trainer: Trainer, rows: Any, prefix: str) -> set[str] | None:
    """Names that an evaluation of the first rows has, without prefix; `None` if these cannot be evaluated."""
    if trainer.is_fsdp_enabled or trainer.is_deepspeed_enabled:
        return None  # the model is spread over the processes when the training begins
    number = PROBED_ROWS * trainer.args.world_size
    first = list(islice(iter(rows), number))
    handler = trainer.callback_handler
    callbacks, handler.callbacks = handler.callbacks, []  # no bars, tables or log lines of this evaluation
    # With persistent workers the Trainer would take the loader of these rows for all evaluations.
    loaders = vars(trainer).pop(LOADERS, None)
    training = trainer.model.training  # type: ignore[union-attr]
    try:
        with _same_randomness():
            output = trainer.evaluation_loop(
                trainer.get_eval_dataloader(first),  # type: ignore[arg-type]  # a list of rows
                description="", prediction_loss_only=True if trainer.compute_metrics is None else None,
                metric_key_prefix=prefix.removesuffix("_"),
            )  # fmt: skip
    except Exception:  # of the user's `compute_metrics`, for example, which may need more rows
        return None
    finally:
        handler.callbacks = callbacks
        vars(trainer).pop(LOADERS, None)
        if loaders is not None:
            setattr(trainer, LOADERS, loaders)
        trainer.model.train(training)  # type: ignore[union-attr]
    metrics: Mapping[str, Any] = output.metrics or {}
    return {name.removeprefix(prefix) for name in metrics}


@contextmanager
def _same_randomness() -> Iterator[None]:
    """Leaves the random states of Python, NumPy and torch as they were."""
    python, numpy = random.getstate(), np.random.get_state()
    with torch.random.fork_rng():
        try:
            yield
        finally:
            random.setstate(python)
            np.random.set_state(numpy)
