"""What the commands that train a generator against a discriminator have in common."""

from pathlib import Path

from transformers import DataCollatorForSeq2Seq

from hf_localgan.commands.exits import STOPPED, told
from hf_localgan.recipes import (
    DataArguments,
    EvaluationArguments,
    RecipeParser,
    StageArguments,
    set_up_adversarial,
    train_from,
)
from hf_localgan.recipes.finish_adversarial import finish_adversarial_training
from hf_localgan.trainers.adversarial.trainer import TwoPlayerTrainer


def train(
    parser: RecipeParser,
    method: type[TwoPlayerTrainer],
    data: DataArguments,
    stages: StageArguments,
    evaluation: EvaluationArguments,
    args,
) -> int | None:
    """Trains the parts that are not given, then both players; goes on where an earlier run was interrupted.

    Args:
        parser: that read the settings.
        method: class of the trainer, whose `part_roles` say which parts are made first.
        args (`TwoPlayerConfig`): of the trainer.

    Returns:
        `STOPPED` if the answers collapsed; the report says so, too.
    """
    with_energy = "energy" in method.part_roles
    setup = set_up_adversarial(
        data,
        stages,
        evaluation,
        args,
        folder=Path(parser.folder),
        training=method.objective.name,
        with_energy=with_energy,
    )  # fmt: skip
    if setup is None:
        return None
    trainer = method(
        setup.model, args, discriminator=setup.discriminator, monitor=setup.monitor, train_dataset=setup.train,
        eval_dataset=setup.validation, data_collator=DataCollatorForSeq2Seq(setup.tokenizer, model=setup.model),
        processing_class=setup.tokenizer, compute_metrics=setup.metrics,
        **({"energy": setup.energy} if with_energy else {}),
    )  # fmt: skip
    train_from(trainer, setup.checkpoint)
    trainer.save_model()
    finish_adversarial_training(
        trainer, setup.test, setup.score, setup.about, start=setup.start, train_pairs=setup.pairs["train"],
        card={"language": data.language},
    )  # fmt: skip
    setup.stage.finish()
    if trainer.guard.reason is None:
        return None
    if trainer.is_world_process_zero():
        told(parser.prog, f"Training was {trainer.guard.reason}.", STOPPED)
    return STOPPED
