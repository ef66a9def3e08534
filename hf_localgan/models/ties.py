"""Weights that several layers share (ties): taken apart before adapters are merged, and put together where they agree.

PEFT adds what an adapter has learned to the weight of its layer in place. Where another layer has the same tensor, such
as an output layer and the embeddings, it would change with it, and the merged model would be another function than the
one that was trained.
"""

import copy
import logging
from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import Tensor, nn
from transformers import PreTrainedModel

# What PEFT puts between a layer's name and its own weights.
BASE_PARTS = {"base_layer", "original_module"}
WRAPPER_PARTS = BASE_PARTS | {"token_adapter"}
ROUNDINGS = 4.0  # rounding errors by which two sums of the same terms may differ
UNTIED = "so we will NOT tie them"  # of transformers' warning, which advises to change the configuration


def untie_adapted(model: nn.Module) -> list[list[str]]:
    """Gives every layer a copy of its own of those weights that adapters will be merged into; changes the model.

    Args:
        model: the model inside a PEFT model, with the adapters' layers in it.

    Returns:
        For each tensor that was shared, the names of its weights in the model without adapters, for `tie_equal`.
    """
    places: dict[tuple, dict[str, list[str]]] = {}
    for path, parameter in model.named_parameters(remove_duplicate=False):
        places.setdefault(_identity(parameter), {}).setdefault(_plain_name(path), []).append(path)
    shared = [names for names in places.values() if len(names) > 1 and any(map(_is_base, sum(names.values(), [])))]
    for names in shared:
        owners: set[int] = set()
        for number, paths in enumerate(names.values()):
            replaced: dict[int, nn.Module] = {}
            for path in paths:
                owner_path, _, name = path.rpartition(".")
                owner = model.get_submodule(owner_path)
                if id(owner) in owners:  # one layer under two names, as after `set_input_embeddings`
                    owner = replaced.setdefault(id(owner), copy.deepcopy(owner))
                    _set_module(model, owner_path, owner)
                if number:
                    weight = getattr(owner, name)
                    new = nn.Parameter(weight.detach().clone(), requires_grad=weight.requires_grad)
                    replaced.setdefault(id(owner), owner)
                    setattr(owner, name, new)
            owners |= {id(model.get_submodule(path.rpartition(".")[0])) for path in paths}
    return [list(names) for names in shared]


def tie_equal(model: PreTrainedModel, groups: list[list[str]]):
    """Ties those weights again that are equal up to rounding, and forgets the ties of the others; changes the model.

    Only ties that the model's class declares are made, from a weight to the one that stands for it in a checkpoint.
    Other weights keep their copies: left out of a checkpoint, they would be read back as what the class ties them to.

    Args:
        model: the model without adapters.
        groups: as `untie_adapted` returned them.
    """
    separated = {name for names in groups for name in names}
    ties = {target: source for target, source in model.all_tied_weights_keys.items() if target in separated}
    for _ in ties:  # as often as a chain of them may be long
        for target, source in ties.items():
            if _are_equal(model.get_parameter(target), model.get_parameter(source)):
                owner, _, name = target.rpartition(".")
                setattr(model.get_submodule(owner), name, model.get_parameter(source))
    for module in model.modules():
        kept = getattr(module, "all_tied_weights_keys", None)
        if isinstance(module, PreTrainedModel) and kept:
            module.all_tied_weights_keys = {
                target: source
                for target, source in kept.items()
                if module.get_parameter_or_buffer(target) is module.get_parameter_or_buffer(source)
            }


@contextmanager
def untied_without_warning() -> Iterator[None]:
    """Within the context, transformers does not warn of weights that its configuration ties and a checkpoint does not.

    It then loads them as they are. Its advice, `tie_word_embeddings=False`, would be wrong for T5 and `rnn_seq2seq`,
    whose function depends on that setting in other ways.
    """
    logger = logging.getLogger("transformers.modeling_utils")

    def keep(record: logging.LogRecord) -> bool:
        return UNTIED not in record.getMessage()

    logger.addFilter(keep)
    try:
        yield
    finally:
        logger.removeFilter(keep)


def _identity(parameter: Tensor) -> tuple:
    if parameter.is_meta or not parameter.numel():
        return (id(parameter),)
    return parameter.device, parameter.data_ptr(), parameter.shape, parameter.stride()


def _plain_name(path: str) -> str:
    return ".".join(part for part in path.split(".") if part not in WRAPPER_PARTS)


def _is_base(path: str) -> bool:
    return not BASE_PARTS.isdisjoint(path.split("."))


def _set_module(model: nn.Module, path: str, module: nn.Module):
    parent, _, name = path.rpartition(".")
    setattr(model.get_submodule(parent), name, module)


def _are_equal(weight: Tensor, other: Tensor) -> bool:
    if weight is other:
        return True
    if weight.shape != other.shape or weight.dtype != other.dtype or weight.device != other.device:
        return False
    if torch.equal(weight, other):
        return True
    if not weight.is_floating_point():
        return False
    bound = ROUNDINGS * torch.finfo(weight.dtype).eps * other.abs().max()
    return bool((weight - other).abs().max() <= bound)
