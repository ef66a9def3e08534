"""Utterances encoded for a model: features of their sound, and labels of their transcripts."""

import copy
from collections import Counter
from collections.abc import Mapping, Sequence
from functools import lru_cache, partial
from typing import Any, Literal

import numpy as np
from datasets import Dataset
from tokenizers import Tokenizer, models, pre_tokenizers, processors
from transformers import PreTrainedTokenizerBase, PreTrainedTokenizerFast, ProcessorMixin

from hf_localgan.data.audio import read_audio
from hf_localgan.data.processes import kept_environment
from hf_localgan.data.tokenization import SPECIAL_TOKENS
from hf_localgan.models.rnn_seq2seq import LogMelFeatureExtractor
from hf_localgan.phones import PHONE_SETS, to_phone_set


def encode_speech(
    dataset: Dataset,
    processor: ProcessorMixin,
    *,
    target: Literal["phones", "text"] = "phones",
    phone_set: str | None = None,
    num_proc: int | None = None,
) -> Dataset:
    """Features and labels of utterances, for a speech model.

    Means and deviations of `processor.feature_extractor` must be known, see `fit_features`. With its `normalization`
    "speaker", speakers that it does not know are normalised by their own utterances in `dataset`.

    Args:
        dataset: a split of `load_speech`.
        processor: extractor and tokenizer; sound of another rate than the extractor's is resampled.
        target: what the labels are of.
        phone_set: the inventory that phones are written in first, a name of `PHONE_SETS`; by default as they are.
        num_proc: processes to compute features with.

    Returns:
        Columns `input_features` (arrays of shape `(frames, features)`), `labels` (lists of ids with the end token),
        `length` (frames, for batches of like length), `draw_key`, `id`, `speaker`.

    Raises:
        ValueError: if the split has no such target, and for labels with unknown tokens.
    """
    extractor, tokenizer = processor.feature_extractor, processor.tokenizer
    raw = extract_features(dataset, extractor, num_proc=num_proc)
    if extractor.normalization == "speaker":
        extractor = _with_speakers(extractor, raw)
    encode = partial(_encode, extractor=extractor, tokenizer=tokenizer, target=target, phone_set=phone_set)
    columns = [name for name in raw.column_names if name not in ("draw_key", "id", "speaker")]
    encoded = raw.map(encode, with_indices=True, remove_columns=columns, desc="Encoding speech", writer_batch_size=64)
    return encoded.with_format("numpy", columns=["input_features"], output_all_columns=True)


def extract_features(dataset: Dataset, extractor: LogMelFeatureExtractor, num_proc: int | None = None) -> Dataset:
    """The same rows with `features` that are not normalised instead of `audio`; computed once, for they are cached."""
    settings = {**extractor.to_dict(), "mean": None, "std": None, "speaker_statistics": None, "normalization": "none"}
    names = ("num_mel_filters", "sampling_rate", "frame_length_ms", "frame_shift_ms", "preemphasis", "energy")
    plain = {name: settings[name] for name in (*names, "differences", "normalization")}
    with kept_environment():
        raw = dataset.map(
            partial(_extract, settings=plain), remove_columns=["audio"], num_proc=num_proc, desc="Computing features",
            writer_batch_size=64,
        )  # fmt: skip
    return raw.with_format("numpy", columns=["features"], output_all_columns=True)


def fit_features(dataset: Dataset, extractor: LogMelFeatureExtractor, num_proc: int | None = None):
    """Sets means and deviations of an extractor to those of a training split; returns the extractor.

    Args:
        dataset: a split of `load_speech`.
        extractor: is changed.
        num_proc: processes to compute features with.
    """
    raw = extract_features(dataset, extractor, num_proc=num_proc)
    speakers = raw["speaker"] if extractor.normalization == "speaker" else None
    return extractor.fit((row["features"] for row in raw), speakers)


