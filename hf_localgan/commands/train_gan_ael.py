"""Trains a generator by GAN-AEL (Xu et al. 2017), the baseline nearest to LocalGAN, and scores it on the test split.

Without CONFIG it trains on the shipped corpus. The stages are LocalGAN's without the energy; a run of LocalGAN shares
its own by `--generator RUN/stages/mle --discriminator RUN/stages/discriminator`. Writes to `output_dir` what LocalGAN
writes, without `energy/`.
"""

from collections.abc import Sequence
from functools import partial

from hf_localgan.commands.adversarial import train
from hf_localgan.commands.recipe import run, training_parser
from hf_localgan.recipes.parser import RecipeParser
from hf_localgan.recipes.settings.data import DataArguments
from hf_localgan.recipes.settings.evaluation import EvaluationArguments
from hf_localgan.recipes.settings.stages import StageArguments
from hf_localgan.trainers import GanAelConfig, GanAelTrainer


def settings_parser(prog: str | None = None) -> RecipeParser:
    return training_parser(
        DataArguments, StageArguments, EvaluationArguments, GanAelConfig,
        default="gan_ael", description=__doc__, prog=prog,
    )  # fmt: skip


def main(argv: Sequence[str] | None = None, prog: str | None = None) -> int:
    parser = settings_parser(prog)
    return run(parser, partial(train, parser, GanAelTrainer), argv)
