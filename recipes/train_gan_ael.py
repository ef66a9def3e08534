"""Trains a generator by GAN-AEL (Xu et al. 2017), the baseline nearest to LocalGAN, and shows what it has learned.

    accelerate launch recipes/train_gan_ael.py [CONFIG.yaml] [--field value ...]

Without a file: the shipped corpus. The stages are those of `train_localgan.py` without the energy; its own ones can be
given by `--generator RUN/stages/mle --discriminator_model RUN/stages/discriminator`. Leaves what that recipe leaves,
without `energy/`.
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
from hf_localgan.trainers import GanAelConfig, GanAelTrainer

DEFAULT = Path(__file__).parent / "smalltalk" / "gan_ael.yaml"


def main(
    data: DataArguments, stages: StageArguments, evaluation: EvaluationArguments, args: GanAelConfig, folder: Path
):
    setup = set_up_adversarial(data, stages, evaluation, args, folder=folder, training="GAN-AEL", with_energy=False)
    if setup is None:
        return
    trainer = GanAelTrainer(
        setup.model, args, discriminator=setup.discriminator, monitor=setup.monitor,
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
        DataArguments, StageArguments, EvaluationArguments, GanAelConfig, default_config=DEFAULT, description=__doc__
    )
    try:
        main(*parser.read(), parser.folder)
    except (ValueError, OSError, ImportError) as error:
        sys.exit(f"{parser.prog}: {' '.join(str(error).split())}")
