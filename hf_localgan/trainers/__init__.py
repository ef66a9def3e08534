"""Trainers and their configurations."""

from .base import TokenLossTrainer
from .mle_config import MleConfig
from .mle_trainer import MleTrainer
from .samples import SampleTableCallback, read_samples, sample_table

__all__ = ["MleConfig", "MleTrainer", "SampleTableCallback", "TokenLossTrainer", "read_samples", "sample_table"]
