"""What every training recipe begins with: data, tokenizer and generator, made from the settings."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from accelerate import PartialState
from datasets import Dataset, IterableDataset
from transformers import DataCollatorForSeq2Seq, PreTrainedModel, PreTrainedTokenizerBase, set_seed

from hf_localgan.data import Pairs
from hf_localgan.evaluation import Evaluation, require_matplotlib
from hf_localgan.recipes.settings.generator import (
    DataArguments,
    EvaluationArguments,
    GeneratorArguments,
    TokenizerArguments,
    checkpoint_to_resume,
    name_language,
)
from hf_localgan.trainers import TokenLossTrainer


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

    def trainer(self, kind: type[TokenLossTrainer], args) -> TokenLossTrainer:
        """A trainer of the generator on the encoded pairs.

        Args:
            kind: such as `MleTrainer`.
            args: its configuration.
        """
        collator = DataCollatorForSeq2Seq(self.tokenizer, model=self.model)
        return kind(
            self.model, args, train_dataset=self.train, eval_dataset=self.validation, data_collator=collator,
            processing_class=self.tokenizer, compute_metrics=self.metrics,
        )  # fmt: skip


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
    if evaluation.scores == "dialogue":  # a translator has two languages, of which the data name none
        name_language(args, data)
    checkpoint = checkpoint_to_resume(args)
    splits = ("train", data.eval_split, data.test_split)
    with PartialState().main_process_first():
        pairs = data.load(*splits)
        model, tokenizer = generator.load_or_make(tokens, pairs, data.language)
        train, validation, test = (data.encode(pairs[split], tokenizer) for split in splits)
    metrics, score = evaluation.metrics(args, pairs, data, tokenizer), None
    if PartialState().is_main_process:
        score = evaluation.scorer(pairs, data, args.seed)
        print(pairs.report)
        learned = model.num_parameters(only_trainable=True)
        of_all = "" if learned == model.num_parameters() else f", {learned:,} of them trained"
        print(f"{type(model).__name__}: {model.num_parameters():,} parameters{of_all}, {len(tokenizer):,} tokens")
    about = {"model": Path(args.output_dir).name, "dataset": data.dataset, "split": data.test_split, "seed": args.seed}
    return TrainingSetup(model, tokenizer, train, validation, test, checkpoint, metrics, score, about, pairs)
