"""Settings of the recipe that trains a discriminator on pairs, and what they build."""

from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any, ClassVar

from accelerate import PartialState
from datasets import Dataset, DatasetDict, IterableDataset, concatenate_datasets
from torch import Tensor
from transformers import AutoModel, AutoTokenizer, PreTrainedTokenizerBase, set_seed

from hf_localgan.data import Pairs, check_tokenizer, load_pairs, load_word_vectors, vocabulary_words
from hf_localgan.data.token_vectors import TokenVectors, embedding_vectors, token_vectors, train_token_vectors
from hf_localgan.hub.download import split_place
from hf_localgan.models.discriminator import PairDiscriminator, PairDiscriminatorConfig
from hf_localgan.models.loading import load_generator
from hf_localgan.recipes.energy import load_energy
from hf_localgan.recipes.parser import expand_path
from hf_localgan.recipes.settings.generator import (
    DataArguments,
    TokenizerArguments,
    checkpoint_to_resume,
    name_language,
    option,
)


@dataclass
class DiscriminatorArguments:
    """What a discriminator is made of."""

    _argument_group_name: ClassVar[str] = "discriminator"
    _argument_alternatives: ClassVar[list[tuple[str, ...]]] = [("model", "energy_model", "generator", "word_vectors")]

    model: str | None = option(
        None, "Folder or Hub id of a discriminator, with its tokenizer. Training goes on from it."
    )
    energy_model: str | None = option(
        None,
        "Folder or Hub id of an energy model, with its tokenizer: the body is a copy of it instead of convolutions.",
    )
    generator: str | None = option(
        None, "Folder or Hub id of a generator, whose tokenizer and input embeddings are taken over."
    )
    word_vectors: str | None = option(
        None, "Word vectors to use: GloVe or word2vec text, or parquet of `word` and `vector`."
    )
    tune_vectors: bool = option(
        False, "The embeddings that are learned start from these vectors, instead of being beside them."
    )
    vector_size: int = option(
        0, "Dimensions of word vectors made from the training pairs (PMI, SVD), where no others are given. 0: none."
    )
    embedding_size: int = option(100, "Dimensions of the embeddings that are learned. 0: none.")
    widths: list[int] = option([1, 2, 3, 4], "Tokens that a convolution sees at a time.")
    filters: int = option(128, "Of each convolution.")
    share_filters: bool = option(False, "Queries and responses are read by the same convolutions.")
    head: str = option("bilinear", "`bilinear` or `mlp`. On an energy it is `mlp`.")
    interaction: str = option(
        "both", "What an MLP sees beside both sides: their `product`, `difference`, `both` or `none`."
    )
    head_size: int = option(128, "Hidden units of an MLP.")
    mean_field_steps: int = option(5, "Of an energy's mean field.")
    dropout: float = option(0.2, "On the features and the MLP's hidden units.")
    embedding_dropout: float = option(0.2, "On word embeddings.")
    extra_datasets: list[str] | None = option(
        None, "Further data sets whose training pairs are trained on, too; without queries of the watched splits."
    )

    def __post_init__(self):
        given = [name for name in self._argument_alternatives[0] if getattr(self, name) is not None]
        if len(given) > 1:
            raise ValueError(f"Only one of {' and '.join(f'`{name}`' for name in given)} can say what it is made of.")
        if self.tune_vectors and not (self.generator or self.word_vectors or self.vector_size):
            raise ValueError("`tune_vectors` needs `word_vectors`, a `generator` or a `vector_size`.")
        if self.vector_size < 0:
            raise ValueError(f"`vector_size` must not be negative, got {self.vector_size}.")
        if not given or given[0] not in ("model", "energy_model"):
            self.config(9 if given else self.vector_size)  # refuses what cannot be built before anything is loaded

    def config(self, vector_size: int, **tokens) -> PairDiscriminatorConfig:
        """The shape of a new discriminator with convolutions, where the word vectors have so many dimensions.

        Args:
            tokens: `vocab_size` and ids of special tokens.
        """
        names = {one.name for one in fields(PairDiscriminatorConfig)} - {"vector_size", "embedding_size"}
        shape = {name: value for name, value in asdict(self).items() if name in names}
        sizes = {"embedding_size": self.embedding_size, "vector_size": vector_size}
        if self.tune_vectors:
            sizes = {"embedding_size": vector_size, "vector_size": 0}
        return PairDiscriminatorConfig(**sizes, **shape, **tokens)

    def load_or_make(
        self, tokens: TokenizerArguments, pairs: Pairs, language: str
    ) -> tuple[PairDiscriminator, PreTrainedTokenizerBase]:
        """The discriminator that `model` names, a copy of an energy, or new convolutions; and its tokenizer."""
        if self.model is not None:
            return load_discriminator(expand_path(self.model, "model"))
        if self.energy_model is not None:
            energy, tokenizer = load_energy(expand_path(self.energy_model, "energy_model"))
            settings = {name: getattr(self, name) for name in ("head_size", "dropout", "mean_field_steps")}
            return PairDiscriminator.from_energy(energy, **settings), tokenizer
        if self.generator is not None:
            generator, tokenizer = load_generator(expand_path(self.generator, "generator"))
            table = embedding_vectors(tokenizer, generator.get_input_embeddings())
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
            return train_token_vectors(tokenizer, texts, self.vector_size)
        except ValueError as error:
            raise ValueError(
                f"No word vectors can be made of the training pairs: {error} Here `dim` is `vector_size`; or name a "
                "file of vectors by `word_vectors`, or a generator by `generator`."
            ) from error

    def add_pairs(self, pairs: Pairs, data: DataArguments) -> Pairs:
        """`pairs`, its training split followed by those of `extra_datasets`.

        Queries of the watched splits are taken out of the training pairs.
        """
        if not self.extra_datasets:
            return pairs
        if data.streaming:
            raise ValueError("`extra_datasets` are joined with a training split that is loaded. Leave out `streaming`.")
        paths = [expand_path(path, "extra_datasets") for path in self.extra_datasets]
        limits = data.limits()
        parts = [pairs["train"], *(load_pairs(path, splits=["train"], limits=limits)["train"] for path in paths)]
        joined = concatenate_datasets([part.select_columns(["query", "response"]) for part in parts])
        watched = {split: pairs[split] for split in dict.fromkeys((data.eval_split, data.test_split))}
        return load_pairs(DatasetDict({"train": joined, **watched}), on_shared="drop", on_bad=data.on_bad)


