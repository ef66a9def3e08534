"""The recurrent encoder-decoder, `model_type = "rnn_seq2seq"`."""

from .cache_rnn_seq2seq import RecurrentCache
from .configuration_rnn_seq2seq import RnnSeq2SeqConfig
from .modeling_rnn_seq2seq import RnnSeq2SeqEncoderOutput, RnnSeq2SeqForConditionalGeneration, RnnSeq2SeqModel

__all__ = [
    "RecurrentCache",
    "RnnSeq2SeqConfig",
    "RnnSeq2SeqEncoderOutput",
    "RnnSeq2SeqForConditionalGeneration",
    "RnnSeq2SeqModel",
]
