"""Checkpoints for machines without the package: with their code, and with adapters merged."""

import copy
import json
import os
import re
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from huggingface_hub import ModelCard, ModelCardData
from transformers import AutoModel, AutoTokenizer, PreTrainedModel, PreTrainedTokenizerBase
from transformers.dynamic_module_utils import custom_object_save
from transformers.utils import cached_file

from hf_localgan.models import (
    DbmConfig,
    DbmModel,
    LogMelFeatureExtractor,
    PairDiscriminator,
    PairDiscriminatorConfig,
    RnnSeq2SeqConfig,
    RnnSeq2SeqForConditionalGeneration,
    RnnSeq2SeqModel,
    RnnSpeechConfig,
    RnnSpeechForConditionalGeneration,
    RnnSpeechModel,
    RnnSpeechProcessor,
)
from hf_localgan.models.adapters import find_adapter, merge_in_memory
from hf_localgan.models.loading import load_generator
from hf_localgan.models.recognisers import load_recogniser
from hf_localgan.pipelines import Text2TextGenerationPipeline

TASK, SPEECH_TASK = "text2text-generation", "automatic-speech-recognition"
SECTION = "Without the package"
TAG, CODE_TAG = "hf-localgan", "custom_code"
MERGED = "Its adapters (LoRA) are merged into the model that they were trained on."
# Auto classes that load the package's own models, by model type.
AUTO_CLASSES = {
    RnnSeq2SeqConfig.model_type: {
        "AutoModel": RnnSeq2SeqModel,
        "AutoModelForSeq2SeqLM": RnnSeq2SeqForConditionalGeneration,
    },
    RnnSpeechConfig.model_type: {
        "AutoModel": RnnSpeechModel,
        "AutoModelForSpeechSeq2Seq": RnnSpeechForConditionalGeneration,
    },
    DbmConfig.model_type: {"AutoModel": DbmModel},
    PairDiscriminatorConfig.model_type: {"AutoModel": PairDiscriminator},
}
SCORERS = {DbmModel: "energy", PairDiscriminator: "discriminator"}  # what is no generator, and what its card calls it
# Folders of an output that hold models and are no parts of it: checkpoints, and what a recipe's stages have made.
NO_PARTS = re.compile(r"[._].*|(last-)?checkpoint.*|stages|start|runs")


def export_with_code(
    model: str | os.PathLike | PreTrainedModel,
    output_dir: str | os.PathLike,
    tokenizer: PreTrainedTokenizerBase | None = None,
    *,
    revision: str | None = None,
    trust_remote_code: bool = False,
) -> Path:
    """Writes a checkpoint that carries its code, and so loads where this package is not installed.

    ```python
    export_with_code("runs/my-generator", "exported")
    # elsewhere, with transformers alone:
    pipeline("text2text-generation", model="exported", trust_remote_code=True)
    AutoModelForSeq2SeqLM.from_pretrained("exported", trust_remote_code=True)
    ```

    A generator comes with the code of its pipeline; an `rnn_seq2seq` with that of its model, too, while those of
    transformers, such as T5 and BART, need none. A recogniser of speech comes with the code of model and processor.
    Energies and discriminators load by `AutoModel`; what stands beside a generator in its folder, such as `energy/` and
    `discriminator/`, is exported with it. Adapters are merged into their base model first. A card of this package is
    taken along with the files that it names, and says how to load the checkpoint.

    transformers reads a pipeline that a checkpoint brings before it refuses the task by its name, so the task needs no
    registration there. It then asks for `trust_remote_code=True` even where this package is installed. Nothing is
    changed in the model's class: what is saved by `save_pretrained`, before and afterwards, is free of code.

    Args:
        model: a folder or Hub id of a generator, an adapter, an energy or a discriminator; or a model in memory.
        output_dir: a new or an empty folder, which is written whole or not at all.
        tokenizer: by default the one that lies with the model. A generator in memory needs one.
        revision: branch, tag or commit on the Hub.
        trust_remote_code: run code that the checkpoint brings along already.

    Returns:
        `output_dir`.

    Raises:
        OSError, ValueError: for what `load_generator` refuses, an `output_dir` that is not empty, a generator in memory
            without a tokenizer, and models whose code is neither this package's nor of transformers.
    """
    with _new_folder(output_dir) as folder:
        source = None
        if isinstance(model, (str, os.PathLike)):
            source = Path(model).expanduser()
            model, own = _load(os.fspath(model), revision, trust_remote_code)
            tokenizer = own if tokenizer is None else tokenizer
        else:
            model = _merged(model)
        _write(model, tokenizer, folder)
        _add_code(model, folder)
        if source is not None and source.is_dir():
            _take_along(source, folder)
            for name in _parts(source):
                part, own = _load(str(source / name), None, False)
                _write(part, own, folder / name)
                _add_code(part, folder / name, folder)
        _describe(folder, Path(output_dir).name, SCORERS.get(type(model)))
    return Path(output_dir)


