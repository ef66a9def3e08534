"""Matching in two processes under torchrun equals one that accumulates the same batches. One launch."""

import pytest
import torch

SCRIPT = "matching_two_processes.py"  # of the fixtures `one` and `two`


def test_parameters_are_equal_on_both_and_to_one_process(one, two):
    alone, first, second = (torch.tensor(measured["plain"]["parameters"]) for measured in (one, *two))
    assert torch.equal(first, second)
    torch.testing.assert_close(first, alone, atol=1e-5, rtol=0)


def test_losses_and_evaluations_are_equal_to_one_process(one, two):
    assert two[0]["plain"]["log"] == two[1]["plain"]["log"]
    for key, values in one["plain"]["log"].items():
        assert len(values) == (2 if key.startswith("eval") else 8), key
        assert two[0]["plain"]["log"][key] == pytest.approx(values, abs=1e-5), key


def test_each_row_is_scored_once_and_in_order(one, two):
    alone, first, second = (torch.tensor(measured["plain"]["scores"]) for measured in (one, *two))
    assert alone.shape == (7, 3) and torch.equal(first, second)
    torch.testing.assert_close(first, alone, atol=1e-5, rtol=0)


def test_a_resumed_run_goes_on_exactly(one, two):
    for measured in (one, *two):
        assert measured["resumed"]["steps"] == measured["dropout"]["steps"] == 8
        assert measured["resumed"]["parameters"] == measured["dropout"]["parameters"]
