"""Configuration of the discriminator of queries and responses."""

from huggingface_hub.dataclasses import strict
from transformers import PreTrainedConfig

BODIES = ("cnn", "dbm")
ENERGIES = ("dbm", "rbm_pair")
VISIBLE_STDS = ("unit", "learned")
POOLINGS = ("mean", "sqrt", "distinct_sqrt")
HEADS = ("mlp", "bilinear", "cosine")
INTERACTIONS = ("none", "product", "difference", "both")


@strict  # a value of another type is refused by name
class PairDiscriminatorConfig(PreTrainedConfig):
    """Configuration of a network that tells whether a response belongs to a query.

    Args:
        body: "cnn": convolutions over the word embeddings of either side. "dbm": the mean hidden units of a deep
            Boltzmann machine over the vectors of both.
        vocab_size: tokens.
        embedding_size: dimensions of the learned word embeddings of the convolutional body. 0: it has none.
        vector_size: dimensions of frozen word vectors. The convolutional body has them beside the learned embeddings,
            or none with 0; the Boltzmann machine has no others.
        widths: tokens in the window of a convolution, one convolution for each number.
        filters: number of filters of each convolution.
        share_filters: whether queries and responses are read by the same convolutions.
        hidden_size: units of the Boltzmann machine that both vectors are joined to.
        top_size: units above them.
        energy: energy of the Boltzmann machine: "dbm", or "rbm_pair", two machines of one layer over the same vectors.
        visible_std: "unit" or "learned", as in the energy that the body is made from.
        whiten: whether its scalers take correlations out of the vectors, as the energy's do.
        pooling: how word vectors become the vector of an utterance, as the energy's: "mean", "sqrt", "distinct_sqrt".
        mean_field_steps: steps of the Boltzmann machine's mean field; all are taken and differentiated.
        head: how the score is made from the features: "mlp", or for the convolutional body "bilinear",
            `q' M r + a' q + b' r + c`, whose `M` begins as a multiple of the identity where filters are shared, or
            "cosine", the cosine of `tanh` embeddings of the two sides, which compares responses to one query with each
            other and is no logit (AIM, Zhang et al. 2018; 100 dimensions there). Sides that share filters share the
            embedding, too.
        interaction: input of the MLP beside the features of query and response: their "product", the absolute
            "difference" of the two, "both" or "none". For the convolutional body.
        head_size: hidden units of the MLP; dimensions of the embeddings of the cosine.
        dropout: on the features and on the hidden units of the MLP, a probability.
        embedding_dropout: on word embeddings of the convolutional body, a probability.
        initializer_range: standard deviation of the learned word embeddings at the start.
        pad_token_id, bos_token_id, eos_token_id: tokens around the text, which the convolutional body skips. The
            Boltzmann machine reads the regular tokens of its energy only.
        vocabulary: fingerprint of the tokenizer that it was trained with; `None` where it is not known.

    Raises:
        ValueError: for a name that is not listed above, a size below 1 (embeddings: below 0), a body without any word
            embeddings, and a bilinear or cosine head on a Boltzmann machine.
    """

    model_type = "query_response_discriminator"

    body: str = "cnn"
    vocab_size: int = 40_000
    embedding_size: int = 200
    vector_size: int = 0
    widths: list[int] | tuple[int, ...] = (1, 2, 3, 4)
    filters: int = 128
    share_filters: bool = False
    hidden_size: int = 128
    top_size: int = 128
    energy: str = "dbm"
    visible_std: str = "unit"
    whiten: bool = False
    pooling: str = "mean"
    mean_field_steps: int = 5
    head: str = "mlp"
    interaction: str = "both"
    head_size: int = 128
    dropout: float | int = 0.2
    embedding_dropout: float | int = 0.2
    initializer_range: float = 0.1
    pad_token_id: int | None = None
    bos_token_id: int | None = None
    eos_token_id: int | list[int] | None = None
    vocabulary: str | None = None

    def __post_init__(self, **kwargs):
        self.widths = list(self.widths)
        for name, accepted in (
            ("body", BODIES), ("energy", ENERGIES), ("visible_std", VISIBLE_STDS), ("head", HEADS),
            ("interaction", INTERACTIONS), ("pooling", POOLINGS),
        ):  # fmt: skip
            if getattr(self, name) not in accepted:
                choices = ", ".join(f'"{choice}"' for choice in accepted)
                raise ValueError(f'`{name}` must be one of {choices}, got "{getattr(self, name)}".')
        for name in ("vocab_size", "filters", "hidden_size", "top_size", "mean_field_steps", "head_size"):
            if getattr(self, name) < 1:
                raise ValueError(f"`{name}` must be at least 1, got {getattr(self, name)}.")
        for name in ("embedding_size", "vector_size"):
            if getattr(self, name) < 0:
                raise ValueError(f"`{name}` must not be negative, got {getattr(self, name)}.")
        for name in ("dropout", "embedding_dropout"):
            if not 0 <= getattr(self, name) < 1:
                raise ValueError(f"`{name}` is a probability below 1, got {getattr(self, name)}.")
        self._check_body()
        unknown_ids = [token for token in self.tokens_around_text if not 0 <= token < self.vocab_size]
        if unknown_ids:
            raise ValueError(
                f"`pad_token_id`, `bos_token_id` and `eos_token_id` must be ids of the vocabulary, 0 to "
                f"{self.vocab_size - 1}, got {unknown_ids}."
            )
        super().__post_init__(**kwargs)

    @property
    def tokens_around_text(self) -> list[int]:
        """Ids of the padding, begin and end tokens, as far as they are set."""
        ends = self.eos_token_id if isinstance(self.eos_token_id, list) else [self.eos_token_id]
        return sorted({token for token in (self.pad_token_id, self.bos_token_id, *ends) if token is not None})

    def _check_body(self):
        if self.body == "cnn":
            if not self.widths or min(self.widths) < 1:
                raise ValueError(f"`widths` must be one or more numbers of at least 1, got {self.widths}.")
            if self.embedding_size + self.vector_size == 0:
                raise ValueError(
                    "The body reads no words: `embedding_size` and `vector_size` are both 0. Set `embedding_size` to "
                    "learn embeddings, or `vector_size` to the dimensions of frozen word vectors."
                )
            return
        if self.vector_size == 0:
            raise ValueError(
                '`body="dbm"` reads frozen word vectors, and `vector_size` is 0. Set it to their dimensions, or make '
                "the discriminator from an energy by `PairDiscriminator.from_energy`."
            )
        if self.head != "mlp":
            raise ValueError(f'`head="{self.head}"` needs features of either side, so `body="cnn"`; got `body="dbm"`.')
        if self.energy == "rbm_pair" and self.visible_std != "unit":
            raise ValueError('`visible_std="learned"` needs `energy="dbm"`, got `energy="rbm_pair"`.')
