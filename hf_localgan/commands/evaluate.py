"""Answers a test split with a trained generator and scores the answers.

MODEL is a folder or a Hub id, DATASET any value of the trainings' `--dataset`. Writes `evaluation.json`,
`evaluation.md`, `generations.parquet`, `query_scores.parquet` and, for dialogue, `diversity_relevance.png`.
Translations are scored by `--scores translation`.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

from transformers import DataCollatorForSeq2Seq

from hf_localgan.commands.recipe import run
from hf_localgan.data.tokenization import report_unknown
from hf_localgan.evaluation.plots import require_matplotlib
from hf_localgan.hub.completions import prepare_completions, push_completions
from hf_localgan.hub.rendering import hub_id
from hf_localgan.recipes.finish import likelihood_about
from hf_localgan.recipes.parser import RecipeParser
from hf_localgan.recipes.settings.data import DataArguments, option
from hf_localgan.recipes.settings.evaluation import EvaluationArguments
from hf_localgan.recipes.settings.generator import ModelArguments
from hf_localgan.trainers.base.bounds import SEED, check_bounds
from hf_localgan.trainers.mle.config import MleConfig
from hf_localgan.trainers.mle.trainer import MleTrainer


@dataclass
class OutputArguments:
    """Output folder, seed and device."""

    _argument_group_name: ClassVar[str] = "output"

    output_dir: str | None = option(
        None, "Folder of the results. By default `evaluation/DATA`, or `evaluation/DATA-SPLIT`, inside a local MODEL."
    )
    seed: int = option(0, "Seed of sampling and resampling.")
    use_cpu: bool = option(False, "Use the processor even if there is an accelerator.")
    completions_to: str | None = option(
        None, "Upload the generations to this data set on the Hub (`owner/name`), which is private where it is new."
    )
    completions_license: str | None = option(
        None,
        "Licence of the texts that `completions_to` publishes, in the Hub's spelling. Needed where neither "
        "the package nor the data set's card on the Hub says it; `unknown` publishes without.",
    )

    def __post_init__(self):
        check_bounds(self, {"seed": SEED})
        if self.completions_license is not None and self.completions_to is None:
            raise ValueError(
                "`completions_license` does nothing without `completions_to`. Name a data set, or leave it out."
            )


def evaluate(data: DataArguments, generator: ModelArguments, evaluation: EvaluationArguments, output: OutputArguments):
    """Answers the test split with a generator, scores the answers, writes and prints the scores.

    Raises:
        ValueError, OSError, ImportError: for files, models and settings that are missing or do not fit together.
    """
    require_matplotlib()
    if output.completions_to is not None:  # what would refuse the upload refuses the work
        prepare_completions(output.completions_to, data.dataset, license=output.completions_license)
    path = generator.path()
    assert path is not None  # see `Parser`
    place = Path(path)
    name = place.resolve().name if place.is_dir() else generator.generator
    inside = place if place.is_dir() else Path("runs") / place.name
    split = "" if data.test_split == "test" else f"-{data.test_split}"
    folder = Path(output.output_dir or inside / "evaluation" / f"{Path(data.dataset).stem}{split}")
    model, tokenizer = generator.load()  # before the data, whose reading may take minutes
    data.adopt_reading(path)
    tunes = evaluation.tune_queries and evaluation.scores == "translation"
    pairs = data.load(data.test_split, *([data.eval_split] if tunes else []))
    score = evaluation.scorer(pairs, data, output.seed)

    args = MleConfig(
        str(folder), per_device_eval_batch_size=64, sample_rows=0, use_cpu=output.use_cpu, seed=output.seed
    )
    trainer = MleTrainer(model, args, data_collator=DataCollatorForSeq2Seq(tokenizer, model=model))
    encoded = data.encode(pairs[data.test_split], tokenizer)
    print(report_unknown(tokenizer, {data.test_split: encoded}))
    likelihood = trainer.evaluate(encoded, metric_key_prefix="test")

    about = {"model": name, "dataset": data.dataset, "split": data.test_split, "seed": output.seed}
    result = score(model, tokenizer, about={**about, **likelihood_about(likelihood)})
    result.print()
    print("written:", ", ".join(str(path) for path in result.write(folder)))
    if output.completions_to is not None:
        push_completions(
            folder, output.completions_to, license=output.completions_license, language=data.pair_language,
            model_id=generator.generator if hub_id(generator.generator) else None,
        )  # fmt: skip
        print(f"generations uploaded to the data set {output.completions_to}")


class Parser(RecipeParser):
    """Refuses a command line without a model."""

    def read(self, arguments: Sequence[str] | None = None) -> tuple:
        settings = super().read(arguments)
        if settings[1].generator is None:
            raise ValueError(f"Name the generator and the data: `{self.prog} MODEL DATASET`.")
        return settings


def settings_parser(prog: str | None = None) -> Parser:
    parser = Parser(
        DataArguments, ModelArguments, EvaluationArguments, OutputArguments,
        positional=("generator", "dataset"), description=__doc__, shown=("evaluation", "output"),
    )  # fmt: skip
    parser.words, parser.prog = "MODEL DATASET", prog or parser.prog
    return parser


def main(argv: Sequence[str] | None = None, prog: str | None = None) -> int:
    return run(settings_parser(prog), evaluate, argv)
