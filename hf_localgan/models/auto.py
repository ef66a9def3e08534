"""Every registration with transformers' Auto classes, in one place."""

from transformers import AutoConfig, AutoModel, AutoModelForSeq2SeqLM

from .dbm import DbmConfig, DbmModel
from .discriminator import PairDiscriminator, PairDiscriminatorConfig
from .rnn_seq2seq import RnnSeq2SeqConfig, RnnSeq2SeqForConditionalGeneration, RnnSeq2SeqModel


def register_auto_classes():
    """Makes the package's models known to `AutoConfig`, `AutoModel` and `AutoModelForSeq2SeqLM`. Safe to call twice."""
    AutoConfig.register(DbmConfig.model_type, DbmConfig, exist_ok=True)
    AutoModel.register(DbmConfig, DbmModel, exist_ok=True)
    AutoConfig.register(PairDiscriminatorConfig.model_type, PairDiscriminatorConfig, exist_ok=True)
    AutoModel.register(PairDiscriminatorConfig, PairDiscriminator, exist_ok=True)
    AutoConfig.register(RnnSeq2SeqConfig.model_type, RnnSeq2SeqConfig, exist_ok=True)
    AutoModel.register(RnnSeq2SeqConfig, RnnSeq2SeqModel, exist_ok=True)
    AutoModelForSeq2SeqLM.register(RnnSeq2SeqConfig, RnnSeq2SeqForConditionalGeneration, exist_ok=True)
