"""Trains a generator by Adver-REGS (Li et al. 2017), policy gradient on a discriminator's probability.

Without a file: the shipped corpus. The stages are those of LocalGAN without the energy; its own ones can be given by
`--generator RUN/stages/mle --discriminator RUN/stages/discriminator`. `--preset paper` draws rollouts behind every
token, `--shuffle_rewards true` is the control. Leaves what that training leaves, without `energy/`.
"""

from collections.abc import Sequence
from functools import partial

from hf_localgan.commands.adversarial import train
from hf_localgan.commands.recipe import run, training_parser
from hf_localgan.recipes.parser import RecipeParser
from hf_localgan.recipes.settings.data import DataArguments
from hf_localgan.recipes.settings.evaluation import EvaluationArguments
from hf_localgan.recipes.settings.stages import StageArguments
from hf_localgan.trainers import AdverRegsConfig, AdverRegsTrainer


def settings_parser(prog: str | None = None) -> RecipeParser:
    return training_parser(
        DataArguments, StageArguments, EvaluationArguments, AdverRegsConfig,
        default="adver_regs", description=__doc__, prog=prog,
    )  # fmt: skip


def main(argv: Sequence[str] | None = None, prog: str | None = None) -> int:
    parser = settings_parser(prog)
    return run(parser, partial(train, parser, AdverRegsTrainer), argv)
