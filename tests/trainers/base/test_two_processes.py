"""Two processes under torchrun equal one at the same global batch. One launch for all of it."""

import pytest
import torch

SCRIPT = "two_processes.py"  # of the fixtures `one` and `two`
TRAINED = ["t5 random True", "t5 group_by_length False", "rnn_seq2seq random True"]


@pytest.mark.parametrize("run", TRAINED)
def test_parameters_are_equal_on_both_and_to_one_process(run, one, two):
    alone, first, second = (torch.tensor(measured[run]["parameters"]) for measured in (one, *two))
    assert torch.equal(first, second)
    torch.testing.assert_close(first, alone, atol=1e-6, rtol=0)


@pytest.mark.parametrize("run", TRAINED)
def test_logged_losses_and_metrics_are_equal_to_one_process(run, one, two):
    assert two[0][run]["loss"] == two[1][run]["loss"] == pytest.approx(one[run]["loss"], abs=1e-5)
    assert len(one[run]["eval"]) == 2
    for alone, first, second in zip(one[run]["eval"], *(measured[run]["eval"] for measured in two), strict=True):
        assert first == second == pytest.approx(alone, abs=1e-6)
        assert alone[3] == first[3] == 7  # examples in `compute_metrics`: none twice


def test_generation_in_evaluation_counts_each_example_once(one, two):
    assert two[0]["generate"]["examples"] == two[1]["generate"]["examples"] == one["generate"]["examples"] == 7
    assert two[0]["generate"]["loss"] == pytest.approx(one["generate"]["loss"], abs=1e-6)


@pytest.mark.parametrize("run", TRAINED)
def test_named_terms_are_averaged_over_processes_and_logged_by_all(run, one, two):
    # Process r records the mean of [0, 2 r] = r at each accumulated batch: 0 alone, (0 + 1) / 2 on two.
    assert set(one[run]["terms"]) == {0.0}
    assert set(two[0][run]["terms"]) == set(two[1][run]["terms"]) == {0.5}
    assert len(two[0][run]["terms"]) == len(two[0][run]["loss"]) == 18


@pytest.mark.parametrize("run", TRAINED)
def test_the_sample_table_is_written_once_and_is_the_same(run, one, two):
    rows = two[0][run]["samples"]
    assert [row["step"] for row in rows] == [9, 9, 18, 18]
    assert rows == one[run]["samples"]


@pytest.mark.parametrize("sampling", ["random", "group_by_length"])
def test_resuming_in_the_second_epoch_is_exact_on_two_processes(sampling, one, two):
    for measured in (one, *two):
        assert measured[f"resume {sampling}"] == {"steps": 18, "difference": 0.0}
