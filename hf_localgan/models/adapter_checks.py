"""What is looked at before adapters are trained: whether they learn, and whether a folder will give them back."""

import copy
import os
import tempfile
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple, cast

import torch
from torch import Tensor, nn
from transformers import PreTrainedModel

from .adapters import MAX_LISTED, quiet_peft, refuse_unrepeatable
from .places import CONFIG as WHOLE_CONFIG
from .ties import WRAPPER_PARTS

TRIAL_TOKENS = 3  # in the trial of what learns


class UnreadLayer(NamedTuple):
    """A layer whose adapter learns nothing, for no output depends on it.

    Attributes:
        name: of the layer.
        readers: layers that have the same weights.
    """

    name: str
    readers: tuple[str, ...]


def check_adapters(model: nn.Module, output_dir: str | os.PathLike | None = None):
    """Refuses adapters that would be read back as another model than the one that is trained.

    Args:
        model: a PEFT model, or a model of transformers with adapters; any other model passes.
        output_dir: folder that the adapter will be saved to.

    Raises:
        ValueError: for several adapters; parameters that are trained and not saved with the adapter; a way to begin
            that changes the base model by chance; a `lora_bias` that cannot be merged; adapters with
            `ensure_weight_tying` whose files PEFT cannot read back; and an `output_dir` with the adapter that the new
            one is trained on.
    """
    configs = getattr(model, "peft_config", None)
    if not configs:
        return
    name = type(_base_of(model)).__name__
    if len(configs) > 1:
        raise ValueError(
            f"{name} has {len(configs)} adapters ({', '.join(configs)}), and a folder is read back with one of them. "
            "Merge those that are not trained, or remove them by `delete_adapter`."
        )
    ((adapter, config),) = configs.items()
    base = config.base_model_name_or_path
    if output_dir is not None and base and Path(base).is_dir() and Path(output_dir).is_dir():
        if Path(base).samefile(output_dir) and not (Path(base) / WHOLE_CONFIG).is_file():
            raise ValueError(
                f'`output_dir` is "{output_dir}", the folder of the adapter that the new one is trained on and would '
                "overwrite. Name another folder."
            )
    if config.is_prompt_learning or config.is_adaption_prompt:
        return  # they are no part of the layers, and `load_generator` refuses them by name
    refuse_unrepeatable(config, name)
    _refuse_unmergeable(model, name)
    _refuse_unsaved(model, adapter, name)
    if getattr(config, "ensure_weight_tying", False):
        _refuse_unreadable(model, adapter, name)


def unread_layers(model: nn.Module) -> list[UnreadLayer]:
    """Layers whose adapters learn nothing, found by one forward and backward pass over a few tokens.

    T5 and BART, for example, have a layer `shared` that nothing reads: encoder, decoder and output layer have its
    weights under names of their own.

    Args:
        model: a PEFT model, or a model of transformers with adapters, not wrapped for distribution. It is not changed,
            and the random state is as before.

    Returns:
        An empty list also where the trial cannot be made, as with a model of other inputs than tokens.

    Raises:
        ValueError: if the model runs without its adapters and not with them.
    """
    if not getattr(model, "peft_config", None):
        return []
    trained = {path: weight for path, weight in model.named_parameters() if weight.requires_grad}
    if not trained or any(weight.is_meta or not weight.numel() for weight in model.parameters()):  # sharded
        return []
    inputs = _trial_inputs(_base_of(model))
    if inputs is None:
        return []
    try:
        gradients = _trial(model, inputs, list(trained.values()))
    except Exception as error:  # whatever a layer raises that PEFT has built wrongly
        if not _runs_without_adapters(model, inputs):
            return []
        raise ValueError(
            f"{type(_base_of(model)).__name__} cannot run with these adapters ({type(error).__name__}: {error}). "
            "Choose other layers or another way to adapt them; leave out `ensure_weight_tying` where it is set."
        ) from error
    layers = _adapted_layers(model)
    dead = {_layer_of(path, layers) for path, gradient in zip(trained, gradients, strict=True) if gradient is None}
    alive = {_layer_of(path, layers) for path, gradient in zip(trained, gradients, strict=True) if gradient is not None}
    return [UnreadLayer(name, _readers(model, name)) for name in sorted(dead - alive)]


def describe_unread(layers: list[UnreadLayer], model: nn.Module) -> str:
    """What is wrong with layers of `unread_layers`, and which to name instead."""
    names = ", ".join(f"`{layer.name}`" for layer in layers[:MAX_LISTED])
    text = f"Adapters of {names} learn nothing: no output of {type(_base_of(model)).__name__} depends on that."
    readers = sorted({reader for layer in layers for reader in layer.readers})
    if readers:
        text += f" The same weights are read by {', '.join(f'`{reader}`' for reader in readers)}: name these."
    return text


# ---- refusals ----


def _refuse_unmergeable(model: nn.Module, name: str):
    for path, layer in _base_of(model).named_modules():
        biases = getattr(layer, "lora_bias", None)
        if not isinstance(biases, dict) or not any(biases.values()):
            continue
        if getattr(layer.get_base_layer(), "bias", None) is None:
            raise ValueError(
                f"`lora_bias` trains a bias for `{path}` of {name}, which has none, so that the adapter cannot be "
                "merged and read back. Leave out `lora_bias`, or adapt layers that have a bias."
            )


