"""A vector for each token: the table that vectors of utterances are means of."""

from collections.abc import Iterable, Iterator
from itertools import islice
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor, nn
from transformers import PreTrainedTokenizerBase

from hf_localgan.data.label_frames import regular_tokens
from hf_localgan.data.word_vectors import WordVectors, initialize_embeddings, train_word_vectors


class TokenVectors(NamedTuple):
    """What `WordVectorTable.load` takes: `model.word_vectors.load(table.vectors, table.tokens)`.

    Attributes:
        vectors: float32, shape `(tokens of the model, dim)`; zeros where a token has none.
        tokens: ids that have a vector and count; special tokens and the unknown token are never among them.
        name: where the vectors are from.
    """

    vectors: Tensor
    tokens: list[int]
    name: str

    def normalized(self) -> "TokenVectors":
        """Every vector at length 1, so that no word outweighs another one in the mean of an utterance."""
        return self._replace(vectors=torch.nn.functional.normalize(self.vectors, dim=1))


def token_vectors(tokenizer: PreTrainedTokenizerBase, vectors: WordVectors) -> TokenVectors:
    """The vectors of a file or of a corpus, by token, looked up as `initialize_embeddings` does.

    Tokens without a vector do not count: they are left out of the mean of an utterance.

    Raises:
        ValueError: if no token has a vector.
    """
    table = torch.full((_size(tokenizer), vectors.dim), torch.nan)
    coverage = initialize_embeddings(table, tokenizer, vectors)
    regular = set(regular_tokens(tokenizer))
    tokens = [token for token in (~table[:, 0].isnan()).nonzero().flatten().tolist() if token in regular]
    if not tokens:
        raise ValueError(
            f"None of the tokenizer's {coverage.total:,} tokens has a vector in {vectors.name!r}. Are words and "
            "vectors of one language and case?"
        )
    return TokenVectors(table.nan_to_num(nan=0.0), tokens, vectors.name)


def embedding_vectors(tokenizer: PreTrainedTokenizerBase, embedding: nn.Embedding | Tensor) -> TokenVectors:
    """The rows of a generator's input embeddings, copied; all regular tokens count."""
    weight = embedding.weight if isinstance(embedding, nn.Embedding) else embedding
    tokens = regular_tokens(tokenizer)
    if tokens and tokens[-1] >= len(weight):
        raise ValueError(f"The embeddings have {len(weight)} rows, but the tokenizer has ids up to {tokens[-1]}.")
    return TokenVectors(weight.detach().float().cpu().clone(), tokens, "embeddings")


def train_token_vectors(
    tokenizer: PreTrainedTokenizerBase,
    texts: Iterable[str],
    dim: int = 100,
    *,
    min_count: int = 2,
    window: int = 5,
    seed: int = 0,
    at_most: bool = False,
) -> TokenVectors:
    """Vectors made from text by `train_word_vectors`, with the tokenizer's own tokens for words.

    Tokens that are rarer than `min_count` or never stand beside another one have no vector and do not count.

    Args:
        texts: texts of the training split; of which the numbers of the tokens are held in memory, 4 bytes each.
        dim, min_count, window, seed, at_most: as in `train_word_vectors`.
    """
    tokens = (tokenizer.convert_ids_to_tokens(ids) for ids in _encoded(tokenizer, texts))
    special = {tokenizer.convert_ids_to_tokens(token) for token in tokenizer.all_special_ids}
    # An unknown word keeps its place, as a neighbour without a name.
    kept = ([token if token not in special else "" for token in text] for text in tokens)
    made = train_word_vectors(kept, dim, window, min_count, seed, max_words=len(tokenizer), at_most=at_most)
    rows = {token: tokenizer.convert_tokens_to_ids(token) for token in made.words if token}
    table = torch.zeros(_size(tokenizer), made.dim)
    if rows:
        table[list(rows.values())] = torch.from_numpy(np.stack([made[token] for token in rows]))
    regular = set(regular_tokens(tokenizer))
    return TokenVectors(table, sorted(row for row in rows.values() if row in regular), made.name)


def _size(tokenizer: PreTrainedTokenizerBase) -> int:
    return max(len(tokenizer), max(tokenizer.get_vocab().values()) + 1)


def _encoded(tokenizer: PreTrainedTokenizerBase, texts: Iterable[str]) -> Iterator[list[int]]:
    remaining = iter(texts)
    while batch := list(islice(remaining, 10_000)):
        yield from tokenizer(batch, add_special_tokens=False, verbose=False).input_ids