def phone_tokenizer(phones: str | Sequence[str]) -> PreTrainedTokenizerFast:
    """A tokenizer of phones that are separated by spaces; an encoding ends with `</s>`.

    Args:
        phones: the name of an inventory (`PHONE_SETS`), or its symbols.

    Returns:
        Ids 0 to 3 are `<pad>`, `<s>`, `</s>`, `<unk>`, the phones follow in the order of the inventory.

    Raises:
        ValueError: for an unknown name, and symbols with spaces or twice.
    """
    if isinstance(phones, str):
        if phones not in PHONE_SETS:
            raise ValueError(f"`phones` must be one of {', '.join(PHONE_SETS)}, or a list of symbols, got {phones!r}.")
        phones = PHONE_SETS[phones]
    symbols = [*SPECIAL_TOKENS.values(), *phones]
    wrong = [symbol for symbol, count in Counter(symbols).items() if count > 1 or symbol.split() != [symbol]]
    if wrong:
        raise ValueError(f"Phones must differ and be free of spaces, got {', '.join(map(repr, wrong[:10]))}.")
    unknown, end = SPECIAL_TOKENS["unk_token"], SPECIAL_TOKENS["eos_token"]
    tokenizer = Tokenizer(models.WordLevel({symbol: i for i, symbol in enumerate(symbols)}, unk_token=unknown))
    tokenizer.pre_tokenizer = pre_tokenizers.WhitespaceSplit()  # others would cut `h#` and `ax-h`
    tokenizer.post_processor = processors.TemplateProcessing(
        single=f"$A {end}", pair=f"$A {end} $B {end}", special_tokens=[(end, symbols.index(end))]
    )
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, clean_up_tokenization_spaces=False, padding_side="right",
        model_input_names=["input_ids", "attention_mask"], **SPECIAL_TOKENS,
    )  # fmt: skip


def _extract(row: Mapping[str, Any], *, settings: Mapping[str, Any]) -> dict[str, Any]:
    extractor = _extractor(**settings)
    samples, _ = read_audio(row["audio"], extractor.sampling_rate)
    return {"features": extractor.extract(samples).numpy()}


@lru_cache(maxsize=4)
def _extractor(**settings: Any) -> LogMelFeatureExtractor:
    return LogMelFeatureExtractor(**settings)


def _with_speakers(extractor: LogMelFeatureExtractor, raw: Dataset) -> LogMelFeatureExtractor:
    fitted = copy.deepcopy(extractor).fit((row["features"] for row in raw), [s or "" for s in raw["speaker"]])
    statistics = {**fitted.speaker_statistics, **extractor.speaker_statistics}
    fitted.mean, fitted.std, fitted.speaker_statistics = extractor.mean, extractor.std, statistics
    return fitted


def _encode(
    row: Mapping[str, Any],
    index: int,
    *,
    extractor: LogMelFeatureExtractor,
    tokenizer: PreTrainedTokenizerBase,
    target: str,
    phone_set: str | None,
) -> dict[str, Any]:
    if target == "phones":
        phones = [] if row["phones"] is None else list(map(str, row["phones"]))
        text = " ".join(phones if phone_set is None else to_phone_set(phones, phone_set))
    else:
        text = row["text"] or ""
    if not text.strip():
        raise ValueError(f"Utterance {row['id']} (row {index}) has no `{target}`. Choose another `target`.")
    labels = tokenizer(text).input_ids
    if tokenizer.unk_token_id is not None and tokenizer.unk_token_id in labels:
        raise ValueError(
            f"Utterance {row['id']} (row {index}) has {target} that the tokenizer does not know: {text!r}. Take "
            "another `phone_set`, or make the tokenizer of this data."
        )
    if labels[-1:] != [tokenizer.eos_token_id]:
        labels = [*labels, tokenizer.eos_token_id]
    features = extractor.normalize(np.asarray(row["features"], dtype=np.float32), row["speaker"]).numpy()
    return {"input_features": features, "labels": labels, "length": len(features)}
