"""The settings file that a training reads where none is named, fitted to what the command line says."""

import os
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from hf_localgan.trainers.base.launching import warn_once

# Settings of a file that say something of its corpus, and nothing of another one.
OF_THE_CORPUS = (
    "dataset", "card_license", "card_language", "card_datasets", "decodings", "beams", "temperatures", "eval_negatives",
    "ais_temperatures", "ais_chains",
)  # fmt: skip
BEST_MODEL = ("load_best_model_at_end", "metric_for_best_model", "greater_is_better")


def fitted_defaults(settings: Mapping[str, Any], given: Mapping[str, Any]) -> dict[str, Any]:
    """The settings of a default file that go with those of the command line.

    With another data set, the facts of the file's corpus are left out, and `output_dir` is named for the data set. The
    file's plan of evaluation follows what is given: checkpoints come with the evaluations, and where they cannot, the
    best model is not looked for, which is warned of.

    Args:
        settings: content of the file.
        given: values of the options on the command line, by name.
    """
    fitted = {name: value for name, value in settings.items() if name not in given}
    if "dataset" in given and _as_list(given["dataset"]) != _as_list(settings.get("dataset")):
        fitted = _without_corpus(fitted, settings, given["dataset"])
    return _with_fitting_checkpoints(fitted, given)


def _without_corpus(fitted: Mapping[str, Any], settings: Mapping[str, Any], dataset: Any) -> dict[str, Any]:
    kept = {name: value for name, value in fitted.items() if name not in OF_THE_CORPUS}
    for name, words in kept.items():
        if name.endswith("_options"):  # settings of an earlier stage
            kept[name] = [word for word in words if word.split("=")[0] not in OF_THE_CORPUS]
    if "output_dir" in kept:
        old, new = _as_list(settings.get("dataset"))[0], _as_list(dataset)[0]
        kept["output_dir"] = kept["output_dir"].replace(old, _short_name(new))
    return kept


def _short_name(dataset: str) -> str:
    """A name for a folder, from the last part of a path or a Hub id."""
    name = Path(os.path.expandvars(dataset)).resolve().name or "data"
    return re.sub(r"[^\w.-]+", "_", re.sub(r"\.(jsonl?|csv|tsv|parquet|txt)(\.\w+)?$", "", name))


def _with_fitting_checkpoints(fitted: Mapping[str, Any], given: Mapping[str, Any]) -> dict[str, Any]:
    """Checkpoints that come with the evaluations, so that the best model can be chosen among them."""
    fitted = dict(fitted)

    def now(name: str, default: Any = None) -> Any:
        return given.get(name, fitted.get(name, default))

    if "eval_strategy" in given and "save_strategy" not in given and given["eval_strategy"] != "no":
        fitted["save_strategy"] = given["eval_strategy"]
    evaluates, saves = now("eval_strategy", "no"), now("save_strategy", "steps")
    for event, strategy in (("eval", evaluates), ("save", saves)):
        if strategy != "steps":
            fitted.pop(f"{event}_steps", None)
    every = now("eval_steps") or now("logging_steps", 500)
    if evaluates == saves == "steps" and "save_steps" not in given:
        fitted["save_steps"] = every
    if evaluates == "no":
        fitted.pop("early_stopping_patience", None)
    if not fitted.get("load_best_model_at_end"):  # or given, and then wrong combinations are the user's to mend
        return fitted
    fits = evaluates == saves and evaluates != "no"
    if fits and evaluates == "steps":
        fits = not now("save_steps") % every
    if saves != "best" and not fits:
        for name in BEST_MODEL:
            fitted.pop(name, None)
        warn_once(
            f"The last model is kept and not the best one: evaluations (`eval_strategy` {evaluates}) and checkpoints "
            f"(`save_strategy` {saves}) do not come together, as `load_best_model_at_end` of the default file needs."
        )
    return fitted


def _as_list(value: Any) -> list[Any]:
    return value if isinstance(value, list) else [value]
