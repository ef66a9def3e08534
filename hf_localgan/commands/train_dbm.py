"""Trains a deep Boltzmann machine over queries and responses (LocalGAN, Eq. 8), and shows what it has learned.

Without a file: the shipped corpus. Leaves the energy with its word vectors, scalers and tokenizer in `output_dir`, and
a report: `energy.json`, `energy.md`, plots, a model card.
"""

from collections.abc import Sequence

from hf_localgan.commands.recipe import run, training_parser
from hf_localgan.recipes import DataArguments, EnergyArguments, EnergyReportArguments, TokenizerArguments, set_up_energy
from hf_localgan.recipes.finish_energy import finish_energy_training
from hf_localgan.trainers import DbmTrainer, DbmTrainingConfig


def train(
    data: DataArguments,
    tokens: TokenizerArguments,
    energy: EnergyArguments,
    report: EnergyReportArguments,
    args: DbmTrainingConfig,
):
    setup = set_up_energy(data, tokens, energy, report, args)
    trainer = DbmTrainer(
        setup.model, args, train_dataset=setup.train, eval_dataset=setup.validation,
        processing_class=setup.tokenizer,
    )  # fmt: skip
    trainer.train(resume_from_checkpoint=setup.checkpoint)
    trainer.save_model()
    finish_energy_training(trainer, setup.train, setup.test, setup.about, **setup.report)


def main(argv: Sequence[str] | None = None, prog: str | None = None) -> int:
    parser = training_parser(
        DataArguments, TokenizerArguments, EnergyArguments, EnergyReportArguments, DbmTrainingConfig,
        default="dbm", description=__doc__, prog=prog,
    )  # fmt: skip
    return run(parser, train, argv)
