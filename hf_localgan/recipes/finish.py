"""The end of a training: likelihood and scores on the test split, files, plots, tables."""

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from transformers import EarlyStoppingCallback

from hf_localgan.evaluation.chosen import chosen_evaluation
from hf_localgan.evaluation.dialogue import Evaluation
from hf_localgan.evaluation.plots import plot_training
from hf_localgan.hub.rendering import weights_digest
from hf_localgan.models.loading import load_generator


def finish_training(
    trainer, test, score: Callable[..., Evaluation] | None, about: Mapping[str, Any]
) -> Evaluation | None:
    """Measures the likelihood of the test split, scores its answers, writes all of it into the output folder, prints.

    To be called on every process, after `trainer.save_model()`. Writes `trainer_state.json`, `training.png`, what
    `Evaluation.write` writes, and the model card, `README.md`; with `push_to_hub` all of it is uploaded.

    Args:
        trainer: after `train`, of this package.
        test: the test split, encoded.
        score: `score(model, tokenizer, about=...)`, an evaluation of the test split, as `EvaluationArguments.scorer`
            makes it. Only the main process needs one.
        about: what names this run: model, data set, seed, objective.

    Returns:
        The evaluation, on the main process.
    """
    result = score_test(trainer, test, score, about)
    publish(trainer)
    return result


def score_test(trainer, test, score: Callable[..., Evaluation] | None, about: Mapping[str, Any]) -> Evaluation | None:
    """What `finish_training` does but for the card and the upload."""
    trainer.compute_metrics = None  # they are of the validation split
    trainer.remove_callback(EarlyStoppingCallback)  # it would look for its metric among those of the test split
    likelihood = trainer.evaluate(test, metric_key_prefix="test")
    result = None
    if trainer.is_world_process_zero():
        folder = save_state(trainer)
        model = trainer.accelerator.unwrap_model(trainer.model)
        if trainer.is_fsdp_enabled:  # each process has a part of the parameters; the file has them all
            model = load_generator(folder, device=trainer.args.device)[0]
        result = score(
            model, trainer.processing_class,
            about={**about, **chosen_about(trainer), **likelihood_about(likelihood), **whose(folder)},
        )  # fmt: skip
        files = result.write(folder)
        plot_training(trainer.state.log_history, folder / "training.png")
        perplexity, nats = likelihood["test_perplexity"], likelihood["test_loss"]
        show_report(
            trainer, result, [*files, folder / "training.png"],
            f"test perplexity {perplexity:.2f} ({nats:.3f} nats per token)",
        )  # fmt: skip
    trainer.accelerator.wait_for_everyone()
    return result


def save_state(trainer) -> Path:
    """Writes `trainer_state.json` into the output folder, which is returned; to be called on the main process."""
    folder = Path(trainer.args.output_dir)
    trainer.state.save_to_json(str(folder / "trainer_state.json"))
    return folder


def show_report(trainer, report, files: Sequence[Path], *lines: str):
    """Shows a report and its files to the trackers and in the terminal; to be called on the main process.

    Args:
        trainer: of this package.
        report: has a method `print`.
        files: that were written.
        lines: printed after the report.
    """
    trainer.track_results(files)
    report.print()
    for line in lines:
        print(line)
    print("written:", ", ".join(map(str, files)))


def publish(trainer, **told: Any):
    """Writes the model card of a training whose scores are in its output folder; with `push_to_hub` uploads the folder.

    To be called on every process.

    Args:
        trainer: of this package.
        told: further arguments of `create_model_card`.
    """
    if trainer.args.push_to_hub:
        trainer.push_to_hub(commit_message="Scores and model card", **told)
    else:
        trainer.create_model_card(**told)
    if trainer.is_world_process_zero():
        print(f"written: {Path(trainer.args.output_dir) / 'README.md'}")
        if trainer.args.push_to_hub:
            print(f"uploaded to the repository {trainer.hub_model_id}")
    trainer.accelerator.wait_for_everyone()


def whose(folder: Path) -> dict[str, str]:
    """What scores say about the weights they are of, so that they are never shown beside others."""
    digest = weights_digest(folder)
    return {} if digest is None else {"weights": digest}


def likelihood_about(metrics: Mapping[str, float]) -> dict[str, float]:
    """What an evaluation tells about the likelihood of the test split, from what `trainer.evaluate` returned."""
    return {
        "nats_per_token": round(metrics["test_loss"], 4),
        "perplexity": round(metrics["test_perplexity"], 2),
        "tokens": metrics["test_tokens"],
    }


def chosen_about(trainer) -> dict[str, float]:
    """What an evaluation tells about the checkpoint that was chosen: its step and its validation scores."""
    chosen = chosen_evaluation(vars(trainer.state), trainer.args.load_best_model_at_end, ["eval_loss"])
    if chosen is None:
        return {}
    names = {"eval_loss": ("validation_nats_per_token", 4), "eval_bleu": ("validation_bleu", 2)}
    scores = {name: round(chosen.scores[key], digits) for key, (name, digits) in names.items() if key in chosen.scores}
    return {"best_step" if chosen.is_best else "last_evaluated_step": chosen.step, **scores}


def matching_about(trainer, best: str, last: str) -> dict[str, float]:
    """What a report on matching tells about the checkpoint that was chosen: steps in all, its own, its matching.

    Args:
        trainer: after `train`.
        best, last: names of its step where it is the best one, and where it is the last one.
    """
    steps = {"steps": trainer.state.global_step}
    chosen = chosen_evaluation(vars(trainer.state), trainer.args.load_best_model_at_end, ["eval_matching"])
    if chosen is None:
        return steps
    name = best if chosen.is_best else last
    return {**steps, name: chosen.step, "validation_matching": round(chosen.scores["eval_matching"], 4)}
