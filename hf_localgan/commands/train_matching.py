"""Trains a discriminator to tell whether a response belongs to a query, and scores it on the test split.

Without CONFIG it trains on the shipped corpus. Writes to `output_dir` the discriminator with its tokenizer, its
matching accuracy in `matching.json` and `matching.md`, and a model card.
"""

from collections.abc import Sequence

from hf_localgan.commands.recipe import run, training_parser
from hf_localgan.recipes.discriminator import train_discriminator
from hf_localgan.recipes.parser import RecipeParser
from hf_localgan.recipes.settings.data import DataArguments
from hf_localgan.recipes.settings.discriminator import DiscriminatorArguments
from hf_localgan.recipes.settings.tokenizer import TokenizerArguments
from hf_localgan.trainers.matching.config import MatchingConfig


def settings_parser(prog: str | None = None) -> RecipeParser:
    return training_parser(
        DataArguments, TokenizerArguments, DiscriminatorArguments, MatchingConfig,
        default="matching", description=__doc__, prog=prog,
    )  # fmt: skip


def main(argv: Sequence[str] | None = None, prog: str | None = None) -> int:
    return run(settings_parser(prog), train_discriminator, argv)
