"""Features of a query and a response for a discriminator: convolutions over words, or means of a Boltzmann machine.

Both read utterances as token ids or as a distribution over tokens at each place, and give the same for ids and for the
distributions that are certain of them.
"""

from collections.abc import Iterable
from typing import NamedTuple, cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from .configuration_discriminator import PairDiscriminatorConfig

PADDING = -100  # the label that losses skip


class Utterances(NamedTuple):
    """Utterances as a body reads them: a token at each place, or probabilities of tokens.

    Attributes:
        ids: token ids without negative ones, shape `(batch, time)`; beside probabilities of k tokens these tokens,
            shape `(batch, time, k)`; `None` beside probabilities of the whole vocabulary.
        probabilities: shape `(batch, time, k)` or `(batch, time, vocab)`; `None` where each place has one token.
        mask: weight of each place, 0 at padding, 1 at tokens, and between; shape `(batch, time)`.
    """

    ids: Tensor | None
    probabilities: Tensor | None
    mask: Tensor

    def embed(self, table: Tensor) -> Tensor:
        """Expected row of `table`, shape `(batch, time, dim)`, from one of shape `(vocab, dim)`."""
        if self.probabilities is None:
            assert self.ids is not None
            return F.embedding(self.ids, table)
        probabilities = self.probabilities.to(table.dtype)
        if self.ids is None:
            return probabilities @ table
        places, weights = self.ids.flatten(0, 1), probabilities.flatten(0, 1)
        embedded = F.embedding_bag(places, table, per_sample_weights=weights, mode="sum")  # no row of a table is copied
        return embedded.view(*self.ids.shape[:2], table.shape[1])

    def counts(self, vocab_size: int) -> Tensor:
        """How often each token is expected, shape `(batch, vocab_size)`, with a gradient for probabilities and mask."""
        if self.probabilities is None:
            assert self.ids is not None
            weights, ids = self.mask[:, :, None], cast(Tensor | None, self.ids[:, :, None])
        else:
            weights, ids = self.probabilities.to(self.mask.dtype) * self.mask[:, :, None], self.ids
        if ids is None:
            return weights.sum(dim=1)
        empty = weights.new_zeros(len(weights), vocab_size)
        return empty.scatter_add(1, ids.flatten(1), weights.flatten(1))


def read_utterances(
    side: str,
    ids: Tensor | None,
    probabilities: Tensor | None,
    mask: Tensor | None,
    vocab_size: int,
    dtype: torch.dtype,
    columns: Tensor | None = None,
) -> Utterances:
    """Checks the arguments of one side. -100 in place of an id is padding under any mask.

    Args:
        side: "query" or "response", for errors.
        ids: shape `(batch, time)`, or
        probabilities: shape `(batch, time, vocab)`, or `(batch, time, k)` with `columns`.
        mask: shape `(batch, time)`; by default all places count.
        vocab_size: tokens.
        dtype: of the mask that is returned.
        columns: the tokens of the k probabilities, shape `(batch, time, k)`; by default the vocabulary.

    Raises:
        ValueError: if not exactly one of ids and probabilities is given, for other shapes, and for ids outside of the
            vocabulary.
    """
    tensor = ids if probabilities is None else probabilities
    if tensor is None or (ids is not None and probabilities is not None):
        names = {"query": "`input_ids` or `query_probabilities`", "response": "`labels` or `response_probabilities`"}
        raise ValueError(f"Give {names[side]}, one of the two.")
    if columns is not None and (probabilities is None or columns.shape != tensor.shape):
        shape = "none" if probabilities is None else f"those of shape {tuple(tensor.shape)}"
        raise ValueError(f"Tokens of shape {tuple(columns.shape)} need probabilities of the same shape, got {shape}.")
    wrong_width = probabilities is not None and columns is None and tensor.shape[-1] != vocab_size
    if tensor.dim() != (2 if probabilities is None else 3) or wrong_width:
        shape = "(batch, time)" if probabilities is None else f"(batch, time, {vocab_size})"
        raise ValueError(f"The {side} must have shape {shape}, got {tuple(tensor.shape)}.")
    if mask is not None and mask.shape != tensor.shape[:2]:
        raise ValueError(f"The mask of the {side} must have shape {tuple(tensor.shape[:2])}, got {tuple(mask.shape)}.")
    mask = torch.ones(tensor.shape[:2], dtype=dtype, device=tensor.device) if mask is None else mask.to(dtype)
    if tensor.shape[1] == 0:  # empty utterances become one place of padding
        mask = mask.new_zeros(len(tensor), 1)
        if ids is not None:
            return Utterances(ids.new_zeros(mask.shape), None, mask)
        return Utterances(None, tensor.new_zeros(*mask.shape, vocab_size), mask)
    tokens = ids if columns is None else columns
    if tokens is not None:
        unknown = (tokens >= vocab_size) | (tokens < 0) & ((tokens != PADDING) | (columns is not None))
        if unknown.any():  # on an accelerator the look-up would end the process without a message
            raise ValueError(
                f"The {side} has ids outside the vocabulary of {vocab_size} tokens, such as {int(tokens[unknown][0])}. "
                "The tokenizer is not the one that this discriminator was made for."
            )
    if ids is None:
        return Utterances(columns, probabilities, mask)
    return Utterances(ids.clamp(min=0), None, mask * (ids >= 0))


