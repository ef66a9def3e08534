"""Settings of the energy: its word vectors and shape, and the measurements of the report at the end."""

from collections.abc import Iterator
from dataclasses import asdict, dataclass, fields
from itertools import islice
from pathlib import Path
from typing import Any, ClassVar, cast

from datasets import Dataset, IterableDataset
from torch import nn
from transformers import PreTrainedTokenizerBase

from hf_localgan.data.pairs import Pairs
from hf_localgan.data.token_vectors import TokenVectors, embedding_vectors, token_vectors, train_token_vectors
from hf_localgan.data.word_vectors import load_word_vectors, vocabulary_words
from hf_localgan.models.dbm.configuration_dbm import ENERGIES, DbmConfig
from hf_localgan.models.dbm.modeling_dbm import DbmModel
from hf_localgan.models.loading import load_generator
from hf_localgan.recipes.parser import expand_path
from hf_localgan.recipes.parts import load_energy, make_energy
from hf_localgan.recipes.settings.data import Unused, field_names, option, report_fewer_dimensions
from hf_localgan.recipes.settings.tokenizer import TokenizerArguments


@dataclass
class EnergyArguments:
    """Word vectors and shape of an energy model."""

    _argument_group_name: ClassVar[str] = "energy"
    _argument_alternatives: ClassVar[list[tuple[str, ...]]] = [("energy", "generator", "word_vectors")]
    _argument_former_names: ClassVar[dict[str, str]] = {"model": "energy"}

    energy: str | None = option(
        None, "Folder or Hub id of an energy with its tokenizer, word vectors and scalers. Training goes on from it."
    )
    generator: str | None = option(
        None, "Folder or Hub id of a generator, whose tokenizer and input embeddings the energy takes over, frozen."
    )
    word_vectors: str | None = option(
        None,
        "File of word vectors to use: text as of GloVe or word2vec, or parquet with the columns `word` and `vector`. "
        "By default vectors are made from the training pairs (PMI, SVD).",
    )
    vector_size: int = option(100, "Dimensions of the word vectors that are made.")
    vector_pairs: int = option(
        500_000, "Number of pairs, from the start of the training split, that word vectors are made from."
    )
    normalize_vectors: bool = option(False, "Scale every word vector to length 1, so that no word outweighs another.")
    hidden_size: int = option(128, "Number of binary units that are joined to the vectors of query and response.")
    top_size: int = option(128, "Number of binary units above these. 0 leaves a Gaussian-Bernoulli RBM.")
    energy_type: str = option(
        "dbm",
        "Model of the energy: `dbm`, or `rbm_pair`, the two RBMs of the authors of LocalGAN. (`printed`, Eq. 8 as it "
        "stands, cannot be trained.)",
    )
    visible_std: str = option(
        "unit", "Standard deviation of each dimension given the hidden units: `unit`, as in the paper, or `learned`."
    )
    whiten: bool = option(
        False, "Remove correlations within the vectors of each side, so that what joins the sides is learned first."
    )
    pooling: str = option(
        "mean",
        "Vector of an utterance of n words: `mean`, the mean of its word vectors, as in the paper; `sqrt`, their sum "
        "divided by the root of n, so that short answers do not lie far out because they are short; `distinct_sqrt`, "
        "the same over its different words.",
    )
    initializer_range: float = option(0.01, "Standard deviation of the couplings at the start of training.")

    def __post_init__(self):
        given = [name for name in self._argument_alternatives[0] if getattr(self, name) is not None]
        if len(given) > 1:
            raise ValueError(
                f"Only one of {' and '.join(f'`{name}`' for name in given)} can give the word vectors. Leave out the "
                "others."
            )
        if self.energy in ENERGIES and not Path(self.energy).exists():
            raise ValueError(
                f'`energy` names a folder or a Hub id, got "{self.energy}", which is a type of energies. Set '
                f"`energy_type: {self.energy}`."
            )
        if self.energy_type not in ENERGIES:
            names = ", ".join(f'"{name}"' for name in ENERGIES)
            raise ValueError(f'`energy_type` must be one of {names}, got "{self.energy_type}".')
        for name in ("vector_size", "vector_pairs"):
            if getattr(self, name) < 1:
                raise ValueError(f"`{name}` must be at least 1, got {getattr(self, name)}.")
        self.config(self.vector_size, None)  # refuses what cannot be built, before anything is loaded

    def unused(self) -> Iterator[Unused]:
        """The settings of new word vectors, a new tokenizer or a new energy, where there is one."""
        vectors = {"vector_size", "vector_pairs"}
        if self.energy is not None:
            names = field_names(EnergyArguments) - {"energy"} | field_names(TokenizerArguments)
            yield Unused("energy", self.energy, names)
        elif self.generator is not None:
            yield Unused("generator", self.generator, vectors | field_names(TokenizerArguments))
        elif self.word_vectors is not None:
            yield Unused("word_vectors", self.word_vectors, vectors)

    def paths(self) -> list[str]:
        """Folders or Hub ids of the models that the energy starts from."""
        named = {"energy": self.energy, "generator": self.generator}
        return [expand_path(path, name) for name, path in named.items() if path is not None]

    def config(self, size: int, vocab_size: int | None) -> DbmConfig:
        """The configuration of a new energy over vectors of `size` dimensions."""
        names = {item.name for item in fields(DbmConfig)} - {"energy"}
        shape = {name: value for name, value in asdict(self).items() if name in names}
        shape["energy"] = self.energy_type
        return DbmConfig(query_size=size, response_size=size, vocab_size=vocab_size, **shape)

    def load_or_make(
        self, tokens: TokenizerArguments, pairs: Pairs, language: str
    ) -> tuple[DbmModel, PreTrainedTokenizerBase]:
        """The energy that `energy` names, or a new one with word vectors; its scalers are fitted by the trainer."""
        if self.energy is not None:
            return load_energy(expand_path(self.energy, "energy"))
        if self.generator is not None:
            generator, tokenizer = load_generator(expand_path(self.generator, "generator"))
            table = embedding_vectors(tokenizer, cast(nn.Embedding, generator.get_input_embeddings()))
        else:
            tokenizer = tokens.make(pairs, language)
            table = self._vectors(tokenizer, pairs)
        return make_energy(table.normalized() if self.normalize_vectors else table, self.config), tokenizer

    def _vectors(self, tokenizer: PreTrainedTokenizerBase, pairs: Pairs) -> TokenVectors:
        if self.word_vectors is not None:
            path = expand_path(self.word_vectors, "word_vectors")
            return token_vectors(tokenizer, load_word_vectors(path, vocabulary_words(tokenizer)))
        texts = _texts(pairs["train"], self.vector_pairs)
        try:
            table = train_token_vectors(tokenizer, texts, self.vector_size, at_most=True)
        except ValueError as error:
            raise ValueError(
                f"No word vectors can be made of the training pairs: {error} Here `dim` is `vector_size`; or name a "
                "file of vectors by `word_vectors`, or a generator by `generator`."
            ) from error
        report_fewer_dimensions("vector_size", self.vector_size, table.vectors.shape[1], "word_vectors")
        return table


