"""Trains a generator by LocalGAN from query-response pairs alone, and scores it on the test split.

Without CONFIG it trains on the shipped corpus. First it trains the generator by maximum likelihood, the energy and the
discriminator, each in a folder of `output_dir/stages` and by the file of its own recipe, unless they are given by
`--generator`, `--energy` and `--discriminator`. An interrupted run resumes when it is started again. Writes to
`output_dir` the generator with its tokenizer, `discriminator/`, `energy/`, checkpoints, scores, plots and a model card.
"""

from collections.abc import Sequence
from functools import partial

from hf_localgan.commands.adversarial import train
from hf_localgan.commands.recipe import run, training_parser
from hf_localgan.recipes.parser import RecipeParser
from hf_localgan.recipes.settings.data import DataArguments
from hf_localgan.recipes.settings.evaluation import EvaluationArguments
from hf_localgan.recipes.settings.stages import StageArguments
from hf_localgan.trainers import LocalGanConfig, LocalGanTrainer


def settings_parser(prog: str | None = None) -> RecipeParser:
    return training_parser(
        DataArguments, StageArguments, EvaluationArguments, LocalGanConfig,
        default="localgan", description=__doc__, prog=prog,
    )  # fmt: skip


def main(argv: Sequence[str] | None = None, prog: str | None = None) -> int:
    parser = settings_parser(prog)
    return run(parser, partial(train, parser, LocalGanTrainer), argv)
