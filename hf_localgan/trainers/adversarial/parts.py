"""Checks whether the models of an adversarial training fit together, and freezes layers of them."""

import os
from collections.abc import Mapping
from typing import Any

from transformers import PreTrainedModel, PreTrainedTokenizerBase

from hf_localgan.data.vocabulary import check_same_vocabulary
from hf_localgan.decoding.soft_rollout import decoder_embeddings
from hf_localgan.models.dbm import DbmModel
from hf_localgan.models.discriminator import PairDiscriminator
from hf_localgan.models.scorers import load_scorer


def check_discriminator(discriminator: Any) -> PairDiscriminator:
    """Refuses other models, and a discriminator that would recognise generations by their missing end token.

    Args:
        discriminator: a `PairDiscriminator`, a folder, or an id on the Hub.

    Returns:
        The discriminator, loaded if it was given by its name.

    Raises:
        OSError: for a name under which there is none.
        ValueError: naming the class or the setting that is needed.
    """
    if isinstance(discriminator, (str, os.PathLike)):
        discriminator = load_scorer(PairDiscriminator, discriminator)
    if not isinstance(discriminator, PairDiscriminator):
        raise ValueError(f"`discriminator` must be a `PairDiscriminator`, got {type(discriminator).__name__}.")
    if discriminator.config.body == "cnn" and discriminator.config.eos_token_id is None:
        raise ValueError(
            "The discriminator's `eos_token_id` is None, so that it would tell references from generations by the end "
            "token, which generations do not have. Set `eos_token_id`, `bos_token_id` and `pad_token_id` of its "
            "configuration to those of the tokenizer."
        )
    return discriminator


def check_energy(energy: Any) -> DbmModel:
    """Refuses an energy from which no radius can be measured.

    Args:
        energy: a trained `DbmModel`, a folder, or an id on the Hub.

    Returns:
        The energy, loaded if it was given by its name.

    Raises:
        ValueError: for another class, the energy as printed and one that was not trained.
    """
    if isinstance(energy, (str, os.PathLike)):
        energy = load_scorer(DbmModel, energy)
    if not isinstance(energy, DbmModel):
        raise ValueError(f"`energy` must be a `DbmModel`, got {type(energy).__name__}. Train one by `DbmTrainer`.")
    if energy.config.energy == "printed":
        raise ValueError('The energy as printed has no lowest point, so no centre. Train one with `energy="dbm"`.')
    if not (energy.query_scaler.is_fitted and energy.response_scaler.is_fitted):
        raise ValueError("The energy's scalers are not fitted, so it was not trained. Train it by `DbmTrainer`.")
    return energy


def check_vocabularies(
    parts: Mapping[str, PreTrainedModel], vocab_size: int, tokenizer: PreTrainedTokenizerBase | None
):
    """Refuses parts that were made with another tokenizer than the generator's.

    Args:
        parts: models by name, whose configurations have `vocab_size` and `vocabulary`.
        vocab_size: number of rows of the generator's embeddings.
        tokenizer: the generator's tokenizer.

    Raises:
        ValueError: see `check_same_vocabulary`.
    """
    for name, part in parts.items():
        check_same_vocabulary(name, part.config, vocab_size, tokenizer)


def freeze_generator(generator: PreTrainedModel, trained_parts: str):
    """Freezes embeddings, encoder and output layer if only the decoder is trained.

    Args:
        generator: an encoder-decoder.
        trained_parts: "all" or "decoder".

    Raises:
        ValueError: if no trainable parameter is left.
    """
    if trained_parts == "all":
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


def freeze_discriminator(discriminator: PreTrainedModel, trained_parts: str):
    """Freezes the body if only the head on top of it is trained.

    Args:
        discriminator: a model with a `body`.
        trained_parts: "all" or "head".
    """
    if trained_parts == "head":
        discriminator.body.requires_grad_(False)
