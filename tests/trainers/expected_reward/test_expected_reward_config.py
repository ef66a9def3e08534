"""Settings of `ExpectedRewardTrainer` that are refused, and the running mean."""

import math

import pytest

from hf_localgan.trainers import MleConfig
from hf_localgan.trainers.expected_reward.config import ExpectedRewardConfig
from hf_localgan.trainers.expected_reward.trainer import ExpectedRewardTrainer, RunningMean


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"baseline": "median"}, r'`baseline` must be one of leave_one_out, mean, greedy, none, got "median"'),
        ({"num_samples": 1}, r"`baseline: leave_one_out` needs `num_samples` of at least 2, got 1.*`mean` or `greedy`"),
        ({"num_samples": 0, "baseline": "none"}, r"`num_samples` must be at least 1, got 0"),
        ({"policy_max_new_tokens": 0}, r"`policy_max_new_tokens` must be at least 1, got 0"),
        ({"temperature": -0.1}, r"`temperature` must be a number of at least 0, got -0.1"),
        ({"temperature": math.nan}, r"`temperature` must be a number of at least 0, got nan"),
        ({"mle_weight": -1.0}, r"`mle_weight` must be a number of at least 0, got -1.0"),
        ({"baseline_decay": 1.0}, r"`baseline_decay` must be in \[0, 1\), got 1.0"),
    ],
)
def test_bad_values_in_the_configuration(settings, message):
    with pytest.raises(ValueError, match=message):
        ExpectedRewardConfig("unused", **settings)


def test_arguments_of_another_trainer_an_unknown_reward_and_no_function(family):
    with pytest.raises(ValueError, match=r"`args` must be a `ExpectedRewardConfig`, got MleConfig"):
        ExpectedRewardTrainer(family("t5"), MleConfig("unused"))
    with pytest.raises(ValueError, match=r'`reward` must be one of .*bleu.*got "meteor"'):
        ExpectedRewardConfig("unused", reward="meteor")
    with pytest.raises(ValueError, match=r"`reward` must be a function of a candidate and a reference, got 3"):
        ExpectedRewardTrainer(family("t5"), ExpectedRewardConfig("unused"), reward=3)


def test_the_running_mean_by_hand():
    # decay 1/2: after 4 and 1, (1/2 * 1/2 * 4 + 1/2 * 1) / (1/4 + 1/2) = 1.5 / 0.75
    mean = RunningMean(0.5)
    assert mean.value == 0.0
    mean.add(4.0)
    assert mean.value == 4.0
    mean.add(1.0)
    assert mean.value == 2.0
