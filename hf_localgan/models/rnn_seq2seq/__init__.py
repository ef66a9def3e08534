"""The recurrent encoder-decoder of text, `model_type = "rnn_seq2seq"`, and of speech, `model_type = "rnn_speech"`."""

from .cache_rnn_seq2seq import RecurrentCache
from .configuration_rnn_seq2seq import RnnSeq2SeqConfig
from .configuration_speech_rnn_seq2seq import RnnSpeechConfig
from .features_speech_rnn_seq2seq import LogMelFeatureExtractor, RnnSpeechProcessor
from .modeling_rnn_seq2seq import RnnSeq2SeqEncoderOutput, RnnSeq2SeqForConditionalGeneration, RnnSeq2SeqModel
from .modeling_speech_rnn_seq2seq import RnnSpeechForConditionalGeneration, RnnSpeechModel, RnnSpeechOutput

__all__ = [
    "LogMelFeatureExtractor",
    "RecurrentCache",
    "RnnSeq2SeqConfig",
    "RnnSeq2SeqEncoderOutput",
    "RnnSeq2SeqForConditionalGeneration",
    "RnnSeq2SeqModel",
    "RnnSpeechConfig",
    "RnnSpeechForConditionalGeneration",
    "RnnSpeechModel",
    "RnnSpeechOutput",
    "RnnSpeechProcessor",
]
