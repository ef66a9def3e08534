"""Trains a generator by maximum likelihood, and scores it on the test split.

Without CONFIG it trains on the shipped corpus. Writes to `output_dir` the generator with its tokenizer, checkpoints,
samples, scores, plots and a model card.
"""

from collections.abc import Sequence
from functools import partial

from hf_localgan.commands.recipe import run, training_parser
from hf_localgan.recipes.generator import train_generator
from hf_localgan.recipes.parser import RecipeParser
from hf_localgan.recipes.settings.data import DataArguments
from hf_localgan.recipes.settings.evaluation import EvaluationArguments
from hf_localgan.recipes.settings.generator import GeneratorArguments
from hf_localgan.recipes.settings.tokenizer import TokenizerArguments
from hf_localgan.trainers.mle.config import MleConfig
from hf_localgan.trainers.mle.trainer import MleTrainer


def settings_parser(prog: str | None = None) -> RecipeParser:
    return training_parser(
        DataArguments, TokenizerArguments, GeneratorArguments, EvaluationArguments, MleConfig,
        default="mle", description=__doc__, prog=prog,
    )  # fmt: skip


def main(argv: Sequence[str] | None = None, prog: str | None = None) -> int:
    return run(settings_parser(prog), partial(train_generator, MleTrainer), argv)