@dataclass
class EnergyReportArguments:
    """Measurements of the report at the end."""

    _argument_group_name: ClassVar[str] = "report"

    rivals: list[str] | None = option(
        None,
        "Folders of further energies over the same vectors, such as an RBM, that are measured beside the trained one.",
    )
    safe_generator: str | None = option(
        None,
        "Folder or Hub id of a generator of the same tokenizer, whose greedy answers are placed among the references' "
        "radii. In a LocalGAN training it is the generator of that training.",
    )
    others: int = option(9, "Number of responses to other queries that each true response is compared with.")
    max_train_pairs: int = option(
        100_000, "Number of training pairs on which a normal distribution is fitted for comparison."
    )
    max_test_pairs: int = option(10_000, "Number of pairs, from the start of the test split, that are measured.")
    curvature_queries: int = option(200, "Number of queries whose curvature at the centre is measured.")
    clusters: int = option(6, "Number of queries whose responses are plotted.")
    resamples: int = option(1000, "Number of bootstrap samples for each interval.")

    def __post_init__(self):
        for name in ("others", "max_train_pairs", "max_test_pairs", "clusters"):
            if getattr(self, name) < 1:
                raise ValueError(f"`{name}` must be at least 1, got {getattr(self, name)}.")
        for name in ("curvature_queries", "resamples"):
            if getattr(self, name) < 0:
                raise ValueError(f"`{name}` must not be negative, got {getattr(self, name)}.")

    def settings(self) -> dict[str, Any]:
        """Arguments of `evaluate_energy`, with the rivals loaded."""
        loaded = ("rivals", "safe_generator")
        settings = {item.name: getattr(self, item.name) for item in fields(self) if item.name not in loaded}
        if self.safe_generator is not None:
            settings["generator"] = load_generator(expand_path(self.safe_generator, "safe_generator"))[0]
        paths = [expand_path(path, "rivals") for path in self.rivals or ()]
        return {**settings, "rivals": {Path(path).resolve().name: load_energy(path)[0] for path in paths}}


def _texts(rows: Dataset | IterableDataset, pairs: int) -> Iterator[str]:
    for row in islice(rows, pairs):
        yield row["query"]
        yield row["response"]
