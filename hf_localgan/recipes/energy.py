"""Training an energy: from the settings to pairs and energy, to the trained and measured model."""

from dataclasses import dataclass
from typing import Any

from accelerate import PartialState
from datasets import Dataset, IterableDataset
from transformers import PreTrainedTokenizerBase, set_seed

from hf_localgan.data.tokenization import keep_language, report_unknown
from hf_localgan.evaluation.plots import require_matplotlib
from hf_localgan.models.dbm.modeling_dbm import DbmModel
from hf_localgan.recipes.finish_energy import finish_energy_training
from hf_localgan.recipes.resuming import checkpoint_to_resume
from hf_localgan.recipes.settings.data import DataArguments, name_language
from hf_localgan.recipes.settings.energy import EnergyArguments, EnergyReportArguments
from hf_localgan.recipes.settings.tokenizer import TokenizerArguments
from hf_localgan.trainers.base.settings import output_folder
from hf_localgan.trainers.dbm.config import DbmTrainingConfig
from hf_localgan.trainers.dbm.trainer import DbmTrainer


@dataclass(frozen=True)
class EnergySetup:
    """Arguments for the trainer of the recipe and for `finish_energy_training`.

    Attributes:
        model: the energy to train.
        tokenizer: its tokenizer.
        train, validation, test: encoded pairs.
        checkpoint: the checkpoint to resume from, `None` for a new run.
        report: further arguments of `evaluate_energy`.
        about: model, data set, split and seed, for the report.
    """

    model: DbmModel
    tokenizer: PreTrainedTokenizerBase
    train: Dataset | IterableDataset
    validation: Dataset
    test: Dataset
    checkpoint: str | None
    report: dict[str, Any]
    about: dict[str, Any]


def train_energy(
    data: DataArguments,
    tokens: TokenizerArguments,
    energy: EnergyArguments,
    report: EnergyReportArguments,
    args: DbmTrainingConfig,
):
    """Trains an energy, and writes it and the files of `finish_energy_training` to `args.output_dir`.

    To be called on every process. A training that has ended before takes no further step, see `CheckpointMixin`.

    Raises:
        ValueError, OSError, ImportError: for files, models and settings that are missing or do not fit together.
        DivergenceError: if the training diverges.
    """
    setup = set_up_energy(data, tokens, energy, report, args)
    trainer = DbmTrainer(
        setup.model, args, train_dataset=setup.train, eval_dataset=setup.validation, processing_class=setup.tokenizer
    )
    trainer.train(resume_from_checkpoint=setup.checkpoint)
    trainer.save_model()
    finish_energy_training(trainer, setup.train, setup.test, setup.about, **setup.report)


def set_up_energy(
    data: DataArguments,
    tokens: TokenizerArguments,
    energy: EnergyArguments,
    report: EnergyReportArguments,
    args: DbmTrainingConfig,
) -> EnergySetup:
    """Loads and encodes the pairs, and loads or makes the energy, on every process; prints what they are.

    Needs of the end of the training are checked now, before hours of training.

    Raises:
        ValueError, OSError, ImportError: for files, models and settings that are missing or do not fit together.
    """
    require_matplotlib()
    settings = report.settings()
    data.check_steps(args)
    set_seed(args.seed)
    data.adopt_reading(*energy.paths(), tokens.path())
    name_language(args, data)
    checkpoint = checkpoint_to_resume(args)
    splits = ("train", data.eval_split, data.test_split)
    with PartialState().main_process_first():
        pairs = data.load(*splits)
        if len(pairs.grouped[data.test_split]) < 2:
            raise ValueError(
                f"The split `{data.test_split}` has one query, and true responses are compared with those to other "
                "queries. Name another split by `test_split`."
            )
        model, tokenizer = energy.load_or_make(tokens, pairs, data.pair_language)
        if data.language_given:
            keep_language(tokenizer, data.pair_language)
        train, validation, test = (data.encode(pairs[split], tokenizer) for split in splits)
    if PartialState().is_main_process:
        print(pairs.report)
        assert model.word_vectors is not None  # see `load_or_make`
        config, regular = model.config, int(model.word_vectors.regular.sum())
        print(
            f"{type(model).__name__}: {model.num_parameters():,} parameters, layers of {config.query_size} + "
            f"{config.response_size}, {config.hidden_size} and {config.top_size} units; {regular:,} of "
            f"{len(tokenizer):,} tokens have a vector"
        )
        print(report_unknown(tokenizer, dict(zip(splits, (train, validation, test), strict=True))))
    about = {"model": output_folder(args).name, "dataset": data.dataset, "split": data.test_split, "seed": args.seed}
    return EnergySetup(model, tokenizer, train, validation, test, checkpoint, settings, about)
