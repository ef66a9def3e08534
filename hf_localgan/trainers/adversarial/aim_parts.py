"""What AIM and DAIM need of a batch and of their models: a batch turned round, a reader of soft generations, noise."""

import inspect
import os
from collections.abc import Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from hf_localgan.data.padding import PADDING
from hf_localgan.decoding.soft_rollout import SoftRollout
from hf_localgan.decoding.special_tokens import end_tokens
from hf_localgan.functional.information import query_nll
from hf_localgan.functional.relaxation import RelaxedTokens, expected_embedding
from hf_localgan.models.discriminator import PairDiscriminator
from hf_localgan.models.loading import load_generator


class Direction(NamedTuple):
    """One way of a dialogue: who generates, who judges, and who reads the other side back from generations.

    Attributes:
        generator: of this way's generations.
        discriminator: of the same, its first side being what the generator reads.
        reader: the generator of the other way.
        purpose: of the random numbers of rollouts.
        name: what logged names begin with behind `loss/` and `gan/`.
    """

    generator: Any
    discriminator: PairDiscriminator
    reader: Any
    purpose: int = 0
    name: str = ""


def base_of(model: Any) -> Any:
    """A generator without its adapters' wrapper."""
    return model.get_base_model() if hasattr(model, "get_base_model") else model


def query_labels(inputs: dict[str, Any]) -> Tensor:
    """The queries of a batch as labels: -100 at padding, shape `(batch, time)`."""
    if inputs.get("attention_mask") is None:
        return inputs["input_ids"]
    return inputs["input_ids"].masked_fill(inputs["attention_mask"] == 0, PADDING)


def turned(inputs: dict[str, Any], pad_token_id: int) -> dict[str, Tensor]:
    """The batch of the other way: responses as `input_ids`, queries as `labels`."""
    labels = inputs["labels"]
    return {
        "input_ids": labels.masked_fill(labels == PADDING, pad_token_id),
        "attention_mask": (labels != PADDING).long(),
        "labels": query_labels(inputs),
    }


def reading_nll(
    reader: Any, rollout: SoftRollout, counted: Tensor, labels: Tensor, begin: Sequence[int] = ()
) -> Tensor:
    """`-log phi(q | r~) / |q|` of a generator that reads soft generations; with a gradient for both.

    The reader's encoder gets what a tokenizer would make of the generation: tokens around the text included, of which a
    generation has none. A generation of weights that are certain gives what its ids give.

    Args:
        reader: an encoder-decoder whose encoder takes `inputs_embeds`, or a PEFT model around one.
        rollout: generations.
        counted: true at the places that are read, the first ones of each row; shape `(batch, time)`.
        labels: what is to be read back, with its end token, -100 at padding; shape `(batch, other_time)`.
        begin: tokens that every encoding begins with, such as BART's `<s>`.

    Returns:
        Nats per token of the labels, shape `(batch,)`.
    """
    base = base_of(reader)
    embed = base.get_encoder().get_input_embeddings()
    size = embed.weight.shape[0]
    table = embed(torch.arange(size, device=embed.weight.device))  # with the module's own scale
    weights, ids = rollout.weights, rollout.ids
    if ids is None:
        weights = weights[:, :, :size]
        table_of_weights = table[: weights.shape[2]]
    else:
        outside = ids >= size  # T5 has more logits than its tokenizer has tokens
        weights, ids, table_of_weights = weights.masked_fill(outside, 0.0), ids.masked_fill(outside, 0), table
    batch, time = rollout.best.shape
    tokens = RelaxedTokens(weights.flatten(0, 1), None if ids is None else ids.flatten(0, 1), rollout.best.flatten())
    generation = expected_embedding(tokens, table_of_weights).view(batch, time, -1)

    lengths = counted.sum(dim=1, keepdim=True)
    places = torch.arange(time + 1, device=lengths.device)
    padded = torch.cat([generation, generation.new_zeros(batch, 1, generation.shape[2])], dim=1)
    end = table[end_tokens(reader)[0]].to(padded.dtype)
    embeddings = torch.where((places == lengths)[:, :, None], end, padded)
    mask = places <= lengths
    if len(begin):
        first = table[torch.tensor(list(begin), device=table.device)].to(padded.dtype).expand(batch, -1, -1)
        embeddings = torch.cat([first, embeddings], dim=1)
        mask = torch.cat([mask.new_ones(batch, len(begin)), mask], dim=1)
    longest = int(mask.sum(dim=1).max())  # padding that all rows have is read by nobody
    outputs = reader(
        inputs_embeds=embeddings[:, :longest], attention_mask=mask[:, :longest].long(), labels=labels, use_cache=False
    )
    return query_nll(outputs.logits, labels)


