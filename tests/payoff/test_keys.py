"""Keyed random numbers: known values, bijections, independence of neighbours, uniformity, hashes of rows."""

import numpy as np
from scipy import stats

from hf_localgan.payoff.keys import derive_keys, hash_rows, mix, random_bits, uniforms

ALPHA = 1e-4  # of every statistical test here, on fixed keys


def test_the_sequence_of_a_key_is_splitmix64():
    # The published first outputs of SplitMix64 from the state 1234567.
    expected = [6457827717110365317, 3203168211198807973, 9817491932198370423, 4593380528125082431]
    assert random_bits(np.array([1234567], dtype=np.uint64), np.arange(4)).tolist() == expected


def test_mix_leaves_its_argument_alone_and_maps_different_numbers_apart():
    values = np.arange(1_000, dtype=np.uint64)
    assert len(np.unique(mix(values))) == 1_000
    assert values.tolist() == list(range(1_000))


def test_one_input_bit_changes_half_of_the_output_bits():
    keys = np.arange(200, dtype=np.uint64)
    for bit in range(0, 64, 7):
        changed = derive_keys(keys, 0) ^ derive_keys(keys ^ np.uint64(1 << bit), 0)
        bits = np.unpackbits(changed.view(np.uint8)).sum()  # binomial: 12,800 bits of probability 1/2
        assert stats.binomtest(int(bits), 12_800).pvalue > ALPHA


def test_successive_keys_and_positions_give_uniform_independent_numbers():
    keys = derive_keys(np.arange(400, dtype=np.uint64), 3)
    table = uniforms(keys[:, None], np.arange(50))
    assert table.shape == (400, 50) and table.min() >= 0 and table.max() < 1
    assert stats.kstest(table.ravel(), "uniform").pvalue > ALPHA
    for first, second in ((table[:-1], table[1:]), (table[:, :-1], table[:, 1:])):
        cells = np.histogram2d(first.ravel(), second.ravel(), bins=8, range=[[0, 1], [0, 1]])[0]
        assert stats.chisquare(cells.ravel()).pvalue > ALPHA


def test_streams_of_one_key_are_independent():
    keys = np.arange(20_000, dtype=np.uint64)
    numbers = [uniforms(derive_keys(keys, stream), np.array([0])) for stream in (0, 1)]
    cells = np.histogram2d(*numbers, bins=8, range=[[0, 1], [0, 1]])[0]
    assert stats.chisquare(cells.ravel()).pvalue > ALPHA


def test_a_stream_for_each_key_equals_one_call_for_each():
    keys = np.array([5, 5, 9], dtype=np.uint64)
    together = derive_keys(keys, np.array([0, 1, 7]))
    alone = [derive_keys(keys[row : row + 1], stream)[0] for row, stream in enumerate((0, 1, 7))]
    assert together.tolist() == alone and len(set(alone)) == 3
    assert derive_keys(keys[:, None], np.arange(4)).shape == (3, 4)


def rows_hash(*rows):
    return hash_rows(np.array(sum(rows, []), dtype=np.int64), np.array([len(row) for row in rows])).tolist()


def test_the_hash_of_a_row_does_not_depend_on_its_batch():
    rows = [[1, 2, 3], [], [4], [1, 2, 3], [0, 0]]
    together = rows_hash(*rows)
    assert together == [rows_hash(row)[0] for row in rows]
    assert together == list(reversed(rows_hash(*reversed(rows))))
    assert together[0] == together[3]


def test_order_number_and_values_of_a_row_change_its_hash():
    rows = [[], [0], [0, 0], [1], [1, 2], [2, 1], [1, 2, 0], [0, 1, 2], [1, 1, 2, 2], [1, 2, 1, 2], [2, 2, 1, 1], [3]]
    assert len(set(rows_hash(*rows))) == len(rows)
