"""The neighbours of tokens that the settings of a training name, and the counts of its labels."""

import csv
import os
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet
import torch
from accelerate.utils import broadcast_object_list
from transformers import PreTrainedTokenizerBase

from hf_localgan.data.word_vectors import SPACE_MARKS, initialize_embeddings, load_word_vectors, train_word_vectors
from hf_localgan.models.loading import load_generator
from hf_localgan.payoff.neighbours import Neighbours, translation_vectors

SIMILARITIES = ("context", "translation", "prefix")
VECTOR_SIZE = 100
WINDOW = 3  # tokens to each side; with few, tokens are alike that can take each other's place
COLUMNS = ("token", "neighbour", "similarity")
LEAST_COSINE = 0.2  # below it vectors of so few dimensions agree by chance


def label_counts(rows: Iterable[Mapping[str, Any]], size: int) -> np.ndarray:
    """How often each token id stands in the labels of the rows, int64, shape `(size,)` or longer.

    Args:
        rows: training rows with `labels`.
        size: least length of the result.
    """
    counts = np.zeros(size, np.int64)
    for labels in column_of(rows, "labels"):
        ids = np.asarray(labels, dtype=np.int64)
        found = np.bincount(ids[ids >= 0], minlength=size)
        if len(found) > len(counts):
            counts = np.pad(counts, (0, len(found) - len(counts)))
        counts[: len(found)] += found
    return counts


def column_of(rows: Iterable[Mapping[str, Any]], name: str) -> Iterable[Sequence[int]]:
    """One column of the rows, read alone where the data set can do that."""
    if name in (getattr(rows, "column_names", None) or ()) and hasattr(rows, "__len__"):
        return rows[name]  # type: ignore[index]  # a `datasets.Dataset`
    return (row[name] for row in rows)


def similar_tokens(
    similarity: str,
    number: int,
    tokenizer: PreTrainedTokenizerBase,
    tokens: Sequence[int],
    rows: Iterable[Mapping[str, Any]],
) -> Neighbours:
    """The nearest tokens of each token; on all processes those that the main process found.

    Args:
        similarity: `context`: by the label tokens that stand beside them, `train_word_vectors`; `translation`: by the
            source tokens that they are seen with, `translation_vectors`; `prefix`: by how their texts begin,
            `Neighbours.of_prefixes`; or a path: a table with the columns `token`, `neighbour`, `similarity` (CSV, TSV,
            parquet), a file of word vectors, or the folder of a model with the same tokenizer, whose embeddings are the
            vectors. Vectors are compared by their cosines.
        number: of neighbours of each token.
        tokenizer: the model's.
        tokens: ids that may be drawn.
        rows: training rows; `translation` and `context` read them.

    Raises:
        ValueError: for a path that is not there or does not fit, and for rows without token ids.
    """
    texts = tokenizer.convert_ids_to_tokens(list(tokens))
    if similarity == "prefix":
        found = Neighbours.of_prefixes(tokens, texts, number)
    elif similarity in SIMILARITIES:
        vectors = _vectors_of_rows(similarity, tokens, rows)
        found = Neighbours.of_vectors(tokens, vectors, number, LEAST_COSINE)
    else:
        path = Path(os.path.expandvars(similarity)).expanduser()
        if not path.exists():
            raise ValueError(
                f"`similarity` must be one of {', '.join(SIMILARITIES)}, or a file or folder that is there, got "
                f'"{similarity}".'
            )
        table = None if path.is_dir() else _read_table(path)
        if table is not None:
            found = _neighbours_of_table(path, table, tokenizer, set(tokens), number)
        else:
            found = Neighbours.of_vectors(tokens, _vectors_of_path(path, tokenizer, tokens), number, LEAST_COSINE)
    return broadcast_object_list([found])[0]


