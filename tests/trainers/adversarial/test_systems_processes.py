"""Adver-REGS, AIM and DAIM in two processes under torchrun equal those in one at the same global batch."""

import pytest
import torch

SCRIPT = "systems_processes.py"  # of the fixtures `one` and `two`
STILL = ["adver-regs", "aim", "daim"]


@pytest.mark.parametrize("run", STILL)
def test_all_parts_are_equal_on_both_and_to_one_process(run, one, two):
    for part in one[run]["parts"]:
        alone, first, second = (torch.tensor(measured[run]["parts"][part]) for measured in (one, *two))
        assert torch.equal(first, second), part
        torch.testing.assert_close(first, alone, atol=1e-5, rtol=0, msg=part)


@pytest.mark.parametrize("run", STILL)
def test_lines_are_equal_on_both_and_to_one_process(run, one, two):
    assert two[0][run]["log"] == two[1][run]["log"]
    per_process = {"policy/advantage_std"}  # of each one's own samples
    for alone, line in zip(one[run]["log"], two[0][run]["log"], strict=True):
        assert set(alone) == set(line)
        for key in set(alone) - per_process:
            assert line[key] == pytest.approx(alone[key], abs=2e-4), key


def test_noise_does_not_drive_the_processes_apart_and_a_resumed_run_goes_on_exactly(one, two):
    assert two[0]["noisy"]["parts"] == two[1]["noisy"]["parts"]
    for measured in (one, *two):
        assert measured["noisy"] == measured["resumed"]
