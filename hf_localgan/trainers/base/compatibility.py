"""Whether a checkpoint belongs to the model, the tokenizer, the files and the settings of the training that resumes."""

import json
import math
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from safetensors import safe_open
from torch import Tensor, nn
from transformers import AutoTokenizer, PreTrainedConfig, PreTrainedModel, PreTrainedTokenizerBase, TrainingArguments
from transformers.utils import ADAPTER_SAFE_WEIGHTS_NAME, SAFE_WEIGHTS_INDEX_NAME, SAFE_WEIGHTS_NAME

from hf_localgan.data.vocabulary import first_difference
from hf_localgan.trainers.base.settings import shaping_settings
from hf_localgan.trainers.base.training_facts import fingerprint_of

ADAPTER_CONFIG = "adapter_config.json"
SHOWN = 3  # names of weights, or differences of configurations, in an error
# Fields of configurations that change nothing in what a trained model computes, or that a resume takes over.
HARMLESS = {
    "architectures", "auto_map", "transformers_version", "name_or_path", "_name_or_path", "dtype", "torch_dtype",
    "use_cache", "output_attentions", "output_hidden_states", "return_dict", "tokenizer_class", "label2id", "id2label",
    "problem_type", "initializer_range", "initializer_factor", "init_std", "gradient_checkpointing", "radius_spread",
    "distance_spread",
}  # fmt: skip
# The same of adapters.
HARMLESS_ADAPTER = {
    "base_model_name_or_path", "revision", "inference_mode", "task_type", "auto_mapping", "peft_version",
    "init_lora_weights", "lora_dropout", "runtime_config", "corda_config", "eva_config", "loftq_config",
    "lora_ga_config", "megatron_config", "megatron_core", "qalora_group_size",
}  # fmt: skip


# ---- refusals ----


def check_vocabulary(checkpoint: Path, saved: str | None, tokenizer: PreTrainedTokenizerBase | None):
    """Refuses a tokenizer whose tokens have other ids than those that the weights were trained on.

    Args:
        checkpoint: folder of the checkpoint, which holds its tokenizer, too.
        saved: fingerprint in the checkpoint's record; `None` where there is none, and the saved tokenizer is compared.
        tokenizer: the training's; without one nothing is compared.

    Raises:
        ValueError: naming the first token that differs.
    """
    own = fingerprint_of(tokenizer)
    if tokenizer is None or own is None or own == saved:
        return
    there = _tokenizer_in(checkpoint)
    difference = None if there is None else first_difference(tokenizer, there)
    if difference is not None:
        token, here, before = difference
        detail = (
            f"the token {token!r} {before} the checkpoint's ({len(there or ()):,} tokens) and {here} that of this run "
            f"({len(tokenizer):,} tokens)"
        )
    elif saved is not None:
        detail = f"as fingerprints {saved} and {own}"
    else:
        return
    raise ValueError(
        f'"{checkpoint}" was trained with another tokenizer than that of this run: {detail}. Its weights belong to its '
        f'own tokens. Resume with the tokenizer in the checkpoint (`tokenizer: "{checkpoint}"`), or start anew, in '
        "another `output_dir`, without `resume_from_checkpoint`."
    )


def _tokenizer_in(folder: Path) -> PreTrainedTokenizerBase | None:
    """The tokenizer of a checkpoint; `None` where there is none, or none that can be read without code of its own."""
    if not (folder / "tokenizer_config.json").is_file():
        return None
    try:
        return AutoTokenizer.from_pretrained(folder, trust_remote_code=False)
    except Exception:  # of any kind: whatever a damaged or foreign tokenizer raises, it can tell nothing
        return None


