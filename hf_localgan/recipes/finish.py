"""The end of a training: likelihood and scores on the test split, files, plots, tables."""

from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import Any, Protocol

from accelerate import PartialState
from datasets import Dataset
from transformers import EarlyStoppingCallback, Trainer

from hf_localgan.evaluation.chosen import chosen_evaluation
from hf_localgan.evaluation.dialogue import Evaluation
from hf_localgan.evaluation.plots import plot_training
from hf_localgan.hub.completions import prepare_completions, push_completions
from hf_localgan.hub.rendering import weights_digest
from hf_localgan.models.loading import load_generator
from hf_localgan.trainers.base.averaging import AveragedTrainer, mean_of_last
from hf_localgan.trainers.base.method import MethodMixin
from hf_localgan.trainers.base.publishing import PublishingMixin
from hf_localgan.trainers.base.settings import TokenLossConfig, output_folder
from hf_localgan.trainers.base.token_loss import TokenLossTrainer
from hf_localgan.trainers.base.tracking import TrackingMixin


def finish_training(
    trainer: TokenLossTrainer, test: Dataset, score: Callable[..., Evaluation] | None, about: Mapping[str, Any]
) -> Evaluation | None:
    """Measures the likelihood of the test split, scores the answers to it, and writes and prints the results.

    To be called on every process, after `trainer.save_model()`. Writes `trainer_state.json`, `training.png`, what
    `Evaluation.write` writes, and the model card, `README.md`; with `push_to_hub` all of it is uploaded.

    Args:
        trainer: after `train`.
        test: the test split, encoded.
        score: called as `score(model, tokenizer, about=...)`; evaluates the test split. `EvaluationArguments.scorer`
            makes it, and only the main process needs it.
        about: facts that identify this run: model, data set, seed, objective.

    Returns:
        The evaluation on the main process, `None` on the others.
    """
    result = score_test(trainer, test, score, about)
    publish(trainer)
    return result


def score_test(
    trainer: TokenLossTrainer,
    test: Dataset,
    score: Callable[..., Evaluation] | None,
    about: Mapping[str, Any],
    plot: Callable[[list[dict[str, Any]], Path], None] | None = None,
) -> Evaluation | None:
    """The work of `finish_training` without the card and the upload.

    Args:
        trainer, test, score, about: as in `finish_training`.
        plot: draws a history of logs in a file, by default as `plot_training`.
    """
    trainer.compute_metrics = None  # they are of the validation split
    trainer.remove_callback(EarlyStoppingCallback)  # it would look for its metric among those of the test split
    likelihood = trainer.evaluate(test, metric_key_prefix="test")
    result = None
    if trainer.is_world_process_zero():
        assert score is not None  # the main process has one
        folder = save_state(trainer)
        model = trainer.accelerator.unwrap_model(trainer.model)
        if trainer.is_fsdp_enabled:  # each process has a part of the parameters; the file has them all
            model = load_generator(folder, device=trainer.args.device)[0]
        result = score(
            model, trainer.processing_class,
            about={**about, **chosen_about(trainer), **likelihood_about(likelihood), **scored_about(folder)},
        )  # fmt: skip
        files = result.write(folder)
        plot = plot or partial(plot_training, unit=trainer.loss_unit)
        plot(trainer.state.log_history, folder / "training.png")
        perplexity, nats = likelihood["test_perplexity"], likelihood["test_loss"]
        show_report(
            trainer, result, [*files, folder / "training.png"],
            f"test perplexity {perplexity:.2f} ({nats:.3f} nats per token)",
        )  # fmt: skip
    trainer.accelerator.wait_for_everyone()
    return result


def save_state(trainer: MethodMixin) -> Path:
    """Writes `trainer_state.json` to the output folder, and returns that; to be called on the main process."""
    folder = output_folder(trainer.args)
    trainer.state.save_to_json(str(folder / "trainer_state.json"))
    return folder


class Printable(Protocol):
    """A report with a method that shows it in the terminal."""

    def print(self) -> None: ...


def show_report(trainer: TrackingMixin, report: Printable, files: Sequence[Path], *lines: str):
    """Sends files to the trackers and prints a report; to be called on the main process.

    Args:
        trainer: a trainer of this package.
        report: such as an `Evaluation`.
        files: the files of the report.
        lines: lines to print after the report.
    """
    trainer.track_results(files)
    report.print()
    for line in lines:
        print(line)
    print("written:", ", ".join(map(str, files)))


def publish(trainer: PublishingMixin, **facts: Any):
    """Writes the model card of a training whose scores are in its output folder; with `push_to_hub` uploads the folder.

    With `completions_to` the generations of the test split go to a data set. To be called on every process.

    Args:
        trainer: a trainer of this package.
        facts: further arguments of `create_model_card`.

    Raises:
        UploadError: naming the repository and what to do. All files are in the output folder by then.
    """
    if trainer.args.push_to_hub:
        trainer.push_to_hub(commit_message="Scores and model card", **facts)
    else:
        trainer.create_model_card(**facts)
    if trainer.is_world_process_zero():
        print(f"written: {output_folder(trainer.args) / 'README.md'}")
        if trainer.args.push_to_hub:
            print(f"uploaded to the repository {trainer.hub_model_id}")
        _publish_completions(trainer)
    trainer.accelerator.wait_for_everyone()


