"""What a run was made with: the words of its command and its YAML files, so that it is not taken for another one."""

import json
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import yaml

from hf_localgan.files import replacing

SHOWN = 4  # changes in an error


def record_path(output: Path) -> Path:
    """The file with the record of a run, beside its folder."""
    return output.with_name(f"{output.name}.command.json")


def is_begun(output: Path, finished: Path) -> bool:
    """Whether a run has finished, or left something in its folder."""
    return finished.is_file() or (output.is_dir() and any(output.iterdir()))


def run_facts(words: Sequence[str], output: Path) -> dict[str, Any]:
    """The words of a command and the settings of the YAML files among them, ready for JSON.

    Where the runs lie does not matter: paths beside the run are written from there, and of a YAML file its name.
    """
    root, files, neutral = os.path.abspath(output.parent), {}, []
    for word in words:
        path = Path(word)
        if path.suffix in (".yaml", ".yml") and path.is_file():
            files[path.name] = _settings(path)
            neutral.append(path.name)
        else:
            neutral.append(" ".join(_from_root(piece, root) for piece in word.split(" ")))
    if "--output_dir" in neutral:
        place = neutral.index("--output_dir")
        del neutral[place : place + 2]
    return {"words": neutral, "files": files}


def _from_root(piece: str, root: str) -> str:
    if os.sep not in piece:
        return piece
    whole = os.path.abspath(piece)
    return os.path.join(".", os.path.relpath(whole, root)) if whole.startswith(root + os.sep) else piece


def _settings(path: Path) -> Any:
    text = path.read_text(encoding="utf-8")
    try:
        return json.loads(json.dumps(yaml.safe_load(text), default=str))
    except yaml.YAMLError:  # the command tells what is wrong with it
        return text


def write_record(words: Sequence[str], output: Path):
    """Writes what a run is made with beside its folder."""
    path = record_path(output)
    path.parent.mkdir(parents=True, exist_ok=True)
    with replacing(path) as temporary:
        text = json.dumps(run_facts(words, output), indent=2, ensure_ascii=False)
        temporary.write_text(text + "\n", encoding="utf-8")


def check_record(words: Sequence[str], output: Path) -> bool:
    """Compares a run that has begun with what it is to be made with now.

    Returns:
        Whether there is a record; a run without one is as old as can be told.

    Raises:
        ValueError: naming the run, what has changed since it began, and what to do; and for a damaged record.
    """
    path = record_path(output)
    if not path.is_file():
        return False
    now = run_facts(words, output)
    try:
        before = json.loads(path.read_text(encoding="utf-8"))
        changes = _changes(before, now)
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise ValueError(
            f'"{path}" cannot be read ({error}). Remove it to take the run in "{output}" as it is, or remove both to '
            "run it anew."
        ) from error
    if changes:
        more = f"; and {len(changes) - SHOWN} more" if len(changes) > SHOWN else ""
        raise ValueError(
            f'The run in "{output}" was made with other settings: {"; ".join(changes[:SHOWN])}{more}. Take another '
            "`--output`, or remove that folder to run it anew."
        )
    return True


def _changes(before: Mapping[str, Any], now: Mapping[str, Any]) -> list[str]:
    told = []
    for name in dict.fromkeys([*before["files"], *now["files"]]):
        old, new = (side["files"].get(name) for side in (before, now))
        if isinstance(old, dict) and isinstance(new, dict):
            told += _differences(old, new, name)
        elif old != new:
            told.append(f"{name} is another file")
    old, new = (_options(side["words"]) for side in (before, now))
    told += _differences(old, new, "the command")
    if not told and before["words"] != now["words"]:
        told.append("the order of the options")
    return told


def _differences(old: Mapping[str, Any], new: Mapping[str, Any], place: str) -> list[str]:
    def shown(settings: Mapping[str, Any], name: str) -> str:
        return json.dumps(settings[name], ensure_ascii=False) if name in settings else "not there"

    names = [name for name in {**old, **new} if (name in old) != (name in new) or old[name] != new[name]]
    return [f"`{name}` in {place} was {shown(old, name)}, now {shown(new, name)}" for name in names]


def _options(words: Sequence[str]) -> dict[str, Any]:
    """Values by option, a text for one and a list for several; under `command` the words before the first option."""
    options: dict[str, list[list[str]]] = {}
    name = "command"
    options[name] = [[]]
    for word in words:
        if word.startswith("--"):
            name = word
            options.setdefault(name, []).append([])
        else:
            options[name][-1].append(word)
    simple = {name: [group[0] if len(group) == 1 else group for group in groups] for name, groups in options.items()}
    return {name: groups[0] if len(groups) == 1 else groups for name, groups in simple.items()}
