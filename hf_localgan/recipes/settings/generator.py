"""Groups of settings that recipes share: data, tokenizer, generator, evaluation."""

import json
from collections.abc import Callable
from dataclasses import asdict, dataclass, field, fields
from functools import partial
from pathlib import Path
from typing import ClassVar

from datasets import Dataset
from transformers import AutoTokenizer, PreTrainedModel, PreTrainedTokenizerBase
from transformers.trainer_utils import get_last_checkpoint

from hf_localgan.data import (
    LengthLimits,
    Pairs,
    check_tokenizer,
    encode_pairs,
    initialize_embeddings,
    load_pairs,
    load_word_vectors,
    train_tokenizer,
    train_word_vectors,
    vocabulary_words,
)
from hf_localgan.data.tokenization import LANGUAGES
from hf_localgan.decoding import Decoding
from hf_localgan.evaluation import evaluate_generator, evaluate_translations, translation_metrics
from hf_localgan.metrics import metric_tokens
from hf_localgan.models import RnnSeq2SeqConfig, RnnSeq2SeqForConditionalGeneration
from hf_localgan.models.loading import load_generator
from hf_localgan.recipes.parser import expand_path
from hf_localgan.recipes.settings.lora import LoraArguments
from hf_localgan.trainers.base.publishing import find_checkpoint

TEMPERATURES = (0.3, 0.5, 0.7, 0.85, 1.0, 1.2)
_COLUMNS_EXAMPLE = 'such as {"query": "post", "response": "reply"}'


def option(default, help: str):
    """A dataclass field with its description."""
    if isinstance(default, list):
        return field(default_factory=lambda: list(default), metadata={"help": help})
    return field(default=default, metadata={"help": help})


@dataclass
class DataArguments:
    """Where the pairs come from and which of them are used."""

    _argument_group_name: ClassVar[str] = "data"

    dataset: str = option(
        "smalltalk",
        "`smalltalk` (shipped), the id of a data set on the Hub, or a folder or file of parquet, JSON lines, CSV or "
        "TSV. Environment variables are replaced.",
    )
    dataset_config: str | None = option(None, "Configuration of a Hub data set.")
    dataset_revision: str | None = option(None, "Branch, tag or commit of a Hub data set.")
    columns: str | None = option(
        None, 'Which column holds what, as JSON: `{"query": "post", "response": "reply"}`. By default by name.'
    )
    language: str = option("en", "`en` (written with spaces), `zh` (by character) or `zh-words` (by jieba's words).")
    streaming: bool = option(False, "Stream the training split instead of loading it.")
    eval_split: str = option("validation", "Split on which training is watched.")
    test_split: str = option("test", "Split that the final evaluation answers.")
    min_query: int | None = option(None, "Shortest query, in words (characters for Chinese). The paper: 4.")
    max_query: int | None = option(None, "Longest query. The paper: 30.")
    min_response: int | None = option(None, "Shortest response. The paper: 4.")
    max_response: int | None = option(None, "Longest response. The paper: 30.")
    on_bad: str = option("error", "Empty or non-text cells: `error` or `drop` (counted).")
    on_shared: str = option("warn", "Queries that splits share: `warn`, `drop` (from training) or `error`.")
    max_source_length: int = option(64, "Longest query in tokens.")
    max_target_length: int = option(64, "Longest response in tokens.")
    on_long: str = option("drop", "Longer pairs: `drop` (counted), `truncate` or `error`.")

    def __post_init__(self):
        if self.language not in LANGUAGES:
            raise ValueError(f"`language` must be one of {', '.join(LANGUAGES)}, got {self.language!r}.")
        self._columns()

    def load(self, *needed: str) -> Pairs:
        """The pairs of all splits.

        Args:
            needed: splits that must be there.
        """
        pairs = load_pairs(
            expand_path(self.dataset, "dataset"),
            self.dataset_config,
            columns=self._columns(),
            limits=self.limits(),
            on_bad=self.on_bad,
            on_shared=self.on_shared,
            streaming=self.streaming,
            revision=self.dataset_revision,
        )
        missing = [f"`{split}`" for split in needed if split not in pairs]
        if missing:
            raise ValueError(
                f"The data set has no split {', '.join(missing)} (found: {', '.join(pairs)}). "
                "Needed are `train` for training and what `eval_split` and `test_split` name."
            )
        if not self.streaming:
            return pairs
        watched = {self.eval_split, self.test_split}  # answered and scored as a whole
        splits = {name: Dataset.from_list(list(some)) if name in watched else some for name, some in pairs.items()}
        return Pairs(splits, pairs.report)

    def limits(self) -> LengthLimits | None:
        """The lengths outside of which a pair is left out, where there are any."""
        bounds = {name: getattr(self, name) for name in ("min_query", "max_query", "min_response", "max_response")}
        if all(bound is None for bound in bounds.values()):
            return None
        return LengthLimits(**bounds, unit="words" if self.language == "en" else "characters")

    def _columns(self) -> dict[str, str] | None:
        try:
            columns = None if self.columns is None else json.loads(self.columns)
        except json.JSONDecodeError as error:
            raise ValueError(f"`columns` must be JSON, {_COLUMNS_EXAMPLE}, got {self.columns!r}: {error}.") from error
        if columns is not None and not isinstance(columns, dict):
            raise ValueError(f"`columns` must map our names to yours, {_COLUMNS_EXAMPLE}, got {self.columns!r}.")
        return columns

    def encode(self, pairs, tokenizer: PreTrainedTokenizerBase):
        """Tokenized pairs for a trainer."""
        return encode_pairs(
            pairs,
            tokenizer,
            max_source_length=self.max_source_length,
            max_target_length=self.max_target_length,
            on_long=self.on_long,
        )


