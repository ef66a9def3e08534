"""Loading the parts beside a generator from folders or the Hub, and making energies."""

from collections.abc import Callable
from typing import Any, cast

from transformers import PreTrainedTokenizerBase

from hf_localgan.data.encoding import check_tokenizer
from hf_localgan.data.token_vectors import TokenVectors
from hf_localgan.data.vocabulary import check_own_vocabulary
from hf_localgan.hub.download import split_place
from hf_localgan.models.dbm.configuration_dbm import DbmConfig
from hf_localgan.models.dbm.modeling_dbm import DbmModel
from hf_localgan.models.discriminator.modeling_discriminator import PairDiscriminator
from hf_localgan.models.loading import load_generator
from hf_localgan.models.scorers import load_scorer, load_tokenizer


def load_energy(path: str) -> tuple[DbmModel, PreTrainedTokenizerBase]:
    """An energy model that reads text, and its tokenizer.

    Args:
        path: a folder, an id on the Hub, or an id with a folder of that repository: `owner/name/energy`.

    Raises:
        OSError: if there is no model or no tokenizer.
        ValueError: for another type of model, a damaged one, and an energy over vectors alone.
    """
    place, inside = split_place(path)
    model = load_scorer(DbmModel, place, subfolder=inside)
    if model.word_vectors is None:
        raise ValueError(f'The energy model "{path}" holds no word vectors, so it cannot be trained on text.')
    return model, _own_tokenizer(path, "energy", model)


def load_discriminator(path: str) -> tuple[PairDiscriminator, PreTrainedTokenizerBase]:
    """A discriminator and its tokenizer.

    Args:
        path: a folder, an id on the Hub, or an id with a folder of that repository: `owner/name/discriminator`.

    Raises:
        OSError: if there is no model or no tokenizer.
        ValueError: for another type of model, and a damaged one.
    """
    place, inside = split_place(path)
    model = load_scorer(PairDiscriminator, place, subfolder=inside)
    return model, _own_tokenizer(path, "discriminator", model)


def _own_tokenizer(path: str, name: str, model: DbmModel | PairDiscriminator) -> PreTrainedTokenizerBase:
    place, inside = split_place(path)
    tokenizer = load_tokenizer(place, subfolder=inside)
    try:
        check_tokenizer(tokenizer)
    except ValueError as error:
        raise ValueError(f"The tokenizer in `{path}` is not the one that its {name} was made with. {error}") from error
    check_own_vocabulary(path, name, cast(Any, model.config), tokenizer)
    return tokenizer


def make_energy(table: TokenVectors, config: Callable[[int, int], DbmConfig]) -> DbmModel:
    """A new energy over utterances, whose vectors are means of the table's.

    Args:
        table: a vector for each regular token.
        config: called as `config(size, vocab_size)`; makes the energy's configuration.
    """
    vocab_size, size = table.vectors.shape
    model = DbmModel(config(size, vocab_size))
    assert model.word_vectors is not None  # for a `vocab_size` is given
    model.word_vectors.load(table.vectors, table.tokens)
    return model


LOADERS: dict[str, Callable[[str], tuple[Any, PreTrainedTokenizerBase]]] = {  # by the name of the part in a trainer
    "energy": load_energy,
    "discriminator": load_discriminator,
    "backward": load_generator,
    "backward_discriminator": load_discriminator,
}
