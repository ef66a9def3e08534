"""Every registration with transformers' Auto classes, in one place."""

from transformers import (
    AutoConfig,
    AutoFeatureExtractor,
    AutoModel,
    AutoModelForSeq2SeqLM,
    AutoModelForSpeechSeq2Seq,
    AutoProcessor,
)

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


def register_auto_classes():
    """Makes the package's models known to transformers' Auto classes. Safe to call twice."""
    AutoConfig.register(DbmConfig.model_type, DbmConfig, exist_ok=True)
    AutoModel.register(DbmConfig, DbmModel, exist_ok=True)
    AutoConfig.register(PairDiscriminatorConfig.model_type, PairDiscriminatorConfig, exist_ok=True)
    AutoModel.register(PairDiscriminatorConfig, PairDiscriminator, exist_ok=True)
    AutoConfig.register(RnnSeq2SeqConfig.model_type, RnnSeq2SeqConfig, exist_ok=True)
    AutoModel.register(RnnSeq2SeqConfig, RnnSeq2SeqModel, exist_ok=True)
    AutoModelForSeq2SeqLM.register(RnnSeq2SeqConfig, RnnSeq2SeqForConditionalGeneration, exist_ok=True)
    AutoConfig.register(RnnSpeechConfig.model_type, RnnSpeechConfig, exist_ok=True)
    AutoModel.register(RnnSpeechConfig, RnnSpeechModel, exist_ok=True)
    AutoModelForSpeechSeq2Seq.register(RnnSpeechConfig, RnnSpeechForConditionalGeneration, exist_ok=True)
    AutoFeatureExtractor.register(RnnSpeechConfig, LogMelFeatureExtractor, exist_ok=True)
    AutoProcessor.register(RnnSpeechConfig, RnnSpeechProcessor, exist_ok=True)