def merge_adapter(
    adapter: str | os.PathLike | PreTrainedModel,
    output_dir: str | os.PathLike,
    tokenizer: PreTrainedTokenizerBase | None = None,
    *,
    base_model: str | os.PathLike | None = None,
    revision: str | None = None,
    trust_remote_code: bool = False,
) -> Path:
    """Writes a model with its LoRA adapters merged in, as an ordinary checkpoint that needs no PEFT to be loaded.

    With the weights go tokenizer and generation configuration, and what lies beside the adapters: a card of this
    package with the files that it names, and the models in folders of their own, such as `energy/`.

    Args:
        adapter: folder or Hub id of the adapters, or a PEFT model in memory, which is left as it is.
        output_dir: a new or an empty folder, which is written whole or not at all.
        tokenizer: by default the one that lies with the adapters, or else with the base model. A model in memory needs
            one.
        base_model: folder or Hub id of the model that the adapters belong to, where `adapter_config.json` does not
            name it or it has moved.
        revision: branch, tag or commit of the adapters on the Hub.
        trust_remote_code: run code that the base model brings along.

    Returns:
        `output_dir`.

    Raises:
        OSError, ValueError: for what is no adapter, a base model that cannot be found or is another one, and an
            `output_dir` that is not empty.
    """
    with _new_folder(output_dir) as folder:
        source = None
        if isinstance(adapter, (str, os.PathLike)):
            source = Path(adapter).expanduser()
            if not find_adapter(str(source) if source.is_dir() else os.fspath(adapter), revision):
                raise ValueError(
                    f"`{adapter}` holds no adapter: an adapter_config.json, and no config.json beside it, are needed. "
                    "What a trainer writes for a model without adapters is whole already."
                )
            model, own = load_generator(
                adapter, revision=revision, trust_remote_code=trust_remote_code, base_model=base_model
            )
            tokenizer = own if tokenizer is None else tokenizer
        else:
            if not hasattr(adapter, "peft_config"):
                raise ValueError(f"{type(adapter).__name__} has no adapters. `save_pretrained` writes it as it is.")
            if base_model is not None:
                raise ValueError("A PEFT model in memory has its base model in it: leave out `base_model`.")
            model = _merged(adapter)
        _write(model, tokenizer, folder)
        if source is not None and source.is_dir():
            _take_along(source, folder)
            for name in _parts(source):
                shutil.copytree(source / name, folder / name)
            _correct(folder / "README.md")
    return Path(output_dir)


# ---- models ----


def _load(place: str, revision: str | None, trust: bool) -> tuple[PreTrainedModel, PreTrainedTokenizerBase | None]:
    """A generator and its tokenizer, a recogniser and its processor, or another model of this package."""
    if _model_type(place, revision) == RnnSpeechConfig.model_type:
        model, processor = load_recogniser(place, revision=revision, trust_remote_code=trust)
        vars(model.config).pop("auto_map", None)
        return model, processor
    if _model_type(place, revision) not in (one.config_class.model_type for one in SCORERS):
        return load_generator(place, revision=revision, trust_remote_code=trust)
    place = str(Path(place).expanduser())
    model, info = AutoModel.from_pretrained(place, revision=revision, use_safetensors=True, output_loading_info=True)
    wrong = sorted({*info["missing_keys"], *info["unexpected_keys"], *(one[0] for one in info["mismatched_keys"])})
    if wrong:
        raise ValueError(f"The weights of `{place}` are not those of a {type(model).__name__}: {', '.join(wrong)}.")
    for name in ("auto_map", "custom_pipelines"):
        vars(model.config).pop(name, None)
    try:
        tokenizer = AutoTokenizer.from_pretrained(place, revision=revision)
    except (OSError, ValueError, KeyError):  # an energy over vectors has none
        tokenizer = None
    return model.eval(), tokenizer


def _model_type(place: str, revision: str | None) -> str | None:
    """What config.json says; `None` for adapters and whatever cannot be read, which `load_generator` has words for."""
    folder = Path(place).expanduser()
    try:
        path = folder / "config.json" if folder.is_dir() else cached_file(place, "config.json", revision=revision)
        return json.loads(Path(path).read_text(encoding="utf-8")).get("model_type")
    except (OSError, ValueError):
        return None


