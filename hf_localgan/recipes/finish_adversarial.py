"""The end of adversarial training: both generators scored, the report, its pictures, the model card."""

import hashlib
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any

import torch
from transformers import PreTrainedModel

from hf_localgan.evaluation.adversarial.report import AdversarialReport
from hf_localgan.evaluation.dialogue import Evaluation
from hf_localgan.evaluation.runs import Run, check_comparable
from hf_localgan.models.dbm import DbmModel
from hf_localgan.recipes.finish import publish, score_test, show_report

START = "start"


def finish_adversarial_training(
    trainer,
    test,
    score: Callable[..., Evaluation] | None,
    about: Mapping[str, Any],
    *,
    start: PreTrainedModel,
    train_pairs: Iterable[Mapping[str, Any]] | None = None,
    card: Mapping[str, Any] | None = None,
    permutations: int = 1000,
) -> AdversarialReport | None:
    """Measures both generators on the test split, writes what was found into the output folder, and prints it.

    To be called on every process, after `trainer.save_model()`. Writes what `finish_training` writes; the start's
    evaluation in the folder `start`, unless the one of this very generator on these queries is there; and what
    `AdversarialReport.write` writes, which the model card shows, too.

    Args:
        trainer (`TwoPlayerTrainer`): after `train`; an energy among its parts measures the radii.
        test: the test split, encoded.
        score: `score(model, tokenizer, about=...)`, an evaluation of the test split, as `EvaluationArguments.scorer`
            makes it. Only the main process needs one.
        about: what names this run: model, data set, split, seed; `objective` too, by default the trainer's.
        start: the generator as it was before the adversarial training, a model of its own, on any device.
        train_pairs: rows with `response`, to find answers that are copied from the training split.
        card: further arguments of `create_model_card`: `language`, `license`, `dataset`.
        permutations: of each paired test.

    Returns:
        The report, on the main process.

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
    score_test(trainer, test, score, about)
    report = None
    if main:
        folder, history = Path(trainer.args.output_dir), trainer.state.log_history
        trained = Run.read(folder)
        report = AdversarialReport.of_runs(
            trained, evaluation_of_start(start, trained, trainer, score, about), history, objective=about["objective"],
            energy=energy, tokenizer=trainer.processing_class, training_responses=responses, permutations=permutations,
        )  # fmt: skip
        show_report(trainer, report, report.write(folder, history))
    trainer.accelerator.wait_for_everyone()
    publish(trainer, **(card or {}))
    return report


def evaluation_of_start(start: PreTrainedModel, trained: Run, trainer, score, about: Mapping[str, Any]) -> Run:
    """The start's evaluation in the folder `start`: read where it is of this generator and this kind, else made.

    Args:
        start, trainer, score, about: as in `finish_adversarial_training`.
        trained: whose queries, references, decodings and scores it must have.
    """
    folder = Path(trainer.args.output_dir) / START
    told = {name: about[name] for name in ("dataset", "split", "seed") if name in about}
    told = {"model": f"{about.get('model', 'generator')}, start", **told, "weights": _fingerprint(start)}
    told["answering"] = {  # what the scores do not tell of themselves
        name: value
        for name, value in sorted(getattr(score, "keywords", {}).items())
        if value is None or isinstance(value, (bool, int, float, str))
    }
    try:
        run = Run.read(folder)
        check_comparable([trained, run])
    except ValueError:
        run = None
    if run is not None and run.about == told and _ways(run) == _ways(trained):
        print(f"The start's scores are those of {folder}.")
        return run
    device = start.device
    try:
        score(start.to(trainer.args.device), trainer.processing_class, about=told).write(folder, plots=False)
    finally:
        start.to(device)
    return Run.read(folder)


def _responses(pairs: Iterable[Mapping[str, Any]]) -> set[str]:
    texts = set()
    for row in pairs:
        if "response" not in row:
            found = ", ".join(f"`{name}`" for name in row)
            raise ValueError(
                f"Rows of `train_pairs` must have a `response`, found {found}. Give what `load_pairs` gave."
            )
        texts.add(row["response"].strip().lower())
    return texts


def _ways(run: Run) -> dict[str, Any]:
    """How the answers were made and which scores they have, by the name of the decoding."""
    return {
        name: (one["generate"], {score: _settings(found["signature"]) for score, found in one["scores"].items()})
        for name, one in run.decodings.items()
    }


def _settings(signature: str) -> str:
    """A signature without the number of answers, of which some scores leave out empty ones."""
    return "|".join(part for part in signature.split("|") if not part.startswith("N:"))


def _fingerprint(model: PreTrainedModel) -> str:
    """SHA-256 of the names and values of all parameters and buffers, the first 16 digits."""
    digest = hashlib.sha256()
    for name, tensor in sorted(model.state_dict().items()):
        digest.update(f"{name} {tensor.dtype} {tuple(tensor.shape)}".encode())
        digest.update(tensor.detach().cpu().contiguous().reshape(-1).view(torch.uint8).numpy())
    return digest.hexdigest()[:16]
