"""Adapters of PEFT, such as LoRA's: reading them, and merging them into their base model."""

import copy
import json
import os
import warnings
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

from safetensors import SafetensorError, safe_open
from transformers import PreTrainedModel

from .places import ADAPTER_CONFIG as CONFIG
from .places import CONFIG as WHOLE_CONFIG
from .places import find_file, has_file
from .ties import tie_equal, untie_adapted

if TYPE_CHECKING:
    from peft import PeftConfig, PeftModel

WEIGHTS = "adapter_model.safetensors"
MAX_LISTED = 5  # names of weights in an error
# Ways to begin an adapter that change the base model's weights by what the adapter's files do not hold.
UNREPEATABLE = ("pissa_niter", "corda", "lora_ga")


def find_adapter(place: str, revision: str | None = None, base_model: str | os.PathLike | None = None) -> bool:
    """Whether a folder or a repository of the Hub holds an adapter and no whole model beside it.

    Args:
        place: folder or Hub id.
        revision: branch, tag or commit on the Hub.
        base_model: the adapter's base model, where it is given: an adapter is meant then.

    Raises:
        ValueError: for an adapter beside a whole model that is not its base model.
    """
    if not has_file(place, CONFIG, revision):
        return False
    if base_model is not None or not has_file(place, WHOLE_CONFIG, revision):
        return True
    path = find_file(place, CONFIG, revision)
    assert path is not None
    try:
        base = json.loads(path.read_text(encoding="utf-8")).get("base_model_name_or_path")
    except (ValueError, AttributeError) as error:
        raise ValueError(f"The {CONFIG} of `{place}` cannot be read ({error}). It may be cut off.") from error
    if base and not _is_same(place, base):
        raise ValueError(
            f"`{place}` holds a whole model and an adapter of another model, `{base}`: two trainings have written "
            f"there. To load the adapter give its `base_model`; to load the whole model move {CONFIG} and {WEIGHTS} "
            "away."
        )
    return False


def _is_same(place: str, other: str) -> bool:
    return place == other or (Path(place).is_dir() and Path(other).is_dir() and Path(place).samefile(other))


def read_adapter_config(place: str, revision: str | None = None) -> "PeftConfig":
    """The configuration of an adapter, which names its base model.

    Raises:
        ValueError: if it cannot be read, or describes an adapter that cannot be merged, such as a soft prompt.
    """
    from peft import PeftConfig

    try:
        config = PeftConfig.from_pretrained(place, revision=revision)
    except (json.JSONDecodeError, KeyError, TypeError, ValueError) as error:
        raise ValueError(
            f"The {CONFIG} of `{place}` cannot be read ({type(error).__name__}: {error}). It may be cut off, or from "
            "another version of PEFT. Save the adapter again: `model.save_pretrained(...)`."
        ) from error
    if config.peft_type is None:
        raise ValueError(f"The {CONFIG} of `{place}` has no `peft_type`, so it describes no adapter. Save it again.")
    if config.is_prompt_learning or config.is_adaption_prompt:
        raise ValueError(
            f"`{place}` holds a {config.peft_type.value} adapter, which cannot be merged into its base model. Load it "
            "by `peft.PeftModel.from_pretrained`."
        )
    refuse_unrepeatable(config, place)
    return config


def refuse_unrepeatable(config: "PeftConfig", name: str):
    """Refuses an adapter whose base model was changed at the start by what is not saved with it.

    Args:
        config: of the adapter.
        name: of the adapter, for the error.

    Raises:
        ValueError: naming the initialization and what can be read back.
    """
    start = getattr(config, "init_lora_weights", True)
    if isinstance(start, str) and start.startswith(UNREPEATABLE):
        raise ValueError(
            f'`{name}` begins with `init_lora_weights="{start}"`, which takes a part out of the base model\'s weights '
            "that depends on chance or on data. The adapter's files do not hold it, so that another model would be "
            'read back than is trained. Begin with "pissa", "olora", "orthogonal" or `True`; or convert a trained '
            "adapter by `path_initial_model_for_weight_conversion` of PEFT's `save_pretrained`."
        )


