"""Stages of a recipe: each runs once, resumes after an interruption, and does not run again once it is finished."""

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import fields
from pathlib import Path
from typing import Any

from accelerate import PartialState
from accelerate.utils import broadcast_object_list

from hf_localgan.files import replacing
from hf_localgan.trainers.base.lineage import last_checkpoint

SETTINGS, FINISHED = "settings.json", "finished.json"
SHOWN = 5  # settings in an error
# Settings that change nothing in the models of a stage: where it writes and runs, and what it shows.
HARMLESS = {
    "output_dir", "resume_from_checkpoint", "use_cpu", "disable_tqdm", "report_to", "run_name", "project",
    "save_total_limit", "sample_rows", "sample_max_new_tokens", "push_to_hub", "local_rank", "debug",
    "skip_memory_metrics", "answer_batch_size", "num_proc",
}  # fmt: skip
HARMLESS_PREFIXES = (
    "log_",
    "logging_",
    "hub_",
    "card_",
    "completions_",
    "trackio_",
    "dataloader_pin",
    "dataloader_num",
    "dataloader_pre",
)


class Stage:
    """One stage: its settings, its progress and its output.

    The main process writes `settings.json` before the stage begins and `finished.json` after it has ended, both in
    `folder`, whole or not at all. In between the trainer writes checkpoints. So a process that is killed at any moment
    leaves a stage that has not begun, one that resumes from its last checkpoint, or a finished one.

    ```python
    stage = Stage("mle", "runs/my-run/stages/mle")
    if stage.begin(settings):
        ...  # train from `stage.checkpoint`, write into `stage.output`
        stage.finish()
    ```

    Args:
        name: for messages.
        folder: folder of its two files.
        output: output folder of its trainer, by default `folder`.

    Attributes:
        checkpoint: the checkpoint to resume from; `None` for a new start.
    """

    def __init__(self, name: str, folder: str | Path, output: str | Path | None = None):
        self.name, self.folder = name, Path(folder)
        self.output = self.folder if output is None else Path(output)
        self.checkpoint: str | None = None
        self._settings: dict[str, Any] = {}

    def begin(self, settings: Mapping[str, Any]) -> bool:
        """Whether the stage has to run. To be called on every process; the main one reads the files for all.

        Args:
            settings: all settings that shape the stage's output, by name; values are compared as JSON or as text.

        Raises:
            ValueError: if the folder holds output of this stage with other settings, or other checkpoints.
        """
        self._settings = _as_json({**settings, "processes": PartialState().num_processes})
        state: list[Any] = [None, None, None]  # an error, whether it is finished, the last checkpoint
        if PartialState().is_main_process:
            try:
                state = [None, *self._look()]
            except ValueError as error:
                state = [str(error), None, None]
        problem, finished, self.checkpoint = broadcast_object_list(state)
        if problem is not None:
            raise ValueError(problem)
        if PartialState().is_main_process:
            status = "finished before" if finished else "begins" if self.checkpoint is None else "resumes from "
            print(f'stage {self.name} in "{self.output}": {status}{Path(self.checkpoint or "").name}', flush=True)
            if not finished:
                _write(self.folder / SETTINGS, self._settings)
                _remove_leftovers(self.folder)
        PartialState().wait_for_everyone()
        return not finished

    def finish(self):
        """Marks the stage as finished. To be called on every process, after all have written their output."""
        PartialState().wait_for_everyone()
        if PartialState().is_main_process:
            _remove_leftovers(self.output)
            _write(self.folder / FINISHED, {"settings": self._settings, "files": fingerprints(self.output)})
        PartialState().wait_for_everyone()

    def _look(self) -> tuple[bool, str | None]:
        """Whether the stage is finished, and its last checkpoint."""
        finished = self.folder / FINISHED
        checkpoint = last_checkpoint(self.output)
        if finished.is_file():
            self._compare(_read(finished)["settings"])
            return True, None
        if checkpoint is None:
            return False, None  # with whatever settings it began, no output is left
        if not (self.folder / SETTINGS).is_file():
            raise ValueError(
                f'"{checkpoint}" is no checkpoint of the stage `{self.name}`, which was never begun there. Take '
                "another `output_dir`, or empty the folder."
            )
        self._compare(_read(self.folder / SETTINGS))
        return False, checkpoint

    def _compare(self, stored: Mapping[str, Any]):
        # Another version of a library may have settings that this one does not have.
        names = [name for name, value in self._settings.items() if name in stored and stored[name] != value]
        if not names:
            return
        changes = [f"`{name}` was {json.dumps(stored[name])}, now {json.dumps(self._settings[name])}" for name in names]
        changes[SHOWN:] = [f"and {len(names) - SHOWN} more"] if len(names) > SHOWN else []
        remove = f'"{self.folder}"'
        if self.output != self.folder:
            remove += f' and the checkpoints in "{self.output}"'
        raise ValueError(
            f'The stage `{self.name}` in "{self.output}" was made with other settings than those of this run: '
            f"{'; '.join(changes)}. To start anew take another `output_dir`, or remove {remove}; to keep it, restore "
            "its settings."
        )


def settings_of(*groups: Any, without: Sequence[str] = ()) -> dict[str, Any]:
    """The settings in dataclasses that shape the output of a stage, by name.

    Args:
        groups: dataclasses whose fields have different names.
        without: further names that are left out.
    """
    settings: dict[str, Any] = {}
    for group in groups:
        names = [field.name for field in fields(group) if field.init and not _is_harmless(field.name)]
        settings |= {name: getattr(group, name) for name in names if name not in without}
    return settings


def fingerprints(folder: str | Path) -> dict[str, str]:
    """SHA-256 of the weights directly in a folder, hexadecimal, by file."""
    digests = {}
    for path in sorted(Path(folder).glob("*.safetensors")):
        with path.open("rb") as file:
            digests[path.name] = hashlib.file_digest(file, "sha256").hexdigest()
    return digests


def _is_harmless(name: str) -> bool:
    return name in HARMLESS or name.startswith(HARMLESS_PREFIXES)


def _as_json(settings: Mapping[str, Any]) -> dict[str, Any]:
    return json.loads(json.dumps(settings, default=str))


def _remove_leftovers(folder: Path):
    """Removes temporary files (see `replacing`) of killed processes, whose final files exist by now."""
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
