"""Trainers and their configurations."""

from hf_localgan.trainers.base import TokenLossTrainer
from hf_localgan.trainers.cards import card_of_folder
from hf_localgan.trainers.dbm_config import DbmTrainingConfig
from hf_localgan.trainers.dbm_divergence import DivergenceError
from hf_localgan.trainers.dbm_trainer import DbmTrainer
from hf_localgan.trainers.expected_reward_config import ExpectedRewardConfig
from hf_localgan.trainers.expected_reward_trainer import ExpectedRewardTrainer
from hf_localgan.trainers.gan_ael_config import GanAelConfig
from hf_localgan.trainers.gan_ael_trainer import GanAelTrainer
from hf_localgan.trainers.gan_base import GanTrainer
from hf_localgan.trainers.gan_config import GanConfig
from hf_localgan.trainers.localgan_config import LocalGanConfig
from hf_localgan.trainers.localgan_trainer import LocalGanTrainer
from hf_localgan.trainers.matching_config import MatchingConfig
from hf_localgan.trainers.matching_trainer import MatchingTrainer
from hf_localgan.trainers.mle_config import MleConfig
from hf_localgan.trainers.mle_trainer import MleTrainer
from hf_localgan.trainers.raml_config import RamlConfig, make_payoff
from hf_localgan.trainers.raml_trainer import RamlTrainer
from hf_localgan.trainers.response_monitor import ResponseMonitor
from hf_localgan.trainers.samples import SampleTableCallback, read_samples, sample_table

__all__ = [
    "DbmTrainer",
    "DbmTrainingConfig",
    "DivergenceError",
    "ExpectedRewardConfig",
    "ExpectedRewardTrainer",
    "GanAelConfig",
    "GanAelTrainer",
    "GanConfig",
    "GanTrainer",
    "LocalGanConfig",
    "LocalGanTrainer",
    "MatchingConfig",
    "MatchingTrainer",
    "MleConfig",
    "MleTrainer",
    "RamlConfig",
    "RamlTrainer",
    "ResponseMonitor",
    "SampleTableCallback",
    "TokenLossTrainer",
    "card_of_folder",
    "make_payoff",
    "read_samples",
    "sample_table",
]
