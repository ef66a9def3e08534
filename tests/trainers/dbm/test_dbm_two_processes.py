"""`DbmTrainer` on two processes under torchrun: one launch."""

import pytest
import torch

SCRIPT = "dbm_two_processes.py"  # of the fixtures `one` and `two`
RUNS = ["dbm", "rbm", "pair", "stream"]


@pytest.mark.parametrize("run", RUNS)
def test_parameters_are_equal_on_both_after_every_update(run, two):
    first, second = (torch.tensor(measured[run]["parameters"]) for measured in two)
    assert torch.equal(first, second) and len(first) == 12
    assert (first[1:] != first[:-1]).any(dim=1).all()


@pytest.mark.parametrize("run", RUNS)
def test_an_update_descends_the_mean_gradient_of_both_and_of_all_accumulated_batches(run, two):
    # Batches of 2 + 2 pairs, two to an update, but for the last of an epoch: of 41 rows, the last batch is filled up.
    own = torch.tensor([measured[run]["own"] for measured in two])  # (process, batch, parameter)
    averaged = torch.tensor(two[0][run]["gradients"])
    assert not torch.equal(own[0], own[1])
    for update in range(5):
        expected = own[:, 2 * update : 2 * update + 2].mean(dim=(0, 1))
        torch.testing.assert_close(averaged[update], expected, atol=1e-6, rtol=1e-5)
    assert len(averaged) == 12 and averaged.abs().amax(dim=1).min() > 1e-4


@pytest.mark.parametrize("run", ["dbm", "rbm", "stream"])
def test_each_process_has_chains_of_its_own(run, two):
    first, second = (torch.tensor(measured[run]["chains"]) for measured in two)
    assert len(first) == len(second) == 5
    assert not torch.equal(first, second)
    assert two[0][run]["noise"] != two[1][run]["noise"]  # or chains that meet would stay together
    assert two[0][run]["files"] == ["dbm_chains_0.safetensors", "dbm_chains_1.safetensors"]


def test_scalers_are_equal_on_both_and_to_one_process(one, two):
    for run in RUNS:
        assert two[0][run]["scalers"] == two[1][run]["scalers"] == one[run]["scalers"]


@pytest.mark.parametrize("run", RUNS)
def test_both_log_the_same(run, two):
    assert two[0][run]["log"] == two[1][run]["log"] and len(two[0][run]["log"]) == 12


def test_a_resumed_run_goes_on_exactly(one, two):
    for measured in (one, *two):
        whole, resumed = measured["dbm"], measured["resumed"]
        assert resumed["parameters"] == whole["parameters"][8:] and resumed["chains"] == whole["chains"]
        assert resumed["log"] == whole["log"]


def test_evaluation_does_not_depend_on_the_number_of_processes(one, two):
    assert two[0]["score"]["metrics"] == two[1]["score"]["metrics"]
    assert two[0]["score"]["metrics"] == pytest.approx(one["score"]["metrics"], abs=2e-6)


def test_the_log_likelihood_is_estimated_by_the_chains_of_both(one, two):
    for measured in (one, *two):
        value, error, pairs = measured["score"]["likelihood"]
        assert pairs == 22 and abs(value - measured["score"]["exact"]) < 5 * error + 1e-4 and error < 0.5
    assert two[0]["score"]["likelihood"] == two[1]["score"]["likelihood"] != one["score"]["likelihood"]


def test_both_notice_a_divergence_and_keep_the_last_checkpoint(one, two):
    # Updates 9 on are bad. One process looks at every loss, two at log lines and before a checkpoint.
    assert one["diverged"] == [8, "checkpoint-4"] and two[0]["diverged"] == two[1]["diverged"] == [8, "checkpoint-4"]
