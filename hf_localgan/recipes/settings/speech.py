"""Groups of settings of recognisers: utterances, the recogniser, its evaluation."""

import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar, Literal

from datasets import Dataset, concatenate_datasets
from transformers import PreTrainedModel, ProcessorMixin

from hf_localgan.data.speech import Speech, load_speech
from hf_localgan.data.speech_encoding import encode_speech, fit_features, phone_tokenizer
from hf_localgan.data.timit import load_timit
from hf_localgan.data.tones import TONES, load_tones
from hf_localgan.decoding.answers import Decoding
from hf_localgan.models.recognisers import load_recogniser
from hf_localgan.models.rnn_seq2seq import (
    LogMelFeatureExtractor,
    RnnSpeechConfig,
    RnnSpeechForConditionalGeneration,
    RnnSpeechProcessor,
)
from hf_localgan.phones import FOLDS, PHONE_SETS
from hf_localgan.recipes.parser import expand_path
from hf_localgan.recipes.settings.data import Unused, field_names, option
from hf_localgan.trainers.base.bounds import COUNT, NUMBER_OR_NONE, POSITIVE_OR_NONE, PROBABILITY, check_bounds
from hf_localgan.trainers.speech.trainer import CTC_LABEL_SOURCES

SHAPE = {
    "encoder_layers": COUNT, "encoder_hidden_size": COUNT, "decoder_layers": COUNT, "hidden_size": COUNT,
    "embedding_size": COUNT, "dropout": PROBABILITY, "embedding_dropout": PROBABILITY, "output_dropout": PROBABILITY,
    "ctc_weight": POSITIVE_OR_NONE, "guided_attention_weight": POSITIVE_OR_NONE, "frequency_masks": NUMBER_OR_NONE,
    "frequency_mask_bins": NUMBER_OR_NONE, "time_masks": NUMBER_OR_NONE, "time_mask_frames": NUMBER_OR_NONE,
}  # fmt: skip


