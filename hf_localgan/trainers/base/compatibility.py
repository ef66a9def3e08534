"""Whether a checkpoint belongs to the model, the tokenizer, the files and the settings of the training that resumes."""

import json
from collections.abc import Iterable, Mapping, Sequence, Sized
from hashlib import sha256
from pathlib import Path
from typing import Any

import datasets
import pyarrow as pa
import pyarrow.compute as pc
import torch
from safetensors import safe_open
from torch import Tensor, nn
from transformers import AutoTokenizer, PreTrainedConfig, PreTrainedModel, PreTrainedTokenizerBase, TrainingArguments
from transformers.utils import ADAPTER_SAFE_WEIGHTS_NAME, SAFE_WEIGHTS_INDEX_NAME, SAFE_WEIGHTS_NAME

from hf_localgan.data.vocabulary import first_difference, vocabulary_fingerprint
from hf_localgan.trainers.base.settings import shaping_settings

ADAPTER_CONFIG = "adapter_config.json"
ROWS, FINGERPRINT = "rows of the training data", "fingerprint of the training data"
SHOWN = 3  # names of weights, or differences of configurations, in an error
SAMPLED_ROWS = 64  # of the training data
SAMPLED_VALUES = 8  # of each frozen parameter
# Fields of configurations that change nothing in what a trained model computes, or that a resume takes over.
HARMLESS = {
    "architectures", "auto_map", "transformers_version", "name_or_path", "_name_or_path", "dtype", "torch_dtype",
    "use_cache", "output_attentions", "output_hidden_states", "return_dict", "tokenizer_class", "label2id", "id2label",
    "problem_type", "initializer_range", "initializer_factor", "init_std", "gradient_checkpointing", "radius_spread",
}  # fmt: skip
# The same of adapters.
HARMLESS_ADAPTER = {
    "base_model_name_or_path", "revision", "inference_mode", "task_type", "auto_mapping", "peft_version",
    "init_lora_weights", "lora_dropout", "runtime_config", "corda_config", "eva_config", "loftq_config",
    "lora_ga_config", "megatron_config", "megatron_core", "qalora_group_size",
}  # fmt: skip


# ---- what a checkpoint records ----


def fingerprint_of(tokenizer: Any) -> str | None:
    """The fingerprint of a tokenizer's vocabulary; `None` for no tokenizer, and one that cannot list its tokens."""
    try:
        return None if tokenizer is None else vocabulary_fingerprint(tokenizer)
    except (AttributeError, NotImplementedError):
        return None


def base_fingerprint(model: nn.Module) -> str | None:
    """16 hexadecimal digits of the frozen weights that checkpoints of a PEFT model leave out; `None` for other models.

    They are taken from a few values of every frozen weight, rounded to bfloat16, so that the precision in which the
    base model was loaded changes nothing.
    """
    adapters = getattr(model, "peft_config", None)
    if not adapters:
        return None
    samples = []
    for name, parameter in sorted(model.named_parameters()):
        if parameter.requires_grad or not adapters.keys().isdisjoint(name.split(".")):
            continue
        values = parameter.detach().reshape(-1)
        values = values[:: max(1, len(values) // SAMPLED_VALUES)][: SAMPLED_VALUES + 1]
        numbers = values.to(torch.bfloat16).float().tolist()
        samples.append([list(parameter.shape), numbers])
    return _digest(samples)


def data_facts(dataset: Any) -> dict[str, Any]:
    """Number of rows of a training set, and a fingerprint of a few of them, evenly spaced; empty for streams.

    Only lists and data sets of `datasets` are looked into, for other data may be drawn at random. Of frames of speech
    only the number counts: processors compute them differently in the last digits.
    """
    if not isinstance(dataset, Sized):
        return {}
    facts: dict[str, Any] = {ROWS: len(dataset)}
    chosen = sorted({row * len(dataset) // SAMPLED_ROWS for row in range(SAMPLED_ROWS)}) if len(dataset) else []
    columns: Any = None
    if isinstance(dataset, datasets.Dataset) and dataset.format["type"] != "custom":
        table = dataset.select(chosen).with_format("arrow")[:]  # as it is stored: no sound is decoded
        columns = {name: _stored(table.column(name)) for name in sorted(table.column_names)}
    elif isinstance(dataset, (list, tuple)):
        columns = [
            {name: _content(value) for name, value in row.items()} if isinstance(row, Mapping) else str(row)
            for row in (dataset[index] for index in chosen)
        ]
    if columns is not None:
        facts[FINGERPRINT] = _digest(columns)
    return facts


def _stored(column: pa.ChunkedArray) -> list[Any]:
    """The cells of a column; where they are lists of lists, their lengths."""
    cells = column.combine_chunks()
    cells = cells.storage if isinstance(cells, pa.ExtensionArray) else cells
    is_nested = hasattr(cells.type, "value_type") and hasattr(cells.type.value_type, "value_type")
    return (pc.list_value_length(cells) if is_nested else cells).to_pylist()


def _content(value: Any) -> Any:
    """A cell of a row; of a list of lists, or an array of several dimensions, the length."""
    value = value.tolist() if hasattr(value, "tolist") else value
    is_nested = isinstance(value, (list, tuple)) and any(hasattr(item, "__len__") for item in value[:1])
    return len(value) if is_nested and not isinstance(value[0], str) else value


def _digest(content: Any) -> str:
    """16 hexadecimal digits of a value."""
    return sha256(json.dumps(content, sort_keys=True, default=str).encode()).hexdigest()[:16]


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
        saved = json.loads((folder / ADAPTER_CONFIG).read_text(encoding="utf-8"))
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
    saved = json.loads((folder / ADAPTER_CONFIG).read_text(encoding="utf-8"))
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
        files = sorted(set(json.loads(index.read_text(encoding="utf-8"))["weight_map"].values()))
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
    saved = type(config).from_dict(json.loads(path.read_text(encoding="utf-8")))
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
    saved = json.loads(path.read_text(encoding="utf-8"))
    own = json.loads(json.dumps(args.to_sanitized_dict(), default=str))
    names = [name for name in shaping_settings(type(args)) if name in saved and name in own]
    return {name: (saved[name], own[name]) for name in names if saved[name] != own[name]}


def saved_trainer(checkpoint: Path) -> str | None:
    """Name of the class of the trainer that wrote a checkpoint; `None` where it is unknown."""
    path = checkpoint / "training_args.json"
    return json.loads(path.read_text(encoding="utf-8")).get("trainer") if path.is_file() else None


def changed_dropout(checkpoint: Path, model: Any) -> dict[str, tuple[Any, Any]]:
    """Dropout in the configurations of a checkpoint's model and of this run's where they differ: old and new value."""
    path = checkpoint / "config.json"
    if not path.is_file():
        return {}
    before = _flat(json.loads(path.read_text(encoding="utf-8")))
    own = _flat(json.loads(model.config.to_json_string(use_diff=False)))
    return {
        name: (before[name], own[name])
        for name in sorted(before.keys() & own.keys())
        if "drop" in name.rsplit(".", 1)[-1] and before[name] != own[name]
    }


# ---- words ----


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
