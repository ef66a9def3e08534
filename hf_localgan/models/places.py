"""Files of models in folders and on the Hub: where one is, that it is not there, or why nobody can tell."""

import os
from collections.abc import Iterable
from pathlib import Path

import huggingface_hub.constants
from huggingface_hub import HfApi, hf_hub_download, scan_cache_dir
from huggingface_hub.errors import (
    CacheNotFound,
    EntryNotFoundError,
    GatedRepoError,
    HfHubHTTPError,
    HFValidationError,
    LocalEntryNotFoundError,
    OfflineModeIsEnabled,
    RepositoryNotFoundError,
    RevisionNotFoundError,
)

from hf_localgan.connection import hub_has_no_address

CONFIG, ADAPTER_CONFIG = "config.json", "adapter_config.json"
VOCABULARY_FILES = ("tokenizer.json", "spiece.model", "sentencepiece.bpe.model", "vocab.json", "vocab.txt")
TOKENIZER_FILES = (*VOCABULARY_FILES, "tokenizer_config.json")
MAX_LISTED = 5  # names in an error


def find_file(place: str, name: str, revision: str | None = None) -> Path | None:
    """The path of a file of a model, downloaded where need be; `None` where the model does not have it.

    Args:
        place: folder or Hub id.
        name: of the file.
        revision: branch, tag or commit on the Hub.

    Raises:
        OSError: where that cannot be told, with the cause: no connection, a file that was never downloaded, no such
            repository or revision, no permission.
    """
    if Path(place).is_dir():
        path = Path(place) / name
        return path if path.is_file() else None
    try:
        return Path(hf_hub_download(place, name, revision=revision, local_files_only=hub_has_no_address()))
    except LocalEntryNotFoundError as error:
        raise FileNotFoundError(_not_downloaded(place, name, revision, error.__cause__)) from error
    except EntryNotFoundError:
        return None
    except (HfHubHTTPError, HFValidationError, OSError) as error:
        raise OSError(_explain(error, place, name, revision)) from error


def find_any(place: str, names: Iterable[str], revision: str | None = None) -> Path | None:
    """The path of the first of several files that a model has; `None` where it has none of them.

    Raises:
        OSError: as `find_file`, where none is found and that cannot be told of all.
    """
    unknown: OSError | None = None
    for name in names:
        try:
            if path := find_file(place, name, revision):
                return path
        except OSError as error:
            unknown = unknown or error
    if unknown is not None:
        raise unknown
    return None


def has_file(place: str, name: str, revision: str | None = None) -> bool:
    """Whether a model has a file, as far as can be told: `False` also for one that cannot be looked up."""
    try:
        return find_file(place, name, revision) is not None
    except OSError:
        return False


def list_files(place: str, revision: str | None = None) -> list[str]:
    """Names of the files of a repository, or of those that were downloaded; empty where neither can be had."""
    try:
        return HfApi().list_repo_files(place, revision=revision)
    except (HfHubHTTPError, OSError, ValueError):
        pass
    try:
        repositories = scan_cache_dir().repos
    except (CacheNotFound, OSError, ValueError):
        return []
    snapshots = [snapshot for found in repositories if found.repo_id == place for snapshot in found.revisions]
    return sorted(
        {os.path.relpath(file.file_path, snapshot.snapshot_path) for snapshot in snapshots for file in snapshot.files}
    )


def describe_no_model(place: str, revision: str | None = None) -> str:
    """What a place without a configuration holds instead of a whole model, and what can be done with that."""
    folder = Path(place)
    if folder.is_dir():
        files = [path.relative_to(folder).as_posix() for path in (*folder.glob("*"), *folder.glob("*/*.json"))]
        start = f"The folder `{place}` has no {CONFIG}, so it holds no model."
    else:
        files = list_files(place, revision)
        start = f"The repository `{place}` has no {CONFIG}, so it is no whole model."
    configs = (f"/{CONFIG}", f"/{ADAPTER_CONFIG}")
    inside = sorted({file.split("/")[0] for file in files if file.count("/") == 1 and file.endswith(configs)})
    if inside:
        listed = ", ".join(inside[:MAX_LISTED])
        if folder.is_dir():
            return f"{start} Its subfolders with one are: {listed}."
        part = f"`{place}/{inside[0]}`"
        return (
            f"{start} Its folders with one are: {listed}. A part, such as an energy, is named with its folder: {part}."
        )
    if any(file in TOKENIZER_FILES for file in files):
        start += " It holds a tokenizer alone."
    elif files and not folder.is_dir():
        return f"{start} It holds {', '.join(sorted(files)[:MAX_LISTED])}. Give the id of an encoder-decoder."
    return f"{start} Give what `save_pretrained` or a trainer has written."


def _is_offline() -> bool:
    return bool(huggingface_hub.constants.HF_HUB_OFFLINE)


def _not_downloaded(place: str, name: str, revision: str | None, cause: BaseException | None = None) -> str:
    start = (
        f"`{place}` is neither a folder (looked in {Path.cwd()}) nor a model on the Hub whose `{name}` was downloaded "
        "before,"
    )
    revision = revision or "main"
    if _is_offline():
        return (
            f"{start} and offline (no connection, or `HF_HUB_OFFLINE`) only what was downloaded can be loaded. "
            f"Check the name and the revision ({revision}), or load it once with a connection."
        )
    if isinstance(cause, HfHubHTTPError):
        return (
            f"{start} and the Hub does not give it: {first_line(cause)} Log in by `hf auth login`, or try again later."
        )
    return f"{start} and the Hub cannot be reached. Check the name, the revision ({revision}) and the connection."


def _explain(error: Exception, place: str, name: str, revision: str | None) -> str:
    if isinstance(error, GatedRepoError):
        return (
            f"The repository `{place}` is gated: ask for access on its page on the Hub, and log in by `hf auth login`."
        )
    if isinstance(error, RepositoryNotFoundError):
        return (
            f"`{place}` is neither a folder (looked in {Path.cwd()}) nor a repository on the Hub that you may read. "
            "Check the name; if it is private, log in by `hf auth login`."
        )
    if isinstance(error, RevisionNotFoundError):
        return f"The repository `{place}` has no revision `{revision}`. Name a branch, a tag or a commit of it."
    if isinstance(error, OfflineModeIsEnabled):
        return _not_downloaded(place, name, revision)
    return f"`{name}` of `{place}` cannot be downloaded: {first_line(error)} Check the connection, or try again later."


def first_line(error: BaseException) -> str:
    """The first line of an error's text, as a sentence."""
    text = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
    return text if text.endswith(".") else f"{text}."
