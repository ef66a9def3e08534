"""Loading the parts beside a generator from folders or the Hub, and making energies."""

from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

from safetensors import SafetensorError
from transformers import AutoModel, AutoTokenizer, PreTrainedModel, PreTrainedTokenizerBase

from hf_localgan.data.encoding import check_tokenizer
from hf_localgan.data.token_vectors import TokenVectors
from hf_localgan.hub.download import split_place
from hf_localgan.models.dbm.configuration_dbm import DbmConfig
from hf_localgan.models.dbm.modeling_dbm import DbmModel
from hf_localgan.models.discriminator.modeling_discriminator import PairDiscriminator
from hf_localgan.models.loading import load_generator
from hf_localgan.models.places import CONFIG, MAX_LISTED, describe_no_model, find_file, first_line, has_file

Part = TypeVar("Part", bound=PreTrainedModel)


def load_energy(path: str) -> tuple[DbmModel, PreTrainedTokenizerBase]:
    """An energy model that reads text, and its tokenizer.

    Args:
        path: a folder, an id on the Hub, or an id with a folder of that repository: `owner/name/energy`.

    Raises:
        OSError: if there is no model.
        ValueError: for another type of model, and for an energy over vectors alone.
    """
    model = _load_part(path, DbmModel, "energy", "energy model", "train_dbm.py")
    if model.word_vectors is None:
        raise ValueError(f'The energy model "{path}" holds no word vectors, so it cannot be trained on text.')
    return model, _tokenizer_of(path, "energy model")


def load_discriminator(path: str) -> tuple[PairDiscriminator, PreTrainedTokenizerBase]:
    """A discriminator and its tokenizer.

    Args:
        path: a folder, an id on the Hub, or an id with a folder of that repository: `owner/name/discriminator`.

    Raises:
        OSError: if there is no model.
        ValueError: for another type of model.
    """
    model = _load_part(path, PairDiscriminator, "discriminator", "discriminator", "train_matching.py")
    return model, _tokenizer_of(path, "discriminator")


def _load_part(path: str, model_class: type[Part], folder: str, label: str, command: str) -> Part:
    """A model of a class.

    Args:
        path: as in `load_energy`.
        model_class: of the model.
        folder: name of the folder beside a generator in which such a model stands.
        label, command: words for errors: what is wanted, and what trains it.
    """
    place, inside = _split(path)
    file = f"{inside}/{CONFIG}" if inside else CONFIG
    config = find_file(place, file)

    def inner() -> str:
        there = not inside and has_file(place, f"{folder}/{CONFIG}")
        return f" Its folder {folder}/ does: name `{path}/{folder}`." if there else ""

    if config is None:
        if hint := inner():
            raise FileNotFoundError(f'"{path}" itself holds no {label}.{hint}')
        raise FileNotFoundError(f'"{path}" holds no {label}: it has no {file}. {describe_no_model(place)}')
    try:
        model, info = AutoModel.from_pretrained(
            place, subfolder=inside, use_safetensors=True, output_loading_info=True, ignore_mismatched_sizes=True
        )
    except SafetensorError as error:
        raise ValueError(f'The weights of "{path}" are no complete safetensors file: {error}. Get it again.') from error
    if not isinstance(model, model_class):
        hint = inner() or f" Train one by `{command}`."
        raise ValueError(f'"{path}" holds a {type(model).__name__}, and no {label}.{hint}')
    mismatched = {key for key, *_ in info["mismatched_keys"]}
    if wrong := sorted({*info["missing_keys"], *info["unexpected_keys"], *mismatched}):
        raise ValueError(
            f'The weights of "{path}" are not those of its configuration: {", ".join(wrong[:MAX_LISTED])}. Save the '
            "whole model again."
        )
    return model


def _tokenizer_of(path: str, label: str) -> PreTrainedTokenizerBase:
    place, inside = _split(path)
    try:
        tokenizer = AutoTokenizer.from_pretrained(place, subfolder=inside)
    except Exception as error:  # tokenizers raises bare exceptions for a damaged tokenizer.json
        raise ValueError(
            f'The tokenizer of "{path}" is missing or cannot be read: {first_line(error)} Put the one there that the '
            f"{label} was made with."
        ) from error
    check_tokenizer(tokenizer)
    return tokenizer


def _split(path: str) -> tuple[str, str]:
    place, inside = split_place(path)
    folder = Path(place).expanduser()
    return (str(folder) if folder.is_dir() else place), inside


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