@dataclass
class SpeechArguments:
    """The source of the utterances, their features and their labels."""

    _argument_group_name: ClassVar[str] = "data"

    dataset: list[str] = option(
        ["tones"],
        "`tones` (made up, in seconds), `timit` (its folder in the environment variable HF_LOCALGAN_TIMIT), or the id "
        "of a data set on the Hub or a folder or file with an `audio` column. Several are joined. Environment "
        "variables are replaced.",
    )
    dataset_revision: str | None = option(None, "Branch, tag or commit of a Hub data set.")
    columns: str | None = option(
        None, 'Column of each role, as JSON: `{"audio": "file", "text": "sentence"}`. By default by name.'
    )
    eval_split: str = option("validation", "Split on which training is watched.")
    test_split: str = option("test", "Split that the final evaluation transcribes.")
    max_seconds: float = option(20.0, "Longest utterance in seconds; `on_bad` applies to longer ones.")
    on_bad: str = option(
        "error", "What happens to utterances that are silent, unreadable, too long or without a transcript: `error` or "
        "`drop` (counted).",
    )  # fmt: skip
    check_counts: bool = option(True, "Refuse a copy of TIMIT whose numbers of utterances differ from the corpus.")
    max_train_utterances: int | None = option(
        None, "Number of utterances, from the start of the split, to train on. By default all."
    )
    target: str = option("phones", "Labels of the recogniser: `phones`, or `text` (words of the training split).")
    phone_set: str | None = option(
        None, f"Inventory of the labels: {', '.join(PHONE_SETS)}. By default the phones of the training split."
    )
    num_mel_filters: int = option(40, "Number of mel filters of the features.")
    normalization: str = option(
        "global", "Features are centred and scaled over the training split (`global`), each speaker (`speaker`), each "
        "utterance (`utterance`), or not at all (`none`).",
    )  # fmt: skip

    num_proc: int | None = option(None, "Number of processes that compute the features; by default 1.")

    def __post_init__(self):
        self.dataset = [self.dataset] if isinstance(self.dataset, str) else list(self.dataset)
        if not self.dataset:
            raise ValueError("`dataset` names nothing. Name a data set of speech, or `tones`.")
        if self.target not in ("phones", "text"):
            raise ValueError(f"`target` must be `phones` or `text`, got {self.target!r}.")
        if self.phone_set is not None and self.phone_set not in PHONE_SETS:
            raise ValueError(f"`phone_set` must be one of {', '.join(PHONE_SETS)}, got {self.phone_set!r}.")
        if self.phone_set is not None and self.target == "text":
            raise ValueError("`phone_set` needs `target: phones`, but `target` is `text`. Leave one of them out.")
        if self.max_train_utterances is not None and self.max_train_utterances < 1:
            raise ValueError(f"`max_train_utterances` must be at least 1, got {self.max_train_utterances}.")
        check_bounds(self, {"max_seconds": POSITIVE_OR_NONE, "num_mel_filters": COUNT, "num_proc": COUNT})
        self._columns()

    def load(self) -> dict[str, Dataset]:
        """The utterances of `train`, `eval_split` and `test_split`, of all data sets together; says what they are.

        Raises:
            ValueError: if no data set has one of these splits.
        """
        parts_by_split: dict[str, list[Dataset]] = {split: [] for split in dict.fromkeys(self.splits())}
        for name in self.dataset:
            speech = self._load_dataset(name)
            print(f"{name}:\n{speech.report}")
            for split in parts_by_split:
                if split in speech:
                    parts_by_split[split].append(speech[split])
        missing = [f"`{split}`" for split, parts in parts_by_split.items() if not parts]
        if missing:
            raise ValueError(
                f"No data set of {', '.join(self.dataset)} has the split {', '.join(missing)}. Needed are `train` and "
                "what `eval_split` and `test_split` name."
            )
        joined = {split: concatenate_datasets(parts) for split, parts in parts_by_split.items()}
        if self.max_train_utterances is not None:
            joined["train"] = joined["train"].select(range(min(self.max_train_utterances, len(joined["train"]))))
        return joined

    def splits(self) -> tuple[str, str, str]:
        """The splits for training, for watching it, and for the final evaluation."""
        return "train", self.eval_split, self.test_split

    def processor(self, train: Dataset) -> RnnSpeechProcessor:
        """A new processor: a tokenizer of the labels, and an extractor that knows the training split's features."""
        extractor = LogMelFeatureExtractor(num_mel_filters=self.num_mel_filters, normalization=self.normalization)
        symbols: str | list[str]
        if self.phone_set is not None:
            symbols = self.phone_set
        elif self.target == "text":
            symbols = sorted({word for text in train["text"][:] for word in (text or "").split()})
        elif self.dataset == ["tones"]:
            symbols = list(TONES)
        else:
            symbols = sorted({phone for phones in train["phones"][:] for phone in phones})
        if self.normalization not in ("none", "utterance"):
            fit_features(train, extractor, self.num_proc)
        return RnnSpeechProcessor(extractor, phone_tokenizer(symbols))

    def encode(self, dataset: Dataset, processor: ProcessorMixin) -> Dataset:
        """Features and labels of a split."""
        target: Literal["phones", "text"] = "text" if self.target == "text" else "phones"
        return encode_speech(dataset, processor, target=target, phone_set=self.phone_set, num_proc=self.num_proc)

    def _load_dataset(self, name: str) -> Speech:
        options: dict[str, Any] = {"max_seconds": self.max_seconds, "on_bad": self.on_bad}
        if name == "tones":
            return load_tones()
        if name == "timit":
            return load_timit(check_counts=self.check_counts, **options)
        path = expand_path(name, "dataset")
        return load_speech(path, columns=self._columns(), revision=self.dataset_revision, **options)

    def _columns(self) -> dict[str, str] | None:
        try:
            columns = None if self.columns is None else json.loads(self.columns)
        except json.JSONDecodeError as error:
            raise ValueError(f'`columns` must be JSON such as {{"audio": "file"}}, got {self.columns!r}.') from error
        if columns is not None and not isinstance(columns, dict):
            raise ValueError(f"`columns` must map names to columns, got {self.columns!r}.")
        return columns


