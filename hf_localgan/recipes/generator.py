"""Training a generator: from the settings to pairs, tokenizer and generator, to the trained and scored model."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from accelerate import PartialState
from datasets import Dataset, IterableDataset
from transformers import DataCollatorForSeq2Seq, PreTrainedModel, PreTrainedTokenizerBase, set_seed

from hf_localgan.data.pairs import Pairs
from hf_localgan.data.tokenization import keep_language, report_unknown
from hf_localgan.evaluation.dialogue import Evaluation
from hf_localgan.evaluation.plots import require_matplotlib
from hf_localgan.recipes.finish import averages_about, check_publishing, finish_training, objective_about
from hf_localgan.recipes.resuming import checkpoint_to_resume
from hf_localgan.recipes.settings.data import DataArguments, name_language
from hf_localgan.recipes.settings.evaluation import EvaluationArguments
from hf_localgan.recipes.settings.generator import GeneratorArguments
from hf_localgan.recipes.settings.tokenizer import TokenizerArguments
from hf_localgan.trainers.base.settings import TokenLossConfig, output_folder
from hf_localgan.trainers.base.token_loss import TokenLossTrainer


@dataclass(frozen=True)
class TrainingSetup:
    """Arguments for the trainer of a recipe and for `finish_training`.

    Attributes:
        model: the generator to train.
        tokenizer: its tokenizer.
        train, validation, test: encoded pairs.
        checkpoint: the checkpoint to resume from, `None` for a new run.
        metrics: `compute_metrics` of the trainer, `None` where validation measures the likelihood alone.
        score: answers the test split and scores the answers, on the main process; `None` on the others.
        about: model, data set, split and seed, for the files of the evaluation.
        pairs: the pairs of all splits, as text.
    """

    model: PreTrainedModel
    tokenizer: PreTrainedTokenizerBase
    train: Dataset | IterableDataset
    validation: Dataset
    test: Dataset
    checkpoint: str | None
    metrics: Callable[..., dict[str, float]] | None
    score: Callable[..., Evaluation] | None
    about: dict[str, Any]
    pairs: Pairs

    def trainer(self, method: type[TokenLossTrainer], args: TokenLossConfig) -> TokenLossTrainer:
        """A trainer of the generator on the encoded pairs.

        Args:
            method: class of the trainer, such as `MleTrainer`.
            args: its configuration.
        """
        collator = DataCollatorForSeq2Seq(self.tokenizer, model=self.model)
        return method(
            self.model, args, train_dataset=self.train, eval_dataset=self.validation, data_collator=collator,
            processing_class=self.tokenizer, compute_metrics=self.metrics,
        )  # fmt: skip


def train_generator(
    method: type[TokenLossTrainer],
    data: DataArguments,
    tokens: TokenizerArguments,
    generator: GeneratorArguments,
    evaluation: EvaluationArguments,
    args: TokenLossConfig,
    *,
    describe: Callable[[TokenLossTrainer, TrainingSetup], dict[str, Any]] | None = None,
):
    """Trains a generator, and writes it and the files of `finish_training` to `args.output_dir`.

    To be called on every process. A training that has ended before takes no further step, see `CheckpointMixin`.

    Args:
        method: class of the trainer, such as `MleTrainer`.
        data, tokens, generator, evaluation: settings.
        args: configuration of the trainer.
        describe: called before the training; returns further facts that identify the run.

    Raises:
        ValueError, OSError, ImportError: for files, models and settings that are missing or do not fit together.
    """
    setup = set_up_training(data, tokens, generator, evaluation, args)
    trainer = setup.trainer(method, args)
    about = setup.about | objective_about(method, args)
    if describe is not None:
        about |= describe(trainer, setup)
    trainer.train(resume_from_checkpoint=setup.checkpoint)
    trainer.save_model()
    about |= averages_about(trainer)
    finish_training(trainer, setup.test, setup.score, about)


def set_up_training(
    data: DataArguments,
    tokens: TokenizerArguments,
    generator: GeneratorArguments,
    evaluation: EvaluationArguments,
    args: TokenLossConfig,
) -> TrainingSetup:
    """Loads and encodes the pairs, and loads or makes the generator, on every process; prints what they are.

    Needs of the end of the training are checked now, before hours of training.

    Args:
        data, tokens, generator, evaluation: settings.
        args: configuration of the trainer; `EvaluationArguments.metrics` sets the decoding of validation in it.

    Raises:
        ValueError, OSError, ImportError: for files, models and settings that are missing or do not fit together.
    """
    require_matplotlib()
    check_publishing(args, data.dataset)
    data.check_steps(args)
    set_seed(args.seed)
    data.adopt_reading(generator.path(), tokens.path())
    if evaluation.scores == "dialogue":  # a translator has two languages, and the settings name none
        name_language(args, data)
    checkpoint = checkpoint_to_resume(args)
    splits = ("train", data.eval_split, data.test_split)
    with PartialState().main_process_first():
        pairs = data.load(*splits)
        model, tokenizer = generator.load_or_make(tokens, pairs, data.pair_language)
        if data.language_given:
            keep_language(tokenizer, data.pair_language)
        train, validation, test = (data.encode(pairs[split], tokenizer) for split in splits)
    metrics, score = evaluation.metrics(args, pairs, data, tokenizer), None
    if PartialState().is_main_process:
        score = evaluation.scorer(pairs, data, args.seed)
        print(pairs.report)
        learned = model.num_parameters(only_trainable=True)
        share = "" if learned == model.num_parameters() else f", {learned:,} of them trained"
        print(f"{type(model).__name__}: {model.num_parameters():,} parameters{share}, {len(tokenizer):,} tokens")
        print(report_unknown(tokenizer, dict(zip(splits, (train, validation, test), strict=True))))
    about = {"model": output_folder(args).name, "dataset": data.dataset, "split": data.test_split, "seed": args.seed}
    return TrainingSetup(model, tokenizer, train, validation, test, checkpoint, metrics, score, about, pairs)
