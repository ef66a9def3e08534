"""Files of a checkpoint or an output folder, written elsewhere first and moved over the old ones at once."""

import json
import os
import shutil
from pathlib import Path

from hf_localgan.models.places import ADAPTER_CONFIG

STAGING = ".saving"  # start of the names of folders that are not whole yet


def remove_leftovers(folder: Path):
    """Removes the temporary folders of a process that was killed while it saved."""
    for leftover in folder.glob(f"{STAGING}-*"):
        shutil.rmtree(leftover, ignore_errors=True)


def stale_files(new: Path, folder: Path) -> list[Path]:
    """Files of the model of an earlier training in a folder that a new one does not write over: a whole one's or an
    adapter's.

    Both together would be read back as an adapter on a model that it was not trained on. The base model of the new
    adapter stays, for it is read with it.
    """
    adapter = new / ADAPTER_CONFIG
    if not adapter.is_file():
        if not any(new.glob("model*.safetensors")):  # shards of a distributed training
            return []
        return [folder / name for name in (ADAPTER_CONFIG, "adapter_model.safetensors")]
    base = json.loads(adapter.read_text(encoding="utf-8")).get("base_model_name_or_path")
    if base and Path(base).is_dir() and Path(base).samefile(folder):
        return []
    whole = [folder / name for name in ("config.json", "model.safetensors", "model.safetensors.index.json")]
    return [*whole, *folder.glob("model-*-of-*.safetensors")]


def move_all(source: Path, target: Path):
    """Moves files and folders from `source` over those in `target`; on an error `target` is as it was before."""
    backup = source / STAGING
    moved = []
    names = sorted(path.name for path in source.iterdir())
    backup.mkdir()
    try:
        for name in names:
            moved.append(name)
            if (target / name).exists():
                _back_up(target / name, backup / name)
            os.replace(source / name, target / name)
    except BaseException:
        for name in moved:
            if (backup / name).exists():
                if (target / name).is_dir():
                    shutil.rmtree(target / name)
                os.replace(backup / name, target / name)
            elif not (source / name).exists():
                os.replace(target / name, source / name)
        raise


def _back_up(path: Path, backup: Path):
    try:
        os.link(path, backup)  # a second name for the file, so that it exists at every moment
    except OSError:  # a folder, or a file system without links
        os.replace(path, backup)
