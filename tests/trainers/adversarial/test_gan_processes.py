"""Two players in two processes under torchrun equal those in one at the same global batch. One launch for all of it."""

import pytest
import torch

SCRIPT = "gan_processes.py"  # of the fixtures `one` and `two`
STILL = ["t5", "bart", "rnn_seq2seq", "gan-ael", "parts"]


@pytest.mark.parametrize("run", STILL)
@pytest.mark.parametrize("player", ["generator", "discriminator"])
def test_parameters_are_equal_on_both_and_to_one_process(run, player, one, two):
    alone, first, second = (torch.tensor(measured[run][player]) for measured in (one, *two))
    assert torch.equal(first, second)
    torch.testing.assert_close(first, alone, atol=1e-5, rtol=0)


@pytest.mark.parametrize("run", STILL)
def test_lines_are_equal_on_both_and_to_one_process(run, one, two):
    assert two[0][run]["log"] == two[1][run]["log"]
    for key, values in one[run]["log"].items():
        wanted = {"loss": 8, "eval_loss": 2, "eval_ent_4": 2, "eval_length": 2}.get(key)
        assert wanted is None or len(values) == wanted, key
        assert two[0][run]["log"][key] == pytest.approx(values, abs=2e-4), key


@pytest.mark.parametrize("player", ["generator", "discriminator"])
def test_noise_does_not_drive_the_processes_apart(player, two):
    assert two[0]["noisy"][player] == two[1]["noisy"][player]


def test_the_spread_is_measured_once_and_told(one, two):
    spreads = {measured[run]["spread"] for measured in (one, *two) for run in STILL if run != "gan-ael"}
    assert len(spreads) == 1 and spreads.pop() > 0


def test_answers_are_given_by_one_process_and_their_scores_told(one, two):
    for run in STILL:
        assert [measured[run]["measured"] for measured in (one, *two)] == [2, 2, 0]


def test_a_resumed_run_goes_on_exactly(one, two):
    for measured in (one, *two):
        whole, resumed = measured["noisy"], measured["resumed"]
        assert whole["steps"] == resumed["steps"] == 8
        for part in ("generator", "discriminator", "spread", "log"):
            assert whole[part] == resumed[part], part