def check_publishing(args: TokenLossConfig, dataset: str):
    """Refuses before a training what would refuse the upload of its generations, and makes their data set on the Hub.

    To be called on every process; the main one asks the Hub.

    Args:
        args: the trainer's configuration.
        dataset: the data set whose test split will be answered.

    Raises:
        ValueError: where the licence of the data set is not known.
        UploadError: if the repository cannot be made or written to.
    """
    if args.completions_to is None or not PartialState().is_main_process:
        return
    prepare_completions(
        args.completions_to, dataset, license=args.completions_license, private=args.hub_private_repo is not False,
        token=args.hub_token,
    )  # fmt: skip


def _publish_completions(trainer: PublishingMixin):
    args = trainer.args
    if not isinstance(args, TokenLossConfig) or args.completions_to is None:
        return
    push_completions(
        output_folder(args), args.completions_to, license=args.completions_license,
        private=args.hub_private_repo is not False, model_id=trainer.hub_model_id, language=args.card_language,
        token=args.hub_token,
    )  # fmt: skip
    print(f"generations uploaded to the data set {args.completions_to}")


def objective_about(method: type[TokenLossTrainer], args: TokenLossConfig) -> dict[str, Any]:
    """Facts for an evaluation: the objective, and the factor of label smoothing where there is any.

    Args:
        method: class of the trainer.
        args: its configuration.
    """
    smoothing = args.label_smoothing_factor
    return {"objective": method.objective.name.lower(), **({"label_smoothing": smoothing} if smoothing else {})}


def scored_about(folder: Path) -> dict[str, str]:
    """Facts for the scores of the weights in a folder: the day, in UTC, and the weights' digest.

    By the digest scores are never shown beside other weights.
    """
    digest = weights_digest(folder)
    day = {"date": datetime.now(UTC).date().isoformat()}
    return day if digest is None else {**day, "weights": digest}


def likelihood_about(metrics: Mapping[str, float]) -> dict[str, float]:
    """Facts for an evaluation: nats per token, perplexity and tokens of the test split.

    Args:
        metrics: the values that `trainer.evaluate` returned.
    """
    return {
        "nats_per_token": round(metrics["test_loss"], 4),
        "perplexity": round(metrics["test_perplexity"], 2),
        "tokens": metrics["test_tokens"],
    }


def chosen_about(trainer: TokenLossTrainer) -> dict[str, float]:
    """Facts for an evaluation: step and validation scores of the checkpoint that was chosen."""
    chosen = chosen_evaluation(vars(trainer.state), trainer.args.load_best_model_at_end, ["eval_loss"])
    if chosen is None:
        return {}
    names = {"eval_loss": ("validation_nats_per_token", 4), "eval_bleu": ("validation_bleu", 2)}
    scores = {name: round(chosen.scores[key], digits) for key, (name, digits) in names.items() if key in chosen.scores}
    return {"best_step" if chosen.is_best else "last_evaluated_step": chosen.step, **scores}


def averages_about(trainer: TokenLossTrainer) -> dict[str, Any]:
    """Facts for an evaluation: mean validation scores of the last evaluations, and those of averaged checkpoints.

    To be called on every process, after `trainer.train`. Where checkpoints were averaged, their mean is evaluated on
    the validation split.

    Args:
        trainer: after `train`.
    """
    about: dict[str, Any] = {}
    if not isinstance(trainer, AveragedTrainer):
        return about
    names = {"eval_loss": ("validation_nats_per_token_mean", 4), "eval_bleu": ("validation_bleu_mean", 3)}
    found = mean_of_last(trainer.state.log_history, trainer.args.mean_of_evaluations, list(names))
    for key, (name, digits) in names.items():
        if key in found:
            about[name] = round(found[key], digits)
            about |= {"evaluations_averaged": int(found["evaluations"])}
        if f"{key}_deviation" in found:
            about[f"{name.removesuffix('_mean')}_deviation"] = round(found[f"{key}_deviation"], digits)
    if trainer.averaged_steps:
        about["averaged_steps"] = ", ".join(map(str, trainer.averaged_steps))
        if trainer.eval_dataset is not None:
            trainer.remove_callback(EarlyStoppingCallback)  # it would look for its metric among these
            scores = trainer.evaluate(metric_key_prefix="averaged")
            about["averaged_validation_nats_per_token"] = round(scores["averaged_loss"], 4)
            if "averaged_bleu" in scores:
                about["averaged_validation_bleu"] = round(scores["averaged_bleu"], 2)
    return about


def matching_about(trainer: Trainer, best: str, last: str) -> dict[str, float]:
    """Facts for a report on matching: all steps, and step and validation matching of the checkpoint that was chosen.

    Args:
        trainer: after `train`.
        best, last: names of its step where it is the best one, and where it is the last one.
    """
    steps: dict[str, float] = {"steps": trainer.state.global_step}
    chosen = chosen_evaluation(vars(trainer.state), trainer.args.load_best_model_at_end, ["eval_matching"])
    if chosen is None:
        return steps
    name = best if chosen.is_best else last
    return {**steps, name: chosen.step, "validation_matching": round(chosen.scores["eval_matching"], 4)}
