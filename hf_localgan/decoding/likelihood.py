"""What models say of tokens that are there already: log-probabilities of responses, and of queries read from them."""

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from hf_localgan.decoding.special_tokens import special_token

PADDING = -100
LOGITS = 2**25  # that exist at a time: 128 MiB of float32

LanguageModel = Callable[[Tensor], Tensor]


class EmptySource:
    """A decoder as a language model: an encoder-decoder whose query is empty, one place of padding that is masked.

    It says something of the language only where training showed it queries without a word. Calling it with decoder ids,
    shape `(rows, time)`, the start token first, gives the logits of the next token, shape `(rows, vocab)`. The prefix
    is decoded anew each time, without a cache: it holds for any encoder-decoder, and rows may change places.

    Args:
        model: an encoder-decoder in evaluation mode. Its weights must not change while this object is used.
    """

    def __init__(self, model: nn.Module):
        self.model = model
        pad = special_token(model, "pad_token_id")
        ids = torch.full((1, 1), 0 if pad is None else pad, device=model.device)
        self.mask = torch.zeros_like(ids)
        with torch.no_grad():
            self.encoded = _base(model).get_encoder()(input_ids=ids, attention_mask=self.mask, return_dict=True)

    @torch.no_grad()
    def __call__(self, ids: Tensor) -> Tensor:
        return self.all_steps(ids)[:, -1]

    @torch.no_grad()
    def all_steps(self, ids: Tensor) -> Tensor:
        """The logits behind every token, shape `(rows, time, vocab)`."""
        rows = torch.zeros(len(ids), dtype=torch.long, device=ids.device)
        return self.model(
            encoder_outputs=select_rows(self.encoded, rows), attention_mask=self.mask[rows], decoder_input_ids=ids,
            use_cache=False, return_dict=True,
        ).logits  # fmt: skip


class DecoderOnly:
    """A causal language model over the generator's own ids; it reads them as they are, the start token first.

    Args:
        model: such as a GPT-2 with the generator's vocabulary, in evaluation mode.
    """

    def __init__(self, model: nn.Module):
        self.model = model

    @torch.no_grad()
    def __call__(self, ids: Tensor) -> Tensor:
        return self.all_steps(ids)[:, -1]

    @torch.no_grad()
    def all_steps(self, ids: Tensor) -> Tensor:
        """The logits behind every token, shape `(rows, time, vocab)`."""
        return self.model(input_ids=ids, use_cache=False, return_dict=True).logits


def language_model_of(model: nn.Module) -> EmptySource | DecoderOnly:
    """A model as a language model over decoder ids: by an empty source where it is an encoder-decoder."""
    return (EmptySource if getattr(model.config, "is_encoder_decoder", False) else DecoderOnly)(model)


def select_rows(outputs: Any, rows: Tensor) -> Any:
    """An encoder's output with these rows of its tensors, which are batch first.

    Args:
        outputs: a `ModelOutput`.
        rows: integers, shape `(rows,)`; a row may come more than once.
    """
    tensors = {name: value[rows] for name, value in outputs.items() if isinstance(value, Tensor)}
    return type(outputs)(**tensors)


def shift_right(model: nn.Module, labels: Tensor) -> Tensor:
    """Labels, shape `(rows, time)`, behind the start token as `generate` feeds them; -100 becomes padding."""
    start = special_token(model, "decoder_start_token_id")
    start = special_token(model, "bos_token_id") if start is None else start
    if start is None:
        raise ValueError("The model has no `decoder_start_token_id` to put before responses. Set it in its config.")
    pad = special_token(model, "pad_token_id")
    shifted = torch.cat([torch.full_like(labels[:, :1], start), labels[:, :-1]], dim=1)
    return shifted.masked_fill(shifted == PADDING, 0 if pad is None else pad)


@torch.no_grad()
def response_log_probs(
    model: nn.Module, batch: dict[str, Tensor], labels: Tensor, rows: Tensor | None = None
) -> Tensor:
    """Log-probability of every token of responses, given their queries and what stands before it.

    In parts, so that no more than 2^25 logits exist at a time; no part knows of another.

    Args:
        model: an encoder-decoder in evaluation mode.
        batch: `input_ids` and `attention_mask` of the queries, shape `(batch, source_time)`.
        labels: the responses, -100 behind their end, shape `(rows, time)`.
        rows: the query of each response, shape `(rows,)`; by default one response to each query.

    Returns:
        Shape `(rows, time)`, nats, float32 or wider; 0 at -100.
    """
    rows = torch.arange(len(labels), device=labels.device) if rows is None else rows
    inputs = {name: batch[name] for name in ("input_ids", "attention_mask") if batch.get(name) is not None}
    encoded = _base(model).get_encoder()(**inputs, return_dict=True)
    mask = inputs.get("attention_mask")
    decoder_ids = shift_right(model, labels)

    def logits(part: slice) -> Tensor:
        given = {} if mask is None else {"attention_mask": mask[rows[part]]}
        return model(
            encoder_outputs=select_rows(encoded, rows[part]), decoder_input_ids=decoder_ids[part], use_cache=False,
            return_dict=True, **given,
        ).logits  # fmt: skip

    return _in_parts(logits, labels, _base(model))