def tokens_before_text(tokenizer: PreTrainedTokenizerBase | None) -> list[int]:
    """Tokens that every encoding begins with.

    Args:
        tokenizer: whose encodings of queries are read as responses and the other way round; `None` says nothing.

    Raises:
        ValueError: if the two differ, or do not end with the end token.
    """
    if tokenizer is None:
        return []
    source, target = tokenizer("a").input_ids, tokenizer(text_target="a").input_ids
    if source != target or source[-1:] != [tokenizer.eos_token_id]:
        raise ValueError(
            "A generator that reads a query back from a response takes the one for the other, so both must be encoded "
            f'alike and end with the end token. The tokenizer makes {source} of the query "a" and {target} of the '
            "response. Train a tokenizer by `train_tokenizer`, or take the one of T5, BART or `rnn_seq2seq`."
        )
    text = tokenizer("a", add_special_tokens=False).input_ids
    starts = (place for place in range(len(source)) if source[place : place + len(text)] == text)
    return source[: next(starts, 0)]


def check_backward(backward: Any, model: nn.Module | None) -> PreTrainedModel:
    """Refuses what cannot read a query back from a generation.

    Args:
        backward: a generator of queries from responses, a folder, or an id on the Hub.
        model: the generator of responses.

    Returns:
        `backward`, loaded if it was given by its name.

    Raises:
        OSError: for a name under which there is none.
        ValueError: saying what is needed.
    """
    if isinstance(backward, (str, os.PathLike)):
        backward = load_generator(backward)[0]
    config = getattr(backward, "config", None)
    if not getattr(config, "is_encoder_decoder", False):
        raise ValueError(
            f"`backward` must be a generator of queries from responses, got {type(backward).__name__}. Train one by "
            "`train_mle.py --swap_sides true`."
        )
    if backward is model:
        raise ValueError("`backward` is the generator itself. It needs a model of its own, trained on swapped pairs.")
    if "inputs_embeds" not in inspect.signature(type(base_of(backward)).forward).parameters:
        raise ValueError(f"{type(backward).__name__} takes no `inputs_embeds`: it cannot read a generation.")
    if getattr(config, "vocab_size", None) is None:
        raise ValueError(
            f"The configuration of {type(backward).__name__} has no `vocab_size`, so that nobody knows which tokens it "
            "reads. Take an `rnn_seq2seq`, T5 or BART."
        )
    return backward


def check_cosine(name: str, discriminator: Any):
    """Refuses a discriminator that does not compare.

    Raises:
        ValueError: for another head than the cosine.
    """
    if discriminator.config.head != "cosine":
        raise ValueError(
            f'`{name}` compares two responses to one query by cosines, so its head must be "cosine", got '
            f'"{discriminator.config.head}". Train one by `train_matching.py --head cosine --head_size 100`.'
        )


def make_room_for_noise(model: Any, size: int, scale: float | None):
    """Gives a recurrent generator without a place for latent noise one, which changes nothing until it has learned.

    A PEFT model is left as it is, for what its checkpoints hold is adapters.

    Args:
        model: a generator; `None` and models that have no such place are left alone.
        size: dimensions; 0 makes none.
        scale: of the noise; 0 makes none.
    """
    if hasattr(model, "resize_noise") and not hasattr(model, "get_base_model"):
        if not model.config.noise_size and size and scale != 0:
            model.resize_noise(size)
