"""Recognisers on two processes under torchrun train as on one at the same global batch. One launch."""

import pytest
import torch

SCRIPT = "speech_two_processes.py"  # of the fixtures `one` and `two`


@pytest.mark.parametrize("run", ["mle", "raml"])
def test_two_processes_are_one(run, one, two):
    alone, first, second = (torch.tensor(measured[run]["parameters"]) for measured in (one, *two))
    assert torch.equal(first, second)
    torch.testing.assert_close(first, alone, atol=1e-5, rtol=0)
    assert two[0][run]["loss"] == pytest.approx(one[run]["loss"], abs=1e-4)
