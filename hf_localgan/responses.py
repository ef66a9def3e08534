"""Responses of a generator to queries and conversations: the settings, and what a model reads of them.

torch is imported by the functions that need it, so that wrong settings are reported at once.
"""

import dataclasses
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, NamedTuple, TypeAlias

from hf_localgan.text import without_surrogates
from hf_localgan.turns import History, kept_history, query_of, token_counts

if TYPE_CHECKING:
    from torch import Tensor
    from transformers import PreTrainedModel, PreTrainedTokenizerBase

    from hf_localgan.decoding.answers import Decoding

# A bound for what is read from a pipe, where one line may be a whole file: longer queries are cut, and told.
LONGEST_QUERY = 4096  # tokens
LARGEST = {"num_beams": 10_000, "num_return_sequences": 10_000, "max_new_tokens": 1_000_000}
LEAST_TEMPERATURE = 1e-6  # logits are divided by it, and must stay finite
SEEDS = range(-(2**63), 2**64)  # of torch


@dataclass(frozen=True)
class ChatSettings:
    """How responses are generated. `temperature` and `top_p` matter to sampling only.

    Attributes:
        do_sample: draw tokens at random; otherwise take the most probable response of the search.
        num_beams: hypotheses of the search; 1 is greedy.
        temperature: of the distribution that tokens are drawn from, above 0.
        top_p: draw from the fewest tokens that have this probability together, in (0, 1].
        max_new_tokens: longest response, in tokens.
        num_return_sequences: responses per query.
        seed: of sampling; by default every session differs.
        decoding: a decoding that replaces `do_sample`, `num_beams`, `temperature` and `top_p`.

    Raises:
        ValueError: for values out of their range, and for more responses than the decoding gives.
    """

    do_sample: bool = False
    num_beams: int = 1
    temperature: float = 1.0
    top_p: float = 1.0
    max_new_tokens: int = 64
    num_return_sequences: int = 1
    seed: int | None = None
    decoding: "Decoding | None" = None

    def __post_init__(self):
        for name in ("num_beams", "max_new_tokens", "num_return_sequences"):
            if getattr(self, name) < 1:
                raise ValueError(f"`{name}` must be at least 1, got {getattr(self, name)}.")
            if getattr(self, name) > LARGEST[name]:
                raise ValueError(f"`{name}` must be at most {LARGEST[name]:,}, got {getattr(self, name)}.")
        if not 0 < self.temperature < float("inf"):
            raise ValueError(
                f"`temperature` must be above 0 and finite, got {self.temperature}. Greedy is its limit 0."
            )
        if self.temperature < LEAST_TEMPERATURE:
            raise ValueError(
                f"`temperature` must be at least {LEAST_TEMPERATURE:g}, got {self.temperature}: logits divided by "
                "less overflow. Greedy is its limit 0."
            )
        if self.seed is not None and self.seed not in SEEDS:
            raise ValueError(f"`seed` must be a whole number from -2^63 to 2^64 - 1, got {self.seed}.")
        if not 0 < self.top_p <= 1:
            raise ValueError(f"`top_p` must be above 0 and at most 1, got {self.top_p}.")
        if self.decoding is not None:
            most = self.decoding.most_answers
            if most is not None and self.num_return_sequences > most:
                raise ValueError(
                    f"`num_return_sequences` must be at most {most} with the decoding `{self.decoding.name}`, got "
                    f"{self.num_return_sequences}."
                )
        elif not self.do_sample and self.num_return_sequences > self.num_beams:
            raise ValueError(
                f"`num_return_sequences` {self.num_return_sequences} needs sampling (set a temperature) or `num_beams` "
                f"of at least {self.num_return_sequences}, got {self.num_beams}."
            )

    def changed(self, name: str, value: str) -> "ChatSettings":
        """The settings after the command `/set NAME VALUE`.

        A temperature or `top_p` switches sampling on, `num_beams` switches it off; each replaces a named decoding, and
        `decoding` replaces them.

        Raises:
            ValueError: for an unknown name or a value that is not accepted.
        """
        names = [field.name for field in dataclasses.fields(self) if field.name != "do_sample"]
        if name not in names:
            raise ValueError(f"There is no setting `{name}`. Settings are {', '.join(names)}.")
        if name == "decoding":
            return dataclasses.replace(self, decoding=parse_decoding(value))
        is_real = name in ("temperature", "top_p")
        try:
            number = float(value) if is_real else int(value)
        except ValueError:
            expected = "a number" if is_real else "a whole number"
            raise ValueError(f"`{name}` must be {expected}, got {value!r}.") from None
        changes: dict[str, Any] = {name: number}
        if name == "num_beams":
            changes |= {"do_sample": False, "decoding": None}
        elif is_real:
            changes |= {"decoding": None} | ({} if self.do_sample else {"do_sample": True, "num_beams": 1})
        return dataclasses.replace(self, **changes)

    def make_decoding(self) -> "Decoding":
        """The decoding of these settings. Sampling draws from the whole vocabulary unless `top_p` is below 1."""
        from hf_localgan.decoding.answers import Decoding

        if self.decoding is not None:
            return self.decoding
        if self.do_sample:
            return Decoding.sampling(self.temperature, self.top_p, self.num_beams)
        return Decoding.greedy() if self.num_beams == 1 else Decoding.beam(self.num_beams)

    def describe(self) -> str:
        """One line for the user."""
        if self.decoding is not None:
            decoding = self.decoding.name
        elif self.do_sample:
            beams = f", {self.num_beams} beams" if self.num_beams > 1 else ""
            decoding = f"sampling, temperature {self.temperature:g}, top_p {self.top_p:g}{beams}"
        else:
            decoding = "greedy" if self.num_beams == 1 else f"beam search, num_beams {self.num_beams}"
        seed = "" if self.seed is None else f", seed {self.seed}"
        answers = "" if self.num_return_sequences == 1 else f", {self.num_return_sequences} responses"
        return f"{decoding}{answers}, at most {self.max_new_tokens} tokens{seed}"


