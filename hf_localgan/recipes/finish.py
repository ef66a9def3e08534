"""The end of a training: likelihood and scores on the test split, files, plots, tables."""

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from transformers import EarlyStoppingCallback

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
        folder = Path(trainer.args.output_dir)
        trainer.state.save_to_json(str(folder / "trainer_state.json"))
        model = trainer.accelerator.unwrap_model(trainer.model)
        if trainer.is_fsdp_enabled:  # each process has a part of the parameters; the file has them all
            model = load_generator(folder, device=trainer.args.device)[0]
        result = score(
            model, trainer.processing_class,
            about={**about, **chosen_evaluation(trainer), **likelihood_about(likelihood), **whose(folder)},
        )  # fmt: skip
        files = result.write(folder)
        plot_training(trainer.state.log_history, folder / "training.png")
        trainer.track_results([*files, folder / "training.png"])
        result.print()
        print(f"test perplexity {likelihood['test_perplexity']:.2f} ({likelihood['test_loss']:.3f} nats per token)")
        print("written:", ", ".join(str(path) for path in [*files, folder / "training.png"]))
    trainer.accelerator.wait_for_everyone()
    return result


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


def chosen_evaluation(trainer) -> dict[str, float]:
    """Step and validation scores of the model that is left: the best one where it was loaded, else the last one."""
    evaluations = {entry["step"]: entry for entry in trainer.state.log_history if "eval_loss" in entry}
    best = trainer.state.best_global_step if trainer.args.load_best_model_at_end else None
    step = best if best in evaluations else max(evaluations, default=None)
    if step is None:
        return {}
    names = {"eval_loss": ("validation_nats_per_token", 4), "eval_bleu": ("validation_bleu", 2)}
    scores = {
        name: round(evaluations[step][key], digits) for key, (name, digits) in names.items() if key in evaluations[step]
    }
    return {"best_step" if best == step else "last_evaluated_step": step, **scores}