def check_part(folder: Path, model: PreTrainedModel, name: str = "model"):
    """Refuses a folder that holds another model than the one that is to be loaded from it.

    Args:
        folder: a checkpoint, or the folder of a part in it.
        model: a model, or a PEFT model, whose adapters are compared.
        name: what the model is called in the advice.

    Raises:
        ValueError: for missing files, weights of other names or shapes, and another configuration; it lists them.
    """
    adapters = getattr(model, "peft_config", None)
    if adapters:
        _refuse_whole_model(folder)
        for adapter in adapters:
            _check_adapter(folder, model, adapter)
        return
    if not (folder / "config.json").is_file() and (folder / ADAPTER_CONFIG).is_file():
        saved = read_object(folder / ADAPTER_CONFIG)
        rank = f" of rank {saved['r']}" if saved.get("r") else ""
        raise ValueError(
            f'"{folder}" holds adapters{rank} ({saved.get("peft_type", "PEFT")}) and not a whole model, and this run '
            "trains a model without adapters. Resume with adapters of the same shape (`lora_rank`, `lora_targets`) on "
            "the same base model; or train the merged model in a new run, by giving the checkpoint as the model."
        )
    if not (folder / "config.json").is_file():
        raise ValueError(
            f'"{folder}" holds no whole model: it has no config.json. Resume from another checkpoint, or start anew.'
        )
    problems = [*_differences_of_weights(folder, model), *_differences_of_config(folder / "config.json", model.config)]
    if problems:
        raise ValueError(
            f'"{folder}" does not fit this {type(model).__name__}: {_listed(problems, ", ")}. Resume with the {name} '
            "that the checkpoint was made with."
        )


def _refuse_whole_model(folder: Path):
    if (folder / SAFE_WEIGHTS_NAME).is_file() or (folder / SAFE_WEIGHTS_INDEX_NAME).is_file():
        raise ValueError(
            f'"{folder}" holds a whole model, and this run trains adapters (`lora_rank`). Resume without adapters; or '
            "train adapters on that model in a new run, by giving the checkpoint as the model."
        )


def _check_adapter(checkpoint: Path, model: Any, adapter: str):
    from peft import get_peft_model_state_dict

    folder = checkpoint if adapter == "default" else checkpoint / adapter  # as PEFT saves them
    for name in (ADAPTER_CONFIG, ADAPTER_SAFE_WEIGHTS_NAME):
        if not (folder / name).is_file():
            raise ValueError(
                f'"{checkpoint}" is not a whole checkpoint of a model with adapters: it has no '
                f"{(folder / name).relative_to(checkpoint)}. Resume from another checkpoint, or start anew."
            )
    own = json.loads(json.dumps(model.peft_config[adapter].to_dict(), default=_jsonable))
    saved = read_object(folder / ADAPTER_CONFIG)
    own, saved = ({**config, "target_modules": _sorted(config.get("target_modules"))} for config in (own, saved))
    problems = [
        f"`{name}` is {_shown(saved[name])} in it and {_shown(own[name])} in this run"
        for name in sorted(own.keys() & saved.keys())
        if name not in HARMLESS_ADAPTER and saved[name] != own[name]
    ]
    state = get_peft_model_state_dict(model, adapter_name=adapter, save_embedding_layers=False)
    shapes = {name: list(value.shape) for name, value in state.items()}
    there = saved_shapes(folder, ADAPTER_SAFE_WEIGHTS_NAME)
    whole = {name.replace(f".{adapter}.", ".") for name in model.state_dict()}
    # PEFT saves whole embeddings beside adapters that touch them.
    unknown = {name for name in there.keys() - shapes.keys() if name not in whole and ".base_layer." not in name}
    problems = problems or _differences(shapes.keys() - there.keys(), unknown, shapes, there)
    if problems:
        raise ValueError(
            f'The adapters in "{folder}" do not fit those of this run: {_listed(problems, "; ")}. Resume with the '
            "adapters that the checkpoint was made with (`lora_rank`, `lora_alpha`, `lora_targets`)."
        )


