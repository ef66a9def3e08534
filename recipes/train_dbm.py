"""Trains a deep Boltzmann machine over queries and responses (LocalGAN, Eq. 8), and shows what it has learned.

    accelerate launch recipes/train_dbm.py [CONFIG.yaml] [--field value ...]

Without a file: the shipped corpus. Leaves the energy with its word vectors, scalers and tokenizer in `output_dir`, and
a report: `energy.json`, `energy.md`, plots.
"""

import sys
from pathlib import Path

from hf_localgan.arguments import (
    DataArguments,
    EnergyArguments,
    EnergyReportArguments,
    RecipeParser,
    TokenizerArguments,
    set_up_energy,
)
from hf_localgan.evaluation import finish_energy_training
from hf_localgan.trainers import DbmTrainer, DbmTrainingConfig, DivergenceError

DEFAULT = Path(__file__).parent / "smalltalk" / "dbm.yaml"


def main(
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


if __name__ == "__main__":
    parser = RecipeParser(
        DataArguments, TokenizerArguments, EnergyArguments, EnergyReportArguments, DbmTrainingConfig,
        default_config=DEFAULT, description=__doc__,
    )  # fmt: skip
    try:
        main(*parser.read())
    except (ValueError, OSError, ImportError, DivergenceError) as error:
        sys.exit(f"{parser.prog}: {' '.join(str(error).split())}")
