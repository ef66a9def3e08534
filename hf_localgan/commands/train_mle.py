"""Trains a generator by maximum likelihood, and shows what it has learned.

Without a file: the shipped corpus. Leaves the generator with its tokenizer, checkpoints, samples, scores, plots and a
model card in `output_dir`.
"""

from collections.abc import Sequence

from hf_localgan.commands.recipe import run, training_parser
from hf_localgan.recipes import (
    DataArguments,
    EvaluationArguments,
    GeneratorArguments,
    TokenizerArguments,
    set_up_training,
)
from hf_localgan.recipes.finish import finish_training
from hf_localgan.trainers import MleConfig, MleTrainer


def train(
    data: DataArguments,
    tokens: TokenizerArguments,
    generator: GeneratorArguments,
    evaluation: EvaluationArguments,
    args: MleConfig,
):
    setup = set_up_training(data, tokens, generator, evaluation, args)
    trainer = setup.trainer(MleTrainer, args)
    trainer.train(resume_from_checkpoint=setup.checkpoint)
    trainer.save_model()
    finish_training(trainer, setup.test, setup.score, setup.about | {"objective": "maximum likelihood"})


def main(argv: Sequence[str] | None = None, prog: str | None = None) -> int:
    parser = training_parser(
        DataArguments, TokenizerArguments, GeneratorArguments, EvaluationArguments, MleConfig,
        default="mle", description=__doc__, prog=prog,
    )  # fmt: skip
    return run(parser, train, argv)
