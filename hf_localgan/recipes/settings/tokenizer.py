"""Settings of the tokenizer: one that exists, or how to train one."""

from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version
from typing import Any, ClassVar

from transformers import PreTrainedTokenizerBase

from hf_localgan.data.beside_pairs import place_beside
from hf_localgan.data.encoding import check_tokenizer
from hf_localgan.data.pairs import Pairs
from hf_localgan.data.tokenization import RULES, train_tokenizer
from hf_localgan.models.scorers import load_tokenizer
from hf_localgan.recipes.parser import expand_path
from hf_localgan.recipes.settings.data import Unused, field_names, option
from hf_localgan.trainers.base.bounds import COUNT, NUMBER_OR_NONE, check_bounds


@dataclass
class TokenizerArguments:
    """A tokenizer that exists, or how to train one."""

    _argument_group_name: ClassVar[str] = "tokenizer"

    tokenizer: str | None = option(None, "Folder or Hub id of a tokenizer. By default one is trained on the pairs.")
    tokenizer_kind: str = option("word", "Tokenizer to train: `word` (whole words) or `bpe` (pieces of words).")
    vocab_size: int = option(
        40_000, "Largest number of tokens to learn, special ones included. LocalGAN's paper: 40,000."
    )
    min_frequency: int = option(1, "Leave words out of the vocabulary that occur less often in the training split.")
    lowercase: bool = option(False, "Turn all text into lower case.")

    def __post_init__(self):
        check_bounds(self, {"vocab_size": COUNT, "min_frequency": NUMBER_OR_NONE})

    def path(self) -> str | None:
        """Folder or Hub id of a tokenizer that exists."""
        return None if self.tokenizer is None else expand_path(self.tokenizer, "tokenizer")

    def unused(self) -> Iterator[Unused]:
        """The settings of a new tokenizer, where there is one."""
        if self.tokenizer is not None:
            yield Unused("tokenizer", self.tokenizer, field_names(TokenizerArguments) - {"tokenizer"})

    def make(self, pairs: Pairs, language: str) -> PreTrainedTokenizerBase:
        """Loads the tokenizer, or trains it on the training split, once: it is kept beside pairs that lie in a cache.

        Raises:
            ValueError, OSError: for a tokenizer that is missing or unsuitable, and for settings that are not accepted.
        """
        if self.tokenizer is not None:
            tokenizer = load_tokenizer(expand_path(self.tokenizer, "tokenizer"))
            check_tokenizer(tokenizer)
            return tokenizer
        settings: dict[str, Any] = {  # `train_tokenizer` checks them
            "kind": self.tokenizer_kind, "vocab_size": self.vocab_size, "language": language,
            "lowercase": self.lowercase, "min_frequency": self.min_frequency,
        }  # fmt: skip
        versions = [RULES, version("tokenizers"), _jieba_version() if language == "zh-words" else None]
        kept = place_beside(pairs["train"], "tokenizer.json", *versions, settings)
        return train_tokenizer(pairs["train"], **settings, kept=kept)


def _jieba_version() -> str | None:
    with suppress(PackageNotFoundError):  # `train_tokenizer` says what to install
        return version("jieba")
    return None