def _merged(model: PreTrainedModel) -> PreTrainedModel:
    """A model in memory without adapters: a copy where it has some."""
    if not hasattr(model, "peft_config"):
        return model
    return merge_in_memory(copy.deepcopy(model), type(model.get_base_model()).__name__).eval()


def _write(model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase | None, folder: Path):
    if tokenizer is None and type(model) not in SCORERS:
        raise ValueError("Give the `tokenizer` that the model was trained with: the checkpoint is of no use without.")
    model.save_pretrained(folder)
    if tokenizer is not None:
        tokenizer.save_pretrained(folder)


def _add_code(model: PreTrainedModel, folder: Path, root: Path | None = None):
    """Puts the code of a model and its pipeline into a checkpoint, and into its configuration which class is where.

    Done to the files, not by `register_for_auto_class`, which would change every later save of the class.

    Args:
        folder: of the checkpoint.
        root: of the repository where that is another: files are looked for there when it is loaded by `subfolder`.
    """
    path = folder / "config.json"
    config: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    carried: list[type] = []
    classes = AUTO_CLASSES.get(config["model_type"], {})
    if type(model) in classes.values():
        named = {"AutoConfig": type(model.config), **classes}
        carried = list(named.values())
        config["auto_map"] = {name: _name_in_checkpoint(one) for name, one in named.items()}
    elif type(model).__module__.split(".")[0] not in ("transformers", "transformers_modules"):
        raise ValueError(
            f"The code of {type(model).__name__} ({type(model).__module__}) is neither this package's nor part of "
            "transformers. Export what `load_generator` gives, or save it by transformers' `register_for_auto_class`."
        )
    if config["model_type"] == RnnSpeechConfig.model_type:
        carried += [LogMelFeatureExtractor, RnnSpeechProcessor]
        _name_processor(folder)
    elif type(model) not in SCORERS:
        carried.append(Text2TextGenerationPipeline)
        implementation = _name_in_checkpoint(Text2TextGenerationPipeline)
        config["custom_pipelines"] = {TASK: {"impl": implementation, "pt": ["AutoModelForSeq2SeqLM"], "type": "text"}}
    for place in {folder, root or folder}:
        for one in carried:
            custom_object_save(one, place)
    path.write_text(json.dumps(config, indent=2, sort_keys=True) + "\n", encoding="utf-8")


def _name_processor(folder: Path):
    """Says in the files of a processor which class is where in the checkpoint's code."""
    names = {"AutoFeatureExtractor": LogMelFeatureExtractor, "AutoProcessor": RnnSpeechProcessor}
    auto_map = {name: _name_in_checkpoint(one) for name, one in names.items()}
    for file in ("preprocessor_config.json", "processor_config.json"):
        path = folder / file
        settings = json.loads(path.read_text(encoding="utf-8"))
        for part in (settings, settings.get("feature_extractor", settings)):
            part["auto_map"] = auto_map
        path.write_text(json.dumps(settings, indent=2, sort_keys=True) + "\n", encoding="utf-8")


def _name_in_checkpoint(one: type) -> str:
    return f"{one.__module__.split('.')[-1]}.{one.__name__}"


# ---- files ----


@contextmanager
def _new_folder(output_dir: str | os.PathLike) -> Iterator[Path]:
    """A temporary folder that takes the name `output_dir` at the end, and is removed on an error."""
    target = Path(output_dir).expanduser()
    if target.exists() and (not target.is_dir() or any(target.iterdir())):
        raise ValueError(f"`output_dir` must be a new or an empty folder, and `{target}` is neither. Name another.")
    target.parent.mkdir(parents=True, exist_ok=True)
    temporary = Path(tempfile.mkdtemp(prefix=f".{target.name}-", dir=target.parent))
    try:
        inner = temporary / target.name  # with the permissions that the user's other new folders have
        inner.mkdir()
        yield inner
        if target.exists():
            target.rmdir()  # not every system renames over an empty folder
        os.replace(inner, target)
    finally:
        shutil.rmtree(temporary, ignore_errors=True)


def _take_along(source: Path, folder: Path):
    """Copies a card of this package, and the files and folders beside it that it names."""
    card = source / "README.md"
    if not card.is_file() or TAG not in (ModelCard.load(card).data.tags or []):
        return  # PEFT writes a card of its own, full of blanks
    shutil.copy(card, folder)
    for name in sorted(set(re.findall(r"[`(]([\w.-]+)/?[`)]", card.read_text(encoding="utf-8")))):
        found = source / name
        if (folder / name).exists() or name.startswith("."):
            continue
        if found.is_file():
            shutil.copy(found, folder)
        elif found.is_dir():
            shutil.copytree(found, folder / name)


