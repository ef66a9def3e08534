"""Settings of the data: the source of the pairs, how it is read, and the pairs that are used."""

import json
import warnings
from dataclasses import dataclass, field, fields, replace
from typing import Any, ClassVar, NamedTuple, cast

from accelerate import PartialState
from datasets import Dataset, IterableDataset
from transformers import PreTrainedTokenizerBase, TrainingArguments

from hf_localgan.data.checks import apart_from
from hf_localgan.data.encoding import encode_pairs
from hf_localgan.data.histories import keep_history, note_history, stored_history, tokenizer_history
from hf_localgan.data.holding_out import held_whole, hold_out
from hf_localgan.data.pairs import Pairs, count_queries, load_pairs
from hf_localgan.data.report import LengthLimits
from hf_localgan.data.table_rows import QUOTING
from hf_localgan.data.tokenization import LANGUAGES, kept_language
from hf_localgan.recipes.parser import expand_path
from hf_localgan.text import SAMPLED_TEXTS, UNSPACED_SHARE, script_shares
from hf_localgan.trainers.base.bounds import COUNT, NUMBER_OR_NONE, SEED, Bounds, check_bounds
from hf_localgan.trainers.base.launching import warn_once
from hf_localgan.trainers.base.settings import SharedSettings
from hf_localgan.turns import HISTORY_TURNS, SEPARATOR, TURN_SEPARATOR, History, make_history

LENGTHS = {
    "min_query": NUMBER_OR_NONE, "max_query": COUNT, "min_response": NUMBER_OR_NONE, "max_response": COUNT,
    "history_turns": NUMBER_OR_NONE,
    "max_source_length": Bounds(2, whole=True, advice="One is the end of the sequence."),
    "max_target_length": Bounds(2, whole=True, advice="One is the end of the sequence."),
    "held_out": Bounds(0, advice="Below 1 it is a share of the queries, from 1 on their number."),
    "split_seed": SEED, "num_proc": COUNT,
}  # fmt: skip
_COLUMNS_EXAMPLE = 'such as {"query": "post", "response": "reply"}'


def option(default: Any, help: str) -> Any:
    """A dataclass field with a default and a description."""
    if isinstance(default, list):
        return field(default_factory=lambda: list(default), metadata={"help": help})
    return field(default=default, metadata={"help": help})


class Unused(NamedTuple):
    """Settings that nothing reads, because something that exists takes their place.

    Attributes:
        option: the option that names what exists.
        value: its value.
        names: names of the settings.
    """

    option: str
    value: str
    names: set[str]


def field_names(group: type) -> set[str]:
    """Names of the fields of a dataclass."""
    return {item.name for item in fields(group)}


