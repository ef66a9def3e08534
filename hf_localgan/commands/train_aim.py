"""Trains a generator by AIM (Zhang et al. 2018), so that a query can be read back from its responses.

Without a file: the shipped corpus. First come the generator by maximum likelihood, a discriminator that compares, and a
backward generator of queries from responses, unless they are given by `--generator`, `--discriminator` and
`--backward`. Leaves the generator with its tokenizer, `discriminator/`, `backward/`, checkpoints, scores, plots and a
model card in `output_dir`.
"""

from collections.abc import Sequence
from functools import partial

from hf_localgan.commands.comparing import train_comparing
from hf_localgan.commands.recipe import run, training_parser
from hf_localgan.recipes.parser import RecipeParser
from hf_localgan.recipes.settings.data import DataArguments
from hf_localgan.recipes.settings.evaluation import EvaluationArguments
from hf_localgan.recipes.settings.stages import StageArguments
from hf_localgan.trainers import AimConfig, AimTrainer


def settings_parser(prog: str | None = None) -> RecipeParser:
    return training_parser(
        DataArguments, StageArguments, EvaluationArguments, AimConfig,
        default="aim", description=__doc__, prog=prog,
    )  # fmt: skip


def main(argv: Sequence[str] | None = None, prog: str | None = None) -> int:
    parser = settings_parser(prog)
    return run(parser, partial(train_comparing, parser, AimTrainer), argv)