def _differences_of_weights(folder: Path, model: nn.Module) -> list[str]:
    there = saved_shapes(folder)
    current: dict[str, Tensor] = model.state_dict()
    shapes = {name: list(value.shape) for name, value in current.items()}
    # A file holds a tensor once, under one of the names that its model ties to it.
    tensors = {current[name].data_ptr() for name in current.keys() & there.keys()}
    unsaved = set(getattr(model, "_keys_to_ignore_on_save", None) or ())
    missing = {
        name for name in current.keys() - there.keys() - unsaved if current[name].data_ptr() not in tensors
    }  # fmt: skip
    return _differences(missing, there.keys() - current.keys(), shapes, there)


def _differences(
    missing: Iterable[str], unknown: Iterable[str], own: Mapping[str, list[int]], there: Mapping[str, list[int]]
) -> list[str]:
    reshaped = [name for name in own.keys() & there.keys() if own[name] != there[name]]
    listed = {"missing": missing, "unknown": unknown, "of another shape": reshaped}
    return [f"{label} {_some(names)}" for label, names in listed.items() if names]


def saved_shapes(folder: Path, name: str = SAFE_WEIGHTS_NAME) -> dict[str, list[int]]:
    """Shapes of the weights in a folder, by name, from the heads of their files.

    Args:
        folder: of one file, or of several with their index.
        name: name of the one file.

    Raises:
        ValueError: if a file is missing.
        SafetensorError, JSONDecodeError: for damaged files.
    """
    index, files = folder / f"{name}.index.json", [name]
    if not (folder / name).is_file() and index.is_file():
        files = sorted(set(read_object(index).get("weight_map", {}).values()))
    shapes: dict[str, list[int]] = {}
    for file in files:
        if not (folder / file).is_file():
            raise ValueError(
                f'"{folder}" holds no whole model: it has no {file}. Resume from another checkpoint, or start anew.'
            )
        with safe_open(folder / file, "pt") as opened:
            shapes |= {tensor: list(opened.get_slice(tensor).get_shape()) for tensor in opened.keys()}
    return shapes


def _differences_of_config(path: Path, config: PreTrainedConfig) -> list[str]:
    """Fields of a saved configuration that differ from a model's, as clauses."""
    content = read_object(path)
    try:
        saved = type(config).from_dict(content)
    except Exception as error:  # of any kind: a damaged value may break any check of any architecture
        raise _unreadable(path, error) from error
    before, own = (_flat(json.loads(one.to_json_string(use_diff=False))) for one in (saved, config))
    return [
        f"`{name}` is {_shown(before[name])} in it and {_shown(own[name])} in this run"
        for name in sorted(before.keys() & own.keys())
        if before[name] != own[name] and not _is_harmless(name, before[name], own[name])
    ]


def _is_harmless(name: str, before: Any, own: Any) -> bool:
    field = name.rsplit(".", 1)[-1]
    unknown_tokenizer = field == "vocabulary" and None in (before, own)
    return field in HARMLESS or field.startswith("_") or "drop" in field or unknown_tokenizer


