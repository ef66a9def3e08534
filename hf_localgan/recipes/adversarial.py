"""Adversarial training: the stages before it, and the models and pairs for its trainer."""

import copy
from collections.abc import Callable, Sequence
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import Any, cast

from accelerate.state import AcceleratorState
from datasets import Dataset, IterableDataset
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from hf_localgan.data.pairs import Pairs
from hf_localgan.evaluation.dialogue import Evaluation
from hf_localgan.evaluation.plots import require_matplotlib
from hf_localgan.recipes.earlier_stages import EarlierStages, made_from
from hf_localgan.recipes.finish import check_publishing
from hf_localgan.recipes.generator import TrainingSetup, set_up_training
from hf_localgan.recipes.parts import LOADERS
from hf_localgan.recipes.settings.data import DataArguments
from hf_localgan.recipes.settings.evaluation import EvaluationArguments
from hf_localgan.recipes.settings.generator import GeneratorArguments
from hf_localgan.recipes.settings.lora import LoraArguments
from hf_localgan.recipes.settings.stages import StageArguments
from hf_localgan.recipes.settings.tokenizer import TokenizerArguments
from hf_localgan.recipes.stage import Stage, settings_of
from hf_localgan.trainers.adversarial.config import TwoPlayerConfig
from hf_localgan.trainers.adversarial.monitor import ResponseMonitor


@dataclass(frozen=True)
class AdversarialSetup:
    """Arguments for the trainer of a recipe and for `finish_adversarial_training`.

    Attributes:
        model: the generator to train.
        start: a copy of it, with which it is compared at the end.
        tokenizer: the tokenizer of all parts.
        parts: the models beside the generator, by the name of the trainer's argument.
        monitor: answers validation queries; `None` with `monitor_queries` 0.
        train, validation, test: encoded pairs.
        checkpoint: the checkpoint to resume from, `None` for a new run.
        metrics, score, about, pairs: see `TrainingSetup`.
        stage: the stage of this training, to be finished at the end.
    """

    model: PreTrainedModel
    start: PreTrainedModel
    tokenizer: PreTrainedTokenizerBase
    parts: dict[str, PreTrainedModel]
    monitor: ResponseMonitor | None
    train: Dataset | IterableDataset
    validation: Dataset
    test: Dataset
    checkpoint: str | None
    metrics: Callable[..., dict[str, float]] | None
    score: Callable[..., Evaluation] | None
    about: dict[str, Any]
    pairs: Pairs
    stage: Stage


def set_up_adversarial(
    data: DataArguments,
    stages: StageArguments,
    evaluation: EvaluationArguments,
    args: TwoPlayerConfig,
    *,
    folder: Path,
    training: str,
    part_names: Sequence[str] = ("discriminator", "energy"),
) -> AdversarialSetup | None:
    """Trains the models that are neither given nor finished, each in a folder of `stages`; then loads all of them.

    The parts are read from their folders even if they have just been trained, and every stage begins with its seed, so
    that interruptions do not change the result.

    Args:
        data, stages, evaluation: settings.
        args: configuration of the adversarial trainer.
        folder: folder of the settings file.
        training: name of the adversarial training, for the files.
        part_names: parts that stand beside the generator.

    Returns:
        `None` if all stages were finished before.

    Raises:
        ValueError, OSError, ImportError: for files, models and settings that are missing or do not fit together, and
            for a run that was begun with other settings; as far as possible before the first stage.
    """
    require_matplotlib()
    check_publishing(args, data.dataset)
    earlier = EarlierStages(data, stages, args, folder, part_names)
    earlier.check()
    made = earlier.train()
    stage = Stage("adversarial", earlier.folder_of("adversarial"), args.output_dir)
    lora = {item.name: getattr(stages, item.name) for item in fields(LoraArguments)}
    settings = {**settings_of(data, evaluation, args), "training": training, **made_from(made)}
    settings |= lora if stages.lora_rank is not None else {}
    if not stage.begin(settings):
        return None
    args.resume_from_checkpoint = stage.checkpoint
    AcceleratorState._reset_state()  # the stage before may have had another precision
    if evaluation.metric_energy is None and "energy" in made and evaluation.scores == "dialogue":
        evaluation = replace(evaluation, metric_energy=made["energy"])
    generator = GeneratorArguments(generator=made["generator"], **lora)
    setup = set_up_training(data, TokenizerArguments(), generator, evaluation, args)
    start = copy.deepcopy(setup.model)
    if stages.lora_rank is not None:
        start = cast(Any, start).unload()  # PEFT's, without the new adapters
    parts = {name: LOADERS[name](made[name])[0] for name in part_names}
    return AdversarialSetup(
        setup.model, start, setup.tokenizer, parts, make_monitor(data, evaluation, args, setup), setup.train,
        setup.validation, setup.test, setup.checkpoint, setup.metrics, setup.score,
        setup.about | {"objective": training}, setup.pairs, stage,
    )  # fmt: skip


def make_monitor(
    data: DataArguments, evaluation: EvaluationArguments, args: TwoPlayerConfig, setup: TrainingSetup
) -> ResponseMonitor | None:
    """A monitor of `monitor_queries` validation queries, evenly spaced, that scores answers as the evaluation does.

    Returns:
        `None` with `monitor_queries` 0.
    """
    if not args.monitor_queries:
        return None
    return evaluation.monitor(
        setup.pairs, data, setup.tokenizer, args.monitor_queries, evaluation.vectors(setup.pairs, data),
        max_new_tokens=args.monitor_max_new_tokens, beams=args.monitor_beams,
    )  # fmt: skip