def base_of_adapter(place: str, config: "PeftConfig", base_model: str | os.PathLike | None = None) -> str:
    """Folder or Hub id of an adapter's base model: `base_model`, or else the one that its configuration names.

    Raises:
        ValueError: if neither is given.
    """
    if base_model is not None:
        return os.fspath(base_model)
    if not config.base_model_name_or_path:
        raise ValueError(
            f"The {CONFIG} of `{place}` names no base model: that model was made in memory and had no name. "
            "Save it and name its folder by `base_model`."
        )
    return config.base_model_name_or_path


def merge_into(base: PreTrainedModel, place: str, config: "PeftConfig", revision: str | None = None) -> PreTrainedModel:
    """Adds an adapter's weights to those of its base model, which is changed and returned.

    Args:
        base: the model that the adapter was trained on.
        place: folder or Hub id of the adapter.
        config: as `read_adapter_config` returned it.
        revision: branch, tag or commit on the Hub.

    Raises:
        FileNotFoundError: where the adapter has no safetensors file; nothing is unpickled.
        ValueError: if its weights are damaged, or do not belong to an adapter of this model.
    """
    from peft import get_peft_model

    try:
        weights = find_file(place, WEIGHTS, revision)
    except OSError as error:
        raise FileNotFoundError(f"The weights of the adapter `{place}` cannot be found: {error}") from error
    if weights is None:
        raise FileNotFoundError(f"The adapter `{place}` has no {WEIGHTS}. Save it again: `model.save_pretrained(...)`.")
    try:
        config = copy.deepcopy(config)
        config.base_model_name_or_path = base.name_or_path  # else PEFT warns where the base model has moved
        with quiet_peft():
            adapted = get_peft_model(base, config)
            result = adapted.load_adapter(place, "default", torch_device="cpu", revision=revision)
    except SafetensorError as error:
        raise ValueError(
            f"The {WEIGHTS} of `{place}` is no complete safetensors file: {error}. It may have been cut off while it "
            "was saved, copied or downloaded. Get it again, or load another checkpoint."
        ) from error
    except (ValueError, RuntimeError) as error:  # modules that are not there, weights of another shape
        raise ValueError(_unfit(place, base, str(error))) from error
    except KeyError as error:  # PEFT's, where a layer of `modules_to_save` is not there
        raise ValueError(_unfit(place, base, f"1 missing ({error.args[0]})")) from error
    except (AttributeError, TypeError) as error:  # PEFT does not check what stands there
        raise ValueError(
            f"The {CONFIG} of `{place}` holds a value that PEFT cannot use ({type(error).__name__}: {error}). Save the "
            "adapter again: `model.save_pretrained(...)`."
        ) from error
    missing = _without_loaded(result.missing_keys, adapted) | _missing_weights(adapted, weights)
    differences = {"missing": missing, "unknown to the model": set(result.unexpected_keys)}
    problems = [
        f"{len(keys)} {problem} ({', '.join(sorted(keys)[:MAX_LISTED])})"
        for problem, keys in differences.items()
        if keys
    ]
    if problems:
        raise ValueError(_unfit(place, base, "; ".join(problems)))
    return merge_in_memory(adapted, place)


def _without_loaded(missing: Iterable[str], adapted: "PeftModel") -> set[str]:
    """Names of missing weights, without those that were read under another name, as the vectors that VB-LoRA shares."""
    state = adapted.state_dict()
    missing = set(missing)
    read = {weight.data_ptr() for name, weight in state.items() if name not in missing}
    return {name for name in missing if name not in state or state[name].data_ptr() not in read}


