"""Trains a generator by reward augmented maximum likelihood (RAML, Norouzi et al. 2016), and scores it.

Without CONFIG it trains on the shipped corpus. Draws around the references replace them, further away the higher the
`temperature`; the training first shows how far. Writes to `output_dir` what training by maximum likelihood writes.
"""

from collections.abc import Sequence
from typing import Any

from hf_localgan.commands.recipe import run, training_parser
from hf_localgan.recipes.generator import TrainingSetup, train_generator
from hf_localgan.recipes.parser import RecipeParser
from hf_localgan.recipes.settings.data import DataArguments
from hf_localgan.recipes.settings.evaluation import EvaluationArguments
from hf_localgan.recipes.settings.generator import GeneratorArguments
from hf_localgan.recipes.settings.tokenizer import TokenizerArguments
from hf_localgan.terminal import report_console
from hf_localgan.trainers.base.token_loss import TokenLossTrainer
from hf_localgan.trainers.raml.config import SERIES_FIELDS, RamlConfig
from hf_localgan.trainers.raml.draws import summarize_draws
from hf_localgan.trainers.raml.trainer import RamlTrainer


def train(
    data: DataArguments,
    tokens: TokenizerArguments,
    generator: GeneratorArguments,
    evaluation: EvaluationArguments,
    args: RamlConfig,
):
    args.check_weighted()  # before anything is loaded
    train_generator(RamlTrainer, data, tokens, generator, evaluation, args, describe=describe_draws)


def describe_draws(trainer: TokenLossTrainer, setup: TrainingSetup) -> dict[str, Any]:
    """Prints how far draws lie from their references.

    Returns:
        Facts that identify the run: the payoff, its settings, these distances.
    """
    assert isinstance(trainer, RamlTrainer) and isinstance(trainer.args, RamlConfig)
    args, draws = trainer.args, summarize_draws(trainer.raml_collator, setup.train, setup.tokenizer)
    if trainer.is_world_process_zero():
        print(draws)
        report_console().print(draws.table())
    payoff = {"payoff": args.payoff} | ({"reward": args.reward} if args.payoff == "importance" else {})
    return {**payoff, **args.changed(SERIES_FIELDS), **draws.about()}


def settings_parser(prog: str | None = None) -> RecipeParser:
    return training_parser(
        DataArguments, TokenizerArguments, GeneratorArguments, EvaluationArguments, RamlConfig,
        default="raml", description=__doc__, prog=prog,
    )  # fmt: skip


def main(argv: Sequence[str] | None = None, prog: str | None = None) -> int:
    return run(settings_parser(prog), train, argv)