@dataclass
class TokenizerArguments:
    """A tokenizer that exists, or how to train one."""

    _argument_group_name: ClassVar[str] = "tokenizer"

    tokenizer: str | None = option(None, "Folder or Hub id of a tokenizer. By default one is trained on the pairs.")
    tokenizer_kind: str = option("word", "What to train: `word` or `bpe`.")
    vocab_size: int = option(40_000, "Largest vocabulary, special tokens included. The LocalGAN paper's is 40,000.")
    min_frequency: int = option(1, "Leave rarer words out of the vocabulary.")
    lowercase: bool = option(False, "Fold case.")

    def make(self, pairs: Pairs, language: str) -> PreTrainedTokenizerBase:
        """Loads the tokenizer, or trains it on the training split."""
        if self.tokenizer is not None:
            tokenizer = AutoTokenizer.from_pretrained(expand_path(self.tokenizer, "tokenizer"))
            check_tokenizer(tokenizer)
            return tokenizer
        return train_tokenizer(
            pairs["train"],
            kind=self.tokenizer_kind,
            vocab_size=self.vocab_size,
            language=language,
            lowercase=self.lowercase,
            min_frequency=self.min_frequency,
        )


@dataclass
class ModelArguments:
    """A generator that exists."""

    _argument_group_name: ClassVar[str] = "generator"

    model: str | None = option(
        None,
        "Folder or Hub id of an encoder-decoder, with its tokenizer. Environment variables are replaced. Training goes "
        "on from it; without one it starts from scratch.",
    )
    model_revision: str | None = option(None, "Branch, tag or commit of the model on the Hub.")
    trust_remote_code: bool = option(False, "Run code that the model's repository brings along.")
    base_model: str | None = option(
        None,
        "Folder or Hub id of the model that the adapters in `model` belong to, where it is not the one that they name.",
    )

    def load(self) -> tuple[PreTrainedModel, PreTrainedTokenizerBase]:
        """The generator that `model` names, adapters merged into it, and its tokenizer."""
        base = None if self.base_model is None else expand_path(self.base_model, "base_model")
        return load_generator(
            expand_path(self.model, "model"), revision=self.model_revision, trust_remote_code=self.trust_remote_code,
            base_model=base,
        )  # fmt: skip


