"""Random numbers that depend on a key and a position alone: the same in any process, worker, order or batch."""

import numpy as np

# Weyl increment and multipliers of SplitMix64 (Steele, Lea & Flood 2014), whose output function is the hash here.
_GOLDEN = np.uint64(0x9E3779B97F4A7C15)
_FIRST = np.uint64(0xBF58476D1CE4E5B9)
_SECOND = np.uint64(0x94D049BB133111EB)
_S27, _S30, _S31 = np.uint64(27), np.uint64(30), np.uint64(31)


def mix(values: np.ndarray) -> np.ndarray:
    """A bijection of 64-bit numbers under which every input bit changes half of the output bits.

    Args:
        values: uint64, any shape. Not changed.

    Returns:
        uint64, the same shape.
    """
    values = values ^ (values >> _S30)
    values *= _FIRST
    values ^= values >> _S27
    values *= _SECOND
    values ^= values >> _S31
    return values


def derive_keys(keys: np.ndarray, stream: int | np.ndarray) -> np.ndarray:
    """New keys for another purpose: what is drawn with them is independent of what is drawn with `keys`.

    Args:
        keys: uint64, any shape.
        stream: number of the purpose, or one for each key (broadcast).

    Returns:
        uint64, the broadcast shape.
    """
    stream = np.asarray(stream).astype(np.uint64)
    return mix(mix(np.atleast_1d(keys)) + (np.atleast_1d(stream) + np.uint64(1)) * _GOLDEN).reshape(
        np.broadcast_shapes(np.shape(keys), stream.shape)
    )


def random_bits(keys: np.ndarray, positions: np.ndarray) -> np.ndarray:
    """The number at each position of a key's sequence: SplitMix64 started at the key.

    Args:
        keys: uint64 from `derive_keys`; broadcast against `positions`.
        positions: integers from 0.

    Returns:
        uint64, the broadcast shape.
    """
    return mix((positions.astype(np.uint64) + np.uint64(1)) * _GOLDEN + keys)


def uniforms(keys: np.ndarray, positions: np.ndarray) -> np.ndarray:
    """Uniform numbers of [0, 1) with 53 random bits, by key and position.

    Args:
        keys: uint64 from `derive_keys`; broadcast against `positions`.
        positions: integers from 0.

    Returns:
        float64, the broadcast shape.
    """
    return (random_bits(keys, positions) >> np.uint64(11)) * 2.0**-53


def hash_rows(values: np.ndarray, lengths: np.ndarray) -> np.ndarray:
    """One hash for each row of a ragged array; it depends on the row's values, their order and number.

    Args:
        values: all rows one after another, integers, shape `(total,)`.
        lengths: lengths of the rows, shape `(batch,)`; the sum is `total`.

    Returns:
        uint64, shape `(batch,)`.
    """
    ends = np.cumsum(lengths)
    starts = ends - lengths
    position = np.arange(len(values)) - np.repeat(starts, lengths)
    # A product of position and value would let two equal swaps cancel; a mix of their sum after a first mix does not.
    terms = mix(mix(values.astype(np.uint64)) + (position.astype(np.uint64) + np.uint64(1)) * _GOLDEN)
    sums = np.concatenate([np.zeros(1, np.uint64), np.cumsum(terms, dtype=np.uint64)])  # modulo 2 ** 64
    return mix(sums[ends] - sums[starts] + (lengths.astype(np.uint64) + np.uint64(1)) * _GOLDEN)
