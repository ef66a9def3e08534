"""Trains a discriminator to tell whether a response belongs to a query, and shows how well it does.

Without a file: the shipped corpus. Leaves the discriminator with its tokenizer in `output_dir`, and `matching.json` and
`matching.md`: its matching accuracy on the test split; and a model card.
"""

from collections.abc import Sequence

from transformers import DataCollatorForSeq2Seq

from hf_localgan.commands.recipe import run, training_parser
from hf_localgan.recipes import DataArguments, DiscriminatorArguments, TokenizerArguments, set_up_discriminator
from hf_localgan.recipes.finish_matching import finish_matching
from hf_localgan.trainers import MatchingConfig, MatchingTrainer


def train(data: DataArguments, tokens: TokenizerArguments, discriminator: DiscriminatorArguments, args: MatchingConfig):
    setup = set_up_discriminator(data, tokens, discriminator, args)
    trainer = MatchingTrainer(
        setup.model, args, train_dataset=setup.train, eval_dataset=setup.validation,
        data_collator=DataCollatorForSeq2Seq(setup.tokenizer), processing_class=setup.tokenizer,
    )  # fmt: skip
    trainer.train(resume_from_checkpoint=setup.checkpoint)
    trainer.save_model()
    finish_matching(trainer, setup.test, setup.about)


def main(argv: Sequence[str] | None = None, prog: str | None = None) -> int:
    parser = training_parser(
        DataArguments, TokenizerArguments, DiscriminatorArguments, MatchingConfig,
        default="matching", description=__doc__, prog=prog,
    )  # fmt: skip
    return run(parser, train, argv)