def _parts(folder: Path) -> list[str]:
    """Names of the models that stand beside the one in a folder, each in a folder of its own."""
    inside = sorted(path.parent.name for path in folder.glob("*/config.json"))
    return [name for name in inside if not NO_PARTS.fullmatch(name)]


def _describe(folder: Path, name: str, scorer: str | None):
    """Says in the card how the checkpoint is loaded without the package; makes a short card where there is none.

    Args:
        name: of the checkpoint, where the card does not say it.
        scorer: "energy" or "discriminator", where it is one of them.
    """
    path = folder / "README.md"
    task = SPEECH_TASK if _model_type(str(folder), None) == RnnSpeechConfig.model_type else TASK
    if path.is_file():
        card = ModelCard.load(path)
        named = re.search(r'(?:model=|from_pretrained\()"([^"]+)"', card.text)  # as the card's own example calls it
        name = named[1] if named else name
    else:
        data = ModelCardData(library_name="transformers", pipeline_tag=None if scorer else task, tags=[TAG])
        card = ModelCard(f"---\n{data.to_yaml()}\n---\n\n# {name}\n")
    card.data.tags = [*(tag for tag in card.data.tags or [] if tag != CODE_TAG), CODE_TAG]
    # With this package installed, too, transformers loads no pipeline of a checkpoint's own without being told to.
    card.text = re.sub(rf'(pipeline\("{task}", model="[^"]+")\)', r"\1, trust_remote_code=True)", card.text)
    if f"## {SECTION}" not in card.text:
        before, mark, after = card.text.partition("\n## Use\n")
        place = re.search(r"^## ", after, re.MULTILINE)
        end = place.start() if place else len(after)
        text = f"{(before + mark + after[:end]).rstrip()}\n\n{_section(name, scorer, folder)}\n\n{after[end:]}"
        card.text = text.rstrip() + "\n"
    _correct(path, card)


def _section(name: str, scorer: str | None, folder: Path) -> str:
    """How to load the checkpoint, and what lies beside it."""
    types = {part: _model_type(str(folder / part), None) for part in _parts(folder)}
    scorers = {one.config_class.model_type for one in SCORERS}
    loaders = {part: "AutoModel" if kind in scorers else "AutoModelForSeq2SeqLM" for part, kind in types.items()}
    if scorer:
        lines = ["from transformers import AutoModel", ""]
        lines += [f'{scorer} = AutoModel.from_pretrained("{name}", trust_remote_code=True)']
    elif _model_type(str(folder), None) == RnnSpeechConfig.model_type:
        lines = ["from transformers import AutoModelForSpeechSeq2Seq, AutoProcessor, pipeline", ""]
        lines += [f'hear = pipeline("{SPEECH_TASK}", model="{name}", trust_remote_code=True)']
        lines += ['print(hear({"raw": samples, "sampling_rate": 16_000}))  # files need ffmpeg there']
        lines += [f'model = AutoModelForSpeechSeq2Seq.from_pretrained("{name}", trust_remote_code=True)']
        lines += [f'processor = AutoProcessor.from_pretrained("{name}", trust_remote_code=True)']
    else:
        names = ", ".join(sorted({*loaders.values(), "AutoModelForSeq2SeqLM"}))
        lines = [f"from transformers import {names}, pipeline", ""]
        lines += [f'answer = pipeline("{TASK}", model="{name}", trust_remote_code=True)']
        lines += ['print(answer("How are you?", max_new_tokens=30))']
        lines += [f'model = AutoModelForSeq2SeqLM.from_pretrained("{name}", trust_remote_code=True)']
    lines += [
        f'{part} = {loader}.from_pretrained("{name}", subfolder="{part}", trust_remote_code=True)'
        for part, loader in loaders.items()
    ]
    said = (
        "The checkpoint carries its code, as far as transformers does not have it, and so loads where `hf_localgan` is "
        "not installed. `trust_remote_code=True` runs the Python files that lie beside the weights: read them first."
    )
    return "\n".join([f"## {SECTION}", "", said, "", "```python", *lines, "```"])


def _correct(path: Path, card: ModelCard | None = None):
    """Writes a card of a whole model: what it says of adapters is no longer so."""
    if card is None and not path.is_file():
        return
    card = ModelCard.load(path) if card is None else card
    card.data.library_name = "transformers"
    card.data.tags = [tag for tag in card.data.tags or [] if tag not in ("lora", "peft", "adapter")]
    card.text = re.sub(r"^These are adapters alone: .*$", MERGED, card.text, flags=re.MULTILINE)
    path.write_text(str(card).rstrip() + "\n", encoding="utf-8")
