"""Settings of the recipe that trains an energy model, and what they build."""

from collections.abc import Iterator
from dataclasses import asdict, dataclass, fields
from itertools import islice
from pathlib import Path
from typing import Any, ClassVar

from accelerate import PartialState
from datasets import Dataset, IterableDataset
from transformers import AutoModel, AutoTokenizer, PreTrainedTokenizerBase, set_seed

from hf_localgan.data import Pairs, check_tokenizer, load_word_vectors, vocabulary_words
from hf_localgan.data.token_vectors import TokenVectors, embedding_vectors, token_vectors, train_token_vectors
from hf_localgan.evaluation import require_matplotlib
from hf_localgan.hub.download import split_place
from hf_localgan.models.dbm import DbmConfig, DbmModel
from hf_localgan.models.loading import load_generator
from hf_localgan.recipes.parser import expand_path
from hf_localgan.recipes.settings.generator import (
    DataArguments,
    TokenizerArguments,
    checkpoint_to_resume,
    name_language,
    option,
)


@dataclass
class EnergyArguments:
    """Word vectors and shape of an energy model."""

    _argument_group_name: ClassVar[str] = "energy"
    _argument_alternatives: ClassVar[list[tuple[str, ...]]] = [("model", "generator", "word_vectors")]

    model: str | None = option(
        None,
        "Folder or Hub id of an energy model, with its tokenizer, word vectors and scalers. Training goes on from it.",
    )
    generator: str | None = option(
        None, "Folder or Hub id of a generator, whose tokenizer and input embeddings the energy takes over, frozen."
    )
    word_vectors: str | None = option(
        None, "Word vectors to use: GloVe or word2vec text, or parquet of `word` and `vector`. Without any of the "
        "three, vectors are made from the training pairs (PMI, SVD)."
    )  # fmt: skip
    vector_size: int = option(100, "Dimensions of the vectors that are made.")
    vector_pairs: int = option(500_000, "Pairs from the start of the training split that they are made from.")
    normalize_vectors: bool = option(False, "Bring every word vector to length 1, so that no word outweighs another.")
    hidden_size: int = option(128, "Binary units joined to both vectors.")
    top_size: int = option(128, "Binary units above them. 0 leaves a Gaussian-Bernoulli RBM.")
    energy: str = option(
        "dbm",
        "`dbm`, or `rbm_pair`: the paper's authors' two RBMs. (`printed`, Eq. 8 as it stands, cannot be trained.)",
    )
    visible_std: str = option(
        "unit", "Standard deviation of the vectors' dimensions given the hidden units: `unit` (the paper) or `learned`."
    )
    whiten: bool = option(
        False, "Take correlations out of the vectors of either side, so that what joins the sides is learned first."
    )
    initializer_range: float = option(0.01, "Standard deviation of the couplings at the start.")

    def __post_init__(self):
        given = [name for name in self._argument_alternatives[0] if getattr(self, name) is not None]
        if len(given) > 1:
            raise ValueError(
                f"Only one of {' and '.join(f'`{name}`' for name in given)} can say where vectors are from."
            )
        for name in ("vector_size", "vector_pairs"):
            if getattr(self, name) < 1:
                raise ValueError(f"`{name}` must be at least 1, got {getattr(self, name)}.")
        self.config(self.vector_size, None)  # refuses what cannot be built, before anything is loaded

    def config(self, size: int, vocab_size: int | None) -> DbmConfig:
        """The shape of a new energy over vectors of `size` dimensions."""
        names = {one.name for one in fields(DbmConfig)}
        shape = {name: value for name, value in asdict(self).items() if name in names}
        return DbmConfig(query_size=size, response_size=size, vocab_size=vocab_size, **shape)

    def load_or_make(
        self, tokens: TokenizerArguments, pairs: Pairs, language: str
    ) -> tuple[DbmModel, PreTrainedTokenizerBase]:
        """The energy that `model` names, or a new one with word vectors; its scalers are fitted by the trainer."""
        if self.model is not None:
            return load_energy(expand_path(self.model, "model"))
        if self.generator is not None:
            generator, tokenizer = load_generator(expand_path(self.generator, "generator"))
            table = embedding_vectors(tokenizer, generator.get_input_embeddings())
        else:
            tokenizer = tokens.make(pairs, language)
            table = self._vectors(tokenizer, pairs)
        return make_energy(table.normalized() if self.normalize_vectors else table, self.config), tokenizer

    def _vectors(self, tokenizer: PreTrainedTokenizerBase, pairs: Pairs) -> TokenVectors:
        if self.word_vectors is not None:
            path = expand_path(self.word_vectors, "word_vectors")
            return token_vectors(tokenizer, load_word_vectors(path, vocabulary_words(tokenizer)))
        try:
            return train_token_vectors(tokenizer, _texts(pairs["train"], self.vector_pairs), self.vector_size)
        except ValueError as error:
            raise ValueError(
                f"No word vectors can be made of the training pairs: {error} Here `dim` is `vector_size`; or name a "
                "file of vectors by `word_vectors`, or a generator by `generator`."
            ) from error


