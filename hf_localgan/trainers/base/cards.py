"""Model cards of all trainings, written from a trainer or from the files in its output folder."""

import ast
import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import fields
from pathlib import Path
from typing import Any, NamedTuple

from transformers import TrainerState, TrainingArguments

from hf_localgan.evaluation.chosen import chosen_evaluation
from hf_localgan.evaluation.stored import stored_comparison, stored_evaluation
from hf_localgan.hub.model_card import write_model_card
from hf_localgan.hub.pair_cards import write_discriminator_card, write_energy_card
from hf_localgan.hub.rendering import HUB_ID, weights_digest
from hf_localgan.hub.settings import changed_settings, stored_settings
from hf_localgan.trainers.base.method import MethodMixin, known_trainers, trainer_named

# Role of a model by the `model_type` in its `config.json`; all other architectures are generators.
SCORER_ROLES = {"query_response_dbm": "energy", "query_response_discriminator": "discriminator"}
# Files that the end of a training writes, by the model's role: first the file that names the weights of the scores.
REPORTS: dict[str, tuple[str, ...]] = {
    "generator": ("evaluation.json", "evaluation.md", "generations.parquet", "query_scores.parquet", "adversarial.*",
                  "start", "diversity_relevance.png", "adversarial_training.png", "front.png", "radii.png"),
    "energy": ("energy.json", "energy.md", "energy_*.png"),
    "discriminator": ("matching.json", "matching.md"),
}  # fmt: skip
# Titles of the logged validation scores that a card shows.
VALIDATION_TITLES = {
    "eval_loss": "validation loss", "eval_perplexity": "validation perplexity", "eval_bleu": "validation BLEU",
    "eval_matching": "validation matching", "eval_quality": "validation quality", "eval_ent_4": "validation Ent-4",
}  # fmt: skip


class StoredReport(NamedTuple):
    """The scores in an output folder.

    Attributes:
        role: role of the model, a key of `REPORTS`.
        scores: content of the JSON file.
        is_current: whether the scores belong to the weights in the folder; `True` if they name no weights.
    """

    role: str
    scores: dict[str, Any]
    is_current: bool


def read_report(folder: str | Path) -> StoredReport | None:
    """The scores in an output folder; `None` if it has none.

    Raises:
        ValueError: for a damaged file.
    """
    folder = Path(folder)
    for role, (name, *_) in REPORTS.items():
        if (folder / name).is_file():
            scores = _read(folder / name)
            if not isinstance(scores, dict) or not isinstance(scores.get("about"), dict):
                raise ValueError(
                    f'"{folder / name}" has no `about`, so the end of a training did not write it. Write it anew, or '
                    "remove it."
                )
            weights = scores["about"].get("weights")
            return StoredReport(role, scores, weights is None or weights == weights_digest(folder))
    return None


def write_card(
    folder: str | Path,
    trainer: type[MethodMixin],
    args: TrainingArguments,
    state: TrainerState,
    *,
    example: Sequence[str] | None = None,
    **facts: Any,
) -> Path:
    """Writes the card of a model that a trainer has saved, with the scores in its folder if they belong to its weights.

    Args:
        folder: folder of the model.
        trainer: class of the trainer.
        args, state: the trainer's arguments and state.
        example: a query, a response to it, and a response to another query.
        facts: `repo_id`, `license`, `language`, `datasets`, `base_model`, `tags`, each optional.

    Returns:
        Path of the card.
    """
    progress = training_progress(vars(state), args.load_best_model_at_end)
    return _write(Path(folder), trainer, changed_settings(args), progress, example, **facts)


def card_of_folder(
    folder: str | Path,
    *,
    repo_id: str | None = None,
    license: str | None = None,
    language: str | Sequence[str] | None = None,
    datasets: str | Sequence[str] | None = None,
    base_model: str | None = None,
) -> Path:
    """Writes the card of a finished training anew, from the files in its output folder.

    Args:
        folder: output folder of a generator, a recogniser, an energy or a discriminator. `training_args.json`, scores
            and pictures are used if they are there.
        repo_id: `owner/name` on the Hub; by default the run's `hub_model_id`, or the folder's name.
        license, language, datasets: by default the run's `card_license`, `card_language` and `card_datasets`.
        base_model: Hub id of the model that the generator was fine-tuned from.

    Returns:
        Path of the card, `README.md`.

    Raises:
        ValueError: if the folder does not exist, holds no model of this package, or holds a damaged file.
    """
    folder = Path(folder)
    if not folder.is_dir():
        raise ValueError(f'There is no folder "{folder}". Name the output folder of a training.')
    saved, config = (_read_if_there(folder / name) for name in ("training_args.json", "config.json"))
    report = read_report(folder)
    if not config and not (folder / "adapter_config.json").is_file():
        raise ValueError(
            f'"{folder}" holds no model: it has no config.json. Name the output folder of a training, which '
            "`trainer.save_model()` fills."
        )
    trainer = _trainer(folder, config, saved, report)
    settings = stored_settings(saved, trainer.config_class) if saved else []
    load_best_model = bool(saved.get("load_best_model_at_end", True))
    progress = training_progress(_read_if_there(folder / "trainer_state.json"), load_best_model)
    given = {"license": license, "language": language, "datasets": datasets}
    facts = {name: _saved_list(saved.get(f"card_{name}")) if value is None else value for name, value in given.items()}
    repo_id = repo_id or _saved_text(saved.get("hub_model_id"))
    if base_model is None:
        base = _read_if_there(folder / "adapter_config.json").get("base_model_name_or_path")
        base_model = base if base and HUB_ID.fullmatch(base) and not Path(base).exists() else None
    example = _former_example(folder / "README.md")
    return _write(folder, trainer, settings, progress, example, repo_id=repo_id, base_model=base_model, **facts)


