"""Settings of the discriminator: its architecture, and the pairs that it is trained on."""

from collections.abc import Iterator
from dataclasses import asdict, dataclass, fields
from typing import Any, ClassVar, cast

from datasets import DatasetDict, concatenate_datasets
from torch import Tensor, nn
from transformers import PreTrainedTokenizerBase

from hf_localgan.data.pairs import Pairs, load_pairs
from hf_localgan.data.token_vectors import TokenVectors, embedding_vectors, token_vectors, train_token_vectors
from hf_localgan.data.word_vectors import load_word_vectors, vocabulary_words
from hf_localgan.models.discriminator.configuration_discriminator import PairDiscriminatorConfig
from hf_localgan.models.discriminator.modeling_discriminator import PairDiscriminator
from hf_localgan.models.loading import load_generator
from hf_localgan.recipes.parser import expand_path
from hf_localgan.recipes.parts import load_discriminator, load_energy
from hf_localgan.recipes.settings.data import DataArguments, Unused, field_names, option, report_fewer_dimensions
from hf_localgan.recipes.settings.tokenizer import TokenizerArguments


@dataclass
class DiscriminatorArguments:
    """Architecture of a discriminator."""

    _argument_group_name: ClassVar[str] = "discriminator"
    _argument_alternatives: ClassVar[list[tuple[str, ...]]] = [("discriminator", "energy", "generator", "word_vectors")]
    _argument_former_names: ClassVar[dict[str, str]] = {"model": "discriminator", "energy_model": "energy"}

    discriminator: str | None = option(
        None, "Folder or Hub id of a discriminator with its tokenizer. Training goes on from it."
    )
    energy: str | None = option(
        None,
        "Folder or Hub id of an energy with its tokenizer. The discriminator's body is a copy of it instead of "
        "convolutions.",
    )
    generator: str | None = option(
        None, "Folder or Hub id of a generator, whose tokenizer and input embeddings the discriminator takes over."
    )
    word_vectors: str | None = option(
        None,
        "File of word vectors to use: text as of GloVe or word2vec, or parquet with the columns `word` and `vector`.",
    )
    tune_vectors: bool = option(
        False, "Start the learned embeddings from the word vectors, instead of keeping both side by side."
    )
    vector_size: int = option(
        0,
        "Dimensions of word vectors that are made from the training pairs (PMI, SVD) if none are given. 0 makes none.",
    )
    embedding_size: int = option(100, "Dimensions of the learned embeddings. 0 leaves them out.")
    widths: list[int] = option([1, 2, 3, 4], "Widths of the convolutions, in tokens.")
    filters: int = option(128, "Number of filters of each convolution.")
    share_filters: bool = option(False, "Read queries and responses by the same convolutions.")
    head: str = option(
        "bilinear",
        "What joins query and response: `bilinear`, `mlp`, or `cosine`, which AIM compares responses by. A copy of an "
        "energy always has `mlp`.",
    )
    interaction: str = option(
        "both", "What the MLP sees beside query and response: their `product`, their `difference`, `both` or `none`."
    )
    head_size: int = option(128, "Number of hidden units of the MLP, or dimensions of what the cosine is taken of.")
    mean_field_steps: int = option(5, "Number of mean-field steps of a copy of an energy.")
    dropout: float = option(0.2, "Dropout on the features and on the MLP's hidden units.")
    embedding_dropout: float = option(0.2, "Dropout on word embeddings.")
    extra_datasets: list[str] | None = option(
        None, "Further data sets whose training pairs are added, except those with queries of the evaluated splits."
    )

    def __post_init__(self):
        given = [name for name in self._argument_alternatives[0] if getattr(self, name) is not None]
        if len(given) > 1:
            raise ValueError(
                f"Only one of {' and '.join(f'`{name}`' for name in given)} can be the start of the discriminator. "
                "Leave out the others."
            )
        if self.tune_vectors and not (self.generator or self.word_vectors or self.vector_size):
            raise ValueError("`tune_vectors` needs `word_vectors`, a `generator` or a `vector_size`.")
        if self.vector_size < 0:
            raise ValueError(f"`vector_size` must not be negative, got {self.vector_size}.")
        if not given or given[0] not in ("discriminator", "energy"):
            self.config(9 if given else self.vector_size)  # refuses what cannot be built before anything is loaded

    def unused(self) -> Iterator[Unused]:
        """The settings of new embeddings, a new tokenizer or a new discriminator, where there is one."""
        if self.discriminator is not None:
            names = field_names(DiscriminatorArguments) - {"discriminator", "extra_datasets"}
            yield Unused("discriminator", self.discriminator, names | field_names(TokenizerArguments))
        elif self.energy is not None:
            names = {"tune_vectors", "vector_size", "embedding_size", "widths", "filters", "share_filters", "head",
                     "interaction", "embedding_dropout"}  # fmt: skip
            yield Unused("energy", self.energy, names | field_names(TokenizerArguments))
        elif self.generator is not None:
            yield Unused("generator", self.generator, {"vector_size", *field_names(TokenizerArguments)})
        elif self.word_vectors is not None:
            yield Unused("word_vectors", self.word_vectors, {"vector_size"})

    def paths(self) -> list[str]:
        """Folders or Hub ids of the models that the discriminator starts from."""
        named = {"discriminator": self.discriminator, "energy": self.energy, "generator": self.generator}
        return [expand_path(path, name) for name, path in named.items() if path is not None]

    def config(self, vector_size: int, **tokens: Any) -> PairDiscriminatorConfig:
        """The configuration of a new discriminator with convolutions.

        Args:
            vector_size: dimensions of the word vectors, 0 for none.
            tokens: `vocab_size` and ids of special tokens.
        """
        names = {item.name for item in fields(PairDiscriminatorConfig)} - {"vector_size", "embedding_size", "energy"}
        shape = {name: value for name, value in asdict(self).items() if name in names}
        sizes: dict[str, Any] = {"embedding_size": self.embedding_size, "vector_size": vector_size}
        if self.tune_vectors:
            sizes = {"embedding_size": vector_size, "vector_size": 0}
        return PairDiscriminatorConfig(**sizes, **shape, **tokens)

    def load_or_make(
        self, tokens: TokenizerArguments, pairs: Pairs, language: str
    ) -> tuple[PairDiscriminator, PreTrainedTokenizerBase]:
        """The discriminator that `discriminator` names, a copy of an energy, or a new one; and its tokenizer."""
        if self.discriminator is not None:
            return load_discriminator(expand_path(self.discriminator, "discriminator"))
        if self.energy is not None:
            energy, tokenizer = load_energy(expand_path(self.energy, "energy"))
            settings = {name: getattr(self, name) for name in ("head_size", "dropout", "mean_field_steps")}
            return PairDiscriminator.from_energy(energy, **settings), tokenizer
        if self.generator is not None:
            generator, tokenizer = load_generator(expand_path(self.generator, "generator"))
            table: TokenVectors | None = embedding_vectors(
                tokenizer, cast(nn.Embedding, generator.get_input_embeddings())
            )
        else:
            tokenizer = tokens.make(pairs, language)
            table = self._vectors(tokenizer, pairs)
        special = {name: getattr(tokenizer, name) for name in ("pad_token_id", "bos_token_id", "eos_token_id")}
        if table is None:
            return PairDiscriminator(self.config(0, vocab_size=len(tokenizer), **special)), tokenizer
        vocab_size, size = table.vectors.shape
        config = self.config(size, vocab_size=vocab_size, **special)
        return PairDiscriminator(config).load_vectors(_scaled(table.vectors, config.initializer_range)), tokenizer

    def _vectors(self, tokenizer: PreTrainedTokenizerBase, pairs: Pairs) -> TokenVectors | None:
        if self.word_vectors is not None:
            path = expand_path(self.word_vectors, "word_vectors")
            return token_vectors(tokenizer, load_word_vectors(path, vocabulary_words(tokenizer)))
        if not self.vector_size:
            return None
        texts = (text for row in pairs["train"] for text in (row["query"], row["response"]))
        try:
            table = train_token_vectors(tokenizer, texts, self.vector_size, at_most=True)
        except ValueError as error:
            raise ValueError(
                f"No word vectors can be made of the training pairs: {error} Here `dim` is `vector_size`; or name a "
                "file of vectors by `word_vectors`, or a generator by `generator`. 0 makes none."
            ) from error
        report_fewer_dimensions("vector_size", self.vector_size, table.vectors.shape[1], "word_vectors")
        return table

    def add_pairs(self, pairs: Pairs, data: DataArguments) -> Pairs:
        """`pairs`, with the training pairs of `extra_datasets` behind their own.

        Training pairs with queries of the evaluated splits are left out.

        Raises:
            ValueError: with a streamed training split.
        """
        if not self.extra_datasets:
            return pairs
        if data.streaming:
            raise ValueError("`extra_datasets` are joined with a training split that is loaded. Leave out `streaming`.")
        paths = [expand_path(path, "extra_datasets") for path in self.extra_datasets]
        reading: dict[str, Any] = {"limits": data.limits_as_read(), **data.history_settings()}
        extra = [data.in_direction(load_pairs(path, splits=["train"], **reading)) for path in paths]
        parts = [pairs["train"], *(more["train"] for more in extra)]
        joined = concatenate_datasets([part.select_columns(["query", "response"]) for part in parts])
        evaluated = {split: pairs[split] for split in dict.fromkeys((data.eval_split, data.test_split))}
        return load_pairs(DatasetDict({"train": joined, **evaluated}), on_shared="drop", on_bad=cast(Any, data.on_bad))


def _scaled(vectors: Tensor, size: float) -> Tensor:
    """The vectors scaled to a root mean square of `size`, that of new embeddings; rows of zeros do not count."""
    rows = vectors[(vectors != 0).any(dim=1)]
    return vectors * (size / rows.square().mean().sqrt())