@torch.no_grad()
def language_model_log_probs(model: nn.Module, language_model: EmptySource | DecoderOnly, labels: Tensor) -> Tensor:
    """Log-probability of every token of responses under a model that sees no query, shape `(rows, time)`, nats.

    Args:
        model: the generator, whose start token stands before a response.
        language_model: see `language_model_of`.
        labels: as in `response_log_probs`.
    """
    decoder_ids = shift_right(model, labels)
    return _in_parts(lambda part: language_model.all_steps(decoder_ids[part]), labels, _base(language_model.model))


def _in_parts(logits: Callable[[slice], Tensor], labels: Tensor, model: PreTrainedModel) -> Tensor:
    head = model.get_output_embeddings()
    vocab = model.config.get_text_config(decoder=True).vocab_size if head is None else head.weight.shape[0]
    size = max(1, LOGITS // max(1, vocab * labels.shape[1]))
    parts = []
    for start in range(0, len(labels), size):
        part = slice(start, start + size)
        scores = logits(part)
        log_probs = scores.to(torch.promote_types(scores.dtype, torch.float32)).log_softmax(dim=-1)
        target = labels[part]
        parts.append(log_probs.gather(2, target.clamp(min=0)[:, :, None])[:, :, 0].masked_fill(target == PADDING, 0.0))
    return torch.cat(parts)


class Frame(NamedTuple):
    """The tokens that a tokenizer puts around a text."""

    before: list[int]
    behind: list[int]

    def around(self, content: Sequence[int]) -> list[int]:
        return [*self.before, *content, *self.behind]


def frame_of(tokenizer: PreTrainedTokenizerBase, side: str = "source") -> Frame:
    """What stands around a text that is encoded as a query ("source") or as labels ("target")."""
    settings = {"return_special_tokens_mask": True, "verbose": False}
    if side == "source":
        encoded = tokenizer("a", **settings)
    else:
        encoded = tokenizer(text_target="a", **settings)
    ids, special = list(encoded["input_ids"]), list(encoded["special_tokens_mask"])
    if all(special):  # the text itself left nothing
        return Frame([], ids)
    first = special.index(0)
    last = len(special) - special[::-1].index(0)
    return Frame(ids[:first], ids[last:])


def contents(ids: Tensor, tokenizer: PreTrainedTokenizerBase, model: nn.Module, mask: Tensor | None = None) -> list:
    """The tokens of texts without those around them: a list of ids for each row.

    Args:
        ids: shape `(rows, time)`; -100, and what `mask` hides, is left out.
        tokenizer, model: whose padding, begin, end and start tokens are left out; unknown words stay.
        mask: shape `(rows, time)`.
    """
    around = {PADDING}
    for owner, names in (
        (tokenizer, ("pad_token_id", "bos_token_id", "eos_token_id", "cls_token_id", "sep_token_id")),
        (None, ("pad_token_id", "bos_token_id", "eos_token_id", "decoder_start_token_id")),
    ):
        for name in names:
            value = special_token(model, name) if owner is None else getattr(owner, name, None)
            around |= set(value) if isinstance(value, (list, tuple)) else {value}
    kept = torch.ones_like(ids, dtype=torch.bool) if mask is None else mask.bool()
    return [
        [token for token, seen in zip(row, shown, strict=True) if seen and token not in around]
        for row, shown in zip(ids.tolist(), kept.tolist(), strict=True)
    ]


def padded(rows: Sequence[Sequence[int]], value: int, device: torch.device) -> Tensor:
    """Lists of ids as a tensor with `value` behind them, at least one column."""
    width = max([1, *map(len, rows)])
    return torch.tensor([[*row, *[value] * (width - len(row))] for row in rows], dtype=torch.long, device=device).view(
        len(rows), width
    )


def _base(model: nn.Module) -> PreTrainedModel:
    return model.get_base_model() if hasattr(model, "get_base_model") else model
