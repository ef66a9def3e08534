"""Trainers and their configurations."""

from hf_localgan.trainers.base import TokenLossTrainer
from hf_localgan.trainers.mle_config import MleConfig
from hf_localgan.trainers.mle_trainer import MleTrainer
from hf_localgan.trainers.samples import SampleTableCallback, read_samples, sample_table

__all__ = ["MleConfig", "MleTrainer", "SampleTableCallback", "TokenLossTrainer", "read_samples", "sample_table"]