def _flat(values: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    flat: dict[str, Any] = {}
    for name, value in values.items():
        flat |= _flat(value, f"{prefix}{name}.") if isinstance(value, Mapping) else {f"{prefix}{name}": value}
    return flat


def missing_state(checkpoint: Path, processes: int, needs_scaler: bool = False) -> list[str]:
    """Files of the training's state that a checkpoint lacks.

    Args:
        checkpoint: folder of the checkpoint.
        processes: number of processes that wrote it, as far as it is known to be that of this run; otherwise 0.
        needs_scaler: whether the training scales its loss, as float16 does.
    """
    names = {path.name for path in checkpoint.iterdir()}
    missing = []
    # A folder of shards, or one file.
    if not any(name.startswith(("optimizer", "pytorch_model_fsdp", "global_step")) for name in names):
        missing.append("optimizer.pt")
    missing += [name for name in ("scheduler.pt", *(["scaler.pt"] if needs_scaler else [])) if name not in names]
    if processes > 1:
        missing += [f"rng_state_{rank}.pth" for rank in range(processes) if f"rng_state_{rank}.pth" not in names]
    elif not any(name.startswith("rng_state") for name in names):
        missing.append("rng_state.pth")
    return missing


# ---- differences that are told ----


def changed_settings(checkpoint: Path, args: TrainingArguments) -> dict[str, tuple[Any, Any]]:
    """Arguments that shape a training and were others when the checkpoint was written: the old and the new value.

    Args:
        checkpoint: folder of the checkpoint. Without a `training_args.json` in it nothing is compared.
        args: training arguments of this run.
    """
    path = checkpoint / "training_args.json"
    if not path.is_file():
        return {}
    saved = read_object(path)
    own = json.loads(json.dumps(args.to_sanitized_dict(), default=str))
    names = [name for name in shaping_settings(type(args)) if name in saved and name in own]
    return {name: (saved[name], own[name]) for name in names if saved[name] != own[name]}


def saved_trainer(checkpoint: Path) -> str | None:
    """Name of the class of the trainer that wrote a checkpoint; `None` where it is unknown."""
    path = checkpoint / "training_args.json"
    return read_object(path).get("trainer") if path.is_file() else None


def changed_config(checkpoint: Path, model: Any) -> dict[str, tuple[Any, Any]]:
    """Dropout and precision of a checkpoint's model where this run's has another: old and new value."""
    path = checkpoint / "config.json"
    if not path.is_file():
        return {}
    before = _flat(read_object(path))
    own = _flat(json.loads(model.config.to_json_string(use_diff=False)))
    own["dtype"] = str(model.dtype).removeprefix("torch.")
    names = [
        name for name in sorted(before.keys() & own.keys()) if name == "dtype" or "drop" in name.rsplit(".", 1)[-1]
    ]
    return {name: (before[name], own[name]) for name in names if before[name] != own[name]}


def alike(first: Any, second: Any) -> bool:
    """Whether two values from JSON are equal; numbers up to a thousandth, for another machine rounds differently."""
    if isinstance(first, Mapping) and isinstance(second, Mapping):
        return first.keys() == second.keys() and all(alike(first[name], second[name]) for name in first)
    if isinstance(first, list) and isinstance(second, list):
        return len(first) == len(second) and all(map(alike, first, second))
    if isinstance(first, float) and isinstance(second, (int, float)):
        return math.isclose(first, second, rel_tol=1e-3, abs_tol=1e-6)
    return first == second


# ---- files and words ----


def read_object(path: Path) -> dict[str, Any]:
    """The JSON object in a file of a checkpoint.

    Raises:
        ValueError: for a damaged file, naming it.
    """
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:  # of the encoding or of JSON
        raise _unreadable(path, error) from error
    if not isinstance(content, dict):
        raise _unreadable(path, TypeError(f"no object, but {_shown(content)}"))
    return content


def _unreadable(path: Path, error: Exception) -> ValueError:
    return ValueError(
        f'"{path}" cannot be read ({type(error).__name__}: {" ".join(str(error).split())}): the file is truncated or '
        "damaged. Resume from an earlier checkpoint."
    )


def _some(names: Iterable[str]) -> str:
    names = sorted(names)
    more = f" and {len(names) - SHOWN} more" if len(names) > SHOWN else ""
    return f"{names[:SHOWN]}{more}"


def _listed(problems: Sequence[str], separator: str) -> str:
    more = [f"and {len(problems) - 2 * SHOWN} more"] if len(problems) > 2 * SHOWN else []
    return separator.join([*problems[: 2 * SHOWN], *more])


def _shown(value: Any) -> str:
    text = json.dumps(value, ensure_ascii=False)
    return text if len(text) <= 80 else f"{text[:77]}..."


def _sorted(value: Any) -> Any:
    return sorted(value) if isinstance(value, list) else value


def _jsonable(value: Any) -> Any:
    return sorted(value) if isinstance(value, (set, frozenset)) else getattr(value, "value", str(value))
