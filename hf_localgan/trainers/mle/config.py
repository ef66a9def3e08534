"""Arguments of `MleTrainer`."""

from dataclasses import dataclass

from hf_localgan.trainers.base.settings import TokenLossConfig


@dataclass
class MleConfig(TokenLossConfig):
    """Arguments of `MleTrainer`: those of `TokenLossConfig`. Maximum likelihood adds none."""