class ConvolutionalBody(nn.Module):
    """Convolutions over the word embeddings of either side, each filter's largest value over time (Kim 2014).

    A window begins at every token and reads zeros after the last one, so that every filter has a value for every
    utterance that has a token, and padding, on either side, changes nothing. Padding, begin and end tokens of the
    configuration count as padding: a generation may end without one. Their probability, in a
    distribution over tokens, adds nothing to the mean embedding of a place, and a place with no other token is padding.
    """

    def __init__(self, config: PairDiscriminatorConfig):
        super().__init__()
        self.config = config
        self.vectors: Tensor
        if config.embedding_size:
            self.embeddings = nn.Embedding(config.vocab_size, config.embedding_size)
        if config.vector_size:
            self.register_buffer("vectors", torch.zeros(config.vocab_size, config.vector_size))
        size = config.embedding_size + config.vector_size
        # Over windows that are laid out token by token, a linear layer is a convolution.
        self.query_filters = nn.ModuleList(nn.Linear(width * size, config.filters) for width in config.widths)
        if not config.share_filters:
            self.response_filters = nn.ModuleList(nn.Linear(width * size, config.filters) for width in config.widths)
        self.embedding_dropout = nn.Dropout(config.embedding_dropout)
        self.dropout = nn.Dropout(config.dropout)
        self.side_size = config.filters * len(config.widths)
        self.size = self.side_size * {"none": 2, "product": 3, "difference": 3, "both": 4}[config.interaction]

    @property
    def dtype(self) -> torch.dtype:
        return cast(nn.Linear, self.query_filters[0]).weight.dtype

    def query_features(self, utterances: Utterances) -> Tensor:
        """Shape `(batch, filters * widths)`; zeros for an utterance without tokens."""
        return self._features(self.query_filters, utterances)

    def response_features(self, utterances: Utterances) -> Tensor:
        """As `query_features`, with the responses' own filters unless the sides share theirs."""
        return self._features(self.query_filters if self.config.share_filters else self.response_filters, utterances)

    def join(self, query: Tensor, response: Tensor) -> Tensor:
        """Input of the head from pairs of features, shape `(pairs, size)`."""
        parts = [query, response]
        if self.config.interaction in ("product", "both"):
            parts.append(query * response)
        if self.config.interaction in ("difference", "both"):
            parts.append((query - response).abs())
        return torch.cat(parts, dim=1)

    def _features(self, filters: nn.ModuleList, utterances: Utterances) -> Tensor:
        text = self._text(utterances.mask)
        present = (utterances.embed(text).squeeze(2) * utterances.mask) != 0
        windows = self._windows(utterances, present, text)
        empty = ~present.any(dim=1, keepdim=True)
        features = []
        for layer in cast(Iterable[nn.Linear], filters):
            values = layer(windows[:, : layer.in_features])  # (tokens, filters)
            placed = values.new_full((*present.shape, values.shape[1]), float("-inf"))
            placed[present] = values
            features.append(F.relu(placed.max(dim=1).values.masked_fill(empty, 0.0)))
        return self.dropout(torch.cat(features, dim=1))

    def _text(self, mask: Tensor) -> Tensor:
        """1 for tokens of the text and 0 for those around it, shape `(vocab, 1)`, in the type of `mask`."""
        text = mask.new_ones(self.config.vocab_size, 1)
        text[self.config.tokens_around_text] = 0
        return text

    def _windows(self, utterances: Utterances, present: Tensor, text: Tensor) -> Tensor:
        """The embeddings of each token and those that follow it, shape `(tokens, dim * widest)`.

        Windows at padding, most of a batch where lengths differ, are not made.
        """
        widest = max(self.config.widths)
        tables = [self.embeddings.weight] if self.config.embedding_size else []
        tables += [self.vectors] if self.config.vector_size else []
        if utterances.probabilities is not None:
            tables = [table * text for table in tables]
        embedded = torch.cat([utterances.embed(table) for table in tables], dim=2)[present]  # (tokens, dim)
        embedded = self.embedding_dropout(embedded) * utterances.mask[present][:, None]
        number = len(embedded)
        # For each place the row of its token; for padding and places after the end a row of zeros.
        rows = torch.full((len(present), present.shape[1] + widest - 1), number, device=present.device)
        rows[:, : present.shape[1]][present] = torch.arange(number, device=present.device)
        rows = rows.unfold(1, widest, 1)[present]  # (tokens, widest)
        return F.embedding(rows, F.pad(embedded, (0, 0, 0, 1))).flatten(1)