def _missing_weights(adapted: "PeftModel", path: Path) -> set[str]:
    """Names of trained weights of the base model, such as biases, that the adapter's file does not have.

    PEFT reports those of the adapters alone.
    """
    from peft import get_peft_model_state_dict

    with safe_open(path, framework="pt") as file:
        there = set(file.keys())
    own = cast(Any, adapted.base_model).prefix
    saved = get_peft_model_state_dict(adapted, save_embedding_layers=False)
    return {name for name in saved if name not in there and own not in name}


def merge_in_memory(adapted: "PeftModel | PreTrainedModel", name: str) -> PreTrainedModel:
    """Merges the adapter of a PEFT model into its base model, which is returned; the PEFT model is used up.

    The merged model is the function that the PEFT model was. Layers whose weights are tied, and whose adapters differ,
    have weights of their own afterwards. The configuration still says that they are tied, for `tie_word_embeddings`
    also scales T5's outputs and shapes `rnn_seq2seq`; `from_pretrained` ties only what is equal in a checkpoint.

    Args:
        adapted: the PEFT model, or a model to which `add_adapter` of transformers has added an adapter.
        name: name of the merged model, for errors and for adapters that are trained on it.

    Raises:
        ValueError: for adapters that cannot be merged, and weights that are not finite.
    """
    wrapped = hasattr(adapted, "get_base_model")
    if wrapped and not hasattr(adapted.base_model, "merge_and_unload"):
        raise ValueError(f"`{name}` holds an adapter that cannot be merged into its base model. Use LoRA, whose can.")
    base: Any = cast(Any, adapted).get_base_model() if wrapped else adapted
    tied = getattr(base.config, "tie_word_embeddings", None)
    groups = untie_adapted(base)
    try:
        with quiet_peft():
            if wrapped:
                base = cast(Any, adapted).merge_and_unload(safe_merge=True)
            else:
                _merge_layers(base)
    except (ValueError, RuntimeError) as error:  # the latter for `lora_bias` on a layer without a bias
        raise ValueError(f"The adapter `{name}` cannot be merged: {error}") from error
    if tied is not None:
        base.config.tie_word_embeddings = tied  # PEFT turns it off where embeddings and output layer differ
    tie_equal(base, groups)
    # An adapter that is trained on this model names it as its base; the old name would be wrong.
    base.name_or_path = base.config.name_or_path = name
    return base


def _merge_layers(model: PreTrainedModel):
    """Merges the adapter that `add_adapter` of transformers has added, which has no method for it."""
    from peft.tuners.tuners_utils import BaseTunerLayer
    from peft.utils.other import AuxiliaryTrainingWrapper

    for path, layer in list(model.named_modules()):
        parent, _, name = path.rpartition(".")
        if isinstance(layer, AuxiliaryTrainingWrapper):
            plain = layer.unload_and_optionally_merge_module(merge=True, safe_merge=True, adapter_names=None)
        elif isinstance(layer, BaseTunerLayer):
            layer.merge(safe_merge=True)
            plain = layer.get_base_layer()
        else:
            continue
        setattr(model.get_submodule(parent), name, plain)
    del model.peft_config
    model._hf_peft_config_loaded = False


@contextmanager
def quiet_peft() -> Iterator[None]:
    """Within the context, PEFT does not warn of what nobody needs to change.

    These are complications with tied weights, which `merge_in_memory` deals with, and a name in transformers that PEFT
    asks for and that has a new one.
    """
    with warnings.catch_warnings():
        for text in (r"Model with `tie_word_embeddings=True`", r"Model has `tie_word_embeddings=True`",
                     r"Input and output embeddings are no longer tied",
                     r"`is_gradient_checkpointing` is deprecated"):  # fmt: skip
            warnings.filterwarnings("ignore", message=text)
        yield


def _unfit(place: str, base: PreTrainedModel, problems: str) -> str:
    return (
        f"The adapter `{place}` does not fit the model `{base.name_or_path}` ({type(base).__name__}): "
        f"{' '.join(problems.split())} Give the model that it was trained on by `base_model`."
    )
