"""Arguments of `MleTrainer`."""

from dataclasses import dataclass, field

from hf_localgan.trainers.base.averaging import AveragedConfig


@dataclass
class MleConfig(AveragedConfig):
    """Arguments of `MleTrainer`, on top of `TokenLossConfig`: averages at the end, and the share of queries emptied."""

    source_dropout: float = field(
        default=0.0,
        metadata={
            "help": "Share of training examples whose query is emptied, so that the decoder also learns the language "
            "alone, which `antilm` needs: 0.1 beside the task, 1 for a language model and nothing else."
        },
    )

    def _check_values(self):
        super()._check_values()
        if not 0 <= self.source_dropout <= 1:
            raise ValueError(
                f"`source_dropout` must be from 0 to 1, got {self.source_dropout}. 0 turns it off, 0.1 is usual."
            )
