"""The end of a training: likelihood and scores on the test split, files, plots, tables."""

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from transformers import EarlyStoppingCallback

from hf_localgan.evaluation.plots import plot_training
from hf_localgan.evaluation.sweep import Evaluation


def finish_training(
    trainer, test, score: Callable[..., Evaluation] | None, about: Mapping[str, Any]
) -> Evaluation | None:
    """Measures the likelihood of the test split, scores its answers, writes all of it into the output folder, prints.

    To be called on every process. Writes `trainer_state.json`, `training.png` and what `Evaluation.write` writes.

    Args:
        trainer: after `train`, of this package.
        test: the test split, encoded.
        score: `score(model, tokenizer, about=...)`, an evaluation of the test split, as `EvaluationArguments.scorer`
            makes it. Only the main process needs one.
        about: what names this run: model, data set, seed, objective.

    Returns:
        The evaluation, on the main process.
    """
    trainer.compute_metrics = None  # they are of the validation split
    trainer.remove_callback(EarlyStoppingCallback)  # it would look for its metric among those of the test split
    likelihood = trainer.evaluate(test, metric_key_prefix="test")
    result = None
    if trainer.is_world_process_zero():
        folder = Path(trainer.args.output_dir)
        trainer.state.save_to_json(str(folder / "trainer_state.json"))
        result = score(
            trainer.accelerator.unwrap_model(trainer.model), trainer.processing_class,
            about={**about, **chosen_evaluation(trainer), **likelihood_about(likelihood)},
        )  # fmt: skip
        files = result.write(folder)
        plot_training(trainer.state.log_history, folder / "training.png")
        result.print()
        print(f"test perplexity {likelihood['test_perplexity']:.2f} ({likelihood['test_loss']:.3f} nats per token)")
        print("written:", ", ".join(str(path) for path in [*files, folder / "training.png"]))
    trainer.accelerator.wait_for_everyone()
    return result


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