@dataclass
class RecogniserArguments:
    """The recogniser: a trained one to continue, or the shape of a new one; and the losses that help it align."""

    _argument_group_name: ClassVar[str] = "recogniser"

    model: str | None = option(
        None, "Folder or Hub id of a recogniser to go on training, with its processor. By default a new one is made."
    )
    encoder_layers: int = option(3, "Number of recurrent layers of the encoder.")
    encoder_hidden_size: int = option(512, "Width of an encoder layer, half of it for each direction.")
    reductions: list[int] | None = option(
        None, "For each encoder layer, how many steps of its input are joined into one. By default 3 for the first, 1 "
        "for the others.",
    )  # fmt: skip
    decoder_layers: int = option(1, "Number of recurrent layers of the decoder.")
    hidden_size: int = option(256, "Width of the decoder.")
    embedding_size: int = option(128, "Width of the label embeddings.")
    attention: str = option("location", "Attention: `location`, `additive`, `general` or `dot`.")
    location_filters: int = option(10, "Number of filters over the last attention weights, for `location`.")
    location_width: int = option(31, "Width of these filters in encoder steps, odd.")
    input_feeding: bool = option(True, "Feed the last attentional vector into the decoder's cell.")
    dropout: float = option(0.0, "Dropout between recurrent layers.")
    embedding_dropout: float = option(0.0, "Dropout on label embeddings.")
    output_dropout: float = option(0.0, "Dropout before the output layer.")
    ctc_weight: float = option(0.0, "Weight of CTC on the encoder in the loss. 0: none.")
    ctc_labels: str = option(
        "reference", "Labels that CTC is trained on under RAML: `reference`, as in training by maximum likelihood, or "
        "`drawn`, those of the decoder.",
    )  # fmt: skip
    guided_attention_weight: float = option(0.0, "Weight of the attention off the diagonal in the loss. 0: none.")
    frequency_masks: int = option(0, "Number of SpecAugment's masks over mel filters. 0: none.")
    frequency_mask_bins: int = option(5, "Greatest width of such a mask, in filters.")
    time_masks: int = option(0, "Number of SpecAugment's masks over frames. 0: none.")
    time_mask_frames: int = option(15, "Greatest width of such a mask, in frames.")

    def __post_init__(self):
        check_bounds(self, SHAPE)
        if self.ctc_labels not in CTC_LABEL_SOURCES:
            raise ValueError(f"`ctc_labels` must be one of {', '.join(CTC_LABEL_SOURCES)}, got {self.ctc_labels!r}.")

    def unused(self) -> Iterator[Unused]:
        """The settings of a new recogniser, where there is one."""
        if self.model is not None:
            names = field_names(RecogniserArguments) - {"model", "guided_attention_weight", "ctc_labels"}
            yield Unused("model", self.model, names)

    def load(self) -> tuple[PreTrainedModel, ProcessorMixin]:
        """The recogniser that `model` names, and its processor."""
        assert self.model is not None  # without a name, `make`
        return load_recogniser(expand_path(self.model, "model"))

    def make(self, processor: RnnSpeechProcessor) -> RnnSpeechForConditionalGeneration:
        """A new recogniser for a processor."""
        extractor, tokenizer = processor.feature_extractor, processor.tokenizer
        names = (
            "encoder_layers", "encoder_hidden_size", "reductions", "decoder_layers", "hidden_size", "embedding_size",
            "attention", "location_filters", "location_width", "input_feeding", "dropout", "embedding_dropout",
            "output_dropout", "ctc_weight", "frequency_masks", "frequency_mask_bins", "time_masks", "time_mask_frames",
        )  # fmt: skip
        config = RnnSpeechConfig(
            vocab_size=len(tokenizer), feature_size=extractor.feature_size, feature_groups=extractor.differences + 1,
            pad_token_id=tokenizer.pad_token_id, bos_token_id=tokenizer.bos_token_id,
            eos_token_id=tokenizer.eos_token_id, decoder_start_token_id=tokenizer.bos_token_id,
            **{name: getattr(self, name) for name in names},
        )  # fmt: skip
        return RnnSpeechForConditionalGeneration(config)


@dataclass
class RecognitionArguments:
    """Transcription of the test split, and scoring of the transcripts."""

    _argument_group_name: ClassVar[str] = "evaluation"

    beams: list[int] = option([8], "Widths of the beam searches that transcribe beside greedy decoding.")
    fold: str = option("none", f"Classes that phones are folded into before they are scored: {', '.join(FOLDS)}.")
    silence: str = option("counted", "Silence of references: `counted`, or `optional` as Kaldi scores TIMIT.")
    resamples: int = option(1000, "Number of bootstrap samples for each interval.")
    attention_pictures: int = option(6, "Number of utterances whose attention is drawn.")
    answer_batch_size: int = option(32, "Number of utterances that are transcribed at a time.")

    def __post_init__(self):
        if self.fold not in FOLDS:
            raise ValueError(f"`fold` must be one of {', '.join(FOLDS)}, got {self.fold!r}.")
        if self.silence not in ("counted", "optional"):
            raise ValueError(f"`silence` must be `counted` or `optional`, got {self.silence!r}.")
        for name, least in (("resamples", 0), ("attention_pictures", 0), ("answer_batch_size", 1)):
            if getattr(self, name) < least:
                raise ValueError(f"`{name}` must be at least {least}, got {getattr(self, name)}.")
        self.decodings()

    def decodings(self) -> list[Decoding]:
        """Greedy, and the beams in order of their width."""
        return [Decoding.greedy(), *(Decoding.beam(width) for width in sorted(set(self.beams)))]


def shown_name(dataset: list[str]) -> str:
    """The name of data sets in reports: the last parts of their names."""
    return " + ".join(Path(name).name for name in dataset)
