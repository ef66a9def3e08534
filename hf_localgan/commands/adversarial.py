"""The training of the commands that train a generator against a discriminator."""

from pathlib import Path
from typing import Any

from transformers import DataCollatorForSeq2Seq

from hf_localgan.commands.exits import STOPPED, print_error
from hf_localgan.recipes.adversarial import set_up_adversarial
from hf_localgan.recipes.finish_adversarial import finish_adversarial_training
from hf_localgan.recipes.parser import RecipeParser
from hf_localgan.recipes.settings.data import DataArguments
from hf_localgan.recipes.settings.evaluation import EvaluationArguments
from hf_localgan.recipes.settings.stages import StageArguments
from hf_localgan.trainers.adversarial.config import TwoPlayerConfig
from hf_localgan.trainers.adversarial.trainer import TwoPlayerTrainer


def train(
    parser: RecipeParser,
    method: type[TwoPlayerTrainer],
    data: DataArguments,
    stages: StageArguments,
    evaluation: EvaluationArguments,
    args: TwoPlayerConfig,
) -> int | None:
    """Trains the parts that are not given, then both players; resumes an interrupted run.

    Args:
        parser: the parser that read the settings.
        method: class of the trainer; parts are made for its `part_roles`.
        args: configuration of the trainer.

    Returns:
        `STOPPED` if the answers collapsed, which the report says, too; else `None`.
    """
    setup = set_up_adversarial(
        data, stages, evaluation, args, folder=Path(parser.folder), training=method.objective.name,
        part_names=tuple(method.part_roles),
    )  # fmt: skip
    if setup is None:
        return None
    parts: dict[str, Any] = setup.parts  # each is an argument of its own
    trainer = method(
        setup.model, args, monitor=setup.monitor, train_dataset=setup.train, eval_dataset=setup.validation,
        data_collator=DataCollatorForSeq2Seq(setup.tokenizer, model=setup.model), processing_class=setup.tokenizer,
        compute_metrics=setup.metrics, **parts,
    )  # fmt: skip
    trainer.train(resume_from_checkpoint=setup.checkpoint)
    trainer.save_model()
    finish_adversarial_training(
        trainer, setup.test, setup.score, setup.about, start=setup.start, train_pairs=setup.pairs["train"],
        card={"language": data.language},
    )  # fmt: skip
    setup.stage.finish()
    if trainer.guard.reason is None:
        return None
    if trainer.is_world_process_zero():
        print_error(parser.prog, f"Training was {trainer.guard.reason}.", STOPPED)
    return STOPPED
