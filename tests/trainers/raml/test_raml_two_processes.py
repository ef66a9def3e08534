"""RAML on two processes under torchrun draws, trains and logs as on one at the same global batch. One launch."""

import pytest
import torch

SCRIPT = "raml_two_processes.py"  # of the fixtures `one` and `two`
SCALED = ["edit", "weighted", "similar", "unigram", "stream"]


@pytest.mark.parametrize("run", SCALED)
def test_each_update_sees_the_same_draws(run, one, two):
    alone, first, second = (measured[run]["seen"] for measured in (one, *two))
    assert len(alone) == (5 if run == "stream" else 12) and alone.keys() == first.keys() == second.keys()
    for step, labels in alone.items():
        assert sorted(first[step] + second[step]) == sorted(labels)
        assert len(first[step]) == len(second[step])


@pytest.mark.parametrize("run", SCALED)
def test_parameters_are_equal_on_both_and_to_one_process(run, one, two):
    alone, first, second = (torch.tensor(measured[run]["parameters"]) for measured in (one, *two))
    assert torch.equal(first, second)
    torch.testing.assert_close(first, alone, atol=1e-5, rtol=0)


@pytest.mark.parametrize("run", SCALED)
def test_losses_and_statistics_are_equal_to_one_process(run, one, two):
    assert two[0][run]["log"] == two[1][run]["log"]
    for key, values in one[run]["log"].items():
        assert two[0][run]["log"][key] == pytest.approx(values, abs=1e-5), key
    assert max(one[run]["log"]["raml/edit_rate"]) > 0
    assert ("raml/effective_sample_size" in one[run]["log"]) == (run == "weighted")


def test_the_schedule_of_a_stream_counts_updates_not_the_batches_of_the_process_that_loads(two):
    # (1 - cos(pi k / 5)) / 2 of 1.5 for k = 0 .. 4.
    expected = [0.0, 0.14324, 0.51824, 0.98176, 1.35676]
    assert two[1]["stream"]["log"]["raml/temperature"] == pytest.approx(expected, abs=1e-5)


def test_a_resumed_stream_goes_on_exactly(one, two):
    for measured in (one, *two):
        whole, resumed = measured["stream"], measured["stream resumed"]
        assert resumed["parameters"] == whole["parameters"] and resumed["log"] == whole["log"]
        assert resumed["seen"] == {step: whole["seen"][step] for step in ("3", "4")}


def test_without_averaging_over_processes_each_divides_by_its_own_labels(one, two):
    # The gradient is then a mean of means: near that of one process, and not the same.
    alone, first, second = (torch.tensor(measured["local scale"]["parameters"]) for measured in (one, *two))
    assert torch.equal(first, second)
    assert 1e-5 < (first - alone).abs().max() < 0.2
