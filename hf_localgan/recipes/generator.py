"""Training of a generator: data, tokenizer and generator made from the settings, the training, its end."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from accelerate import PartialState
from datasets import Dataset, IterableDataset
from transformers import DataCollatorForSeq2Seq, PreTrainedModel, PreTrainedTokenizerBase, set_seed

from hf_localgan.data.pairs import Pairs
from hf_localgan.data.tokenization import keep_language, report_unknown
from hf_localgan.evaluation.dialogue import Evaluation
from hf_localgan.evaluation.plots import require_matplotlib
from hf_localgan.recipes.finish import finish_training
from hf_localgan.recipes.parser import expand_path
from hf_localgan.recipes.resuming import checkpoint_to_resume
from hf_localgan.recipes.settings.data import DataArguments, name_language
from hf_localgan.recipes.settings.evaluation import EvaluationArguments
from hf_localgan.recipes.settings.generator import GeneratorArguments
from hf_localgan.recipes.settings.tokenizer import TokenizerArguments
from hf_localgan.trainers.base.token_loss import TokenLossTrainer


@dataclass(frozen=True)
class TrainingSetup:
    """What a recipe hands to its trainer, and to `finish_training`.

    Attributes:
        model: the generator to train.
        tokenizer: its tokenizer.
        train, validation, test: encoded pairs.
        checkpoint: to resume from, `None` for a new run.
        metrics: `compute_metrics` of the trainer, `None` where only the likelihood is watched.
        score: answers the test split and scores the answers; `None` but on the main process.
        about: model, data set, split and seed, for the files of the evaluation.
        pairs: of all splits, as text.
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

    def trainer(self, method: type[TokenLossTrainer], args) -> TokenLossTrainer:
        """A trainer of the generator on the encoded pairs.

        Args:
            method: such as `MleTrainer`.
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
    args,
    *,
    describe: Callable[[TokenLossTrainer, TrainingSetup], dict[str, Any]] | None = None,
):
    """Trains a generator and leaves in `args.output_dir` what `finish_training` writes; to be called on every process.

    A training that has ended before takes no further step, see `CheckpointMixin`.

    Args:
        method: the trainer, such as `MleTrainer`.
        args: its configuration.
        describe: called before the training; what it returns names the run beside model, data and objective.

    Raises:
        ValueError, OSError, ImportError: for what is missing or does not fit together.
    """
    setup = set_up_training(data, tokens, generator, evaluation, args)
    trainer = setup.trainer(method, args)
    about = setup.about | {"objective": method.objective.name.lower()}
    if describe is not None:
        about |= describe(trainer, setup)
    trainer.train(resume_from_checkpoint=setup.checkpoint)
    trainer.save_model()
    finish_training(trainer, setup.test, setup.score, about)


def set_up_training(
    data: DataArguments,
    tokens: TokenizerArguments,
    generator: GeneratorArguments,
    evaluation: EvaluationArguments,
    args,
) -> TrainingSetup:
    """Loads and encodes the pairs, and loads or makes the generator, on every process; prints what they are.

    What only the end of the training needs is looked at now, so that what is missing shows before hours are spent.

    Args:
        args: of the trainer; decoding of the validation set is set in them (see `EvaluationArguments.metrics`).

    Raises:
        ValueError, OSError, ImportError: for what is missing or does not fit together.
    """
    require_matplotlib()
    set_seed(args.seed)
    data.adopt_language(generator.generator and expand_path(generator.generator, "generator"), tokens.path())
    if evaluation.scores == "dialogue":  # a translator has two languages, of which the data name none
        name_language(args, data)
    checkpoint = checkpoint_to_resume(args)
    splits = ("train", data.eval_split, data.test_split)
    with PartialState().main_process_first():
        pairs = data.load(*splits)
        model, tokenizer = generator.load_or_make(tokens, pairs, data.language)
        if data.language_given:
            keep_language(tokenizer, data.language)
        train, validation, test = (data.encode(pairs[split], tokenizer) for split in splits)
    metrics, score = evaluation.metrics(args, pairs, data, tokenizer), None
    if PartialState().is_main_process:
        score = evaluation.scorer(pairs, data, args.seed)
        print(pairs.report)
        learned = model.num_parameters(only_trainable=True)
        of_all = "" if learned == model.num_parameters() else f", {learned:,} of them trained"
        print(f"{type(model).__name__}: {model.num_parameters():,} parameters{of_all}, {len(tokenizer):,} tokens")
        print(report_unknown(tokenizer, dict(zip(splits, (train, validation, test), strict=True))))
    about = {"model": Path(args.output_dir).name, "dataset": data.dataset, "split": data.test_split, "seed": args.seed}
    return TrainingSetup(model, tokenizer, train, validation, test, checkpoint, metrics, score, about, pairs)
