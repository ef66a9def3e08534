"""Trains a generator by maximum likelihood, and shows what it has learned.

    accelerate launch recipes/train_mle.py [CONFIG.yaml] [--field value ...]

Without a file: the shipped corpus. Leaves the generator with its tokenizer, checkpoints, samples, scores and plots in
`output_dir`.
"""

import sys
from pathlib import Path

from transformers import DataCollatorForSeq2Seq

from hf_localgan.arguments import (
    DataArguments,
    EvaluationArguments,
    GeneratorArguments,
    RecipeParser,
    TokenizerArguments,
    set_up_training,
)
from hf_localgan.evaluation import finish_training
from hf_localgan.trainers import MleConfig, MleTrainer

DEFAULT = Path(__file__).parent / "smalltalk" / "mle.yaml"


def main(
    data: DataArguments,
    tokens: TokenizerArguments,
    generator: GeneratorArguments,
    evaluation: EvaluationArguments,
    args: MleConfig,
):
    setup = set_up_training(data, tokens, generator, evaluation, args)
    trainer = MleTrainer(
        setup.model, args, train_dataset=setup.train, eval_dataset=setup.validation,
        data_collator=DataCollatorForSeq2Seq(setup.tokenizer, model=setup.model), processing_class=setup.tokenizer,
        compute_metrics=setup.metrics,
    )  # fmt: skip
    trainer.train(resume_from_checkpoint=setup.checkpoint)
    trainer.save_model()
    finish_training(trainer, setup.test, setup.score, setup.about | {"objective": "maximum likelihood"})


if __name__ == "__main__":
    parser = RecipeParser(
        DataArguments, TokenizerArguments, GeneratorArguments, EvaluationArguments, MleConfig,
        default_config=DEFAULT, description=__doc__,
    )  # fmt: skip
    try:
        main(*parser.read())
    except (ValueError, OSError, ImportError) as error:
        sys.exit(f"{parser.prog}: {' '.join(str(error).split())}")