def training_progress(state: Mapping[str, Any], load_best_model: bool) -> dict[str, Any]:
    """The length of a training, in updates and epochs, and the validation scores of its chosen checkpoint, by title.

    Args:
        state: content of `trainer_state.json`.
        load_best_model: the training's `load_best_model_at_end`.
    """
    if not state.get("global_step"):
        return {}
    progress = {"steps": state["global_step"]}
    if state.get("epoch"):
        progress["epochs"] = round(state["epoch"], 2)
    chosen = chosen_evaluation(state, load_best_model, VALIDATION_TITLES)
    if chosen is not None:
        progress["best evaluation, at step" if chosen.is_best else "last evaluation, at step"] = chosen.step
        scores = {name: value for name, value in chosen.scores.items() if value is not None}
        progress |= {title: round(scores[name], 4) for name, title in VALIDATION_TITLES.items() if name in scores}
    return progress


def _write(
    folder: Path, trainer: type[MethodMixin], settings: Sequence[tuple[str, str]], progress: Mapping[str, Any],
    example: Sequence[str] | None, **facts: Any,
) -> Path:  # fmt: skip
    report = read_report(folder)
    current = report if report is not None and report.is_current else None
    facts |= {"settings": settings, "progress": progress, "stale": report is not None and current is None}
    facts["tags"] = facts.get("tags") or ()
    if trainer.role in SCORER_ROLES.values():
        name = "energy" if trainer.role == "energy" else "matching"
        if current is not None:
            facts |= {"report": current.scores, "text": (folder / f"{name}.md").read_text(encoding="utf-8")}
        if trainer.role == "energy":
            shape = _read_if_there(folder / "config.json")
            return write_energy_card(folder, trainer=trainer, example=example, shape=shape, **facts)
        return write_discriminator_card(folder, trainer=trainer, example=example, **facts)
    if current is not None:
        facts["evaluation"] = stored_evaluation(folder)
        comparison = stored_comparison(folder)
        if comparison is not None:
            facts |= {"sections": {"Against the generator it started from": comparison[0]}, "samples": comparison[1]}
    elif example is not None:
        facts["example"] = tuple(example[:2])
    return write_model_card(folder, trainer=trainer, **facts)


def _trainer(
    folder: Path, config: Mapping[str, Any], saved: Mapping[str, Any], report: StoredReport | None
) -> type[MethodMixin]:
    """The class that trained the model in a folder.

    `training_args.json` names it. In folders of earlier versions it does not, and the class follows from the
    architecture, the objective of the scores or the saved settings.
    """
    name = _saved_text(saved.get("trainer"))
    if name is not None:
        trainer = trainer_named(name)
        if trainer is None:
            raise ValueError(
                f'The model in "{folder}" was trained by `{name}`, which is not imported. Import the module that '
                "defines it, and then call `card_of_folder` from Python."
            )
        return trainer
    role = SCORER_ROLES.get(config.get("model_type", ""), "generator")
    trainers = [trainer for trainer in known_trainers() if trainer.role == role]
    if role == "generator":
        if report is not None and "objective" in report.scores["about"]:
            objective = report.scores["about"]["objective"]
            trainers = [trainer for trainer in trainers if trainer.objective.name.lower() == objective.lower()]
        else:
            trainers = [trainer for trainer in trainers if _settings_of(trainer) <= set(saved)]
    if not trainers:
        raise ValueError(
            f'"{folder}" does not say how its model was trained: there is no evaluation, and no training_args.json of '
            "a trainer of this package. Name the output folder of a training."
        )
    # Of equal ones the last, which is the most specific.
    return max(reversed(trainers), key=lambda trainer: len(_settings_of(trainer)))


def _settings_of(trainer: type[MethodMixin]) -> set[str]:
    return {setting.name for setting in fields(trainer.config_class) if setting.init}


def _former_example(card: Path) -> list[str] | None:
    """The query and the two responses in the code example of an energy's or a discriminator's earlier card."""
    text = card.read_text(encoding="utf-8") if card.is_file() else ""
    line = re.search(r"^query, responses = (.+)$", text, flags=re.MULTILINE)
    if line is None:
        return None
    try:
        query, responses = ast.literal_eval(line[1])
        return [query, *responses] if len(responses) == 2 else None
    except (SyntaxError, ValueError, TypeError):  # somebody has edited the card
        return None


def _read(path: Path) -> Any:
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except (json.JSONDecodeError, UnicodeDecodeError) as error:
        raise ValueError(f'"{path}" cannot be read: {error}. Write it anew, or remove it.') from error


def _read_object(path: Path) -> dict[str, Any]:
    values = _read(path)
    if not isinstance(values, dict):
        raise ValueError(f'"{path}" must hold an object, {{"name": value}}, got a {type(values).__name__}.')
    return values


def _read_if_there(path: Path) -> dict[str, Any]:
    return _read_object(path) if path.is_file() else {}


def _saved_text(value: str | None) -> str | None:
    return None if value == "None" else value


def _saved_list(value: str | None) -> str | list[str] | None:
    """A field of one text or several from `training_args.json`, which holds lists in Python's notation."""
    value = _saved_text(value)
    if value is not None and value.startswith("["):
        return json.loads(value.replace("'", '"'))
    return value
