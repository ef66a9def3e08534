"""Exporting checkpoints: with their code, for machines without the package, or with their adapters merged."""

import copy
import json
import os
import re
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, cast

from huggingface_hub import ModelCard, ModelCardData
from transformers import AutoTokenizer, PreTrainedModel, PreTrainedTokenizerBase
from transformers.dynamic_module_utils import custom_object_save

from hf_localgan import turns
from hf_localgan.decoding.special_tokens import unadapted
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
from hf_localgan.models.places import ADAPTER_CONFIG, CONFIG, TOKENIZER_FILES, find_any, find_file, first_line
from hf_localgan.models.recognisers import load_recogniser
from hf_localgan.models.scorers import FOLDERS as SCORERS
from hf_localgan.models.scorers import load_scorer
from hf_localgan.pipelines import Text2TextGenerationPipeline

TASK, SPEECH_TASK = "text2text-generation", "automatic-speech-recognition"
SECTION = "Without the package"
TAG, CODE_TAG = "hf-localgan", "custom_code"
MERGED = "Its adapters (LoRA) are merged into the model that they were trained on."
# Auto classes that load the package's own models, by model type.
AUTO_CLASSES: dict[str, dict[str, type[PreTrainedModel]]] = {
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
# Models that score pairs, and their names on cards; all others are generators.
SCORER_TYPES = (DbmConfig.model_type, PairDiscriminatorConfig.model_type)
# Folders of an output that hold models and are no parts of it: checkpoints, and the stages of a recipe.
UNEXPORTED_FOLDERS = re.compile(r"[._].*|(last-)?checkpoint.*|stages|start|runs")


def export_with_code(
    model: str | os.PathLike | PreTrainedModel,
    output_dir: str | os.PathLike,
    tokenizer: PreTrainedTokenizerBase | None = None,
    *,
    revision: str | None = None,
    trust_remote_code: bool = False,
) -> Path:
    """Writes a checkpoint with its code, so that it loads where this package is not installed.

    ```python
    export_with_code("runs/my-generator", "exported")
    # elsewhere, with transformers alone:
    pipeline("text2text-generation", model="exported", trust_remote_code=True)
    AutoModelForSeq2SeqLM.from_pretrained("exported", trust_remote_code=True)
    ```

    A generator comes with the code of its pipeline; an `rnn_seq2seq` also with the code of its model, which those of
    transformers, such as T5 and BART, do not need. A recogniser of speech comes with the code of model and processor.
    Energies and discriminators load by `AutoModel`; models beside a generator in its folder, such as `energy/` and
    `discriminator/`, are exported with it. Adapters are merged into their base model first. A card of this package is
    copied with the files that it names, and says how to load the checkpoint.

    transformers reads the pipeline of a checkpoint before it refuses an unknown task, so the task needs no registration
    there. It then asks for `trust_remote_code=True` even where this package is installed. The model's class does not
    change: `save_pretrained` writes no code, neither before nor afterwards.

    Args:
        model: a folder or Hub id of a generator, an adapter, an energy or a discriminator; or a model in memory.
        output_dir: a new or an empty folder, which is written whole or not at all.
        tokenizer: by default the one that lies with the model. A generator in memory needs one.
        revision: branch, tag or commit on the Hub.
        trust_remote_code: run code that comes with the checkpoint.

    Returns:
        `output_dir`.

    Raises:
        OSError, ValueError: for models that `load_generator` refuses, an `output_dir` that is not empty, a generator in
            memory without a tokenizer, and models whose code is in neither this package nor transformers.
    """
    with _new_folder(output_dir) as folder:
        source = None
        if isinstance(model, (str, os.PathLike)):
            source = Path(model).expanduser()
            whole, own = _load(os.fspath(model), revision, trust_remote_code)
            tokenizer = own if tokenizer is None else tokenizer
        else:
            whole = _merged(model)
        _write(whole, tokenizer, folder)
        _add_code(whole, folder)
        if source is not None and source.is_dir():
            _copy_card(source, folder)
            for name in _parts(source):
                part, own = _load(str(source / name), None, False)
                _write(part, own, folder / name)
                _add_code(part, folder / name, folder)
        _describe(folder, Path(output_dir).name, SCORERS.get(type(whole)))
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

    The checkpoint also has tokenizer and generation configuration, and copies of what lies beside the adapters: a card
    of this package with the files that it names, and the models in folders of their own, such as `energy/`.

    Args:
        adapter: folder or Hub id of the adapters, or a PEFT model in memory, which is left as it is.
        output_dir: a new or an empty folder, which is written whole or not at all.
        tokenizer: by default the one that lies with the adapters, or else with the base model. A model in memory needs
            one.
        base_model: folder or Hub id of the model that the adapters were trained on, where `adapter_config.json` does
            not name it or it has moved.
        revision: branch, tag or commit of the adapters on the Hub.
        trust_remote_code: run code that comes with the base model.

    Returns:
        `output_dir`.

    Raises:
        OSError, ValueError: for a model without adapters, a base model that is missing or another one, and an
            `output_dir` that is not empty.
    """
    with _new_folder(output_dir) as folder:
        source = None
        if isinstance(adapter, (str, os.PathLike)):
            source = Path(adapter).expanduser()
            if not find_adapter(str(source) if source.is_dir() else os.fspath(adapter), revision, base_model):
                raise ValueError(
                    f"`{adapter}` holds no adapter: an adapter_config.json, and no config.json beside it, are needed. "
                    "The checkpoint of a model without adapters needs no merging."
                )
            model, own = _load(os.fspath(adapter), revision, trust_remote_code, base_model)
            tokenizer = own if tokenizer is None else tokenizer
        else:
            if not hasattr(adapter, "peft_config"):
                raise ValueError(f"{type(adapter).__name__} has no adapters. `save_pretrained` writes it as it is.")
            if base_model is not None:
                raise ValueError("A PEFT model in memory has its base model in it: leave out `base_model`.")
            model = _merged(adapter)
        _write(model, tokenizer, folder)
        if source is not None and source.is_dir():
            _copy_card(source, folder)
            for name in _parts(source):
                shutil.copytree(source / name, folder / name, dirs_exist_ok=True)  # the card may name it
            _correct(folder / "README.md")
    return Path(output_dir)


# ---- models ----


def _load(
    path: str, revision: str | None, trust: bool, base_model: str | os.PathLike | None = None
) -> tuple[PreTrainedModel, Any]:
    """A generator and its tokenizer, a recogniser and its processor, or another model of this package."""
    model_type = _model_type(path, revision) if base_model is None else _model_type(os.fspath(base_model), None)
    options: dict[str, Any] = {"revision": revision, "trust_remote_code": trust, "base_model": base_model}
    if model_type == RnnSpeechConfig.model_type:
        model, processor = load_recogniser(path, **options)
        vars(model.config).pop("auto_map", None)
        return model, processor
    if model_type not in SCORER_TYPES:
        return load_generator(path, **options)
    path = str(Path(path).expanduser())
    scorer = dict(zip(SCORER_TYPES, SCORERS, strict=True))[model_type]
    model = load_scorer(scorer, path, revision=revision)
    for name in ("auto_map", "custom_pipelines"):
        vars(model.config).pop(name, None)
    tokenizer = None
    if find_any(path, TOKENIZER_FILES, revision):  # an energy over vectors has none
        try:
            tokenizer = AutoTokenizer.from_pretrained(path, revision=revision)
        except Exception as error:  # tokenizers raises bare exceptions for a damaged tokenizer.json
            raise ValueError(f"The tokenizer of `{path}` cannot be read: {first_line(error)} Save it again.") from error
    return model.eval(), tokenizer


def _model_type(place: str, revision: str | None, children: tuple[str, ...] = ()) -> str | None:
    """The type in config.json, of adapters that of their base; `None` for what the loaders will report.

    Args:
        children: adapters whose base this is.
    """
    place = str(Path(place).expanduser()) if Path(place).expanduser().is_dir() else place
    try:
        path = find_file(place, CONFIG, revision)
        if path is not None:
            return json.loads(path.read_text(encoding="utf-8")).get("model_type")
        path = find_file(place, ADAPTER_CONFIG, revision)
        base = None if path is None else json.loads(path.read_text(encoding="utf-8")).get("base_model_name_or_path")
    except (OSError, ValueError, AttributeError):
        return None
    return _model_type(base, None, (*children, place)) if base and base not in children else None


def _merged(model: PreTrainedModel) -> PreTrainedModel:
    """A model in memory without adapters: the model itself, or a copy with its adapters merged."""
    if not hasattr(model, "peft_config"):
        return model
    # PEFT keeps tensors of tied adapters beside the parameters, and only parameters can be copied.
    kept = [vars(layer).get("kwargs", {}).get("tied_adapter", {}) for layer in model.modules()]
    memo: dict[int, Any] = {id(tensor): tensor.detach().clone() for tensors in kept for tensor in tensors.values()}
    return merge_in_memory(cast(Any, copy.deepcopy(model, memo)), type(unadapted(model)).__name__).eval()


def _write(model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase | None, folder: Path):
    if tokenizer is None and type(model) not in SCORERS:
        raise ValueError(
            "Give the `tokenizer` that the model was trained with: the checkpoint is of no use without it."
        )
    model.save_pretrained(folder)
    if tokenizer is not None:
        tokenizer.save_pretrained(folder)


def _add_code(model: PreTrainedModel, folder: Path, root: Path | None = None):
    """Copies the code of a model and its pipeline into a checkpoint, and names the classes in its configuration.

    It changes the files, and does not call `register_for_auto_class`, which would change every later save of the class.

    Args:
        folder: of the checkpoint.
        root: of the repository, if the checkpoint is a subfolder: with `subfolder`, transformers looks for code there.
    """
    path = folder / "config.json"
    config: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    carried: list[type] = []
    classes = AUTO_CLASSES.get(config["model_type"], {})
    if type(model) in classes.values():
        auto_classes: dict[str, type] = {"AutoConfig": type(model.config), **classes}
        carried = list(auto_classes.values())
        config["auto_map"] = {name: _name_in_checkpoint(target) for name, target in auto_classes.items()}
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
        for target in carried:
            custom_object_save(target, place)
        if Text2TextGenerationPipeline in carried:
            _carry_turns(place)
    path.write_text(json.dumps(config, indent=2, sort_keys=True) + "\n", encoding="utf-8")


def _carry_turns(folder: Path):
    """Copies what the pipeline reads conversations by beside its code, which then imports it from there."""
    shutil.copy(turns.__file__, folder)
    path = folder / f"{Text2TextGenerationPipeline.__module__.split('.')[-1]}.py"
    code = path.read_text(encoding="utf-8")
    path.write_text(code.replace(f"from {turns.__name__} import", "from .turns import"), encoding="utf-8")


def _name_processor(folder: Path):
    """Names the classes of a processor in its files, as they are in the checkpoint's code."""
    classes = {"AutoFeatureExtractor": LogMelFeatureExtractor, "AutoProcessor": RnnSpeechProcessor}
    auto_map = {name: _name_in_checkpoint(target) for name, target in classes.items()}
    for file in ("preprocessor_config.json", "processor_config.json"):
        path = folder / file
        settings = json.loads(path.read_text(encoding="utf-8"))
        for part in (settings, settings.get("feature_extractor", settings)):
            part["auto_map"] = auto_map
        path.write_text(json.dumps(settings, indent=2, sort_keys=True) + "\n", encoding="utf-8")


def _name_in_checkpoint(target: type) -> str:
    return f"{target.__module__.split('.')[-1]}.{target.__name__}"


# ---- files ----


@contextmanager
def _new_folder(output_dir: str | os.PathLike) -> Iterator[Path]:
    """A temporary folder that is renamed to `output_dir` at the end, and removed on an error."""
    target = Path(output_dir).expanduser()
    if target.exists() and (not target.is_dir() or any(target.iterdir())):
        raise ValueError(f"`output_dir` must be a new or an empty folder, and `{target}` is neither. Name another.")
    target.parent.mkdir(parents=True, exist_ok=True)
    temporary = Path(tempfile.mkdtemp(prefix=f".{target.name}-", dir=target.parent))
    try:
        inner = temporary / target.name  # with the usual permissions of a new folder
        inner.mkdir()
        yield inner
        if target.exists():
            target.rmdir()  # not every system renames over an empty folder
        os.replace(inner, target)
    finally:
        shutil.rmtree(temporary, ignore_errors=True)


def _copy_card(source: Path, folder: Path):
    """Copies a card of this package, and the files and folders beside it that it names."""
    card = source / "README.md"
    if not card.is_file() or TAG not in (ModelCard.load(card).data.tags or []):
        return  # PEFT writes a card of its own, full of blanks
    shutil.copy(card, folder)
    for name in sorted(set(re.findall(r"[`(]([\w.-]+)/?[`)]", card.read_text(encoding="utf-8")))):
        path = source / name
        if (folder / name).exists() or name.startswith("."):
            continue
        if path.is_file():
            shutil.copy(path, folder)
        elif path.is_dir():
            shutil.copytree(path, folder / name)


def _parts(folder: Path) -> list[str]:
    """Names of the models that stand beside the one in a folder, each in a folder of its own."""
    inside = sorted(path.parent.name for path in folder.glob("*/config.json"))
    return [name for name in inside if not UNEXPORTED_FOLDERS.fullmatch(name)]


def _describe(folder: Path, name: str, scorer: str | None):
    """Says in the card how the checkpoint is loaded without the package; makes a short card where there is none.

    Args:
        name: of the checkpoint, for cards without one.
        scorer: "energy" or "discriminator"; `None` for a generator.
    """
    path = folder / "README.md"
    task = SPEECH_TASK if _model_type(str(folder), None) == RnnSpeechConfig.model_type else TASK
    if path.is_file():
        card = ModelCard.load(path)
        match = re.search(r'(?:model=|from_pretrained\()"([^"]+)"', card.text)  # the name in the card's own example
        name = match[1] if match else name
    else:
        data = ModelCardData(library_name="transformers", pipeline_tag=None if scorer else task, tags=[TAG])
        card = ModelCard(f"---\n{data.to_yaml()}\n---\n\n# {name}\n")
    card.data.tags = [*(tag for tag in card.data.tags or [] if tag != CODE_TAG), CODE_TAG]
    # transformers loads the pipeline of a checkpoint with this argument alone, even where this package is installed.
    card.text = re.sub(rf'(pipeline\("{task}", model="[^"]+")\)', r"\1, trust_remote_code=True)", card.text)
    if f"## {SECTION}" not in card.text:
        before, mark, after = card.text.partition("\n## Use\n")
        heading = re.search(r"^## ", after, re.MULTILINE)
        end = heading.start() if heading else len(after)
        text = f"{(before + mark + after[:end]).rstrip()}\n\n{_section(name, scorer, folder)}\n\n{after[end:]}"
        card.text = text.rstrip() + "\n"
    _correct(path, card)


def _section(name: str, scorer: str | None, folder: Path) -> str:
    """How to load the checkpoint and the models beside it."""
    types = {part: _model_type(str(folder / part), None) for part in _parts(folder)}
    loaders = {
        part: "AutoModel" if model_type in SCORER_TYPES else "AutoModelForSeq2SeqLM"
        for part, model_type in types.items()
    }
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
    explanation = (
        "The checkpoint carries its code, as far as transformers does not have it, and so loads where `hf_localgan` is "
        "not installed. `trust_remote_code=True` runs the Python files that lie beside the weights: read them first."
    )
    return "\n".join([f"## {SECTION}", "", explanation, "", "```python", *lines, "```"])


def _correct(path: Path, card: ModelCard | None = None):
    """Writes the card of a whole model, without what an adapter's card says of adapters."""
    if card is None and not path.is_file():
        return
    card = ModelCard.load(path) if card is None else card
    assert isinstance(card.data, ModelCardData)
    card.data.library_name = "transformers"
    card.data.tags = [tag for tag in card.data.tags or [] if tag not in ("lora", "peft", "adapter")]
    card.text = re.sub(r"^These are adapters alone: .*$", MERGED, card.text, flags=re.MULTILINE)
    path.write_text(str(card).rstrip() + "\n", encoding="utf-8")