@dataclass(frozen=True)
class DiscriminatorSetup:
    """What the recipe hands to its trainer, and to `finish_matching`.

    Attributes:
        model: the discriminator to train.
        tokenizer: its tokenizer.
        train, validation, test: encoded pairs.
        checkpoint: to resume from, `None` for a new run.
        about: model, data sets, split and seed, for the files.
    """

    model: PairDiscriminator
    tokenizer: PreTrainedTokenizerBase
    train: Dataset | IterableDataset
    validation: Dataset
    test: Dataset
    checkpoint: str | None
    about: dict[str, Any]


def set_up_discriminator(
    data: DataArguments, tokens: TokenizerArguments, discriminator: DiscriminatorArguments, args
) -> DiscriminatorSetup:
    """Loads and encodes the pairs, and loads or makes the discriminator, on every process; prints what they are.

    Args:
        args (`MatchingConfig`): of the trainer.

    Raises:
        ValueError, OSError, ImportError: for what is missing or does not fit together.
    """
    set_seed(args.seed)
    name_language(args, data)
    checkpoint = checkpoint_to_resume(args)
    splits = ("train", data.eval_split, data.test_split)
    with PartialState().main_process_first():
        pairs = discriminator.add_pairs(data.load(*splits), data)
        model, tokenizer = discriminator.load_or_make(tokens, pairs, data.language)
        train, validation, test = (data.encode(pairs[split], tokenizer) for split in splits)
    if PartialState().is_main_process:
        print(pairs.report)
        learned = model.num_parameters(only_trainable=True)
        print(f'{type(model).__name__} "{model.config.body}": {learned:,} parameters, {len(tokenizer):,} tokens')
    about = {"model": Path(args.output_dir).name, "dataset": data.dataset, "split": data.test_split, "seed": args.seed}
    if discriminator.extra_datasets:
        about["extra_datasets"] = ", ".join(discriminator.extra_datasets)
    return DiscriminatorSetup(model, tokenizer, train, validation, test, checkpoint, about)


def _scaled(vectors: Tensor, size: float) -> Tensor:
    """The vectors with a root mean square of `size`, which learned embeddings begin with; rows of zeros stay."""
    found = vectors[(vectors != 0).any(dim=1)]
    return vectors * (size / found.square().mean().sqrt())


def load_discriminator(path: str) -> tuple[PairDiscriminator, PreTrainedTokenizerBase]:
    """A discriminator and its tokenizer.

    Args:
        path: a folder, an id on the Hub, or an id with a folder of that repository: `owner/name/discriminator`.

    Raises:
        OSError: if there is none.
        ValueError: for another kind of model.
    """
    place, inside = split_place(path)
    model = AutoModel.from_pretrained(place, subfolder=inside)
    if not isinstance(model, PairDiscriminator):
        raise ValueError(f'"{path}" holds a {type(model).__name__}, and no discriminator.')
    tokenizer = AutoTokenizer.from_pretrained(place, subfolder=inside)
    check_tokenizer(tokenizer)
    return model, tokenizer
