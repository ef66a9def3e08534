"""Stages of a recipe: each is run once, goes on where it was interrupted, and is not run again."""

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import fields
from pathlib import Path
from typing import Any

from accelerate import PartialState
from accelerate.utils import broadcast_object_list
from transformers.trainer_utils import get_last_checkpoint

from hf_localgan.files import replacing

SETTINGS, FINISHED = "settings.json", "finished.json"
SHOWN = 5  # settings in an error
# What changes nothing in the models that a stage makes: where it writes and runs, and what it shows.
HARMLESS = {
    "output_dir", "resume_from_checkpoint", "use_cpu", "disable_tqdm", "report_to", "run_name", "project",
    "save_total_limit", "sample_rows", "sample_max_new_tokens", "push_to_hub", "local_rank", "debug",
    "skip_memory_metrics", "answer_batch_size",
}  # fmt: skip
HARMLESS_BEGINNINGS = (
    "log_",
    "logging_",
    "hub_",
    "card_",
    "trackio_",
    "dataloader_pin",
    "dataloader_num",
    "dataloader_pre",
)


class Stage:
    """One stage: what it was asked for, how far it is, and what it left.

    `settings.json` is written before it begins and `finished.json` after it has ended, both in `folder`, by the main
    process; they appear whole or not at all. In between lie the checkpoints of its trainer. So a process that is killed
    at any moment leaves a stage that has not begun, one that goes on from its last checkpoint, or a finished one.

    ```python
    stage = Stage("mle", "runs/my-run/stages/mle")
    if stage.begin(settings):
        ...  # train from `stage.checkpoint`, write into `stage.output`
        stage.finish()
    ```

    Args:
        name: what it is called in messages.
        folder: of its two files.
        output: where its trainer writes, `folder` by default.

    Attributes:
        checkpoint: to go on from; `None` where it starts anew.
    """

    def __init__(self, name: str, folder: str | Path, output: str | Path | None = None):
        self.name, self.folder = name, Path(folder)
        self.output = self.folder if output is None else Path(output)
        self.checkpoint: str | None = None
        self._settings: dict[str, Any] = {}

    def begin(self, settings: Mapping[str, Any]) -> bool:
        """Whether there is anything to do. To be called on every process; the main one looks for all.

        Args:
            settings: by name, what decides on what the stage makes; JSON or what has a text.

        Raises:
            ValueError: if there is something left of it that was made with other settings, or the folder holds
                checkpoints of something else.
        """
        self._settings = _as_json({**settings, "processes": PartialState().num_processes})
        seen = [None, None, None]  # what is wrong, whether it is finished, the last checkpoint
        if PartialState().is_main_process:
            try:
                seen = [None, *self._look()]
            except ValueError as error:
                seen = [str(error), None, None]
        wrong, finished, self.checkpoint = broadcast_object_list(seen)
        if wrong is not None:
            raise ValueError(wrong)
        if PartialState().is_main_process:
            told = "finished before" if finished else "begins" if self.checkpoint is None else "goes on from "
            print(f'stage {self.name} in "{self.output}": {told}{Path(self.checkpoint or "").name}', flush=True)
            if not finished:
                _write(self.folder / SETTINGS, self._settings)
                _remove_leftovers(self.folder)
        PartialState().wait_for_everyone()
        return not finished

    def finish(self):
        """Marks the stage as finished. To be called on every process, when all of them have written what they leave."""
        PartialState().wait_for_everyone()
        if PartialState().is_main_process:
            _remove_leftovers(self.output)
            _write(self.folder / FINISHED, {"settings": self._settings, "files": fingerprints(self.output)})
        PartialState().wait_for_everyone()

    def _look(self) -> tuple[bool, str | None]:
        """Whether the stage is finished, and its last checkpoint."""
        finished = self.folder / FINISHED
        checkpoint = get_last_checkpoint(self.output) if self.output.is_dir() else None
        if finished.is_file():
            self._compare(_read(finished)["settings"])
            return True, None
        if checkpoint is None:
            return False, None  # whatever it was begun with, nothing of that is left
        if not (self.folder / SETTINGS).is_file():
            raise ValueError(
                f'"{checkpoint}" is no checkpoint of the stage `{self.name}`, which was never begun there. Take '
                "another `output_dir`, or remove what the folder holds."
            )
        self._compare(_read(self.folder / SETTINGS))
        return False, checkpoint

    def _compare(self, found: Mapping[str, Any]):
        # Another version of a library may have settings that this one does not have.
        names = [name for name, value in self._settings.items() if name in found and found[name] != value]
        if not names:
            return
        told = [f"`{name}` was {json.dumps(found[name])}, now {json.dumps(self._settings[name])}" for name in names]
        told[SHOWN:] = [f"and {len(names) - SHOWN} more"] if len(names) > SHOWN else []
        remove = f'"{self.folder}"'
        if self.output != self.folder:
            remove += f' and the checkpoints in "{self.output}"'
        raise ValueError(
            f'The stage `{self.name}` in "{self.output}" was made with other settings than are asked for now: '
            f"{'; '.join(told)}. To start anew take another `output_dir`, or remove {remove}; to keep it, ask for what "
            "it was made with."
        )


def settings_of(*groups, without: Sequence[str] = ()) -> dict[str, Any]:
    """What dataclasses of settings say about what is made, by name; without what changes nothing in it.

    Args:
        groups: whose fields have different names.
        without: further names that are left out.
    """
    found = {}
    for group in groups:
        names = [one.name for one in fields(group) if one.init and not _is_harmless(one.name)]
        found |= {name: getattr(group, name) for name in names if name not in without}
    return found


def fingerprints(folder: str | Path) -> dict[str, str]:
    """SHA-256 in hexadecimal digits of the weights right inside a folder, by file."""
    found = {}
    for path in sorted(Path(folder).glob("*.safetensors")):
        with path.open("rb") as file:
            found[path.name] = hashlib.file_digest(file, "sha256").hexdigest()
    return found


def _is_harmless(name: str) -> bool:
    return name in HARMLESS or name.startswith(HARMLESS_BEGINNINGS)


def _as_json(settings: Mapping[str, Any]) -> dict[str, Any]:
    return json.loads(json.dumps(settings, default=str))


def _remove_leftovers(folder: Path):
    """Removes temporary files (see `replacing`) of processes that were killed while they wrote what is there now."""
    for path in folder.rglob(".*-????????.*"):
        if path.is_file() and path.with_name(f"{path.stem[1:-9]}{path.suffix}").is_file():
            path.unlink(missing_ok=True)


def _write(path: Path, values: Mapping[str, Any]):
    with replacing(path) as temporary:
        temporary.write_text(json.dumps(values, indent=2, sort_keys=True) + "\n", encoding="utf-8")


def _read(path: Path) -> dict[str, Any]:
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except (json.JSONDecodeError, UnicodeDecodeError) as error:
        raise ValueError(f'"{path}" cannot be read: {error}. Remove "{path.parent}" to make the stage anew.') from error