def _refuse_unsaved(model: nn.Module, adapter: str, name: str):
    saved = _saved_state(model, adapter)
    places = {value.data_ptr() for value in saved.values()}
    lost = [
        path
        for path, parameter in model.named_parameters()
        if parameter.requires_grad
        and parameter.data_ptr() not in places
        and path.removesuffix(f".{adapter}").replace(f".{adapter}.", ".") not in saved
    ]
    if lost:
        listed = ", ".join(f"`{_plain(path)}`" for path in lost[:MAX_LISTED])
        listed += ", ..." if len(lost) > MAX_LISTED else ""
        raise ValueError(
            f"{len(lost)} trained parameters of {name} are not saved with its adapter: {listed}. Freeze them by "
            "`requires_grad_(False)`, or name their layers in `modules_to_save` of the adapter's configuration."
        )


def _refuse_unreadable(model: nn.Module, adapter: str, name: str):
    """For `ensure_weight_tying`, with which PEFT rewrites the configuration while it makes the adapter."""
    from peft import PeftConfig, get_peft_model

    base = _base_of(model)
    with tempfile.TemporaryDirectory() as folder, torch.random.fork_rng(devices=[]), quiet_peft():
        cast(Any, model).peft_config[adapter].save_pretrained(folder)
        config = PeftConfig.from_pretrained(folder)
        try:
            with torch.device("meta"):
                empty: Any = type(base)(copy.deepcopy(base.config))
            read = set(_saved_state(get_peft_model(empty, config), "default"))
        except Exception as error:  # whatever PEFT stumbles over will be in the way of the reader, too
            read = {f"{type(error).__name__}: {error}"}
    written = set(_saved_state(model, adapter))
    if read != written:
        raise ValueError(
            f"With `ensure_weight_tying` PEFT makes an adapter for {name} that cannot be read back: "
            f"{', '.join(sorted(read ^ written)[:MAX_LISTED])}. Leave it out: each of the tied layers then learns an "
            "adapter of its own, and has weights of its own when that is merged."
        )


def _saved_state(model: nn.Module, adapter: str) -> dict[str, Tensor]:
    from peft import get_peft_model_state_dict

    return get_peft_model_state_dict(model, adapter_name=adapter, save_embedding_layers=False)


# ---- the trial ----


def _trial_inputs(base: PreTrainedModel) -> dict[str, Any] | None:
    config, device = base.config, base.device
    tokens = torch.ones(1, TRIAL_TOKENS, dtype=torch.long, device=device)
    inputs: dict[str, Any] = {"labels": tokens, "decoder_input_ids": tokens}
    if base.main_input_name == "input_ids":
        inputs["input_ids"] = tokens
    elif base.main_input_name == "input_features" and hasattr(config, "reduction"):
        frames = config.reduction * (2 * TRIAL_TOKENS + 1)  # CTC needs a blank between equal labels
        inputs["input_features"] = torch.zeros(1, frames, config.feature_size, device=device, dtype=base.dtype)
    else:
        return None
    if getattr(config, "noise_size", 0):
        inputs["noise"] = torch.zeros(1, config.noise_size, device=device)
    return inputs


def _trial(model: nn.Module, inputs: dict[str, Any], parameters: list[nn.Parameter]) -> tuple[Tensor | None, ...]:
    device = inputs["labels"].device
    with torch.random.fork_rng(devices=[device] if device.type == "cuda" else []), _quiet(model), torch.enable_grad():
        outputs = model(**inputs)
        return torch.autograd.grad(outputs.loss + outputs.logits.float().sum(), parameters, allow_unused=True)


@contextmanager
def _quiet(model: nn.Module):
    """Within the context dropout is off; recurrent layers stay in training mode, which cuDNN needs for a gradient."""
    modes = {module: module.training for module in model.modules()}
    model.eval()
    for module in modes:
        if isinstance(module, nn.RNNBase):
            module.training = True
    try:
        yield
    finally:
        for module, mode in modes.items():
            module.training = mode


def _runs_without_adapters(model: Any, inputs: dict[str, Any]) -> bool:
    try:
        with torch.no_grad(), _quiet(model):
            if hasattr(model, "get_base_model"):
                with model.disable_adapter():
                    model(**inputs)
            else:
                model.disable_adapters()
                try:
                    model(**inputs)
                finally:
                    model.enable_adapters()
    except Exception:  # then the trial's inputs do not fit this model
        return False
    return True


# ---- names ----


def _base_of(model: Any) -> Any:
    return model.get_base_model() if hasattr(model, "get_base_model") else model


def _plain(path: str) -> str:
    path = path.removeprefix("base_model.model.")
    return ".".join(part for part in path.split(".") if part not in WRAPPER_PARTS)


def _adapted_layers(model: nn.Module) -> list[str]:
    from peft.tuners.tuners_utils import BaseTunerLayer
    from peft.utils.other import AuxiliaryTrainingWrapper

    wrappers = (BaseTunerLayer, AuxiliaryTrainingWrapper)
    names = [name for name, layer in model.named_modules() if isinstance(layer, wrappers)]
    return sorted(names, key=len)  # the outermost first


def _layer_of(path: str, layers: list[str]) -> str:
    """The layer that a parameter is trained for: the one that its adapter wraps, or the one that it belongs to."""
    name = next((layer for layer in layers if path.startswith(f"{layer}.")), path.rpartition(".")[0])
    return _plain(name)


def _readers(model: Any, layer: str) -> tuple[str, ...]:
    """Other layers that have the weights of this one."""
    base = _base_of(model)
    weights: dict[int, set[str]] = {}
    for path, weight in base.named_parameters(remove_duplicate=False):
        weights.setdefault(id(weight), set()).add(_plain(path).rpartition(".")[0])
    shared = set().union(*(names for names in weights.values() if layer in names))
    return tuple(sorted(shared - {layer}))