def _vectors_of_rows(similarity: str, tokens: Sequence[int], rows: Iterable[Mapping[str, Any]]) -> np.ndarray:
    labels = [[token for token in row if token >= 0] for row in column_of(rows, "labels")]
    if not labels:
        return np.zeros((len(tokens), 1), np.float32)
    if similarity == "translation":
        first = next(iter(rows))
        if "input_ids" not in first:
            raise ValueError(
                "`similarity: translation` needs sources of tokens, `input_ids`, and the rows have "
                f"{', '.join(f'`{name}`' for name in first)}. Use `context` or `prefix`."
            )
        return translation_vectors(labels, column_of(rows, "input_ids"), tokens, VECTOR_SIZE)
    different = {token for row in labels for token in row}
    size = max(1, min(VECTOR_SIZE, len(different) // 2))
    words = train_word_vectors([list(map(str, row)) for row in labels], size, window=WINDOW, min_count=1)
    vectors = np.zeros((len(tokens), words.dim), np.float32)
    for row, token in enumerate(tokens):
        if str(token) in words:
            vectors[row] = words[str(token)]
    return vectors


def _vectors_of_path(path: Path, tokenizer: PreTrainedTokenizerBase, tokens: Sequence[int]) -> np.ndarray:
    if path.is_dir():
        model, other = load_generator(path)
        if other.get_vocab() != tokenizer.get_vocab():
            raise ValueError(
                f'The model in "{path}" has another vocabulary ({len(other):,} tokens) than this training '
                f"({len(tokenizer):,} tokens), so its embeddings are of other tokens. Name one with the same tokenizer."
            )
        layer = model.get_output_embeddings() or model.get_input_embeddings()
        weight = layer.weight
        assert isinstance(weight, torch.Tensor)
        return weight.detach().float().cpu().numpy()[list(tokens)]
    words = load_word_vectors(path)
    table = torch.zeros(len(tokenizer), words.dim)
    coverage = initialize_embeddings(table, tokenizer, words)
    if not coverage.found:
        raise ValueError(f'No token of the vocabulary has a vector in "{path}". Name vectors of the target language.')
    return table.numpy()[list(tokens)]


def _read_table(path: Path) -> list[tuple[str, str, float]] | None:
    """The rows of a table of neighbours; `None` for a file without its columns."""
    if path.suffix == ".parquet":
        if not set(COLUMNS) <= set(pyarrow.parquet.read_schema(path).names):
            return None
        columns = pyarrow.parquet.read_table(path, columns=list(COLUMNS)).to_pydict()
        return list(zip(*(columns[name] for name in COLUMNS), strict=True))
    if path.suffix not in (".tsv", ".csv"):
        return None
    with path.open(encoding="utf-8", newline="") as file:
        if path.suffix == ".tsv":
            reader = csv.DictReader(file, delimiter="\t", quoting=csv.QUOTE_NONE)
        else:
            reader = csv.DictReader(file)
        if not set(COLUMNS) <= set(reader.fieldnames or ()):
            return None
        rows = []
        for number, row in enumerate(reader, 2):
            try:
                rows.append((row["token"], row["neighbour"], float(row["similarity"])))
            except (TypeError, ValueError) as error:
                raise ValueError(
                    f'Line {number} of "{path}" must hold a token, a neighbour and a number, got {row}.'
                ) from error
    return rows


def _neighbours_of_table(
    path: Path, rows: list[tuple[str, str, float]], tokenizer: PreTrainedTokenizerBase, tokens: set[int], number: int
) -> Neighbours:
    vocabulary = tokenizer.get_vocab()

    def id_of(text: str) -> int | None:
        forms = (text, *(mark + text for mark in SPACE_MARKS))
        return next((vocabulary[form] for form in forms if vocabulary.get(form) in tokens), None)

    table: dict[int, dict[int, float]] = {}
    for token, neighbour, similarity in rows:
        own, other = id_of(token), id_of(neighbour)
        if own is None or other is None or own == other:  # words of several tokens cannot take each other's place
            continue
        table.setdefault(own, {})[other] = similarity
    if not table:
        raise ValueError(
            f'No row of "{path}" has two tokens of the vocabulary. Write tokens as the vocabulary has them, such as '
            f"{', '.join(repr(text) for text in list(vocabulary)[-3:])}; words are looked up with the space mark, too."
        )
    return Neighbours.of_table(table, number)
