"""Training a discriminator on matching: from the settings to pairs and discriminator, to the scored model."""

from dataclasses import dataclass
from typing import Any

from accelerate import PartialState
from datasets import Dataset, IterableDataset
from transformers import DataCollatorForSeq2Seq, PreTrainedTokenizerBase, set_seed

from hf_localgan.data.tokenization import keep_language, report_unknown
from hf_localgan.models.discriminator.modeling_discriminator import PairDiscriminator
from hf_localgan.recipes.finish_matching import finish_matching
from hf_localgan.recipes.resuming import checkpoint_to_resume
from hf_localgan.recipes.settings.data import DataArguments, name_language
from hf_localgan.recipes.settings.discriminator import DiscriminatorArguments
from hf_localgan.recipes.settings.tokenizer import TokenizerArguments
from hf_localgan.trainers.base.settings import output_folder
from hf_localgan.trainers.matching.config import MatchingConfig
from hf_localgan.trainers.matching.trainer import MatchingTrainer


@dataclass(frozen=True)
class DiscriminatorSetup:
    """Arguments for the trainer of the recipe and for `finish_matching`.

    Attributes:
        model: the discriminator to train.
        tokenizer: its tokenizer.
        train, validation, test: encoded pairs.
        checkpoint: the checkpoint to resume from, `None` for a new run.
        about: model, data sets, split and seed, for the files.
    """

    model: PairDiscriminator
    tokenizer: PreTrainedTokenizerBase
    train: Dataset | IterableDataset
    validation: Dataset
    test: Dataset
    checkpoint: str | None
    about: dict[str, Any]


def train_discriminator(
    data: DataArguments, tokens: TokenizerArguments, discriminator: DiscriminatorArguments, args: MatchingConfig
):
    """Trains a discriminator on matching, and writes it and the files of `finish_matching` to `args.output_dir`.

    To be called on every process. A training that has ended before takes no further step, see `CheckpointMixin`.

    Raises:
        ValueError, OSError, ImportError: for files, models and settings that are missing or do not fit together.
    """
    setup = set_up_discriminator(data, tokens, discriminator, args)
    trainer = MatchingTrainer(
        setup.model, args, train_dataset=setup.train, eval_dataset=setup.validation,
        data_collator=DataCollatorForSeq2Seq(setup.tokenizer), processing_class=setup.tokenizer,
    )  # fmt: skip
    trainer.train(resume_from_checkpoint=setup.checkpoint)
    trainer.save_model()
    finish_matching(trainer, setup.test, setup.about)


def set_up_discriminator(
    data: DataArguments, tokens: TokenizerArguments, discriminator: DiscriminatorArguments, args: MatchingConfig
) -> DiscriminatorSetup:
    """Loads and encodes the pairs, and loads or makes the discriminator, on every process; prints what they are.

    Raises:
        ValueError, OSError, ImportError: for files, models and settings that are missing or do not fit together.
    """
    data.check_steps(args)
    set_seed(args.seed)
    data.adopt_reading(*discriminator.paths(), tokens.path())
    name_language(args, data)
    checkpoint = checkpoint_to_resume(args)
    splits = ("train", data.eval_split, data.test_split)
    with PartialState().main_process_first():
        pairs = discriminator.add_pairs(data.load(*splits), data)
        model, tokenizer = discriminator.load_or_make(tokens, pairs, data.pair_language)
        if data.language_given:
            keep_language(tokenizer, data.pair_language)
        train, validation, test = (data.encode(pairs[split], tokenizer) for split in splits)
    if PartialState().is_main_process:
        print(pairs.report)
        learned = model.num_parameters(only_trainable=True)
        print(f'{type(model).__name__} "{model.config.body}": {learned:,} parameters, {len(tokenizer):,} tokens')
        print(report_unknown(tokenizer, dict(zip(splits, (train, validation, test), strict=True))))
    about = {"model": output_folder(args).name, "dataset": data.dataset, "split": data.test_split, "seed": args.seed}
    if discriminator.extra_datasets:
        about["extra_datasets"] = ", ".join(discriminator.extra_datasets)
    return DiscriminatorSetup(model, tokenizer, train, validation, test, checkpoint, about)