@dataclass
class GeneratorArguments(LoraArguments, ModelArguments):
    """A generator that exists, as it is or with new adapters; or the shape of a recurrent one to train from scratch."""

    word_vectors: str | None = option(
        None, "Vectors that the embeddings start from: GloVe or word2vec text, or parquet of `word` and `vector`."
    )
    cell_type: str = option("gru", "`gru` or `lstm`.")
    embedding_size: int = option(256, "Width of the word embeddings.")
    hidden_size: int = option(256, "Width of every recurrent layer.")
    encoder_layers: int = option(1, "Recurrent layers of the encoder.")
    decoder_layers: int = option(1, "Recurrent layers of the decoder.")
    bidirectional: bool = option(True, "Whether the encoder also reads from right to left.")
    attention: str = option("general", "`none`, `dot`, `general` or `additive`.")
    attention_position: str = option("after", "`after` or `before` the cell.")
    input_feeding: bool = option(False, "Whether the last attentional vector is an input of the cell.")
    bridge: str = option("dense", "How the encoder's final states start the decoder: `copy` or `dense`.")
    share_embeddings: bool = option(True, "One embedding table for encoder and decoder.")
    tie_word_embeddings: bool = option(False, "The output layer is the decoder's embedding table.")
    dropout: float = option(0.0, "Between recurrent layers.")
    embedding_dropout: float = option(0.0, "On word embeddings.")
    output_dropout: float = option(0.0, "Before the output layer.")
    initializer_range: float = option(0.1, "Standard deviation of the embeddings at the start.")

    def __post_init__(self):
        super().__post_init__()
        if self.lora_rank is not None and self.model is None:
            raise ValueError(
                "`lora_rank` trains adapters of a generator that exists. Name it by `model`, or leave `lora_rank` out "
                "to train a recurrent one from scratch."
            )

    def config(self, tokenizer: PreTrainedTokenizerBase) -> RnnSeq2SeqConfig:
        """The shape of a new generator over the tokenizer's vocabulary."""
        names = {one.name for one in fields(RnnSeq2SeqConfig)}
        shape = {name: value for name, value in asdict(self).items() if name in names}
        start = tokenizer.eos_token_id if tokenizer.bos_token_id is None else tokenizer.bos_token_id
        return RnnSeq2SeqConfig(
            vocab_size=len(tokenizer), pad_token_id=tokenizer.pad_token_id, bos_token_id=tokenizer.bos_token_id,
            eos_token_id=tokenizer.eos_token_id, decoder_start_token_id=start, **shape,
        )  # fmt: skip

    def load_or_make(
        self, tokens: TokenizerArguments, pairs: Pairs, language: str
    ) -> tuple[PreTrainedModel, PreTrainedTokenizerBase]:
        """The generator that `model` names with its tokenizer, or a new one with the tokenizer that `tokens` says."""
        if self.model is not None:
            model, tokenizer = self.load()
            return self.adapt(model), tokenizer
        tokenizer = tokens.make(pairs, language)
        return self.make(tokenizer), tokenizer

    def make(self, tokenizer: PreTrainedTokenizerBase) -> PreTrainedModel:
        """A new recurrent generator, its embeddings from `word_vectors` where these are given."""
        generator = RnnSeq2SeqForConditionalGeneration(self.config(tokenizer))
        if self.word_vectors is not None:
            vectors = load_word_vectors(expand_path(self.word_vectors, "word_vectors"), vocabulary_words(tokenizer))
            coverages = [initialize_embeddings(generator.get_input_embeddings(), tokenizer, vectors)]
            if not self.share_embeddings:
                decoder = generator.get_decoder().get_input_embeddings()
                coverages.append(initialize_embeddings(decoder, tokenizer, vectors))
            print(f"word vectors: {coverages[0]}")
        return generator