def parse_decoding(name: str) -> "Decoding":
    """The decoding of a name, see `Decoding.parse`, which is imported only when it is called."""
    from hf_localgan.decoding.answers import Decoding

    return Decoding.parse(name)


Query: TypeAlias = str | Sequence[Mapping[str, Any]]  # a text, or the messages of a conversation


class Response(NamedTuple):
    """A generation and its score.

    Attributes:
        text: the generation.
        score: mean log-probability per token, nats, the end of the sequence included, at temperature 1; `None` where it
            was not computed.
    """

    text: str
    score: float | None


def respond(
    model: "PreTrainedModel",
    tokenizer: "PreTrainedTokenizerBase",
    queries: Sequence[Query],
    settings: ChatSettings,
    *,
    scored: bool = False,
) -> list[list[Response]]:
    """Responses to each query, the most probable first.

    Args:
        model: an encoder-decoder in evaluation mode.
        tokenizer: the model's.
        queries: texts with at least one token each, or conversations, which are lists of messages such as
            `{"role": "user", "content": "Hello."}` that end with one of the user: as many earlier turns are read as the
            model was trained on, and of these the oldest are left out that do not fit. Tokens of a query beyond the
            model's positions, and beyond 4,096, are cut off; surrogates are replaced as by `without_surrogates`.
        settings: how responses are generated.
        scored: compute the score of a single response, too; several always have scores.

    Returns:
        `settings.num_return_sequences` responses to each query.

    Raises:
        ValueError: for a query without tokens, and a conversation that cannot be read.
    """
    import torch

    from hf_localgan.decoding.answers import generate_answers

    positions = _positions(model)
    texts = [query_text(model, tokenizer, query) for query in queries]
    truncation: dict[str, Any] = {"truncation": True, "max_length": longest_query(model, tokenizer)}
    encoded = tokenizer(texts, padding=True, return_tensors="pt", **truncation).to(model.device)
    empty = (encoded["attention_mask"].sum(dim=1) == 0).nonzero().flatten().tolist()
    if empty:
        raise ValueError(f"The query {texts[empty[0]]!r:.80} has no tokens for this tokenizer. Leave it out.")
    inputs = {name: encoded[name] for name in ("input_ids", "attention_mask")}
    longest = min(settings.max_new_tokens, positions - 1) if positions else settings.max_new_tokens
    with torch.no_grad():
        ids = generate_answers(
            settings.make_decoding(), model, inputs, tokenizer=tokenizer, max_new_tokens=longest,
            num_return_sequences=settings.num_return_sequences, pad_token_id=tokenizer.pad_token_id,
        )  # (queries * returned, time)  # fmt: skip
        texts = tokenizer.batch_decode(ids, skip_special_tokens=True)
        number = settings.num_return_sequences
        scores: list[float] = _score(model, inputs, ids, number) if number > 1 or scored else []
    texts = [" ".join(text.split()) for text in texts]
    if not scores:
        return [[Response(text, None)] for text in texts]
    scored_texts = list(zip(scores, texts, strict=True))
    groups = [scored_texts[start : start + number] for start in range(0, len(texts), number)]
    ranked = (sorted(group, key=lambda scored_text: -scored_text[0]) for group in groups)
    return [[Response(text, score) for score, text in group] for group in ranked]


