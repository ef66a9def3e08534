"""Trains a generator to raise the expected reward of its own samples (policy gradient), and scores it.

Without CONFIG it trains on the shipped corpus. It is RAML's rival: the same reward, with samples from the model in
place of draws around the references. Begin with a trained generator (`--generator`), or set `mle_weight`: samples of an
untrained one have no reward. Writes to `output_dir` what training by maximum likelihood writes.
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
from hf_localgan.trainers.expected_reward.config import ExpectedRewardConfig
from hf_localgan.trainers.expected_reward.trainer import ExpectedRewardTrainer


def settings_parser(prog: str | None = None) -> RecipeParser:
    return training_parser(
        DataArguments, TokenizerArguments, GeneratorArguments, EvaluationArguments, ExpectedRewardConfig,
        default="expected_reward", description=__doc__, prog=prog,
    )  # fmt: skip


def main(argv: Sequence[str] | None = None, prog: str | None = None) -> int:
    return run(settings_parser(prog), partial(train_generator, ExpectedRewardTrainer), argv)
