"""Settings of the generator: one that exists, or the shape of a recurrent one."""

from collections.abc import Iterator
from dataclasses import asdict, dataclass, fields
from typing import ClassVar

from transformers import PreTrainedModel, PreTrainedTokenizerBase

from hf_localgan.data.pairs import Pairs
from hf_localgan.data.word_vectors import initialize_embeddings, load_word_vectors, vocabulary_words
from hf_localgan.models.loading import load_generator
from hf_localgan.models.rnn_seq2seq.configuration_rnn_seq2seq import RnnSeq2SeqConfig
from hf_localgan.models.rnn_seq2seq.modeling_rnn_seq2seq import RnnSeq2SeqForConditionalGeneration
from hf_localgan.recipes.parser import expand_path
from hf_localgan.recipes.settings.data import Unused, field_names, option
from hf_localgan.recipes.settings.lora import LoraArguments
from hf_localgan.recipes.settings.tokenizer import TokenizerArguments
from hf_localgan.trainers.base.bounds import COUNT, NUMBER_OR_NONE, POSITIVE_OR_NONE, PROBABILITY, check_bounds

SHAPE = {
    "embedding_size": COUNT, "hidden_size": COUNT, "encoder_layers": COUNT, "decoder_layers": COUNT,
    "dropout": PROBABILITY, "embedding_dropout": PROBABILITY, "output_dropout": PROBABILITY,
    "noise_size": NUMBER_OR_NONE, "initializer_range": POSITIVE_OR_NONE,
}  # fmt: skip


@dataclass
class ModelArguments:
    """A generator that exists."""

    _argument_group_name: ClassVar[str] = "generator"
    _argument_former_names: ClassVar[dict[str, str]] = {"model": "generator", "model_revision": "generator_revision"}

    generator: str | None = option(
        None,
        "Folder or Hub id of an encoder-decoder with its tokenizer. Training goes on from it; without one, training "
        "starts from scratch. Environment variables are replaced.",
    )
    generator_revision: str | None = option(None, "Branch, tag or commit of the generator on the Hub.")
    trust_remote_code: bool = option(False, "Run code that comes with the generator's repository.")
    base_model: str | None = option(
        None,
        "Folder or Hub id of the model that the adapters in `generator` were trained on, if it is not the one that "
        "they name.",
    )

    def path(self) -> str | None:
        """Folder or Hub id of a generator that exists."""
        return None if self.generator is None else expand_path(self.generator, "generator")

    def load(self) -> tuple[PreTrainedModel, PreTrainedTokenizerBase]:
        """The generator that `generator` names, adapters merged into it, and its tokenizer.

        Raises:
            ValueError: without a `generator`.
            OSError, ValueError: as `load_generator`.
        """
        path, base = self.path(), None if self.base_model is None else expand_path(self.base_model, "base_model")
        if path is None:
            raise ValueError("There is no generator to load. Name one by `generator`.")
        return load_generator(
            path, revision=self.generator_revision,
            trust_remote_code=self.trust_remote_code, base_model=base,
        )  # fmt: skip


@dataclass
class GeneratorArguments(LoraArguments, ModelArguments):
    """A generator that exists, with new adapters or without; or the shape of a recurrent one to train from scratch."""

    word_vectors: str | None = option(
        None,
        "File of word vectors that the embeddings start from: text as of GloVe or word2vec, or parquet with the "
        "columns `word` and `vector`.",
    )
    cell_type: str = option("gru", "Recurrent cell: `gru` or `lstm`.")
    embedding_size: int = option(256, "Dimensions of the word embeddings.")
    hidden_size: int = option(256, "Units of every recurrent layer.")
    encoder_layers: int = option(1, "Number of recurrent layers of the encoder.")
    decoder_layers: int = option(1, "Number of recurrent layers of the decoder.")
    bidirectional: bool = option(True, "Let the encoder read from right to left, too.")
    attention: str = option("general", "Attention over the encoder's states: `none`, `dot`, `general` or `additive`.")
    attention_position: str = option("after", "Whether attention comes `after` or `before` the decoder's cell.")
    input_feeding: bool = option(False, "Give the decoder's cell the last attentional vector, too.")
    bridge: str = option(
        "dense",
        "How the decoder starts from the encoder's final states: `copy` takes them, `dense` maps them by a layer.",
    )
    share_embeddings: bool = option(True, "Use one embedding table for encoder and decoder.")
    tie_word_embeddings: bool = option(False, "Use the decoder's embedding table as the output layer.")
    dropout: float = option(0.0, "Dropout between recurrent layers.")
    embedding_dropout: float = option(0.0, "Dropout on word embeddings.")
    output_dropout: float = option(0.0, "Dropout before the output layer.")
    noise_size: int = option(
        0, "Dimensions of the noise vector that starts the decoder beside the encoder's states, for AIM. 0: no noise."
    )
    initializer_range: float = option(0.1, "Standard deviation of the embeddings at the start of training.")

    def __post_init__(self):
        super().__post_init__()
        check_bounds(self, SHAPE)
        if self.lora_rank is not None and self.generator is None:
            raise ValueError(
                "`lora_rank` trains adapters of a generator that exists. Name it by `generator`, or leave `lora_rank` "
                "out to train a recurrent one from scratch."
            )

    def unused(self) -> Iterator[Unused]:
        """The settings of a new generator and its tokenizer, where there is one."""
        if self.generator is not None:
            exists = field_names(ModelArguments) | field_names(LoraArguments)
            names = field_names(GeneratorArguments) - exists | field_names(TokenizerArguments)
            yield Unused("generator", self.generator, names)

    def config(self, tokenizer: PreTrainedTokenizerBase) -> RnnSeq2SeqConfig:
        """The shape of a new generator over the tokenizer's vocabulary."""
        names = {item.name for item in fields(RnnSeq2SeqConfig)}
        shape = {name: value for name, value in asdict(self).items() if name in names}
        start = tokenizer.eos_token_id if tokenizer.bos_token_id is None else tokenizer.bos_token_id
        return RnnSeq2SeqConfig(
            vocab_size=len(tokenizer), pad_token_id=tokenizer.pad_token_id, bos_token_id=tokenizer.bos_token_id,
            eos_token_id=tokenizer.eos_token_id, decoder_start_token_id=start, **shape,
        )  # fmt: skip

    def load_or_make(
        self, tokens: TokenizerArguments, pairs: Pairs, language: str
    ) -> tuple[PreTrainedModel, PreTrainedTokenizerBase]:
        """The generator that `generator` names with its tokenizer, or a new one with the tokenizer of `tokens`."""
        if self.generator is not None:
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
