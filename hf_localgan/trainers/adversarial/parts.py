"""The models of an adversarial training: whether they fit together, and what of them learns."""

from collections.abc import Mapping
from typing import Any

from torch import nn
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from hf_localgan.data.vocabulary import check_same_vocabulary
from hf_localgan.decoding.soft_rollout import decoder_embeddings
from hf_localgan.models.discriminator import PairDiscriminator


def check_discriminator(discriminator: Any):
    """Refuses what is no discriminator of pairs, or one that would know generations by their missing end token.

    Args:
        discriminator: a `PairDiscriminator`.

    Raises:
        ValueError: saying what is needed.
    """
    if not isinstance(discriminator, PairDiscriminator):
        raise ValueError(f"`discriminator` must be a `PairDiscriminator`, got {type(discriminator).__name__}.")
    if discriminator.config.body == "cnn" and discriminator.config.eos_token_id is None:
        raise ValueError(
            "The discriminator's `eos_token_id` is None, so that it would tell references from generations by the end "
            "token, which generations are given without. Set `eos_token_id`, `bos_token_id` and `pad_token_id` of its "
            "configuration to the tokenizer's."
        )


def check_vocabularies(
    parts: Mapping[str, PreTrainedModel], vocab_size: int, tokenizer: PreTrainedTokenizerBase | None
):
    """Refuses parts that were made for other tokens than the generator's.

    Args:
        parts: models by name, whose configurations have `vocab_size` and `vocabulary`.
        vocab_size: rows of the generator's embeddings.
        tokenizer: the generator's.

    Raises:
        ValueError: see `check_same_vocabulary`.
    """
    for name, part in parts.items():
        check_same_vocabulary(name, part.config, vocab_size, tokenizer)


def freeze_generator(generator: nn.Module, learning: str):
    """Takes embeddings, encoder and output layer from learning, where only the decoder is to learn.

    Args:
        generator: an encoder-decoder.
        learning: "all" or "decoder".

    Raises:
        ValueError: if nothing is left to learn.
    """
    if learning == "all":
        return
    for module in (generator.get_encoder(), generator.get_input_embeddings(), generator.get_output_embeddings()):
        if module is not None:
            module.requires_grad_(False)
    decoder_embeddings(generator).requires_grad_(False)
    if not any(parameter.requires_grad for parameter in generator.parameters()):
        raise ValueError(
            f'`generator_parts="decoder"` leaves nothing to learn: the decoder of {type(generator).__name__} has no '
            "parameters of its own. Set it to `all`."
        )


def freeze_discriminator(discriminator: PairDiscriminator, learning: str):
    """Takes the body from learning, where only the head on top of it is to learn.

    Args:
        discriminator: with a `body`.
        learning: "all" or "head".
    """
    if learning == "head":
        discriminator.body.requires_grad_(False)