@dataclass
class DataArguments:
    """The source of the pairs, how it is read, and the pairs that are used."""

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
        'Columns that hold queries and responses, as JSON: `{"query": "post", "response": "reply"}`, or conversations: '
        '`{"messages": "chat"}`. By default they are found by their names.',
    )
    history_turns: int | None = option(
        None,
        "Number of earlier turns of a conversation that stand in front of its query. By default the number that is "
        "kept with a model that exists, or 0.",
    )
    turn_separator: str | None = option(
        None, f"Text between two turns. By default the one that is kept with a model that exists, or `{SEPARATOR}`."
    )
    encoding: str | None = option(None, "Encoding of CSV, TSV and JSON files. By default UTF-8.")
    quoting: str | None = option(
        None,
        "Quotation marks in CSV and TSV files: `minimal` (or 0), they enclose cells; `literal` (or 3), they are text. "
        "By default as `minimal`, with a warning where they join lines.",
    )
    separator: str | None = option(None, "Sign between the cells of CSV and TSV files. By default a comma or a tab.")
    column_names: list[str] | None = option(None, "Columns of CSV and TSV files that have no header.")
    json_field: str | None = option(None, "Field of JSON files that holds the list of rows. By default the whole file.")
    language: str | None = option(
        None,
        "Language of the pairs: `en` (words between spaces), `zh` (every character is a word) or `zh-words` (words "
        "that jieba finds). By default the one that is kept with a model that exists, or `en`.",
    )
    swap_sides: bool = option(
        False,
        "Turn the pairs round, so that queries are generated from responses. AIM, DAIM and re-ranking by mutual "
        "information need such a generator. Limits of queries are then those of what was the response.",
    )
    streaming: bool = option(
        False,
        "Stream the training split instead of loading it. It is compared with the other splits (`on_shared`) while it "
        "is read, and needs `max_steps`.",
    )
    num_proc: int | None = option(
        None,
        "Number of processes that turn the pairs into token ids; by default 1. What they make lies in the cache of "
        "`datasets`, so that a second start makes nothing.",
    )
    eval_split: str = option("validation", "Split that the training is evaluated on while it runs.")
    test_split: str = option("test", "Split that is scored when the training has ended.")
    held_out: float = option(
        0.1,
        "Size of each split that is made where the data have the split `train` alone, such as one file: a share of the "
        "different queries (at most 1,000), or from 1 on their number. 0 makes none, and missing splits are an error.",
    )
    split_seed: int = option(0, "Seed of the queries that are held out.")
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
        self.language_given = self.language is not None
        self.language = self.language or "en"
        if self.language not in LANGUAGES:
            raise ValueError(f"`language` must be one of {', '.join(LANGUAGES)}, got {self.language!r}.")
        self._columns()
        self._reader_options()
        check_bounds(self, LENGTHS)
        self.history_given = self.history_turns is not None
        # as it was given, adopted or set by default
        self.history = make_history(self.history_turns or 0, self.turn_separator)

    @property
    def pair_language(self) -> str:
        """`language` as it was given, adopted or set by default."""
        assert self.language is not None  # since `__post_init__`
        return self.language

    def adopt_reading(self, *models: str | None):
        """Takes over from models that exist how text is read: its language and the earlier turns of a query.

        Each comes from the first model that has it stored with its tokenizer, unless it was given.

        Args:
            models: folders or Hub ids of models with a tokenizer; `None` is skipped.
        """
        places = [model for model in models if model]
        if not self.language_given:
            self.language = next(filter(None, map(kept_language, places)), self.language)
        kept = next(filter(None, map(stored_history, places)), None)
        if kept is not None:
            turns = self.history_turns if self.history_given else kept.turns
            separator = kept.separator if self.turn_separator is None else self.turn_separator
            self.history = make_history(turns, separator)

    def check_steps(self, args: TrainingArguments, place: str = ""):
        """Refuses a stream without `max_steps`, before it is read.

        Args:
            args: configuration of the trainer.
            place: beginning of the error, such as the name of a stage.
        """
        if self.streaming and args.max_steps < 1:
            raise ValueError(
                f"{place}`streaming: true` needs `max_steps`: how many pairs a stream holds is not known before its "
                "end, so `num_train_epochs` says neither when the training ends nor how the learning rate falls. Set "
                "`max_steps`, or load the data: files are mapped into memory, not held in it."
            )

    def load(self, *needed: str) -> Pairs:
        """The pairs of all splits.

        Args:
            needed: splits that must exist.

        Raises:
            ValueError: for a missing split, and as `load_pairs`.
            OSError: if the data set cannot be read or downloaded.
        """
        pairs = load_pairs(
            expand_path(self.dataset, "dataset"),
            self.dataset_config,
            columns=self._columns(),
            **self.history_settings(),
            limits=self.limits_as_read(),
            on_bad=cast(Any, self.on_bad),  # `load_pairs` checks both
            on_shared=cast(Any, self.on_shared),
            streaming=self.streaming,
            revision=self.dataset_revision,
            **self._reader_options(),
        )
        missing = [f"`{split}`" for split in dict.fromkeys(needed) if split not in pairs]
        if missing and list(pairs) == ["train"] and self.held_out:
            pairs = self._hold_out(pairs)
        elif missing:
            raise ValueError(
                f"The data set has no split {', '.join(missing)} (found: {', '.join(pairs)}). "
                "A training needs `train` and the splits that `eval_split` and `test_split` name."
            )
        elif self.streaming:
            pairs = self._apart(pairs)
        pairs = self.in_direction(pairs)
        if not self.streaming:
            self._warn_of_script(pairs)
            return pairs
        evaluated = {self.eval_split, self.test_split}  # answered and scored as a whole
        splits = {
            name: held_whole(rows) if name in evaluated and isinstance(rows, IterableDataset) else rows
            for name, rows in pairs.items()
        }
        pairs = Pairs(splits, pairs.report)
        self._warn_of_script(pairs)
        return pairs

    def _apart(self, pairs: Pairs) -> Pairs:
        """Streamed pairs whose training splits are compared with the others while they are read."""
        others = {name: rows for name, rows in pairs.items() if not name.startswith("train")}
        if not others:
            return pairs
        splits = {
            name: rows if name in others or isinstance(rows, Dataset) else
            apart_from(rows, name, others, self.on_shared, self.history)
            for name, rows in pairs.items()
        }  # fmt: skip
        return Pairs(splits, pairs.report)

    def _hold_out(self, pairs: Pairs) -> Pairs:
        """Pairs with the splits for evaluation, taken out of the only one; says which."""
        splits = list(dict.fromkeys((self.eval_split, self.test_split)))
        pairs = hold_out(pairs, splits, self.held_out, self.split_seed)
        parts = ", ".join(
            f"{len(rows):,} of {count_queries(rows):,} queries as `{split}`" if isinstance(rows, Dataset) else
            f"the others as `{split}`, a stream"
            for split, rows in pairs.items()
        )  # fmt: skip
        sizes = [len(rows) for rows in pairs.values() if isinstance(rows, Dataset)]
        whole = f"{sum(sizes):,} pairs" if len(sizes) == len(pairs) else "pairs"
        if PartialState().is_main_process:
            print(
                f"The data have one split. Its {whole} are divided by query (`split_seed: {self.split_seed}`, "
                f"`held_out: {self.held_out:g}`): {parts}."
            )
        return pairs

    def _warn_of_script(self, pairs: Pairs):
        """Warns where lengths and scores would count clauses as words."""
        split = next((rows for rows in pairs.values() if isinstance(rows, Dataset)), None)
        if split is None or self.language != "en":
            return
        rows = split.select(range(min(len(split), SAMPLED_TEXTS)))
        share = script_shares([*rows["query"], *rows["response"]], 2 * SAMPLED_TEXTS).unsegmented
        if share > UNSPACED_SHARE:
            warnings.warn(
                f"{share:.0%} of the letters belong to scripts that are written without spaces, and `language` is "
                "`en`: lengths, word vectors and scores would count clauses as words. Set `language: zh` for Chinese "
                "and Japanese; for others `metric_tokenization: characters` and `tokenizer_kind: bpe`.",
                stacklevel=3,
            )

    def _reader_options(self) -> dict[str, Any]:
        """Arguments of `load_pairs` for reading files.

        Raises:
            ValueError: for an unknown `quoting`.
        """
        quoting = None
        if self.quoting is not None:
            code = str(int(QUOTING[self.quoting])) if self.quoting in QUOTING else self.quoting
            if code not in {str(int(number)) for number in QUOTING.values()}:
                raise ValueError(f"`quoting` must be `minimal` (0) or `literal` (3), got {self.quoting!r}.")
            quoting = int(code)
        options = {
            "encoding": self.encoding, "quoting": quoting, "sep": self.separator, "names": self.column_names,
            "field": self.json_field,
        }  # fmt: skip
        return {name: value for name, value in options.items() if value is not None}

    def history_settings(self) -> dict[str, Any]:
        """Arguments of `load_pairs` on the earlier turns of a query."""
        return {HISTORY_TURNS: self.history.turns, TURN_SEPARATOR: self.history.separator}

    def limits(self) -> LengthLimits | None:
        """The length limits of the pairs, `None` without any."""
        bounds = {name: getattr(self, name) for name in ("min_query", "max_query", "min_response", "max_response")}
        if all(bound is None for bound in bounds.values()):
            return None
        return LengthLimits(**bounds, unit="words" if self.language == "en" else "characters")

    def limits_as_read(self) -> LengthLimits | None:
        """The same for the pairs as they are read, before they are turned round."""
        limits = self.limits()
        if limits is None or not self.swap_sides:
            return limits
        return replace(
            limits, min_query=limits.min_response, max_query=limits.max_response, min_response=limits.min_query,
            max_response=limits.max_query,
        )  # fmt: skip

    def in_direction(self, pairs: Pairs) -> Pairs:
        """The pairs as they are, or turned round where `swap_sides` says so."""
        if not self.swap_sides:
            return pairs
        return Pairs({name: swapped_sides(split) for name, split in pairs.items()}, pairs.report)

    def _columns(self) -> dict[str, str] | None:
        try:
            columns = None if self.columns is None else json.loads(self.columns)
        except json.JSONDecodeError as error:
            raise ValueError(f"`columns` must be JSON, {_COLUMNS_EXAMPLE}, got {self.columns!r}: {error}.") from error
        if columns is not None and not isinstance(columns, dict):
            raise ValueError(
                f"`columns` must map `query` and `response` to your columns, {_COLUMNS_EXAMPLE}, got {self.columns!r}."
            )
        return columns

    def encode(self, pairs: Dataset | IterableDataset, tokenizer: PreTrainedTokenizerBase) -> Dataset | IterableDataset:
        """Tokenized pairs for a trainer, see `encode_pairs`; the tokenizer keeps a `history_turns` that was given."""
        if self.history_given and not self.swap_sides and self.history != (tokenizer_history(tokenizer) or History()):
            keep_history(tokenizer, self.history)
        return encode_pairs(
            pairs,
            tokenizer,
            max_source_length=self.max_source_length,
            max_target_length=self.max_target_length,
            on_long=cast(Any, self.on_long),  # `encode_pairs` checks it
            num_proc=None if isinstance(pairs, IterableDataset) else self.num_proc,
        )


def swapped_sides(pairs: Dataset | IterableDataset) -> Dataset | IterableDataset:
    """Rows whose queries were the responses and the other way round; other columns stay."""
    for old, new in (("query", "side"), ("response", "query"), ("side", "response")):
        pairs = pairs.rename_column(old, new)
    return note_history(pairs, None)  # what has turns is a response now


def name_language(args: SharedSettings, data: DataArguments):
    """Sets the language of the model card to that of the data, unless `card_language` is given."""
    if args.card_language is None:
        args.card_language = data.pair_language.removesuffix("-words")


def report_fewer_dimensions(setting: str, wanted: int, made: int, file: str):
    """Warns once that word vectors have fewer dimensions than were asked for.

    Args:
        setting: name of the setting.
        wanted, made: number of dimensions.
        file: name of the setting that names a file of vectors instead.
    """
    if made < wanted:
        warn_once(
            f"Word vectors have {made} dimensions and not {wanted} (`{setting}`): the training pairs have only "
            f"{made + 1} words that occur twice beside another. A file of vectors is named by `{file}`."
        )
