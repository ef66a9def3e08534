"""Loading a generator and its tokenizer, with errors that name the fault of a checkpoint."""

import os
from pathlib import Path
from typing import Any, cast

import torch
from safetensors import SafetensorError
from torch import nn
from transformers import (
    AutoConfig,
    AutoModelForSeq2SeqLM,
    AutoTokenizer,
    PreTrainedConfig,
    PreTrainedModel,
    PreTrainedTokenizerBase,
)
from transformers.utils import cached_file

from .adapters import CONFIG as ADAPTER_CONFIG
from .adapters import base_of_adapter, find_adapter, merge_into, read_adapter_config
from .reading import MAX_LISTED, check_files, check_weights, damage_named, first_line, saved_as


def load_generator(
    path_or_id: str | os.PathLike,
    *,
    revision: str | None = None,
    trust_remote_code: bool = False,
    dtype: str | torch.dtype | None = None,
    device: str | torch.device | None = None,
    base_model: str | os.PathLike | None = None,
) -> tuple[PreTrainedModel, PreTrainedTokenizerBase]:
    """Loads an encoder-decoder and its tokenizer for inference.

    Stricter than `from_pretrained`, which fills in missing weights at random, drops unknown weights and makes up a
    tokenizer for some architectures. Weights are read from safetensors files only, so nothing is unpickled.

    The adapters of a PEFT model (LoRA) are loaded with their base model and merged into it in memory: the result is an
    ordinary model.

    Args:
        path_or_id: a folder, or the id of a model or an adapter on the Hub. An id that is the name of a folder here is
            never looked up on the Hub.
        revision: branch, tag or commit on the Hub.
        trust_remote_code: run the model code that comes with the checkpoint. Read it first.
        dtype: such as `torch.bfloat16`, `"bfloat16"` or `"auto"`; by default that of the checkpoint.
        device: device that the model is moved to; by default it stays on the CPU.
        base_model: folder or Hub id of an adapter's base model; by default the one that the adapter's configuration
            names.

    Returns:
        The model in evaluation mode, and its tokenizer.

    Raises:
        OSError: if there is no such folder or Hub id (offline included), or a file is missing in it: the
            configuration, the weights, the tokenizer; or the base model of an adapter.
        ValueError: if the checkpoint is no encoder-decoder, if its weights are cut off or are not those of the model
            that its configuration describes, if the tokenizer has no padding or end-of-sequence token or more tokens
            than the model, and for a `base_model` where there is no adapter.
    """
    dtype, device = _check_dtype(dtype), _check_device(device)
    place = _locate(path_or_id)
    hub = {"revision": revision, "trust_remote_code": trust_remote_code}
    model, place, hub = _load_whole(place, hub, {} if dtype is None else {"dtype": dtype}, base_model)
    if isinstance(dtype, torch.dtype):  # adapters are merged in their own
        model.to(dtype)  # type: ignore[arg-type]  # the stub of this method lacks `self`
    tokenizer = _load_tokenizer(place, hub)
    _check_tokenizer(tokenizer, model, place)
    if device is not None:
        model.to(device)  # type: ignore[arg-type]
    return model.eval(), tokenizer


def _load_whole(
    place: str,
    hub: dict[str, Any],
    options: dict[str, Any],
    base_model: str | os.PathLike | None,
    parents: tuple[str, ...] = (),
) -> tuple[PreTrainedModel, str, dict[str, Any]]:
    """A model, merged with its adapter where `place` is one; and the place of its tokenizer with the Hub's options.

    Args:
        parents: adapters that have this model as their base.
    """
    check_files(place)
    if not find_adapter(place, hub["revision"]):
        if base_model is not None:
            raise ValueError(f"`{place}` is a whole model and no adapter. Leave out `base_model` (`{base_model}`).")
        return _load_model(place, _load_config(place, hub), hub, options), place, hub
    if place in parents:
        raise ValueError(f"The adapter `{place}` is named as its own base model. Name another by `base_model`.")
    config = read_adapter_config(place, hub["revision"])
    base = base_of_adapter(place, config, base_model)
    base_hub = {**hub, "revision": config.revision if base_model is None else None}
    try:
        model, tokenizer_place, tokenizer_hub = _load_whole(_locate(base), base_hub, {}, None, (*parents, place))
    except (OSError, ValueError) as error:
        origin = "`base_model`" if base_model is not None else f"its {ADAPTER_CONFIG}"
        error_class = ValueError if isinstance(error, ValueError) else FileNotFoundError
        raise error_class(
            f"The adapter `{place}` needs its base model, `{base}` by {origin}: {error} If the base model lies "
            "elsewhere, name it by `base_model`."
        ) from error
    model = merge_into(model, place, config, hub["revision"])
    if any(_has_file(place, name, hub) for name in ("tokenizer_config.json", "tokenizer.json")):
        return model, place, hub
    return model, tokenizer_place, tokenizer_hub


