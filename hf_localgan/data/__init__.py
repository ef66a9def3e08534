"""Text pairs, tokenizers and word vectors; speech with its transcripts."""

from hf_localgan.data.audio import read_audio
from hf_localgan.data.encoding import check_tokenizer, encode_pairs
from hf_localgan.data.label_frames import regular_tokens
from hf_localgan.data.pairs import Pairs, group_pairs, load_pairs
from hf_localgan.data.report import LengthLimits, PairsReport, SharedQueries, SplitReport
from hf_localgan.data.smalltalk import load_smalltalk, smalltalk_files
from hf_localgan.data.speech import Speech, SpeechReport, load_speech
from hf_localgan.data.speech_collator import SpeechCollator
from hf_localgan.data.speech_encoding import encode_speech, fit_features, phone_tokenizer
from hf_localgan.data.timit import load_timit
from hf_localgan.data.token_vectors import TokenVectors, embedding_vectors, token_vectors, train_token_vectors
from hf_localgan.data.tokenization import (
    keep_language,
    kept_language,
    report_unknown,
    tokenizer_language,
    train_tokenizer,
    unknown_rate,
)
from hf_localgan.data.tones import load_tones
from hf_localgan.data.word_vectors import (
    VectorCoverage,
    WordVectors,
    initialize_embeddings,
    load_word_vectors,
    train_word_vectors,
    vocabulary_words,
)

__all__ = [
    "LengthLimits",
    "Pairs",
    "PairsReport",
    "SharedQueries",
    "Speech",
    "SpeechCollator",
    "SpeechReport",
    "SplitReport",
    "TokenVectors",
    "VectorCoverage",
    "WordVectors",
    "check_tokenizer",
    "embedding_vectors",
    "encode_pairs",
    "encode_speech",
    "fit_features",
    "group_pairs",
    "initialize_embeddings",
    "keep_language",
    "kept_language",
    "load_pairs",
    "load_smalltalk",
    "load_speech",
    "load_timit",
    "load_tones",
    "load_word_vectors",
    "phone_tokenizer",
    "read_audio",
    "regular_tokens",
    "report_unknown",
    "smalltalk_files",
    "token_vectors",
    "tokenizer_language",
    "train_token_vectors",
    "train_tokenizer",
    "train_word_vectors",
    "unknown_rate",
    "vocabulary_words",
]
