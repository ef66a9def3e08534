"""Checks that the parts of an adversarial training read the same tokens."""

import hashlib
import json
from typing import Protocol

import tokenizers
import transformers
from datasets.fingerprint import Hasher
from transformers import PreTrainedTokenizerBase, PreTrainedTokenizerFast

from hf_localgan.data.tokenization import forget_last_call


class VocabularyConfig(Protocol):
    """The fields of a part's configuration that describe its tokens."""

    vocab_size: int | None
    vocabulary: str | None


def vocabulary_fingerprint(tokenizer: PreTrainedTokenizerBase) -> str:
    """16 hexadecimal digits that two tokenizers share if they give the same ids to the same tokens."""
    tokens = json.dumps(sorted(tokenizer.get_vocab().items()), ensure_ascii=True).encode()
    return hashlib.sha256(tokens).hexdigest()[:16]


def tokenizer_fingerprint(tokenizer: PreTrainedTokenizerBase) -> str:
    """64 hexadecimal digits that two tokenizers share only if they make the same ids of the same texts.

    Where a tokenizer lies changes nothing, and neither does what it was last called with, which is taken back.
    """
    of_class = type(tokenizer)
    if not isinstance(tokenizer, PreTrainedTokenizerFast) or not of_class.__module__.startswith("transformers."):
        return Hasher.hash(tokenizer)  # its code counts, too
    forget_last_call(tokenizer)
    places = ("name_or_path", "deprecation_warnings", "verbose")
    attributes = {
        name: value
        for name, value in vars(tokenizer).items()
        if isinstance(value, (str, int, float, type(None))) and name not in places
    }
    content = [
        tokenizers.__version__, transformers.__version__, of_class.__qualname__,
        tokenizer.backend_tokenizer.to_str(), attributes,
        {name: str(token) for name, token in tokenizer.special_tokens_map.items()},
    ]  # fmt: skip
    return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()


def check_own_vocabulary(path: str, name: str, config: VocabularyConfig, tokenizer: PreTrainedTokenizerBase):
    """Refuses a tokenizer that lies beside a part and is not the one that the part was made with.

    Args:
        path: folder or id of the part, for the error.
        name: name of the part, for the error.
        config: configuration of the part, which knows its number of tokens; `vocabulary` may be unknown.
        tokenizer: as it was loaded from there.
    """
    known = config.vocab_size
    assert known is not None
    largest = max(tokenizer.get_vocab().values(), default=0)
    if largest >= known or config.vocabulary not in (None, vocabulary_fingerprint(tokenizer)):
        raise ValueError(
            f"The tokenizer in `{path}` ({len(tokenizer):,} tokens) is not the one that its {name} was made with "
            f"({known:,} tokens). Put the {name}'s own tokenizer there."
        )


def first_difference(own: PreTrainedTokenizerBase, other: PreTrainedTokenizerBase) -> tuple[str, str, str] | None:
    """The first token, in the order of its ids, that two tokenizers do not share.

    Returns:
        The token, then what it is to the first and to the second tokenizer, as predicates such as "has the id 7 in" and
        "is missing in"; `None` for equal vocabularies.
    """
    ours, theirs = own.get_vocab(), other.get_vocab()
    for token in sorted({**theirs, **ours}, key=lambda token: (ours.get(token, len(ours)), theirs.get(token, 0))):
        if ours.get(token) != theirs.get(token):
            here, there = (
                f"has the id {vocab[token]} in" if token in vocab else "is missing in" for vocab in (ours, theirs)
            )
            return token, here, there
    return None


def check_same_vocabulary(
    name: str, config: VocabularyConfig, generator_size: int, tokenizer: PreTrainedTokenizerBase | None
):
    """Refuses a part that was made for other tokens than the generator's.

    Args:
        name: name of the part, for errors.
        config: configuration of the part; `vocabulary`, where it is known, is a `vocabulary_fingerprint`.
        generator_size: rows of the generator's embeddings; there may be more than the tokenizer has tokens.
        tokenizer: tokenizer of the generator.

    Raises:
        ValueError: for another number of tokens or other tokens.
    """
    if config.vocab_size is None:
        raise ValueError(
            f"The {name} holds no word vectors (its `vocab_size` is `None`), so it cannot read generations. Train it "
            "on token ids, with the generator's tokenizer."
        )
    needed = generator_size if tokenizer is None else len(tokenizer)
    if not needed <= config.vocab_size <= max(generator_size, needed):
        raise ValueError(
            f"The {name} knows {config.vocab_size:,} tokens, the generator's tokenizer has {needed:,}. Train the "
            f"{name} with the generator's tokenizer."
        )
    known = getattr(config, "vocabulary", None)  # a generator keeps none
    if tokenizer is None or known is None:
        return
    fingerprint = vocabulary_fingerprint(tokenizer)
    if known != fingerprint:
        raise ValueError(
            f"The {name} was made with another tokenizer than the generator's: as many tokens, but not the same "
            f"(fingerprints {known} and {fingerprint}). Train the {name} with the generator's tokenizer."
        )
