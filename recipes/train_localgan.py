"""Trains a generator by LocalGAN from query-response pairs alone, and shows what it has learned.

    accelerate launch recipes/train_localgan.py [CONFIG.yaml] [--field value ...]

Without a file: the shipped corpus. First come the generator by maximum likelihood, the energy and the discriminator,
each in a folder of `output_dir/stages` and as the file of its own recipe says, unless they are given by `generator`,
`energy_model` and `discriminator_model`. A run that was interrupted goes on where it was when it is started again.
Leaves the generator with its tokenizer, `discriminator/`, `energy/`, checkpoints, scores, plots and a model card in
`output_dir`.
"""

import sys
from pathlib import Path

from transformers import DataCollatorForSeq2Seq

from hf_localgan.arguments import (
    DataArguments,
    EvaluationArguments,
    RecipeParser,
    StageArguments,
    set_up_adversarial,
    train_from,
)
from hf_localgan.evaluation import finish_adversarial_training
from hf_localgan.trainers import DivergenceError, LocalGanConfig, LocalGanTrainer

DEFAULT = Path(__file__).parent / "smalltalk" / "localgan.yaml"


def main(
    data: DataArguments, stages: StageArguments, evaluation: EvaluationArguments, args: LocalGanConfig, folder: Path
):
    setup = set_up_adversarial(data, stages, evaluation, args, folder=folder, training="LocalGAN")
    if setup is None:
        return
    trainer = LocalGanTrainer(
        setup.model, args, discriminator=setup.discriminator, energy=setup.energy, monitor=setup.monitor,
        train_dataset=setup.train, eval_dataset=setup.validation,
        data_collator=DataCollatorForSeq2Seq(setup.tokenizer, model=setup.model), processing_class=setup.tokenizer,
        compute_metrics=setup.metrics,
    )  # fmt: skip
    train_from(trainer, setup.checkpoint)
    trainer.save_model()
    finish_adversarial_training(
        trainer, setup.test, setup.score, setup.about, start=setup.start, train_pairs=setup.pairs["train"],
        card={"language": data.language},
    )  # fmt: skip
    setup.stage.finish()


if __name__ == "__main__":
    parser = RecipeParser(
        DataArguments, StageArguments, EvaluationArguments, LocalGanConfig, default_config=DEFAULT,
        description=__doc__,
    )  # fmt: skip
    try:
        main(*parser.read(), parser.folder)
    except (ValueError, OSError, ImportError, DivergenceError) as error:
        sys.exit(f"{parser.prog}: {' '.join(str(error).split())}")