@dataclass
class EvaluationArguments:
    """How the generator answers the test split and what scores it."""

    _argument_group_name: ClassVar[str] = "evaluation"

    scores: str = option(
        "dialogue", "What scores the answers: `dialogue` (diversity, relevance) or `translation` (BLEU, chrF)."
    )
    decodings: list[str] | None = option(
        None,
        "Ways of decoding by name, such as `greedy`, `beam 5`, `temperature 0.7`. `beams` and `temperatures`, where "
        "they are given, add to them. By default greedy, the beams and the temperatures.",
    )
    beams: list[int] | None = option(
        None, "Widths of beam search, beside greedy decoding. By default 5, and 8 for translation."
    )
    temperatures: list[float] | None = option(
        None,
        f"Sampling temperatures of the sweep. By default {', '.join(map(str, TEMPERATURES))}, and none for "
        "translation.",
    )
    answers_per_query: int = option(
        1, "Answers per query when sampling, for local coverage; other scores see the first."
    )
    max_new_tokens: int = option(40, "Longest answer, in tokens.")
    max_test_queries: int | None = option(None, "Answer only the first queries of the split.")
    metric_vectors: str | None = option(
        None, "Word vectors of the embedding scores. By default vectors are made from the training pairs (PMI, SVD)."
    )
    metric_vector_size: int = option(100, "Dimensions of the vectors that are made.")
    metric_tokenization: str | None = option(
        None, "`words`, `characters`, `jieba` or `whitespace`. By default `words`, and `characters` for Chinese."
    )
    metric_lowercase: bool = option(True, "Whether the metrics of dialogue ignore case; BLEU of translations does not.")
    resamples: int = option(1000, "Bootstrap samples of the intervals.")
    answer_batch_size: int = option(128, "Queries answered at a time.")

    def __post_init__(self):
        if self.scores not in ("dialogue", "translation"):
            raise ValueError(f"`scores` must be `dialogue` or `translation`, got {self.scores!r}.")
        self.chosen_decodings()  # refuses what cannot be decoded now, not after the training
        if self.metric_tokenization not in (None, "words", "characters", "jieba", "whitespace"):
            raise ValueError(
                "`metric_tokenization` must be one of words, characters, jieba, whitespace, got "
                f"{self.metric_tokenization!r}."
            )
        for name in ("answers_per_query", "max_new_tokens", "max_test_queries", "answer_batch_size"):
            if getattr(self, name) is not None and getattr(self, name) < 1:
                raise ValueError(f"`{name}` must be at least 1, got {getattr(self, name)}.")
        if self.resamples < 0:
            raise ValueError(f"`resamples` must not be negative, got {self.resamples}.")

    def chosen_decodings(self) -> list[Decoding]:
        """Those that are named, or greedy; the beams; the temperatures. Each once."""
        by_default = self.decodings is None
        beams, temperatures = ([8], ()) if self.scores == "translation" else ([5], TEMPERATURES)
        beams = (beams if by_default else ()) if self.beams is None else self.beams
        temperatures = (temperatures if by_default else ()) if self.temperatures is None else self.temperatures
        named = [Decoding.greedy()] if by_default else [Decoding.parse(name) for name in self.decodings]
        every = [*named, *map(Decoding.beam, beams), *map(Decoding.sampling, temperatures)]
        if not every:
            raise ValueError("`decodings` names none. Name at least one, such as `greedy`, or leave it out.")
        return list({one.name: one for one in every}.values())

    def tokenization(self, language: str) -> str:
        return self.metric_tokenization or ("words" if language == "en" else "characters")

    def vectors(self, pairs: Pairs, data: DataArguments):
        """The vectors of the embedding scores, the same for every model that is scored on the same data."""
        if self.metric_vectors is not None:
            return load_word_vectors(expand_path(self.metric_vectors, "metric_vectors"))
        if "train" not in pairs:
            raise ValueError(
                f"Word vectors for the embedding scores are made from the training split, and there is none (found: "
                f"{', '.join(pairs)}). Name a file of vectors by `metric_vectors`."
            )
        unit = self.tokenization(data.language)
        texts = (text for row in pairs["train"] for text in (row["query"], row["response"]))
        tokens = (metric_tokens(text, unit, self.metric_lowercase) for text in texts)
        try:
            vectors = train_word_vectors(tokens, dim=self.metric_vector_size)
        except ValueError as error:
            raise ValueError(
                f"No word vectors can be made of the training pairs: {error} Here `dim` is `metric_vector_size`; or "
                "name a file of vectors by `metric_vectors`."
            ) from error
        vectors.name = f"{vectors.name}:{Path(data.dataset).name}"
        return vectors

    def scorer(self, pairs: Pairs, data: DataArguments, seed: int) -> Callable:
        """`scorer(...)(model, tokenizer, about=...)` answers the test split and scores the answers."""
        test, rows = pairs.grouped[data.test_split], slice(self.max_test_queries)
        settings = {
            "queries": test["query"][rows],
            "references": test["responses"][rows],
            "decodings": self.chosen_decodings(),
            "tokenization": self.tokenization(data.language),
            "resamples": self.resamples,
            "seed": seed,
            "max_new_tokens": self.max_new_tokens,
            "max_source_length": data.max_source_length,
            "batch_size": self.answer_batch_size,
        }
        if self.scores == "translation":
            return partial(evaluate_translations, bleu_tokenize=_bleu_tokenize(data), **settings)
        of_dialogue = {"lowercase": self.metric_lowercase, "num_samples": self.answers_per_query}
        return partial(evaluate_generator, vectors=self.vectors(pairs, data), **of_dialogue, **settings)

    def metrics(self, args, pairs: Pairs, data: DataArguments, tokenizer) -> Callable | None:
        """`compute_metrics` for a trainer: BLEU of the validation split where its translations are generated.

        Sets in `args` what makes the trainer decode as the evaluation does: greedily unless `generation_num_beams` says
        otherwise, and up to `max_new_tokens` unless `generation_max_length` does.

        Args:
            args: of the trainer, before it is made.

        Raises:
            ValueError: if BLEU is to choose the best model, and nothing computes it.
        """
        if not (self.scores == "translation" and args.predict_with_generate):
            if (args.metric_for_best_model or "").removeprefix("eval_") == "bleu":
                raise ValueError(
                    "`metric_for_best_model` is BLEU, which needs `scores: translation` and `predict_with_generate: "
                    f"true`. They are `{self.scores}` and `{str(args.predict_with_generate).lower()}`."
                )
            return None
        args.include_for_metrics = sorted({*args.include_for_metrics, "inputs"})
        args.generation_num_beams = args.generation_num_beams or 1
        args.generation_max_length = args.generation_max_length or self.max_new_tokens + 1  # the start token counts
        grouped = pairs.grouped[data.eval_split]
        return translation_metrics(
            tokenizer, grouped["query"], grouped["responses"], bleu_tokenize=_bleu_tokenize(data),
            max_source_length=data.max_source_length if data.on_long == "truncate" else None,
        )  # fmt: skip


