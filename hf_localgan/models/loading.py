"""Loading a generator and its tokenizer, with errors that name the fault of a checkpoint."""

import json
import logging
import os
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, cast

import torch
from torch import nn
from transformers import (
    CONFIG_MAPPING,
    AutoConfig,
    AutoModelForSeq2SeqLM,
    AutoTokenizer,
    PreTrainedConfig,
    PreTrainedModel,
    PreTrainedTokenizerBase,
)

from hf_localgan.files import missing_path

from .adapters import (
    base_of_adapter,
    find_adapter,
    merge_in_memory,
    merge_into,
    read_adapter_config,
    refuse_unrepeatable,
)
from .places import (
    ADAPTER_CONFIG,
    CONFIG,
    VOCABULARY_FILES,
    describe_no_model,
    find_any,
    find_file,
    first_line,
)
from .quantization import GivenQuantization, check_quantization
from .reading import check_files, load_whole, saved_as
from .ties import untied_without_warning

LONGEST = 400  # characters of an error of another library
# Loads a whole model from a place with options of the Hub.
Load = Callable[[str, dict[str, Any]], PreTrainedModel]

logger = logging.getLogger(__name__)


def load_generator(
    path_or_id: str | os.PathLike,
    *,
    revision: str | None = None,
    trust_remote_code: bool = False,
    dtype: str | torch.dtype | None = None,
    device: str | torch.device | None = None,
    base_model: str | os.PathLike | None = None,
    quantization_config: GivenQuantization | None = None,
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
        quantization_config: quantizes the weights while they are read, as in `from_pretrained`, such as
            `BitsAndBytesConfig(load_in_4bit=True)`. Adapters can be trained on such a model, and not be merged into it.

    Returns:
        The model in evaluation mode, and its tokenizer.

    Raises:
        OSError: if there is no such folder or Hub id (offline included), or a file is missing in it: the
            configuration, the weights, the tokenizer; or the base model of an adapter.
        ValueError: if the checkpoint is no encoder-decoder, if its weights are cut off or are not those of the model
            that its configuration describes, if the tokenizer has no padding or end-of-sequence token or more tokens
            than the model, for a `base_model` where there is no adapter, and for a quantization that cannot be made.
        ImportError: for a library of the quantization that is missing.
    """
    dtype, device = _check_dtype(dtype), _check_device(device)
    place = locate(path_or_id)
    hub = {"revision": revision, "trust_remote_code": trust_remote_code}
    options: dict[str, Any] = {} if dtype is None else {"dtype": dtype}
    if quantization_config is not None:
        check_quantization(quantization_config)
        if find_adapter(place, revision, base_model):
            raise ValueError(
                f"`{place}` is an adapter, which cannot be merged into a quantized base model. Save the merged model "
                "first (`load_generator(...)[0].save_pretrained(...)`, and its tokenizer), or leave out "
                "`quantization_config`."
            )
        options["quantization_config"] = quantization_config
        if device is not None:
            options["device_map"] = {"": device}  # quantized weights stay where they are made

    def load(whole: str, whole_hub: dict[str, Any]) -> PreTrainedModel:
        # adapters are merged in the dtype of their base
        config = _load_config(whole, whole_hub)
        if quantization_config is not None:
            check_quantization(quantization_config, config)
        return _load_model(whole, config, whole_hub, options if whole == place else {})

    model, place_of_tokenizer, tokenizer_hub = load_merged(place, hub, base_model, load)
    if isinstance(dtype, torch.dtype) and quantization_config is None:
        model.to(dtype)  # type: ignore[arg-type]  # the stub of this method lacks `self`
    tokenizer = _load_tokenizer(place_of_tokenizer, tokenizer_hub)
    _check_tokenizer(tokenizer, model, place_of_tokenizer)
    if device is not None and quantization_config is None:
        model.to(device)  # type: ignore[arg-type]
    return model.eval(), tokenizer


def load_merged(
    place: str,
    hub: dict[str, Any],
    base_model: str | os.PathLike | None,
    load: Load,
    parents: tuple[str, ...] = (),
) -> tuple[PreTrainedModel, str, dict[str, Any]]:
    """A model, merged with its adapter where `place` is one; and the place of its tokenizer with the Hub's options.

    Args:
        place: a folder or a Hub id.
        hub: `revision` and `trust_remote_code`.
        base_model: folder or Hub id of an adapter's base model, where it is not the one that the adapter names.
        load: loads a whole model.
        parents: adapters that have this model as their base.

    Raises:
        OSError, ValueError: as `load_generator`.
    """
    check_files(place)
    if not find_adapter(place, hub["revision"], base_model):
        if base_model is not None:
            raise ValueError(f"`{place}` is a whole model and no adapter. Leave out `base_model` (`{base_model}`).")
        return load(place, hub), place, hub
    if place in parents:
        raise ValueError(f"The adapter `{place}` is named as its own base model. Name another by `base_model`.")
    config = read_adapter_config(place, hub["revision"])
    base = base_of_adapter(place, config, base_model)
    base_hub = {**hub, "revision": config.revision if base_model is None else None}
    try:
        model, tokenizer_place, tokenizer_hub = load_merged(locate(base), base_hub, None, load, (*parents, place))
    except (OSError, ValueError) as error:
        origin = "`base_model`" if base_model is not None else f"its {ADAPTER_CONFIG}"
        error_class = ValueError if isinstance(error, ValueError) else FileNotFoundError
        raise error_class(
            f"The adapter `{place}` needs its base model, `{base}` by {origin}: {error} If the base model lies "
            "elsewhere, name it by `base_model`."
        ) from error
    model = merge_into(model, place, config, hub["revision"])
    try:
        if find_any(place, ("tokenizer_config.json", "tokenizer.json"), hub["revision"]):
            return model, place, hub
    except OSError as error:
        logger.warning(
            "Whether `%s` has a tokenizer of its own cannot be told: %s The base model's is taken.", place, error
        )
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


def locate(path_or_id: str | os.PathLike) -> str:
    """A folder as a path without `~`, or a Hub id as it is; an error for names that can be neither."""
    name = os.fspath(path_or_id)
    path = Path(name).expanduser()
    if path.is_dir():
        if (path / "config.json").is_file() or (path / ADAPTER_CONFIG).is_file():
            return str(path)
        raise FileNotFoundError(describe_no_model(str(path)))
    if path.exists():
        raise ValueError(f"`{name}` is a file. Give the folder that holds config.json and model.safetensors.")
    if isinstance(path_or_id, os.PathLike) or name.startswith((".", "~", "/", "\\")) or not _is_hub_id(name):
        raise FileNotFoundError(
            f"There is no folder `{name}` (looked in {Path.cwd()}). Give the folder that a model was saved to, or a "
            "Hub id of the form owner/name."
        )
    problem = missing_path(name)
    if problem is not None:
        raise FileNotFoundError(problem)
    return name


def _is_hub_id(name: str) -> bool:
    parts = name.split("/")
    return len(parts) <= 2 and all(part and not set(part) & set("\\: ") for part in parts)


def read_config(place: str, hub: dict[str, Any]) -> PreTrainedConfig:
    """The configuration of a whole model.

    Raises:
        OSError: if there is none, or it cannot be had, with the cause.
        ValueError: if it is damaged, or of a model that is not known here.
    """
    path = find_file(place, CONFIG, hub["revision"])
    if path is None:
        raise FileNotFoundError(describe_no_model(place, hub["revision"]))
    try:
        saved = json.loads(path.read_text(encoding="utf-8"))
        model_type = saved.get("model_type")
    except (ValueError, AttributeError) as error:
        raise ValueError(f"`{path}` is not valid JSON; it may be cut off.") from error
    try:
        return AutoConfig.from_pretrained(place, **hub)
    except OSError as error:
        raise OSError(f"The configuration of `{place}` cannot be loaded: {first_line(error)}") from error
    except ImportError:
        raise
    except Exception as error:  # transformers checks types by errors of its own, and what it does not check breaks it
        known = model_type in CONFIG_MAPPING
        advice = (
            "Save the model again, with its configuration."
            if known
            else "Accepted are encoder-decoders of transformers, such as T5 and BART, and `rnn_seq2seq`; models with "
            "code of their own need `trust_remote_code=True`."
        )
        raise ValueError(f"The configuration of `{place}` cannot be read: {first_line(error)} {advice}") from error


def _load_config(place: str, hub: dict[str, Any]) -> PreTrainedConfig:
    config = read_config(place, hub)
    remote = "AutoModelForSeq2SeqLM" in (getattr(config, "auto_map", None) or {})
    if type(config) not in AutoModelForSeq2SeqLM._model_mapping and not remote:
        raise ValueError(
            f"`{place}` holds {saved_as(config)}, which is no encoder-decoder for text. Give a model that "
            "`AutoModelForSeq2SeqLM` loads, such as T5, BART or `rnn_seq2seq`."
        )
    return config


def _load_model(place: str, config: PreTrainedConfig, hub: dict[str, Any], options: dict[str, Any]) -> PreTrainedModel:
    with untied_without_warning():
        model = load_whole(AutoModelForSeq2SeqLM, place, config=config, **hub, **options)
    if adapters := getattr(model, "peft_config", None):  # from the same folder; transformers has added them
        for adapter in adapters.values():
            refuse_unrepeatable(adapter, place)
        model = merge_in_memory(model, place)
    if not type(model).__module__.startswith("transformers_modules."):  # code of the checkpoint
        for name in ("auto_map", "custom_pipelines"):  # they would be saved with the model, without their files
            vars(model.config).pop(name, None)
    return model


def _load_tokenizer(place: str, hub: dict[str, Any]) -> PreTrainedTokenizerBase:
    advice = "Save the tokenizer that the model was trained with beside it: `tokenizer.save_pretrained(...)`."
    try:
        tokenizer = AutoTokenizer.from_pretrained(place, **hub)
    except ImportError as error:
        raise ImportError(f"The tokenizer of `{place}` needs a library: {first_line(error)}") from error
    except Exception as error:  # tokenizers raises bare exceptions for a damaged tokenizer.json
        if _find_tokenizer(place, VOCABULARY_FILES, hub):
            text = " ".join(str(error).split())[:LONGEST]
            raise ValueError(f"The tokenizer of `{place}` cannot be read: {text.rstrip('.')}. {advice}") from error
        raise FileNotFoundError(f"`{place}` has no tokenizer that can be loaded. {advice}") from error
    # Without files T5, BART and others come with a made-up vocabulary of special tokens, and without an error.
    files = set(getattr(tokenizer, "vocab_files_names", {}).values())
    if files and not _find_tokenizer(place, ["tokenizer.json", *sorted(files)], hub):
        raise FileNotFoundError(f"`{place}` has no tokenizer (none of {', '.join(sorted(files))}). {advice}")
    return tokenizer


def _find_tokenizer(place: str, names: Sequence[str], hub: dict[str, Any]) -> Path | None:
    try:
        return find_any(place, names, hub["revision"])
    except OSError as error:
        raise FileNotFoundError(f"The tokenizer of `{place}` cannot be found: {error}") from error


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
