"""Settings of the data: where the pairs come from and which of them are used."""

import json
from dataclasses import dataclass, field
from typing import ClassVar

from datasets import Dataset
from transformers import PreTrainedTokenizerBase

from hf_localgan.data.encoding import encode_pairs
from hf_localgan.data.pairs import Pairs, load_pairs
from hf_localgan.data.report import LengthLimits
from hf_localgan.data.tokenization import LANGUAGES
from hf_localgan.recipes.parser import expand_path

_COLUMNS_EXAMPLE = 'such as {"query": "post", "response": "reply"}'


def option(default, help: str):
    """A dataclass field with its description."""
    if isinstance(default, list):
        return field(default_factory=lambda: list(default), metadata={"help": help})
    return field(default=default, metadata={"help": help})


@dataclass
class DataArguments:
    """Where the pairs come from and which of them are used."""

    _argument_group_name: ClassVar[str] = "data"

    dataset: str = option(
        "smalltalk",
        "`smalltalk` (shipped), the id of a data set on the Hub, or a folder or file of parquet, JSON lines, CSV or "
        "TSV. Environment variables are replaced.",
    )
    dataset_config: str | None = option(None, "Name of the configuration of a data set on the Hub.")
    dataset_revision: str | None = option(None, "Branch, tag or commit of a data set on the Hub.")
    columns: str | None = option(
        None,
        'Columns that hold queries and responses, as JSON: `{"query": "post", "response": "reply"}`. By default they '
        "are found by their names.",
    )
    language: str = option(
        "en",
        "Language of the pairs: `en` (words between spaces), `zh` (every character is a word) or `zh-words` (words "
        "that jieba finds).",
    )
    streaming: bool = option(False, "Stream the training split instead of loading it.")
    eval_split: str = option("validation", "Split that the training is evaluated on while it runs.")
    test_split: str = option("test", "Split that is scored when the training has ended.")
    min_query: int | None = option(
        None, "Leave out pairs whose query is shorter, in words (characters for Chinese). LocalGAN's paper: 4."
    )
    max_query: int | None = option(None, "Leave out pairs whose query is longer. LocalGAN's paper: 30.")
    min_response: int | None = option(None, "Leave out pairs whose response is shorter. LocalGAN's paper: 4.")
    max_response: int | None = option(None, "Leave out pairs whose response is longer. LocalGAN's paper: 30.")
    on_bad: str = option(
        "error", "What happens to pairs with cells that are empty or no text: `error`, or `drop`, which counts them."
    )
    on_shared: str = option(
        "warn", "What happens when splits share a query: `warn`, `drop` (from the training split) or `error`."
    )
    max_source_length: int = option(64, "Largest number of tokens of a query; see `on_long`.")
    max_target_length: int = option(64, "Largest number of tokens of a response; see `on_long`.")
    on_long: str = option(
        "drop", "What happens to pairs with more tokens: `drop`, which counts them, `truncate` or `error`."
    )

    def __post_init__(self):
        if self.language not in LANGUAGES:
            raise ValueError(f"`language` must be one of {', '.join(LANGUAGES)}, got {self.language!r}.")
        self._columns()

    def load(self, *needed: str) -> Pairs:
        """The pairs of all splits.

        Args:
            needed: splits that must be there.
        """
        pairs = load_pairs(
            expand_path(self.dataset, "dataset"),
            self.dataset_config,
            columns=self._columns(),
            limits=self.limits(),
            on_bad=self.on_bad,
            on_shared=self.on_shared,
            streaming=self.streaming,
            revision=self.dataset_revision,
        )
        missing = [f"`{split}`" for split in needed if split not in pairs]
        if missing:
            raise ValueError(
                f"The data set has no split {', '.join(missing)} (found: {', '.join(pairs)}). "
                "Needed are `train` for training and what `eval_split` and `test_split` name."
            )
        if not self.streaming:
            return pairs
        watched = {self.eval_split, self.test_split}  # answered and scored as a whole
        splits = {name: Dataset.from_list(list(some)) if name in watched else some for name, some in pairs.items()}
        return Pairs(splits, pairs.report)

    def limits(self) -> LengthLimits | None:
        """The lengths outside of which a pair is left out, where there are any."""
        bounds = {name: getattr(self, name) for name in ("min_query", "max_query", "min_response", "max_response")}
        if all(bound is None for bound in bounds.values()):
            return None
        return LengthLimits(**bounds, unit="words" if self.language == "en" else "characters")

    def _columns(self) -> dict[str, str] | None:
        try:
            columns = None if self.columns is None else json.loads(self.columns)
        except json.JSONDecodeError as error:
            raise ValueError(f"`columns` must be JSON, {_COLUMNS_EXAMPLE}, got {self.columns!r}: {error}.") from error
        if columns is not None and not isinstance(columns, dict):
            raise ValueError(f"`columns` must map our names to yours, {_COLUMNS_EXAMPLE}, got {self.columns!r}.")
        return columns

    def encode(self, pairs, tokenizer: PreTrainedTokenizerBase):
        """Tokenized pairs for a trainer."""
        return encode_pairs(
            pairs,
            tokenizer,
            max_source_length=self.max_source_length,
            max_target_length=self.max_target_length,
            on_long=self.on_long,
        )


def name_language(args, data: DataArguments):
    """Lets the model card name the language of the data, unless `card_language` names another."""
    if args.card_language is None:
        args.card_language = data.language.removesuffix("-words")
