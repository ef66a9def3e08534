"""Trains a deep Boltzmann machine over queries and responses (LocalGAN, Eq. 8), and measures it on the test split.

Without CONFIG it trains on the shipped corpus. Writes to `output_dir` the energy with its word vectors, scalers and
tokenizer, and a report: `energy.json`, `energy.md`, plots, a model card.
"""

from collections.abc import Sequence

from hf_localgan.commands.recipe import run, training_parser
from hf_localgan.recipes.energy import train_energy
from hf_localgan.recipes.parser import RecipeParser
from hf_localgan.recipes.settings.data import DataArguments
from hf_localgan.recipes.settings.energy import EnergyArguments, EnergyReportArguments
from hf_localgan.recipes.settings.tokenizer import TokenizerArguments
from hf_localgan.trainers.dbm.config import DbmTrainingConfig


def settings_parser(prog: str | None = None) -> RecipeParser:
    return training_parser(
        DataArguments, TokenizerArguments, EnergyArguments, EnergyReportArguments, DbmTrainingConfig,
        default="dbm", description=__doc__, prog=prog,
    )  # fmt: skip


def main(argv: Sequence[str] | None = None, prog: str | None = None) -> int:
    return run(settings_parser(prog), train_energy, argv)
