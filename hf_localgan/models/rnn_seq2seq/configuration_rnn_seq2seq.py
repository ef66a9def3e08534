"""Configuration of the recurrent encoder-decoder."""

from typing import ClassVar

from huggingface_hub.dataclasses import strict
from transformers import PreTrainedConfig

CELL_TYPES = ("gru", "lstm")
ATTENTIONS = ("none", "dot", "general", "additive")
ATTENTION_POSITIONS = ("after", "before")
BRIDGES = ("copy", "dense")


@strict  # a value of another type is refused by name
class RnnSeq2SeqConfig(PreTrainedConfig):
    """Configuration of a recurrent encoder-decoder with attention.

    The defaults are the generator of the LocalGAN paper (one GRU layer of 256 units) with general attention.

    Args:
        vocab_size: tokens of the decoder, and of the encoder unless `encoder_vocab_size` is given.
        encoder_vocab_size: tokens of the encoder where source and target have vocabularies of their own.
        embedding_size: width of the word embeddings, whatever `hidden_size` is.
        hidden_size: width of every recurrent layer. A bidirectional layer has half of it per direction.
        encoder_layers: recurrent layers of the encoder.
        decoder_layers: recurrent layers of the decoder.
        cell_type: "gru" or "lstm".
        bidirectional: whether the encoder also reads from right to left.
        attention: score of the attention, "none", "dot", "general" (both Luong et al. 2015) or "additive" (Bahdanau et
            al. 2015).
        attention_position: "after" the cell (Luong: the state of this step is the query; training runs the whole target
            in one call) or "before" it (Bahdanau: the last state is the query, the context an input of the cell).
        input_feeding: whether the last attentional vector is an input of the cell (Luong et al. 2015, section 3.3).
        bridge: how the encoder's final states start the decoder, "copy" or "dense" (a linear layer and tanh).
        noise_size: dimensions of a noise vector `z` that may start the decoder beside the encoder's states,
            `W [enc; z]` (AIM, Zhang et al. 2018). Its part of `W` begins with zeros. 0: there is no noise.
        share_embeddings: whether encoder and decoder have one embedding table.
        tie_word_embeddings: whether the output layer is the decoder's embedding table. The attentional vector then has
            `embedding_size` dimensions.
        dropout: between recurrent layers, a probability.
        embedding_dropout: on word embeddings, a probability.
        output_dropout: before the output layer, a probability.
        initializer_range: standard deviation of the embeddings at the start.
        pad_token_id: padding; also what `-100` in labels becomes in the decoder's input.
        bos_token_id: begin of sequence.
        eos_token_id: end of sequence.
        decoder_start_token_id: first input of the decoder.

    Raises:
        ValueError: for a name that is not listed above, a size below 1 (of noise below 0), an odd `hidden_size` of a
            bidirectional encoder, and embeddings shared by vocabularies of two sizes.
    """

    model_type = "rnn_seq2seq"
    keys_to_ignore_at_inference = ["past_key_values"]
    attribute_map = {"num_hidden_layers": "decoder_layers"}
    attentions: ClassVar[tuple[str, ...]] = ATTENTIONS  # accepted values of `attention`

    vocab_size: int = 40_000
    encoder_vocab_size: int | None = None
    embedding_size: int = 256
    hidden_size: int = 256
    encoder_layers: int = 1
    decoder_layers: int = 1
    cell_type: str = "gru"
    bidirectional: bool = True
    attention: str = "general"
    attention_position: str = "after"
    input_feeding: bool = False
    bridge: str = "dense"
    noise_size: int = 0
    share_embeddings: bool = True
    tie_word_embeddings: bool = False
    dropout: float | int = 0.0
    embedding_dropout: float | int = 0.0
    output_dropout: float | int = 0.0
    initializer_range: float = 0.1
    use_cache: bool = True
    is_encoder_decoder: bool = True
    pad_token_id: int | None = 0
    bos_token_id: int | None = 1
    eos_token_id: int | list[int] | None = 2
    decoder_start_token_id: int | None = 1

    def __post_init__(self, **kwargs):
        for name, accepted in (
            ("cell_type", CELL_TYPES),
            ("attention", self.attentions),
            ("attention_position", ATTENTION_POSITIONS),
            ("bridge", BRIDGES),
        ):
            if getattr(self, name) not in accepted:
                choices = ", ".join(f'"{choice}"' for choice in accepted)
                raise ValueError(f'`{name}` must be one of {choices}, got "{getattr(self, name)}".')
        for name in ("vocab_size", "embedding_size", "hidden_size", "encoder_layers", "decoder_layers"):
            if getattr(self, name) < 1:
                raise ValueError(f"`{name}` must be at least 1, got {getattr(self, name)}.")
        if self.noise_size < 0:
            raise ValueError(f"`noise_size` must be at least 0, got {self.noise_size}. 0 is a decoder without noise.")
        if self.encoder_vocab_size is not None and self.encoder_vocab_size < 1:
            raise ValueError(f"`encoder_vocab_size` must be at least 1 or None, got {self.encoder_vocab_size}.")
        for name in ("dropout", "embedding_dropout", "output_dropout"):
            if not 0 <= getattr(self, name) < 1:
                raise ValueError(f"`{name}` is a probability below 1, got {getattr(self, name)}.")
        self._check_directions()
        if self.attention == "none" and (self.input_feeding or self.attention_position == "before"):
            raise ValueError(
                '`input_feeding` and `attention_position="before"` need an attention; `attention` is "none". '
                'Choose "dot", "general" or "additive".'
            )
        if self.encoder_vocab_size == self.vocab_size:
            self.encoder_vocab_size = None
        if self.share_embeddings and self.encoder_vocab_size is not None:
            raise ValueError(
                f"`share_embeddings` needs one vocabulary, got {self.encoder_vocab_size} source and {self.vocab_size} "
                "target tokens. Set `share_embeddings=False`."
            )
        super().__post_init__(**kwargs)

    def _check_directions(self):
        if self.bidirectional and self.hidden_size % 2:
            raise ValueError(
                "`hidden_size` must be even for a bidirectional encoder (half of it per direction), "
                f"got {self.hidden_size}."
            )

    @property
    def state_tensors(self) -> int:
        """Tensors of `hidden_size` that one layer carries from step to step: 1 for a GRU, 2 (`h`, `c`) for an LSTM."""
        return 2 if self.cell_type == "lstm" else 1
