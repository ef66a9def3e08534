"""Keys by which equal texts are found in data sets of any size: 16 bytes a text, whatever its length.

A key is a BLAKE2b hash of 128 bits. Some two of `n` different texts share one with a probability below
`n * n / 2 ** 129`, which is 2e-24 for 36 million: a key stands for its text without a second look.
"""

import hashlib
from collections.abc import Callable, Iterable, Iterator

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from hf_localgan.text import equality_key

KEY_BYTES = 16
KEY = pa.binary(KEY_BYTES)
BATCH = 10_000  # texts that are strings of Python at a time


def text_keys(texts: pa.Array | pa.ChunkedArray, form: Callable[[str], str] = equality_key) -> pa.ChunkedArray:
    """The key of each text; null for null.

    Args:
        texts: strings, shape `(n,)`.
        form: what of a text counts; texts of equal form have equal keys.
    """

    def keys(batch: pa.Array) -> pa.Array:
        coded = batch.dictionary_encode()  # each distinct text is folded once
        contents = (None if text is None else form(text).encode() for text in coded.dictionary.to_pylist())
        return _hashes(contents).take(coded.indices)

    return pa.chunked_array(map(keys, _batches(texts)), KEY)


def joined_keys(first: pa.ChunkedArray, second: pa.ChunkedArray) -> pa.ChunkedArray:
    """A key for each pair of keys; null where either is null."""
    pairs = zip(_batches(first), _batches(second), strict=True)
    parts = (zip(a.to_pylist(), b.to_pylist(), strict=True) for a, b in pairs)
    return pa.chunked_array(
        (_hashes(None if a is None or b is None else a + b for a, b in part) for part in parts), KEY
    )


def among(keys: pa.ChunkedArray, others: pa.ChunkedArray) -> np.ndarray:
    """Which keys occur among others; a null never does. Boolean, shape of `keys`."""
    if len(others) > len(keys):  # so Arrow makes its table of hashes of the smaller side
        others = others.filter(pc.is_in(others, value_set=keys))
    return pc.is_in(keys, value_set=others.drop_null(), skip_nulls=True).to_numpy()


def _batches(array: pa.Array | pa.ChunkedArray) -> Iterator[pa.Array]:
    """The array in pieces of `BATCH` values."""
    for start in range(0, len(array), BATCH):
        piece = array.slice(start, BATCH)
        yield piece.combine_chunks() if isinstance(piece, pa.ChunkedArray) else piece


def _hashes(contents: Iterable[bytes | None]) -> pa.Array:
    """The key of each content; null for `None`."""
    keys = [None if content is None else hashlib.blake2b(content, digest_size=KEY_BYTES).digest()
            for content in contents]  # fmt: skip
    return pa.array(keys, KEY)