def _check_dtype(dtype: str | torch.dtype | None) -> str | torch.dtype | None:
    if dtype is None or dtype == "auto":
        return dtype
    checked = getattr(torch, dtype, None) if isinstance(dtype, str) else dtype
    if not isinstance(checked, torch.dtype):
        raise ValueError(f'`dtype` must be a dtype of torch such as "float32" or "bfloat16", or "auto", got {dtype!r}.')
    return checked


def _check_device(device: str | torch.device | None) -> torch.device | None:
    if device is None:
        return None
    try:
        device = torch.device(device)
        torch.empty(0, device=device)
    except (RuntimeError, AssertionError) as error:  # the latter where torch was built without CUDA
        raise ValueError(
            f'`device` must be one that torch can use here, such as "cpu" or "cuda:0", got "{device}".'
        ) from error
    return device


def _locate(path_or_id: str | os.PathLike) -> str:
    """A folder as a path without `~`, or a Hub id as it is; an error for names that can be neither."""
    name = os.fspath(path_or_id)
    path = Path(name).expanduser()
    if path.is_dir():
        if (path / "config.json").is_file() or (path / ADAPTER_CONFIG).is_file():
            return str(path)
        raise FileNotFoundError(_describe_missing_config(path))
    if path.exists():
        raise ValueError(f"`{name}` is a file. Give the folder that holds config.json and model.safetensors.")
    if isinstance(path_or_id, os.PathLike) or name.startswith((".", "~", "/", "\\")) or not _is_hub_id(name):
        raise FileNotFoundError(
            f"There is no folder `{name}` (looked in {Path.cwd()}). Give the folder that a model was saved to, or a "
            "Hub id of the form owner/name."
        )
    return name


def _is_hub_id(name: str) -> bool:
    parts = name.split("/")
    return len(parts) <= 2 and all(part and not set(part) & set("\\: ") for part in parts)


def _describe_missing_config(folder: Path) -> str:
    checkpoints = sorted(
        {path.parent.name for name in ("config", "adapter_config") for path in folder.glob(f"*/{name}.json")}
    )
    advice = (
        f"Its subfolders with one are: {', '.join(checkpoints[:MAX_LISTED])}."
        if checkpoints
        else "Give the folder that `save_pretrained` or a trainer has written."
    )
    return f"The folder `{folder}` has no config.json, so it holds no model. {advice}"


def _load_config(place: str, hub: dict[str, Any]) -> PreTrainedConfig:
    try:
        config = AutoConfig.from_pretrained(place, **hub)
    except OSError as error:
        if Path(place).is_dir():
            raise ValueError(f"`{Path(place) / 'config.json'}` is not valid JSON; it may be cut off.") from error
        raise OSError(
            f"`{place}` is neither a folder (looked in {Path.cwd()}) nor a model that can be loaded from the Hub: "
            f"{first_line(error)} Check the name, the revision ({hub['revision'] or 'main'}) and the connection; "
            "offline, only models that were downloaded before can be loaded."
        ) from error
    except ImportError:
        raise
    except Exception as error:  # transformers checks types by errors of its own, and what it does not check breaks it
        raise ValueError(
            f"The configuration of `{place}` cannot be read: {first_line(error)} Accepted are encoder-decoders of "
            "transformers, such as T5 and BART, and `rnn_seq2seq`; models with code of their own need "
            "`trust_remote_code=True`."
        ) from error
    remote = "AutoModelForSeq2SeqLM" in (getattr(config, "auto_map", None) or {})
    if type(config) not in AutoModelForSeq2SeqLM._model_mapping and not remote:
        raise ValueError(
            f"`{place}` holds {saved_as(config)}, which is no encoder-decoder for text. Give a model that "
            "`AutoModelForSeq2SeqLM` loads, such as T5, BART or `rnn_seq2seq`."
        )
    return config


