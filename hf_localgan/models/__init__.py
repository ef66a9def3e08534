"""Models of the package; importing it registers them with the Auto classes."""

from .auto import register_auto_classes
from .dbm import DbmConfig, DbmModel
from .discriminator import PairDiscriminator, PairDiscriminatorConfig
from .rnn_seq2seq import RnnSeq2SeqConfig, RnnSeq2SeqForConditionalGeneration, RnnSeq2SeqModel

register_auto_classes()

__all__ = [
    "DbmConfig",
    "DbmModel",
    "PairDiscriminator",
    "PairDiscriminatorConfig",
    "RnnSeq2SeqConfig",
    "RnnSeq2SeqForConditionalGeneration",
    "RnnSeq2SeqModel",
]