@dataclass
class EnergyReportArguments:
    """What the report at the end measures."""

    _argument_group_name: ClassVar[str] = "report"

    rivals: list[str] | None = option(
        None, "Folders of further energy models over the same vectors, such as an RBM, that are measured beside it."
    )
    others: int = option(9, "Responses of other queries that each true response is held against.")
    max_train_pairs: int = option(100_000, "Training pairs that a normal distribution is fitted on for comparison.")
    max_test_pairs: int = option(10_000, "Pairs from the start of the test split that are measured.")
    curvature_queries: int = option(200, "Queries whose curvature at the centre is measured.")
    clusters: int = option(6, "Queries whose responses are plotted.")
    resamples: int = option(1000, "Bootstrap samples of the intervals.")

    def __post_init__(self):
        for name in ("others", "max_train_pairs", "max_test_pairs", "clusters"):
            if getattr(self, name) < 1:
                raise ValueError(f"`{name}` must be at least 1, got {getattr(self, name)}.")
        for name in ("curvature_queries", "resamples"):
            if getattr(self, name) < 0:
                raise ValueError(f"`{name}` must not be negative, got {getattr(self, name)}.")

    def settings(self) -> dict[str, Any]:
        """Arguments of `evaluate_energy`; loads the rivals."""
        settings = {one.name: getattr(self, one.name) for one in fields(self) if one.name != "rivals"}
        paths = [expand_path(path, "rivals") for path in self.rivals or ()]
        return {**settings, "rivals": {Path(path).resolve().name: load_energy(path)[0] for path in paths}}


@dataclass(frozen=True)
class EnergySetup:
    """What the recipe hands to its trainer, and to `finish_energy_training`.

    Attributes:
        model: the energy to train.
        tokenizer: its tokenizer.
        train, validation, test: encoded pairs.
        checkpoint: to resume from, `None` for a new run.
        report: arguments of `evaluate_energy`.
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


def set_up_energy(
    data: DataArguments, tokens: TokenizerArguments, energy: EnergyArguments, report: EnergyReportArguments, args
) -> EnergySetup:
    """Loads and encodes the pairs, and loads or makes the energy, on every process; prints what they are.

    Args:
        args (`DbmTrainingConfig`): of the trainer.

    Raises:
        ValueError, OSError, ImportError: for what is missing or does not fit together.
    """
    require_matplotlib()  # what only the end needs is looked at now
    settings = report.settings()
    set_seed(args.seed)
    name_language(args, data)
    checkpoint = checkpoint_to_resume(args)
    splits = ("train", data.eval_split, data.test_split)
    with PartialState().main_process_first():
        pairs = data.load(*splits)
        if len(pairs.grouped[data.test_split]) < 2:
            raise ValueError(
                f"The split `{data.test_split}` has one query, and true responses are held against those of others. "
                "Name another split by `test_split`."
            )
        model, tokenizer = energy.load_or_make(tokens, pairs, data.language)
        train, validation, test = (data.encode(pairs[split], tokenizer) for split in splits)
    if PartialState().is_main_process:
        print(pairs.report)
        config, counted = model.config, int(model.word_vectors.regular.sum())
        print(
            f"{type(model).__name__}: {model.num_parameters():,} parameters, layers of {config.query_size} + "
            f"{config.response_size}, {config.hidden_size} and {config.top_size} units; {counted:,} of "
            f"{len(tokenizer):,} tokens have a vector"
        )
    about = {"model": Path(args.output_dir).name, "dataset": data.dataset, "split": data.test_split, "seed": args.seed}
    return EnergySetup(model, tokenizer, train, validation, test, checkpoint, settings, about)


def make_energy(table: TokenVectors, config) -> DbmModel:
    """A new energy over utterances whose vectors are means of the table's.

    Args:
        table: a vector for each token that counts.
        config: `config(size, vocab_size)`, a `DbmConfig`.
    """
    vocab_size, size = table.vectors.shape
    model = DbmModel(config(size, vocab_size))
    model.word_vectors.load(table.vectors, table.tokens)
    return model


def load_energy(path: str) -> tuple[DbmModel, PreTrainedTokenizerBase]:
    """An energy model that reads text, and its tokenizer.

    Args:
        path: a folder, an id on the Hub, or an id with a folder of that repository: `owner/name/energy`.

    Raises:
        OSError: if there is none.
        ValueError: for another kind of model, or an energy over vectors alone.
    """
    place, inside = split_place(path)
    model = AutoModel.from_pretrained(place, subfolder=inside)
    if not isinstance(model, DbmModel):
        raise ValueError(f'"{path}" holds a {type(model).__name__}, and no energy model.')
    if model.word_vectors is None:
        raise ValueError(f'The energy model "{path}" holds no word vectors, so it cannot be trained on text.')
    tokenizer = AutoTokenizer.from_pretrained(place, subfolder=inside)
    check_tokenizer(tokenizer)
    return model, tokenizer


def _texts(rows: Dataset | IterableDataset, pairs: int) -> Iterator[str]:
    for row in islice(rows, pairs):
        yield row["query"]
        yield row["response"]