def _bleu_tokenize(data: DataArguments) -> str:
    return "13a" if data.language == "en" else "zh"


def name_language(args, data: DataArguments):
    """Lets the model card name the language of the data, unless `card_language` names another."""
    if args.card_language is None:
        args.card_language = data.language.removesuffix("-words")


def checkpoint_to_resume(args) -> str | None:
    """The checkpoint that `args.resume_from_checkpoint` names: a folder, or the last one of `output_dir` for `last`.

    `last-checkpoint` is the one that an interrupted run has left on the Hub; see `find_checkpoint`.

    Raises:
        ValueError: if there is none.
        OSError: if it cannot be had from the Hub.
    """
    wanted = find_checkpoint(args, args.resume_from_checkpoint)
    if wanted is None:
        return None
    found = get_last_checkpoint(args.output_dir) if wanted == "last" and Path(args.output_dir).is_dir() else wanted
    if found is None or not Path(found).is_dir():
        raise ValueError(
            f'There is no checkpoint to resume from: `resume_from_checkpoint` is "{wanted}", `output_dir` is '
            f'"{args.output_dir}". Name a checkpoint folder, or `last` for the last one of `output_dir`, or '
            "`last-checkpoint` together with `hub_model_id` for that of a repository, or leave the option out to start "
            "anew."
        )
    return found
