"""Trainers and their configurations."""

from hf_localgan.trainers.base import TokenLossTrainer
from hf_localgan.trainers.expected_reward_config import ExpectedRewardConfig
from hf_localgan.trainers.expected_reward_trainer import ExpectedRewardTrainer
from hf_localgan.trainers.mle_config import MleConfig
from hf_localgan.trainers.mle_trainer import MleTrainer
from hf_localgan.trainers.raml_config import RamlConfig, make_payoff
from hf_localgan.trainers.raml_trainer import RamlTrainer
from hf_localgan.trainers.samples import SampleTableCallback, read_samples, sample_table

__all__ = [
    "ExpectedRewardConfig",
    "ExpectedRewardTrainer",
    "MleConfig",
    "MleTrainer",
    "RamlConfig",
    "RamlTrainer",
    "SampleTableCallback",
    "TokenLossTrainer",
    "make_payoff",
    "read_samples",
    "sample_table",
]
