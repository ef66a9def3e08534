"""Trains two generators by DAIM (Zhang et al. 2018), of responses and of queries, each the other's reader.

Without a file: the shipped corpus. First come both generators by maximum likelihood and a discriminator for each,
unless they are given by `--generator`, `--discriminator`, `--backward` and `--backward_discriminator`. Leaves the
generator with its tokenizer, `discriminator/`, `backward/`, `backward_discriminator/`, checkpoints, scores, plots and a
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
from hf_localgan.trainers import DaimConfig, DaimTrainer


def settings_parser(prog: str | None = None) -> RecipeParser:
    return training_parser(
        DataArguments, StageArguments, EvaluationArguments, DaimConfig,
        default="daim", description=__doc__, prog=prog,
    )  # fmt: skip


def main(argv: Sequence[str] | None = None, prog: str | None = None) -> int:
    parser = settings_parser(prog)
    return run(parser, partial(train_comparing, parser, DaimTrainer), argv)