def history_of(tokenizer: "PreTrainedTokenizerBase") -> History:
    """How many earlier turns a model was trained on, which its tokenizer's configuration keeps; by default none."""
    return kept_history(tokenizer.init_kwargs) or History()


def query_text(model: "PreTrainedModel", tokenizer: "PreTrainedTokenizerBase", query: Query) -> str:
    """A query as the model reads it: a text as it is, a conversation joined, without the oldest turns that do not fit.

    Surrogates are replaced as by `without_surrogates`.

    Raises:
        ValueError: for a conversation that cannot be read.
    """
    if isinstance(query, str):
        return without_surrogates(query)
    history = history_of(tokenizer)
    text = without_surrogates(query_of(query, history))
    return history.fit([text], longest_query(model, tokenizer), token_counts(tokenizer))[0]


def _positions(model: "PreTrainedModel") -> int | None:
    return getattr(model.config, "max_position_embeddings", None)  # absent where there is no limit


def longest_query(model: "PreTrainedModel", tokenizer: "PreTrainedTokenizerBase") -> int:
    """The most tokens of a query that are read: as many as the model and its tokenizer take, and 4,096 at most."""
    limits = [limit for limit in (_positions(model), tokenizer.model_max_length) if limit]
    return min([*limits, LONGEST_QUERY])


def _score(model: "PreTrainedModel", inputs: dict[str, "Tensor"], ids: "Tensor", returned: int) -> list[float]:
    """Mean log-probability of the generated `ids`, shape `(queries * returned, time)`, with their start token."""
    import torch

    repeated = {name: tensor.repeat_interleave(returned, dim=0) for name, tensor in inputs.items()}
    logits = model(**repeated, decoder_input_ids=ids[:, :-1], use_cache=False).logits.float()
    tokens = ids[:, 1:]  # (sequences, time)
    log_probs = logits.log_softmax(-1).gather(-1, tokens.unsqueeze(-1)).squeeze(-1)
    ends = torch.isin(tokens, torch.as_tensor(model.generation_config.eos_token_id, device=ids.device)).long()
    counted = ends.cumsum(1) - ends == 0  # up to the first end of sequence and including it
    return ((log_probs * counted).sum(1) / counted.sum(1)).tolist()


def set_seed(seed: int):
    """Seeds sampling, on every device."""
    import torch

    torch.manual_seed(seed)
