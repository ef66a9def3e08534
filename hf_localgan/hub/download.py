"""Downloading checkpoints from the Hub; they appear in the output folder whole or not at all."""

import json
import os
import re
import shutil
import tempfile
from pathlib import Path
from typing import Any

from huggingface_hub import HfApi
from huggingface_hub.errors import RepositoryNotFoundError, RevisionNotFoundError

from hf_localgan.files import missing_path, replacing
from hf_localgan.hub.rendering import weights_digest

LAST = "last-checkpoint"
BEST = "best"  # inside `last-checkpoint`: the model of the best checkpoint so far
STAGES = "stages"  # inside a checkpoint: the finished stages of the recipe, see `Stage`
STATE = "trainer_state.json"
CHECKPOINT = re.compile(rf"{LAST}|checkpoint-\d+")


def split_place(path: str) -> tuple[str, str]:
    """Repository and folder in it: `owner/name/energy` is `owner/name` and `energy`; a local folder stays as it is."""
    parts = path.split("/")
    if len(parts) != 3 or not all(parts) or parts[0] in (".", "..", "~") or Path(path).exists() or missing_path(path):
        return path, ""
    return "/".join(parts[:2]), parts[2]


def pull_checkpoint(
    repo_id: str,
    name: str,
    folder: str | Path,
    *,
    revision: str | None = None,
    token: str | bool | None = None,
    needs_best: bool = False,
    api: HfApi | None = None,
) -> Path:
    """Downloads a checkpoint, and nothing else of the repository, to `checkpoint-STEP` in the output folder.

    If the best model so far belongs to another checkpoint, its files come along. So do the stages that the recipe had
    finished: to `stages/` in the output folder.

    Args:
        repo_id: `owner/name`, or a name alone for a repository of the token's owner.
        name: `last-checkpoint`, which `hub_strategy="checkpoint"` uploads, or `checkpoint-STEP` of "all_checkpoints".
        folder: `output_dir` of the training that is resumed.
        revision: branch, tag or commit.
        token: by default the one that `hf auth login` stored.
        needs_best: refuse a checkpoint whose best model so far is missing.
        api: the client.

    Returns:
        The folder of the checkpoint.

    Raises:
        OSError: if the repository or the checkpoint cannot be downloaded.
        ValueError: if it is incomplete, its best model is missing, or the folder holds another checkpoint of the same
            step.
    """
    api, folder = api or HfApi(), Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix=".saving-download-", dir=folder) as temporary:
        place = Path(temporary)
        state = _download(api, repo_id, name, place, revision, token)
        step, best = state["global_step"], state.get("best_global_step")
        target = folder / f"checkpoint-{step}"
        sources = {target: place / name}
        if best is not None:
            own = folder / f"checkpoint-{best}"
            beside = place / name / BEST if name == LAST else place / own.name
            if best != step and beside.is_dir():
                sources = {own: beside, **sources}
            if best == step or own.is_dir() or beside.is_dir():
                state["best_model_checkpoint"] = str(own)
            elif needs_best:
                raise ValueError(
                    f'The best model so far, that of step {best}, is neither in the repository "{repo_id}" beside '
                    f'`{name}` nor in "{folder}", so that a resumed training could not return to it. Copy '
                    f"`checkpoint-{best}` there, or resume from a checkpoint of this machine."
                )
            with replacing(place / name / STATE) as path:
                path.write_text(json.dumps(state, indent=2, sort_keys=True) + "\n", encoding="utf-8")
        # The checkpoint comes last: once it exists, so does all that it needs.
        stages = sorted((place / name / STAGES).glob("*")) if (place / name / STAGES).is_dir() else []
        for path, source in {**{folder / STAGES / stage.name: stage for stage in stages}, **sources}.items():
            path.parent.mkdir(exist_ok=True)
            _appear(source, path, repo_id)
        shutil.rmtree(target / STAGES, ignore_errors=True)
    return target


def _download(
    api: HfApi, repo_id: str, name: str, place: Path, revision: str | None, token: str | bool | None
) -> dict[str, Any]:
    """Downloads the files of a checkpoint, all of one commit, and returns its state."""
    try:
        if "/" not in repo_id:
            repo_id = f"{api.whoami(token=token)['name']}/{repo_id}"
        info = api.model_info(repo_id, revision=revision, token=token)
        there = [file.rfilename for file in info.siblings or ()]
        wanted = [file for file in there if file.startswith(f"{name}/")]
        if not wanted:
            raise FileNotFoundError(_no_checkpoint(repo_id, name, there))
        fetch: dict[str, Any] = {"revision": info.sha, "token": token, "local_dir": place}
        api.snapshot_download(repo_id, allow_patterns=[f"{name}/*"], **fetch)
        state = _read_state(place / name, repo_id, wanted, place)
        best = state.get("best_global_step")
        if name != LAST and best is not None and f"checkpoint-{best}/{STATE}" in there:
            api.snapshot_download(repo_id, allow_patterns=[f"checkpoint-{best}/*"], **fetch)
        return state
    except (FileNotFoundError, ValueError):
        raise
    except Exception as error:  # from the network, the server or the client's threads: one meaning
        reason = "Try again later."
        if isinstance(error, (RepositoryNotFoundError, RevisionNotFoundError)):
            reason = "Check `hub_model_id` and `hub_revision`, and log in by `hf auth login` if it is private."
        message = " ".join(str(error).split())[:400]
        raise OSError(
            f'`{name}` could not be downloaded from the repository "{repo_id}" ({message}). {reason} Nothing was '
            "changed here."
        ) from error


def _read_state(folder: Path, repo_id: str, wanted: list[str], place: Path) -> dict[str, Any]:
    missing = [file for file in wanted if not (place / file).is_file()]
    if not (folder / STATE).is_file() or missing:
        raise ValueError(
            f'`{folder.name}` of the repository "{repo_id}" is incomplete: it has no '
            f"{missing[0] if missing else STATE}. Resume from another checkpoint."
        )
    try:
        return json.loads((folder / STATE).read_text(encoding="utf-8"))
    except (json.JSONDecodeError, UnicodeDecodeError) as error:
        raise ValueError(f'{folder.name}/{STATE} of the repository "{repo_id}" cannot be read: {error}.') from error


def _no_checkpoint(repo_id: str, name: str, there: list[str]) -> str:
    folders = {file.split("/")[0] for file in there}
    checkpoints = ", ".join(sorted(filter(CHECKPOINT.fullmatch, folders))) or "no checkpoint"
    return (
        f'The repository "{repo_id}" has no `{name}` (found: {checkpoints}). `hub_strategy: '
        "checkpoint` uploads the last one, `all_checkpoints` all of them; the other strategies upload no training "
        "state."
    )


def _appear(source: Path, target: Path, repo_id: str):
    """Renames a downloaded folder to its final name; a folder of that name must have the same weights."""
    try:
        if not target.exists():
            os.replace(source, target)
            return
    except OSError:  # another node of the same run was quicker
        if not target.is_dir():
            raise
    if weights_digest(source) != weights_digest(target):
        raise ValueError(
            f'"{target}" and the checkpoint of the same step in the repository "{repo_id}" have different weights: '
            "they belong to different trainings. Take another `output_dir`, or remove the one that you do not want."
        )