def _load_model(place: str, config: PreTrainedConfig, hub: dict[str, Any], options: dict[str, Any]) -> PreTrainedModel:
    try:
        with damage_named(place, "model", "Save the whole model again, with its configuration."):
            model, info = AutoModelForSeq2SeqLM.from_pretrained(
                place,
                config=config,
                use_safetensors=True,
                output_loading_info=True,
                ignore_mismatched_sizes=True,  # they are in `info`, too, and are refused below
                **hub,
                **options,
            )
    except ValueError as error:
        if isinstance(error.__cause__, SafetensorError):  # of a download; files in a folder were looked at before
            check_files(_downloaded(place, hub))
        raise
    except OSError as error:
        pickled = sorted(path.name for path in Path(place).glob("*.bin")) if Path(place).is_dir() else []
        advice = (
            f" The folder holds {', '.join(pickled[:MAX_LISTED])}, which could run code when unpickled. Convert it "
            "with `model.save_pretrained` if you trust it."
            if pickled
            else ""
        )
        raise FileNotFoundError(
            f"The weights of `{place}` cannot be found: {first_line(error)} Give model.safetensors, or its parts "
            f"with model.safetensors.index.json.{advice}"
        ) from error
    check_weights(model, info, place)
    if not type(model).__module__.startswith("transformers_modules."):  # code of the checkpoint
        for name in ("auto_map", "custom_pipelines"):  # they would be saved with the model, without their files
            vars(model.config).pop(name, None)
    return model


def _downloaded(place: str, hub: dict[str, Any]) -> Path:
    """The folder of a repository in the cache."""
    config = cached_file(place, "config.json", revision=hub["revision"], local_files_only=True)
    assert config is not None
    return Path(config).parent


def _load_tokenizer(place: str, hub: dict[str, Any]) -> PreTrainedTokenizerBase:
    advice = "Save the tokenizer that the model was trained with beside it: `tokenizer.save_pretrained(...)`."
    try:
        tokenizer = AutoTokenizer.from_pretrained(place, **hub)
    except Exception as error:  # tokenizers raises bare exceptions for a damaged tokenizer.json
        if _has_file(place, "tokenizer.json", hub):
            raise ValueError(f"The tokenizer of `{place}` cannot be read: {first_line(error)} {advice}") from error
        raise FileNotFoundError(f"`{place}` has no tokenizer that can be loaded. {advice}") from error
    # Without files T5, BART and others come with a made-up vocabulary of special tokens, and without an error.
    files = set(getattr(tokenizer, "vocab_files_names", {}).values())
    if files and not any(_has_file(place, name, hub) for name in sorted(files | {"tokenizer.json"})):
        raise FileNotFoundError(f"`{place}` has no tokenizer (none of {', '.join(sorted(files))}). {advice}")
    return tokenizer


def _has_file(place: str, name: str, hub: dict[str, Any]) -> bool:
    if Path(place).is_dir():
        return (Path(place) / name).is_file()
    try:
        return cached_file(place, name, revision=hub["revision"]) is not None
    except OSError:
        return False


def _check_tokenizer(tokenizer: PreTrainedTokenizerBase, model: PreTrainedModel, place: str):
    absent = [name for name in ("pad_token", "eos_token") if getattr(tokenizer, f"{name}_id", None) is None]
    if absent:
        names = " and no ".join(f"`{name}`" for name in absent)
        raise ValueError(
            f"The tokenizer of `{place}` has no {names}: batches cannot be padded or responses cannot end. Set it "
            f'(`tokenizer.{absent[0]} = "..."`, a token of the vocabulary that the model was trained with) and save it.'
        )
    largest = max(tokenizer.get_vocab().values())
    rows = cast(nn.Embedding, model.get_input_embeddings()).num_embeddings
    if largest >= rows:
        raise ValueError(
            f"The tokenizer of `{place}` has ids up to {largest}, but the model has embeddings for ids up to "
            f"{rows - 1}. Load the tokenizer that the model was trained with, or call "
            f"`model.resize_token_embeddings({largest + 1})` and train."
        )
