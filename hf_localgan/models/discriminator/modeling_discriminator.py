"""A network that tells whether a response belongs to a query."""

from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from transformers import PreTrainedModel
from transformers import initialization as init
from transformers.utils import ModelOutput, can_return_tuple

from .bodies_discriminator import BoltzmannBody, ConvolutionalBody, Utterances, read_utterances
from .configuration_discriminator import PairDiscriminatorConfig

COUPLINGS_STD = 0.01  # of an untrained Boltzmann machine
UNUSED_STATE = ("visible_bias", "top_visible_bias", "query_count", "response_count")  # of an energy, for its means
INITIAL_OVERLAP = 0.1  # weight of `q' r` in the logit of a bilinear head at the start
SMALLEST_NORM = 0.1  # of an embedding whose cosine is taken; the gradient at one of zeros would be infinite


@dataclass
class PairDiscriminatorOutput(ModelOutput):
    """What the forward of `PairDiscriminator` returns.

    Args:
        logits: of each pair, shape `(batch,)`; the sigmoid is the probability that the response belongs to the query.
            Cosines with the head "cosine".
        mismatch_logits: of each query with the responses in `mismatches`, shape `(batch, negatives)`.
    """

    logits: Tensor | None = None
    mismatch_logits: Tensor | None = None


class PairDiscriminator(PreTrainedModel):
    """A logit for a query and a response, either of them token ids or a distribution over tokens at each place.

    A distribution that is certain of one token gives the result of its id, and gradients flow to the distributions.
    Padding and batch neighbours change nothing. The body (`config.body`) is described in its own class.
    """

    config: PairDiscriminatorConfig
    config_class = PairDiscriminatorConfig
    main_input_name = "input_ids"
    base_model_prefix = "discriminator"
    accepts_loss_kwargs = False  # the forward computes no loss

    def __init__(self, config: PairDiscriminatorConfig):
        super().__init__(config)
        self.body = ConvolutionalBody(config) if config.body == "cnn" else BoltzmannBody(config)
        self.head: nn.Module
        if config.head == "bilinear":
            assert isinstance(self.body, ConvolutionalBody)
            self.bilinear = nn.Linear(self.body.side_size, self.body.side_size, bias=False)
            self.head = nn.Linear(2 * self.body.side_size, 1)
        elif config.head == "cosine":
            assert isinstance(self.body, ConvolutionalBody)
            sides = ("both",) if config.share_filters else ("query", "response")
            self.head = nn.ModuleDict({side: nn.Linear(self.body.side_size, config.head_size) for side in sides})
        else:
            self.head = nn.Sequential(
                nn.Linear(self.body.size, config.head_size), nn.ReLU(), nn.Dropout(config.dropout),
                nn.Linear(config.head_size, 1),
            )  # fmt: skip
        self.post_init()

    def _init_weights(self, module: nn.Module):
        if module is getattr(self, "bilinear", None) and self.config.share_filters:
            # Both sides are read alike, so that their product measures from the start what they have in common.
            init.copy_(module.weight, INITIAL_OVERLAP * torch.eye(len(module.weight)).to(module.weight))
        elif isinstance(module, nn.Linear):
            init.xavier_uniform_(module.weight)
            if module.bias is not None:
                init.zeros_(module.bias)
        elif isinstance(module, nn.Embedding):
            init.normal_(module.weight, mean=0.0, std=self.config.initializer_range)
        elif isinstance(module, BoltzmannBody | ConvolutionalBody):
            for name, parameter in module.named_parameters(recurse=False):
                if "_to_" in name:
                    init.normal_(parameter, mean=0.0, std=COUPLINGS_STD)
                else:
                    init.zeros_(parameter)
            for name, buffer in module.named_buffers(recurse=False):
                ending = name.split("_")[-1]
                {"std": init.ones_, "whitening": init.eye_}.get(ending, init.zeros_)(buffer)

    # ---- parameters of other models ----

    @classmethod
    def from_energy(cls, energy: PreTrainedModel, **settings) -> "PairDiscriminator":
        """A discriminator whose body is a copy of an energy: its couplings, biases, word vectors and scalers.

        Args:
            energy (`DbmModel`): trained, with word vectors.
            **settings: fields of `PairDiscriminatorConfig`, such as `mean_field_steps`, `head_size` and `dropout`.

        Raises:
            ValueError: for an energy without word vectors, without a top layer or in the form as printed.
        """
        config = energy.config
        if config.vocab_size is None:
            raise ValueError(
                "The energy holds no word vectors (its `vocab_size` is `None`), so a discriminator made from it "
                "cannot read token ids. Train an energy on token ids."
            )
        if config.energy not in ("dbm", "rbm_pair") or config.top_size == 0:
            raise ValueError(
                'The body needs an energy "dbm" or "rbm_pair" with a top layer, got '
                f'"{config.energy}" with {config.top_size} units in that layer.'
            )
        names = ("vocab_size", "hidden_size", "top_size", "energy", "visible_std", "whiten", "pooling")
        shape = {name: getattr(config, name) for name in names} | {"vector_size": config.query_size, "body": "dbm"}
        model = cls(PairDiscriminatorConfig(**{**shape, **settings}))
        model.to(energy.dtype)  # type: ignore[arg-type]  # the stub of this method lacks `self`
        state = {name.replace("_scaler.", "_"): value for name, value in energy.state_dict().items()}
        state = {name.removeprefix("word_vectors."): value for name, value in state.items()}
        state["vectors"] = state["vectors"] * state["regular"][:, None]
        for name in UNUSED_STATE:
            state.pop(name, None)
        model.body.load_state_dict(state)  # strict: any other state of an energy would change its means
        return model

    def load_vectors(self, vectors: Tensor) -> "PairDiscriminator":
        """Takes over word vectors; for the convolutional body.

        Args:
            vectors: shape `(vocab_size, vector_size)`, frozen. Without a `vector_size` the learned embeddings start
                from them, shape `(vocab_size, embedding_size)`, and keep their rows where a vector is all zeros.

        Returns:
            This discriminator.

        Raises:
            ValueError: for another body, another shape, and numbers that are not finite.
        """
        if not isinstance(self.body, ConvolutionalBody):
            raise ValueError("A Boltzmann machine has the word vectors of its energy. Use `from_energy`.")
        table = self.body.vectors if self.config.vector_size else self.body.embeddings.weight
        if vectors.shape != table.shape:
            raise ValueError(f"`vectors` must have shape {tuple(table.shape)}, got {tuple(vectors.shape)}.")
        if not torch.isfinite(vectors).all():
            raise ValueError("`vectors` must be finite, got NaN or infinity.")
        with torch.no_grad():
            vectors = vectors.to(table)
            replaced = (vectors != 0).any(dim=1, keepdim=True) | bool(self.config.vector_size)
            table.copy_(torch.where(replaced, vectors, table))
        return self

    # ---- a logit ----

    def query_features(
        self, input_ids: Tensor | None = None, attention_mask: Tensor | None = None, probabilities: Tensor | None = None
    ) -> Tensor:
        """Features of queries, shape `(batch, size)`, for `score`; arguments as in `forward`."""
        utterances = self._read("query", input_ids, probabilities, attention_mask)
        with self._precision(utterances.mask):
            return self.body.query_features(utterances)

    def response_features(
        self,
        labels: Tensor | None = None,
        mask: Tensor | None = None,
        probabilities: Tensor | None = None,
        ids: Tensor | None = None,
    ) -> Tensor:
        """Features of responses, shape `(batch, size)`, for `score`; arguments as in `forward`."""
        utterances = self._read("response", labels, probabilities, mask, ids)
        with self._precision(utterances.mask):
            return self.body.response_features(utterances)

    def score(self, query: Tensor, response: Tensor) -> Tensor:
        """Logits of pairs of features, shape `(pairs,)`, from `query_features` and `response_features`.

        With the head "cosine" they are the cosines `D(r, q)` of both sides' embeddings, in [-1, 1]. An embedding of a
        norm below 0.1, such as that of an empty response at the start, counts as one of 0.1: smaller, not infinitely
        steep.
        """
        if self.config.head == "cosine":
            return F.cosine_similarity(*self.embed(query, response), dim=1, eps=SMALLEST_NORM)
        if self.config.head == "bilinear":
            linear = self.head(torch.cat([query, response], dim=1)).squeeze(1)
            return linear + (self.bilinear(query) * response).sum(dim=1)
        with self._precision(query):
            joined = self.body.join(query, response)
        return self.head(joined).squeeze(1)

    def embed(self, query: Tensor, response: Tensor) -> tuple[Tensor, Tensor]:
        """Embeddings whose cosine is the score of the head "cosine", `tanh(W features)`, shape `(pairs, head_size)`.

        Args:
            query, response: from `query_features` and `response_features`.

        Raises:
            ValueError: with another head.
        """
        if not isinstance(self.head, nn.ModuleDict):
            raise ValueError(f'Only the head "cosine" embeds its sides, this one is "{self.config.head}".')
        query_side, response_side = ("both", "both") if "both" in self.head else ("query", "response")
        return torch.tanh(self.head[query_side](query)), torch.tanh(self.head[response_side](response))

    @can_return_tuple
    def forward(
        self,
        input_ids: Tensor | None = None,
        attention_mask: Tensor | None = None,
        labels: Tensor | None = None,
        query_probabilities: Tensor | None = None,
        response_probabilities: Tensor | None = None,
        response_ids: Tensor | None = None,
        response_mask: Tensor | None = None,
        mismatches: Tensor | None = None,
        **kwargs,
    ) -> PairDiscriminatorOutput:
        """Logits of pairs, and of queries with other responses of the batch.

        Args:
            input_ids: the queries' tokens, -100 is padding, shape `(batch, time)`; or
            query_probabilities: a distribution at each place, shape `(batch, time, vocab)`.
            attention_mask: 0 where a query's place does not count, shape `(batch, time)`. By default all places count.
            labels: the responses' tokens, -100 is padding, shape `(batch, time)`; or
            response_probabilities: a distribution at each place, shape `(batch, time, vocab)`.
            response_ids: the tokens of the columns of `response_probabilities` where these are of k tokens only; both
                have the shape `(batch, time, k)`.
            response_mask: weight of each place of a response, 0 to 1, shape `(batch, time)`.
            mismatches: rows of further responses that each query is scored with, shape `(batch, negatives)`.

        Raises:
            ValueError: unless each side is given once, in these shapes and with ids of the vocabulary.
        """
        query = self.query_features(input_ids, attention_mask, query_probabilities)
        response = self.response_features(labels, response_mask, response_probabilities, response_ids)
        if len(query) != len(response):
            raise ValueError(f"There must be one response for each query, got {len(response)} and {len(query)}.")
        logits = self.score(query, response)
        if mismatches is None:
            return PairDiscriminatorOutput(logits)
        repeated = query.repeat_interleave(mismatches.shape[1], dim=0)
        mismatch_logits = self.score(repeated, response[mismatches.flatten()])
        return PairDiscriminatorOutput(logits, mismatch_logits.view(mismatches.shape))

    def _read(
        self,
        side: str,
        ids: Tensor | None,
        probabilities: Tensor | None,
        mask: Tensor | None,
        columns: Tensor | None = None,
    ) -> Utterances:
        return read_utterances(side, ids, probabilities, mask, self.config.vocab_size, self.body.dtype, columns)

    def _precision(self, tensor: Tensor) -> AbstractContextManager:
        """Turns autocast off for a mean field: it runs in the precision of its parameters, as that of its energy."""
        return nullcontext() if self.config.body == "cnn" else torch.autocast(tensor.device.type, enabled=False)
