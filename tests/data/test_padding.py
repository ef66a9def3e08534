"""Rows of token ids as one tensor."""

import numpy as np
import torch

from hf_localgan.data.padding import pad_columns, pad_ids


def test_rows_are_padded_behind_to_the_longest():
    padded = pad_ids([[1, 2, 3], [], np.array([4])])
    assert padded.dtype == torch.int64
    assert padded.tolist() == [[1, 2, 3], [-100, -100, -100], [4, -100, -100]]


def test_there_is_at_least_one_place():
    assert pad_ids([[], []]).tolist() == [[-100], [-100]]
    assert pad_ids([]).shape == (0, 1)


def test_masks_are_padded_with_0():
    found = pad_columns({"input_ids": [[1], [2, 3]], "attention_mask": [[1], [1, 1]]})
    assert found["input_ids"].tolist() == [[1, -100], [2, 3]] and found["attention_mask"].tolist() == [[1, 0], [1, 1]]
