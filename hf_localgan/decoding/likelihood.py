"""Log-probabilities of given responses, and of queries read back from them."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from hf_localgan.data.padding import PADDING
from hf_localgan.decoding.special_tokens import single_token, special_token, unadapted

LOGITS = 2**25  # largest number of logits at a time: 128 MiB of float32

LanguageModel = Callable[[Tensor], Tensor]


class EmptySource:
    """A decoder as a language model: an encoder-decoder whose query is empty, one masked padding token.

    It models the language only if the training had empty queries. Calling it with decoder ids, shape `(rows, time)`,
    the start token first, gives the logits of the next token, shape `(rows, vocab)`. The prefix is decoded anew each
    time, without a cache, so that it works with any encoder-decoder, and rows may change places.

    Args:
        model: an encoder-decoder in evaluation mode. Its weights must not change while this object is used.
    """

    def __init__(self, model: nn.Module):
        self.model = model
        base = unadapted(model)
        pad = single_token(model, "pad_token_id")
        ids = torch.full((1, 1), 0 if pad is None else pad, device=base.device)
        self.mask = torch.zeros_like(ids)
        with torch.no_grad():
            self.encoded = base.get_encoder()(input_ids=ids, attention_mask=self.mask, return_dict=True)

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
    """A model as a language model over decoder ids; an encoder-decoder reads an empty source."""
    return (EmptySource if getattr(unadapted(model).config, "is_encoder_decoder", False) else DecoderOnly)(model)


def select_rows(outputs: Any, rows: Tensor) -> Any:
    """An encoder's output with these rows of its tensors, which are batch first.

    Args:
        outputs: a `ModelOutput`.
        rows: indices of rows, shape `(rows,)`, perhaps repeated.
    """
    tensors = {name: value[rows] for name, value in outputs.items() if isinstance(value, Tensor)}
    return type(outputs)(**tensors)


def shift_right(model: nn.Module, labels: Tensor) -> Tensor:
    """Labels, shape `(rows, time)`, behind the start token as `generate` feeds them; -100 becomes padding.

    Raises:
        ValueError: if the model has no start token.
    """
    start = single_token(model, "decoder_start_token_id", "bos_token_id")
    if start is None:
        raise ValueError("The model has no `decoder_start_token_id` to put before responses. Set it in its config.")
    pad = single_token(model, "pad_token_id")
    shifted = torch.cat([torch.full_like(labels[:, :1], start), labels[:, :-1]], dim=1)
    return shifted.masked_fill(shifted == PADDING, 0 if pad is None else pad)


@torch.no_grad()
def response_log_probs(
    model: nn.Module, batch: Mapping[str, Tensor], labels: Tensor, rows: Tensor | None = None
) -> Tensor:
    """Log-probability of every token of responses, given their queries and the tokens before it.

    Computed in parts, so that no more than 2^25 logits exist at a time; the parts do not change the result.

    Args:
        model: an encoder-decoder in evaluation mode.
        batch: `input_ids` and `attention_mask` of the queries, shape `(batch, source_time)`.
        labels: the responses, -100 behind their end, shape `(rows, time)`.
        rows: index of each response's query, shape `(rows,)`; by default one response to each query.

    Returns:
        Shape `(rows, time)`, nats, float32 or wider; 0 at -100.
    """
    rows = torch.arange(len(labels), device=labels.device) if rows is None else rows
    inputs = {name: batch[name] for name in ("input_ids", "attention_mask") if batch.get(name) is not None}
    encoded = unadapted(model).get_encoder()(**inputs, return_dict=True)
    mask = inputs.get("attention_mask")
    decoder_ids = shift_right(model, labels)

    def logits(part: slice) -> Tensor:
        masks = {} if mask is None else {"attention_mask": mask[rows[part]]}
        return model(
            encoder_outputs=select_rows(encoded, rows[part]), decoder_input_ids=decoder_ids[part], use_cache=False,
            return_dict=True, **masks,
        ).logits  # fmt: skip

    return _in_parts(logits, labels, unadapted(model))


@torch.no_grad()
def language_model_log_probs(model: nn.Module, language_model: EmptySource | DecoderOnly, labels: Tensor) -> Tensor:
    """Log-probability of every token of responses under a model without the query, shape `(rows, time)`, nats.

    Args:
        model: the generator, whose start token stands before a response.
        language_model: see `language_model_of`.
        labels: as in `response_log_probs`.
    """
    decoder_ids = shift_right(model, labels)
    return _in_parts(lambda part: language_model.all_steps(decoder_ids[part]), labels, unadapted(language_model.model))


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
    """The tokens that a tokenizer puts around a text.

    Attributes:
        before, behind: ids.
    """

    before: list[int]
    behind: list[int]

    def around(self, content: Sequence[int]) -> list[int]:
        """The content between the tokens."""
        return [*self.before, *content, *self.behind]


def frame_of(tokenizer: PreTrainedTokenizerBase, side: str = "source") -> Frame:
    """The tokens around a text that is encoded as a query ("source") or as labels ("target")."""
    settings: dict[str, Any] = {"return_special_tokens_mask": True, "verbose": False}
    if side == "source":
        encoded = tokenizer("a", **settings)
    else:
        encoded = tokenizer(text_target="a", **settings)
    ids, special = list(encoded["input_ids"]), list(encoded["special_tokens_mask"])
    if all(special):  # the text has no token
        return Frame([], ids)
    first = special.index(0)
    last = len(special) - special[::-1].index(0)
    return Frame(ids[:first], ids[last:])


def contents(
    ids: Tensor, tokenizer: PreTrainedTokenizerBase, model: nn.Module, mask: Tensor | None = None
) -> list[list[int]]:
    """The tokens of texts without the special ones around them: a list of ids for each row.

    Args:
        ids: shape `(rows, time)`; -100 is left out.
        tokenizer, model: their padding, begin, end and start tokens are left out; unknown words stay.
        mask: shape `(rows, time)`; tokens with mask 0 are left out.
    """
    values = [
        getattr(tokenizer, name, None)
        for name in ("pad_token_id", "bos_token_id", "eos_token_id", "cls_token_id", "sep_token_id")
    ]
    values += [
        special_token(model, name)
        for name in ("pad_token_id", "bos_token_id", "eos_token_id", "decoder_start_token_id")
    ]
    around: set[int | None] = {PADDING}
    for value in values:
        around |= set(value) if isinstance(value, (list, tuple)) else {value}
    kept = torch.ones_like(ids, dtype=torch.bool) if mask is None else mask.bool()
    return [
        [token for token, is_kept in zip(row, flags, strict=True) if is_kept and token not in around]
        for row, flags in zip(ids.tolist(), kept.tolist(), strict=True)
    ]
