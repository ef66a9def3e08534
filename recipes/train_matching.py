"""Trains a discriminator to tell whether a response belongs to a query, and shows how well it does.

    accelerate launch recipes/train_matching.py [CONFIG.yaml] [--field value ...]

Without a file: the shipped corpus. Leaves the discriminator with its tokenizer in `output_dir`, and `matching.json` and
`matching.md`: its matching accuracy on the test split.
"""

import sys
from pathlib import Path

from transformers import DataCollatorForSeq2Seq

from hf_localgan.arguments import (
    DataArguments,
    DiscriminatorArguments,
    RecipeParser,
    TokenizerArguments,
    set_up_discriminator,
)
from hf_localgan.evaluation import finish_matching
from hf_localgan.trainers import MatchingConfig, MatchingTrainer

DEFAULT = Path(__file__).parent / "smalltalk" / "matching.yaml"


def main(data: DataArguments, tokens: TokenizerArguments, discriminator: DiscriminatorArguments, args: MatchingConfig):
    setup = set_up_discriminator(data, tokens, discriminator, args)
    trainer = MatchingTrainer(
        setup.model, args, train_dataset=setup.train, eval_dataset=setup.validation,
        data_collator=DataCollatorForSeq2Seq(setup.tokenizer), processing_class=setup.tokenizer,
    )  # fmt: skip
    trainer.train(resume_from_checkpoint=setup.checkpoint)
    trainer.save_model()
    finish_matching(trainer, setup.test, setup.about)


if __name__ == "__main__":
    parser = RecipeParser(
        DataArguments, TokenizerArguments, DiscriminatorArguments, MatchingConfig, default_config=DEFAULT,
        description=__doc__,
    )  # fmt: skip
    try:
        main(*parser.read())
    except (ValueError, OSError, ImportError) as error:
        sys.exit(f"{parser.prog}: {' '.join(str(error).split())}")
