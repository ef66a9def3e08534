"""Trainer extensions for Hugging Face Transformers: sequence-to-sequence models beyond maximum likelihood.

Importing the package makes its models known to the Auto classes, and the pipeline `text2text-generation`, which
transformers 5 dropped. Everything else is imported when it is first asked for.
"""

from importlib import import_module
from typing import TYPE_CHECKING

from hf_localgan.registration import register as register
from hf_localgan.registration import register_when_needed
from hf_localgan.version import __version__ as __version__

if TYPE_CHECKING:
    from hf_localgan.data import (
        LengthLimits,
        encode_pairs,
        load_pairs,
        load_word_vectors,
        regular_tokens,
        token_vectors,
        train_token_vectors,
        train_tokenizer,
    )
    from hf_localgan.decoding import Decoding, SoftRollout, answer_queries, soft_rollout
    from hf_localgan.evaluation import evaluate_energy, evaluate_generator, measure_locality, rank_responses
    from hf_localgan.hub import Objective, export_with_code, merge_adapter
    from hf_localgan.metrics import score_responses
    from hf_localgan.models import (
        DbmConfig,
        DbmModel,
        LogMelFeatureExtractor,
        PairDiscriminator,
        PairDiscriminatorConfig,
        RnnSeq2SeqConfig,
        RnnSeq2SeqForConditionalGeneration,
        RnnSeq2SeqModel,
        RnnSpeechConfig,
        RnnSpeechForConditionalGeneration,
        RnnSpeechModel,
        RnnSpeechProcessor,
    )
    from hf_localgan.models.loading import load_generator
    from hf_localgan.payoff import EditPayoff, ExactEditPayoff, HammingPayoff, ImportancePayoff, Payoff
    from hf_localgan.pipelines import Text2TextGenerationPipeline
    from hf_localgan.recipes import load_discriminator, load_energy
    from hf_localgan.trainers import (
        DbmTrainer,
        DbmTrainingConfig,
        DivergenceError,
        ExpectedRewardConfig,
        ExpectedRewardTrainer,
        GanAelConfig,
        GanAelTrainer,
        LocalGanConfig,
        LocalGanTrainer,
        MatchingConfig,
        MatchingTrainer,
        MleConfig,
        MleTrainer,
        RamlCollator,
        RamlConfig,
        RamlTrainer,
        ResponseMonitor,
        Schedule,
        SoftRolloutConfig,
        SoftRolloutTrainer,
        TemperatureSchedule,
        TokenLossConfig,
        TokenLossTrainer,
        TwoPlayerConfig,
        TwoPlayerTrainer,
    )

_LATER = {
    "DbmConfig": "models",
    "DbmModel": "models",
    "DbmTrainer": "trainers",
    "DbmTrainingConfig": "trainers",
    "Decoding": "decoding",
    "DivergenceError": "trainers",
    "EditPayoff": "payoff",
    "ExactEditPayoff": "payoff",
    "ExpectedRewardConfig": "trainers",
    "ExpectedRewardTrainer": "trainers",
    "GanAelConfig": "trainers",
    "GanAelTrainer": "trainers",
    "HammingPayoff": "payoff",
    "ImportancePayoff": "payoff",
    "LengthLimits": "data",
    "LocalGanConfig": "trainers",
    "LocalGanTrainer": "trainers",
    "LogMelFeatureExtractor": "models",
    "MatchingConfig": "trainers",
    "MatchingTrainer": "trainers",
    "MleConfig": "trainers",
    "MleTrainer": "trainers",
    "Objective": "hub",
    "PairDiscriminator": "models",
    "PairDiscriminatorConfig": "models",
    "Payoff": "payoff",
    "RamlCollator": "trainers",
    "RamlConfig": "trainers",
    "RamlTrainer": "trainers",
    "ResponseMonitor": "trainers",
    "RnnSeq2SeqConfig": "models",
    "RnnSeq2SeqForConditionalGeneration": "models",
    "RnnSeq2SeqModel": "models",
    "RnnSpeechConfig": "models",
    "RnnSpeechForConditionalGeneration": "models",
    "RnnSpeechModel": "models",
    "RnnSpeechProcessor": "models",
    "Schedule": "trainers",
    "SoftRollout": "decoding",
    "SoftRolloutConfig": "trainers",
    "SoftRolloutTrainer": "trainers",
    "TemperatureSchedule": "trainers",
    "Text2TextGenerationPipeline": "pipelines",
    "TokenLossConfig": "trainers",
    "TokenLossTrainer": "trainers",
    "TwoPlayerConfig": "trainers",
    "TwoPlayerTrainer": "trainers",
    "answer_queries": "decoding",
    "encode_pairs": "data",
    "evaluate_energy": "evaluation",
    "evaluate_generator": "evaluation",
    "export_with_code": "hub",
    "load_discriminator": "recipes.parts",
    "load_energy": "recipes.parts",
    "load_generator": "models.loading",
    "load_pairs": "data",
    "load_word_vectors": "data",
    "measure_locality": "evaluation",
    "merge_adapter": "hub",
    "rank_responses": "evaluation",
    "regular_tokens": "data",
    "score_responses": "metrics",
    "soft_rollout": "decoding",
    "token_vectors": "data",
    "train_token_vectors": "data",
    "train_tokenizer": "data",
}

__all__ = [
    "DbmConfig",
    "DbmModel",
    "DbmTrainer",
    "DbmTrainingConfig",
    "Decoding",
    "DivergenceError",
    "EditPayoff",
    "ExactEditPayoff",
    "ExpectedRewardConfig",
    "ExpectedRewardTrainer",
    "GanAelConfig",
    "GanAelTrainer",
    "HammingPayoff",
    "ImportancePayoff",
    "LengthLimits",
    "LocalGanConfig",
    "LocalGanTrainer",
    "LogMelFeatureExtractor",
    "MatchingConfig",
    "MatchingTrainer",
    "MleConfig",
    "MleTrainer",
    "Objective",
    "PairDiscriminator",
    "PairDiscriminatorConfig",
    "Payoff",
    "RamlCollator",
    "RamlConfig",
    "RamlTrainer",
    "ResponseMonitor",
    "RnnSeq2SeqConfig",
    "RnnSeq2SeqForConditionalGeneration",
    "RnnSeq2SeqModel",
    "RnnSpeechConfig",
    "RnnSpeechForConditionalGeneration",
    "RnnSpeechModel",
    "RnnSpeechProcessor",
    "Schedule",
    "SoftRollout",
    "SoftRolloutConfig",
    "SoftRolloutTrainer",
    "TemperatureSchedule",
    "Text2TextGenerationPipeline",
    "TokenLossConfig",
    "TokenLossTrainer",
    "TwoPlayerConfig",
    "TwoPlayerTrainer",
    "answer_queries",
    "encode_pairs",
    "evaluate_energy",
    "evaluate_generator",
    "export_with_code",
    "load_discriminator",
    "load_energy",
    "load_generator",
    "load_pairs",
    "load_word_vectors",
    "measure_locality",
    "merge_adapter",
    "rank_responses",
    "regular_tokens",
    "score_responses",
    "soft_rollout",
    "token_vectors",
    "train_token_vectors",
    "train_tokenizer",
]


def __getattr__(name: str):
    if name not in _LATER:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.{_LATER[name]}"), name)


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})


register_when_needed()
