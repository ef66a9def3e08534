"""The end of an energy's training: the report on the test split, its files and plots."""

from collections.abc import Mapping
from typing import Any

from datasets import Dataset, IterableDataset

from hf_localgan.evaluation.energy.measure import evaluate_energy
from hf_localgan.evaluation.energy.plots import plot_energy_training
from hf_localgan.evaluation.energy.report import EnergyReport
from hf_localgan.recipes.finish import matching_about, publish, save_state, scored_about, show_report
from hf_localgan.trainers.dbm.config import DbmTrainingConfig
from hf_localgan.trainers.dbm.trainer import DbmTrainer


def finish_energy_training(
    trainer: DbmTrainer,
    train: Dataset | IterableDataset,
    test: Dataset,
    about: Mapping[str, Any],
    **settings: Any,
) -> EnergyReport | None:
    """Measures the trained energy on the test split, writes the report to the output folder, and prints it.

    To be called on every process, after `trainer.save_model()`. Writes `trainer_state.json`, `training.png`, what
    `EnergyReport.write` writes, and the model card, `README.md`; with `push_to_hub` all of it is uploaded.

    Args:
        trainer: after `train`.
        train, test: the splits, as `evaluate_energy` takes them.
        about: facts that identify this run: model, data set, split, seed.
        settings: further arguments of `evaluate_energy`.

    Returns:
        The report on the main process, `None` on the others.
    """
    report = None
    if trainer.is_world_process_zero():
        folder, args = save_state(trainer), trainer.args
        assert isinstance(args, DbmTrainingConfig)
        chosen = matching_about(trainer, best="best_step", last="last_evaluated_step")
        print(
            f"The energy is measured on {len(test):,} pairs. The likelihood takes longest: {args.ais_chains} chains "
            f"of {args.ais_temperatures:,} temperatures (`ais_chains`, `ais_temperatures`).",
            flush=True,
        )
        report = evaluate_energy(
            trainer.accelerator.unwrap_model(trainer.model), train, test, tokenizer=trainer.processing_class,
            about={**about, **chosen, **scored_about(folder)}, ais_chains=args.ais_chains,
            ais_temperatures=args.ais_temperatures, seed=args.seed, **settings,
        )  # fmt: skip
        files = report.write(folder)
        plot_energy_training(trainer.state.log_history, folder / "training.png")
        show_report(trainer, report, [*files, folder / "training.png"])
    trainer.accelerator.wait_for_everyone()
    publish(trainer)
    return report
