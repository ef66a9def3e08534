"""The training that wrote a checkpoint: which checkpoints of a folder a run continues, and which are another run's."""

import json
import re
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from json import JSONDecodeError
from pathlib import Path
from typing import Any
from uuid import uuid4

from transformers.trainer_utils import PREFIX_CHECKPOINT_DIR

RECORD = "checkpoint.json"
Lineage = tuple[tuple[str, int], ...]  # calls of `train`, each with the number of updates that it began with
UNKNOWN: Lineage = (("", 0),)  # of checkpoints without a record


@dataclass(frozen=True)
class CheckpointRecord:
    """What a checkpoint says of its training, in the file `checkpoint.json`.

    Attributes:
        lineage: the training's calls of `train`, each with the number of updates that it began with: a resumed training
            adds one. `UNKNOWN` where a checkpoint has no record.
        saved_at: time in seconds since 1970; 0 where it is unknown.
        identity: facts without which the weights mean something else, such as the tokenizer's fingerprint, by name.
        settings: facts that shape the training and stand in no argument, such as the training data's, by name.
    """

    lineage: Lineage = UNKNOWN
    saved_at: float = 0.0
    identity: Mapping[str, Any] = field(default_factory=dict)
    settings: Mapping[str, Any] = field(default_factory=dict)

    @classmethod
    def read(cls, checkpoint: Path) -> "CheckpointRecord":
        """The record of a checkpoint; an empty one for a checkpoint without.

        Raises:
            ValueError: for a damaged file, naming it.
        """
        path = checkpoint / RECORD
        if not path.is_file():
            return cls()
        try:
            content = json.loads(path.read_text(encoding="utf-8"))
            lineage = tuple((str(run), int(start)) for run, start in content["lineage"])
            return cls(lineage, float(content["saved_at"]), dict(content["identity"]), dict(content["settings"]))
        except (JSONDecodeError, UnicodeDecodeError, KeyError, TypeError, ValueError) as error:
            raise ValueError(
                f'"{path}" cannot be read ({type(error).__name__}: {error}): the file is truncated or damaged. Resume '
                "from an earlier checkpoint."
            ) from error

    def write(self, checkpoint: Path):
        """Writes the record into a folder that is not in use yet."""
        content = {
            "lineage": self.lineage, "saved_at": self.saved_at, "identity": self.identity, "settings": self.settings,
        }  # fmt: skip
        (checkpoint / RECORD).write_text(json.dumps(content, indent=2) + "\n", encoding="utf-8")


def new_run(start: int, earlier: Lineage = ()) -> Lineage:
    """The lineage of a training that begins now.

    Args:
        start: number of updates that it begins with.
        earlier: lineage of the checkpoint that it resumes from; empty for a new training.
    """
    return (*earlier, (uuid4().hex[:16], start))


def continues(lineage: Lineage, other: Lineage, step: int) -> bool:
    """Whether a training has passed through a checkpoint, so that the checkpoint is its own or an ancestor's.

    Args:
        lineage: of the training.
        other: of the checkpoint.
        step: number of updates of the checkpoint.
    """
    if lineage[: len(other)] != other:
        return False
    return len(lineage) == len(other) or step <= lineage[len(other)][1]


def checkpoints_in(folder: str | Path) -> list[tuple[int, Path]]:
    """Number of updates and folder of every checkpoint in an output folder, in the order of these numbers."""
    if not Path(folder).is_dir():
        return []
    paths = [path for path in Path(folder).glob(f"{PREFIX_CHECKPOINT_DIR}-*") if path.is_dir()]
    numbered = [(re.fullmatch(rf"{PREFIX_CHECKPOINT_DIR}-(\d+)", path.name), path) for path in paths]
    return sorted((int(match[1]), path) for match, path in numbered if match)


def last_checkpoint(folder: str | Path) -> str | None:
    """The last checkpoint of the last training that wrote into an output folder.

    It is the one with the most updates, unless the folder holds checkpoints of several trainings: then the one that was
    saved last. `None` for a folder without checkpoints, and one that does not exist.
    """
    checkpoints = checkpoints_in(folder)
    if not checkpoints:
        return None
    records = {path: _readable(path) for _, path in checkpoints}
    (_, most), others = checkpoints[-1], checkpoints[:-1]
    if all(continues(records[most].lineage, records[path].lineage, step) for step, path in others):
        return str(most)
    return str(max(checkpoints, key=lambda checkpoint: (records[checkpoint[1]].saved_at, checkpoint[0]))[1])


def foreign_checkpoints(folder: str | Path, lineage: Lineage) -> list[Path]:
    """The checkpoints in an output folder that a training neither wrote nor resumes from, by number."""
    return [path for step, path in checkpoints_in(folder) if not continues(lineage, _readable(path).lineage, step)]


def rotate_own_checkpoints(
    folder: str | Path,
    lineage: Lineage,
    limit: int | None,
    *,
    kept: Sequence[str | None] = (),
    newest: int = 1,
):
    """Removes a training's oldest checkpoints, and none of another training in the same folder.

    Args:
        folder: output folder.
        lineage: of the training.
        limit: largest number of its checkpoints; `None` or 0 for any number.
        kept: checkpoints that stay even above the limit, such as the best one.
        newest: number of the last checkpoints that do, too, at least 1 for a training that goes on.
    """
    if not limit or limit < 0:
        return
    foreign = set(foreign_checkpoints(folder, lineage))
    own = [path for _, path in checkpoints_in(folder) if path not in foreign]
    stays = {path.resolve() for path in [*map(Path, filter(None, kept)), *own[len(own) - min(newest, len(own)) :]]}
    removable = [path for path in own if path.resolve() not in stays]
    for path in removable[: max(0, len(own) - max(limit, len(own) - len(removable)))]:
        shutil.rmtree(path, ignore_errors=True)


def _readable(checkpoint: Path) -> CheckpointRecord:
    """As `CheckpointRecord.read`, but a damaged record counts as none: whoever resumes from it gets the error."""
    try:
        return CheckpointRecord.read(checkpoint)
    except ValueError:
        return CheckpointRecord()
