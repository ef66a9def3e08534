"""Trainers and their configurations."""

from hf_localgan.trainers.adversarial.adver_regs_config import AdverRegsConfig
from hf_localgan.trainers.adversarial.adver_regs_trainer import AdverRegsTrainer
from hf_localgan.trainers.adversarial.aim_config import AimConfig, DaimConfig
from hf_localgan.trainers.adversarial.aim_trainer import AimTrainer, DaimTrainer
from hf_localgan.trainers.adversarial.config import SoftRolloutConfig, TwoPlayerConfig
from hf_localgan.trainers.adversarial.gan_ael_config import GanAelConfig
from hf_localgan.trainers.adversarial.gan_ael_trainer import GanAelTrainer
from hf_localgan.trainers.adversarial.localgan_config import LocalGanConfig
from hf_localgan.trainers.adversarial.localgan_trainer import LocalGanTrainer
from hf_localgan.trainers.adversarial.monitor import ResponseMonitor
from hf_localgan.trainers.adversarial.players import Schedule
from hf_localgan.trainers.adversarial.soft_trainer import SoftRolloutTrainer
from hf_localgan.trainers.adversarial.trainer import TwoPlayerTrainer
from hf_localgan.trainers.base.cards import card_of_folder
from hf_localgan.trainers.base.sample_table import SampleTableCallback, read_samples, sample_table
from hf_localgan.trainers.base.settings import TokenLossConfig
from hf_localgan.trainers.base.token_loss import TokenLossTrainer
from hf_localgan.trainers.dbm.config import DbmTrainingConfig
from hf_localgan.trainers.dbm.divergence import DivergenceError
from hf_localgan.trainers.dbm.trainer import DbmTrainer
from hf_localgan.trainers.expected_reward.config import ExpectedRewardConfig
from hf_localgan.trainers.expected_reward.trainer import ExpectedRewardTrainer
from hf_localgan.trainers.matching.config import MatchingConfig
from hf_localgan.trainers.matching.trainer import MatchingTrainer
from hf_localgan.trainers.mle.config import MleConfig
from hf_localgan.trainers.mle.trainer import MleTrainer
from hf_localgan.trainers.raml.clock import TemperatureSchedule
from hf_localgan.trainers.raml.collator import RamlCollator, split_draws
from hf_localgan.trainers.raml.config import RamlConfig, make_payoff
from hf_localgan.trainers.raml.draws import DrawSummary, summarize_draws
from hf_localgan.trainers.raml.trainer import RamlTrainer
from hf_localgan.trainers.speech.trainer import SpeechMixin, SpeechMleTrainer, SpeechRamlTrainer

__all__ = [
    "AdverRegsConfig",
    "AdverRegsTrainer",
    "AimConfig",
    "AimTrainer",
    "DaimConfig",
    "DaimTrainer",
    "DbmTrainer",
    "DbmTrainingConfig",
    "DivergenceError",
    "DrawSummary",
    "ExpectedRewardConfig",
    "ExpectedRewardTrainer",
    "GanAelConfig",
    "GanAelTrainer",
    "LocalGanConfig",
    "LocalGanTrainer",
    "MatchingConfig",
    "MatchingTrainer",
    "MleConfig",
    "MleTrainer",
    "RamlCollator",
    "RamlConfig",
    "RamlTrainer",
    "ResponseMonitor",
    "SampleTableCallback",
    "Schedule",
    "SoftRolloutConfig",
    "SoftRolloutTrainer",
    "SpeechMixin",
    "SpeechMleTrainer",
    "SpeechRamlTrainer",
    "TemperatureSchedule",
    "TokenLossConfig",
    "TokenLossTrainer",
    "TwoPlayerConfig",
    "TwoPlayerTrainer",
    "card_of_folder",
    "make_payoff",
    "read_samples",
    "sample_table",
    "split_draws",
    "summarize_draws",
]
