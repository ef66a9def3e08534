"""Models of the package; importing it registers them with the Auto classes."""

from .auto import register_auto_classes
from .dbm import DbmConfig, DbmModel
from .discriminator import PairDiscriminator, PairDiscriminatorConfig
from .rnn_seq2seq import (
    LogMelFeatureExtractor,
    RnnSeq2SeqConfig,
    RnnSeq2SeqForConditionalGeneration,
    RnnSeq2SeqModel,
    RnnSpeechConfig,
    RnnSpeechForConditionalGeneration,
    RnnSpeechModel,
    RnnSpeechProcessor,
)

register_auto_classes()

__all__ = [
    "DbmConfig",
    "DbmModel",
    "LogMelFeatureExtractor",
    "PairDiscriminator",
    "PairDiscriminatorConfig",
    "RnnSeq2SeqConfig",
    "RnnSeq2SeqForConditionalGeneration",
    "RnnSeq2SeqModel",
    "RnnSpeechConfig",
    "RnnSpeechForConditionalGeneration",
    "RnnSpeechModel",
    "RnnSpeechProcessor",
]
