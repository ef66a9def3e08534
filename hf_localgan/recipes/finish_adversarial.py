"""The end of adversarial training: scores of both generators, the report with its pictures, the model card."""

import hashlib
from collections.abc import Callable, Iterable, Mapping
from functools import partial
from itertools import chain, islice
from typing import Any

import torch
from datasets import Dataset
from datasets.utils import tqdm
from transformers import PreTrainedModel

from hf_localgan.evaluation.adversarial.plots import plot_player_losses
from hf_localgan.evaluation.adversarial.report import AdversarialReport
from hf_localgan.evaluation.dialogue import Evaluation
from hf_localgan.evaluation.runs import Run, check_comparable
from hf_localgan.models.dbm import DbmModel
from hf_localgan.recipes.finish import publish, score_test, show_report
from hf_localgan.trainers.adversarial.trainer import TwoPlayerTrainer
from hf_localgan.trainers.base.settings import output_folder

START = "start"


def finish_adversarial_training(
    trainer: TwoPlayerTrainer,
    test: Dataset,
    score: Callable[..., Evaluation] | None,
    about: Mapping[str, Any],
    *,
    start: PreTrainedModel,
    train_pairs: Iterable[Mapping[str, Any]] | None = None,
    card: Mapping[str, Any] | None = None,
    permutations: int = 1000,
) -> AdversarialReport | None:
    """Measures both generators on the test split, writes the report to the output folder, and prints it.

    To be called on every process, after `trainer.save_model()`. Writes what `finish_training` writes; the start's
    evaluation in the folder `start`, unless the folder holds that of the same generator and queries; and what
    `AdversarialReport.write` writes, which the model card shows, too.

    Args:
        trainer: after `train`; an energy among its parts measures the radii.
        test: the test split, encoded.
        score: called as `score(model, tokenizer, about=...)`; evaluates the test split. `EvaluationArguments.scorer`
            makes it, and only the main process needs it.
        about: facts that identify this run: model, data set, split, seed; and `objective`, by default the trainer's.
        start: the generator as it was before the adversarial training, a model of its own, on any device.
        train_pairs: rows with `response`, to find answers that are copied from the training split.
        card: further arguments of `create_model_card`: `language`, `license`, `dataset`.
        permutations: number of permutations of each paired test.

    Returns:
        The report on the main process, `None` on the others.

    Raises:
        ValueError: if `start` is the trained model itself, `train_pairs` have no `response`, or the evaluation is not
            one of dialogue.
    """
    if start is not None and start is trainer.accelerator.unwrap_model(trainer.model):
        raise ValueError("`start` is the model that was trained. Load the generator that the training began with anew.")
    energy = next((part for part in trainer.parts.values() if isinstance(part, DbmModel)), None)
    about = {"objective": trainer.objective.name, **about}
    if trainer.guard.reason is not None:  # the answers had collapsed
        about["training"] = trainer.guard.reason
    main = trainer.is_world_process_zero()
    responses = None if train_pairs is None or not main else _responses(train_pairs)
    score_test(trainer, test, score, about, partial(plot_player_losses, players=[*trainer.players]))
    report = None
    if main:
        assert score is not None  # the main process has one
        folder, history = output_folder(trainer.args), trainer.state.log_history
        trained = Run.read(folder)
        report = AdversarialReport.of_runs(
            trained, evaluation_of_start(start, trained, trainer, score, about), history, objective=about["objective"],
            energy=energy, tokenizer=trainer.processing_class, training_responses=responses, permutations=permutations,
        )  # fmt: skip
        show_report(trainer, report, report.write(folder, history))
    trainer.accelerator.wait_for_everyone()
    publish(trainer, **(card or {}))
    return report


def evaluation_of_start(
    start: PreTrainedModel,
    trained: Run,
    trainer: TwoPlayerTrainer,
    score: Callable[..., Evaluation],
    about: Mapping[str, Any],
) -> Run:
    """The start's evaluation in the folder `start`: read if it is of the same generator and settings, else made.

    Args:
        start, trainer, score, about: as in `finish_adversarial_training`.
        trained: the evaluation whose queries, references, decodings and scores it must have.
    """
    folder = output_folder(trainer.args) / START
    facts: dict[str, Any] = {"model": f"{about.get('model', 'generator')}, start"}
    facts |= {name: about[name] for name in ("dataset", "split", "seed") if name in about}
    facts["weights"] = _fingerprint(start)
    facts["answering"] = {  # settings that the scores do not show
        name: value
        for name, value in sorted(getattr(score, "keywords", {}).items())
        if value is None or isinstance(value, (bool, int, float, str))
    }
    try:
        run = Run.read(folder)
        check_comparable([trained, run])
    except ValueError:
        run = None
    if run is not None and run.about == facts and _decoding_settings(run) == _decoding_settings(trained):
        print(f"The start's scores are those of {folder}.")
        return run
    device = start.device
    try:
        start.to(trainer.args.device)  # type: ignore[arg-type]  # the stubs lose `self` in a decorator
        score(start, trainer.processing_class, about=facts).write(folder, plots=False)
    finally:
        start.to(device)  # type: ignore[arg-type]
    return Run.read(folder)


def _responses(pairs: Iterable[Mapping[str, Any]]) -> Iterable[str]:
    """The responses, one after another; rows without any are refused at once."""
    if isinstance(pairs, Dataset):
        names, rest = pairs.column_names, pairs.with_format(None)
    else:
        rows = iter(pairs)
        first = list(islice(rows, 1))
        names, rest = [*first[0]] if first else ["response"], chain(first, rows)
    if "response" not in names:
        listed = ", ".join(f"`{name}`" for name in names)
        raise ValueError(f"Rows of `train_pairs` must have a `response`, found {listed}. Give a split of `load_pairs`.")
    if isinstance(rest, Dataset):  # many rows at a time, for there may be millions
        batches = rest.select_columns(["response"]).iter(batch_size=1000)
        texts: Iterable[str] = chain.from_iterable(batch["response"] for batch in batches)
    else:
        texts = (row["response"] for row in rest)
    return tqdm(texts, desc="Looking for copies", unit=" responses", delay=1)


def _decoding_settings(run: Run) -> dict[str, Any]:
    """Settings of the answers and signatures of their scores, by the name of the decoding."""
    return {
        name: (entry["generate"], {key: _settings(score["signature"]) for key, score in entry["scores"].items()})
        for name, entry in run.decodings.items()
    }


def _settings(signature: str) -> str:
    """A signature without the number of answers, for some scores leave out empty ones."""
    return "|".join(part for part in signature.split("|") if not part.startswith("N:"))


def _fingerprint(model: PreTrainedModel) -> str:
    """SHA-256 of the names and values of all parameters and buffers, the first 16 digits."""
    digest = hashlib.sha256()
    for name, tensor in sorted(model.state_dict().items()):
        digest.update(f"{name} {tensor.dtype} {tuple(tensor.shape)}".encode())
        digest.update(tensor.detach().cpu().contiguous().reshape(-1).view(torch.uint8).numpy())
    return digest.hexdigest()[:16]