class BoltzmannBody(nn.Module):
    """Means of the binary units of a deep Boltzmann machine over the vectors of query and response.

    A vector is the standardised (and whitened, if the energy's are) mean of the frozen word vectors of an utterance's
    regular tokens, each weighted by its probability, or another `pooling` of them; an utterance without regular tokens
    lies at the mean. The mean field takes a fixed number of steps, through which gradients flow; parameters and steps
    are those of the energy (`from_energy`), with real-valued units `v = [q; r]`, standard deviations `s`, and units
    `hq` (`hidden`) and `h` (`top`):

        hq <- sigmoid(W (v / s^2) + U' h + c1)        h <- sigmoid(U hq + c2)
    """

    def __init__(self, config: PairDiscriminatorConfig):
        super().__init__()
        self.config = config
        visible = 2 * config.vector_size
        self.visible_to_hidden = nn.Parameter(torch.empty(config.hidden_size, visible))
        self.hidden_bias = nn.Parameter(torch.empty(config.hidden_size))
        self.top_bias = nn.Parameter(torch.empty(config.top_size))
        if config.energy == "rbm_pair":
            self.visible_to_top = nn.Parameter(torch.empty(config.top_size, visible))
        else:
            self.hidden_to_top = nn.Parameter(torch.empty(config.top_size, config.hidden_size))
        if config.visible_std == "learned":
            self.visible_log_std = nn.Parameter(torch.empty(visible))
        self.regular: Tensor
        self.vectors: Tensor  # zeros for tokens that are not regular
        self.register_buffer("vectors", torch.zeros(config.vocab_size, config.vector_size))
        self.register_buffer("regular", torch.zeros(config.vocab_size, dtype=torch.bool))
        for side in ("query", "response"):
            self.register_buffer(f"{side}_mean", torch.zeros(config.vector_size))
            self.register_buffer(f"{side}_std", torch.ones(config.vector_size))
            if config.whiten:
                self.register_buffer(f"{side}_whitening", torch.eye(config.vector_size))
        self.dropout = nn.Dropout(config.dropout)
        self.size = config.hidden_size + config.top_size

    @property
    def dtype(self) -> torch.dtype:
        return self.visible_to_hidden.dtype

    def query_features(self, utterances: Utterances) -> Tensor:
        """Standardised vectors of queries, shape `(batch, vector_size)`."""
        return self._features(utterances, "query")

    def response_features(self, utterances: Utterances) -> Tensor:
        """Standardised vectors of responses, shape `(batch, vector_size)`."""
        return self._features(utterances, "response")

    def _features(self, utterances: Utterances, side: str) -> Tensor:
        if not self.regular.any():
            raise ValueError(
                "This body has no word vectors yet. Make the discriminator from an energy by "
                "`PairDiscriminator.from_energy`, or load a trained discriminator."
            )
        if self.config.pooling == "distinct_sqrt":
            counts = (utterances.counts(len(self.vectors)) * self.regular).clamp(max=1)  # (batch, vocab)
            summed, mass = counts @ self.vectors, counts.sum(dim=1, keepdim=True)
        else:
            counted = utterances.embed(self.regular.to(self.vectors.dtype)[:, None])  # (batch, time, 1)
            mass = (counted * utterances.mask[:, :, None]).sum(dim=1)
            summed = (utterances.embed(self.vectors) * utterances.mask[:, :, None]).sum(dim=1)
        number = mass.masked_fill(mass == 0, 1.0)
        vectors = summed / (number if self.config.pooling == "mean" else number.sqrt())
        vectors = (vectors - getattr(self, f"{side}_mean")) / getattr(self, f"{side}_std")
        if self.config.whiten:
            vectors = vectors @ getattr(self, f"{side}_whitening")
        return torch.where(mass > 0, vectors, 0.0)

    def join(self, query: Tensor, response: Tensor) -> Tensor:
        """Means of `hidden` and `top` of pairs of vectors, shape `(pairs, hidden_size + top_size)`."""
        return self.dropout(torch.cat(self.means(query, response), dim=1))

    def means(self, query: Tensor, response: Tensor) -> tuple[Tensor, Tensor]:
        """Means of `hidden` and `top`, shapes `(pairs, hidden_size)` and `(pairs, top_size)`, with their gradient."""
        visible = torch.cat([query, response], dim=1)
        if self.config.visible_std == "learned":
            visible = visible * (-2 * self.visible_log_std).exp()
        base = F.linear(visible, self.visible_to_hidden, self.hidden_bias)
        if self.config.energy == "rbm_pair":  # the two layers are not coupled
            return torch.sigmoid(base), torch.sigmoid(F.linear(visible, self.visible_to_top, self.top_bias))
        top = base.new_full((len(base), self.config.top_size), 0.5)
        hidden = torch.sigmoid(base + top @ self.hidden_to_top)
        for _ in range(self.config.mean_field_steps):
            top = torch.sigmoid(F.linear(hidden, self.hidden_to_top, self.top_bias))
            hidden = torch.sigmoid(base + top @ self.hidden_to_top)
        return hidden, top
