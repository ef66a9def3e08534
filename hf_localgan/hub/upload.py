"""Uploading folders to the Hub, each in one commit, so that a repository never holds a mixture of old and new files.

`HfApi.upload_folder` may send a large folder in several commits. Others could then load new weights with an old
configuration, and an upload that breaks off would leave such a mixture.
"""

import os
import shutil
import tempfile
import time
import warnings
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from fnmatch import fnmatch
from pathlib import Path

from huggingface_hub import CommitInfo, CommitOperationAdd, CommitOperationDelete, HfApi
from huggingface_hub.errors import RevisionNotFoundError

WAITS = (2.0, 10.0)  # seconds between attempts
LINKED = (".safetensors", ".pt", ".pth", ".bin", ".distcp")  # files that are replaced by renaming, never changed


class UploadError(OSError):
    """An upload that failed. The repository holds what it held before, and the local files are whole."""


def push_folder(
    folder: str | Path,
    repo_id: str,
    *,
    message: str,
    token: str | bool | None = None,
    revision: str | None = None,
    whole: Sequence[str] = (),
    owned: Sequence[str] = (),
    repo_type: str | None = None,
    advice: str = "",
    api: HfApi | None = None,
) -> CommitInfo:
    """Uploads all files of a folder by one commit.

    Failures of the server or the connection are tried again: of blobs by the client itself, of the rest here.

    Args:
        folder: the folder to upload.
        repo_id: `owner/name`.
        message: of the commit.
        token: with write permission; by default the one that `hf auth login` stored.
        revision: a branch, made where it is missing; by default the main one.
        whole: folders of the repository in which files that are not in `folder` are deleted.
        owned: files of the repository that are deleted where `folder` has none of their names.
        repo_type: "dataset" or "space"; by default a model.
        space_sdk: of a Space, such as "gradio".
        advice: last sentence of an error.
        api: the client.

    Raises:
        UploadError: names the repository and what to do.
    """
    api, folder = api or HfApi(), Path(folder)
    for wait in (*WAITS, None):
        try:
            return _commit(api, folder, repo_id, message, token, revision, whole, owned, repo_type)
        except Exception as error:  # from the network, the server or the client's threads: one meaning
            status = _status(error)
            if wait is None or not (status is None or status == 429 or status >= 500):
                raise upload_error(error, repo_id, advice) from error
            time.sleep(wait)
    raise AssertionError("unreachable")


def _commit(
    api: HfApi,
    folder: Path,
    repo_id: str,
    message: str,
    token: str | bool | None,
    revision: str | None,
    whole: Sequence[str],
    owned: Sequence[str],
    repo_type: str | None,
) -> CommitInfo:
    """One attempt. If the answer to an earlier one was lost, there is nothing to commit, and the client sees that."""
    if revision is not None:
        _make_branch(api, repo_id, revision, token, repo_type)
    files = sorted(path for path in folder.rglob("*") if path.is_file())
    added = {path.relative_to(folder).as_posix(): path for path in files}
    operations: list[CommitOperationAdd | CommitOperationDelete] = [
        CommitOperationAdd(name, path) for name, path in added.items()
    ]
    if whole or owned:
        names = api.list_repo_files(repo_id, revision=revision, token=token, repo_type=repo_type)
        prefixes = tuple(f"{name}/" for name in whole)
        gone = (name for name in names if (name.startswith(prefixes) or name in owned) and name not in added)
        operations += map(CommitOperationDelete, gone)
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message=".*about to commit a data file")  # scores of single answers
        return api.create_commit(
            repo_id, operations, commit_message=message, token=token, revision=revision, repo_type=repo_type
        )


def create_repository(
    name: str,
    *,
    token: str | bool | None = None,
    private: bool | None = None,
    repo_type: str | None = None,
    space_sdk: str | None = None,
    advice: str = "Nothing was trained yet. Or train without `push_to_hub`.",
    api: HfApi | None = None,
) -> str:
    """Makes a repository where it is missing; returns its full id.

    Args:
        name: `owner/name`, or a name alone for a repository of the token's owner.
        token: with write permission; by default the one that `hf auth login` stored.
        private: by default as the owner's settings say. A repository that exists stays as it is.
        repo_type: "dataset" or "space"; by default a model.
        advice: last sentence of an error.
        api: the client.

    Raises:
        UploadError: names the repository and what to do.
    """
    try:
        api = api or HfApi()
        return api.create_repo(
            name, token=token, private=private, repo_type=repo_type, space_sdk=space_sdk, exist_ok=True
        ).repo_id
    except Exception as error:
        raise upload_error(error, name, advice, failure="cannot be made or written to") from error


def upload_error(error: Exception, repo_id: str, advice: str, failure: str = "could not be uploaded to") -> UploadError:
    """The error for the user: the repository, the cause, and what to do."""
    cause = error if error.__cause__ is None else error.__cause__
    reasons = {
        401: "Your token is missing or wrong: log in by `hf auth login`, set `HF_TOKEN`, or give `hub_token`.",
        403: "Your token may not write there: make one with write permission, or name a repository of your own by "
        "`hub_model_id`.",
        404: "There is no such repository, or your token may not see it: check `hub_model_id`.",
    }
    status = _status(error)
    reason = "The server or the connection failed, or the server refused the files: try again later."
    reason = reason if status is None else reasons.get(status, reason)
    message = " ".join(str(cause).split())[:400] or type(cause).__name__
    return UploadError(
        f'The repository "{repo_id}" {failure} ({message}). {reason} The repository is as it was before, for every '
        f"upload is one commit. {advice}".rstrip()
    )


def _status(error: Exception) -> int | None:
    """The HTTP status of an error or of its cause."""
    statuses = (getattr(getattr(cause, "response", None), "status_code", None) for cause in (error, error.__cause__))
    return next(filter(None, statuses), None)


@contextmanager
def laid_out(parent: Path, prefix: str) -> Iterator[Path]:
    """A temporary folder inside `parent`, on the same file system, so that weights can be linked instead of copied."""
    with tempfile.TemporaryDirectory(prefix=prefix, dir=parent, ignore_cleanup_errors=True) as temporary:
        yield Path(temporary)


def link_files(source: Path, target: Path, names: Iterable[str] | None = None, ignored: Sequence[str] = ()):
    """Puts files and folders of `source` into `target`: weights as hard links, other files as copies.

    So they can be uploaded in the background while training writes new files and removes old checkpoints.

    Args:
        source, target: folders.
        names: of files and folders directly in `source`; by default all.
        ignored: patterns of relative paths that are left out.
    """
    for path in sorted(source.iterdir() if names is None else (source / name for name in names)):
        if _is_ignored(path.name, ignored):
            continue
        if path.is_dir():
            skip = _skipping(path, path.name, ignored)
            shutil.copytree(path, target / path.name, copy_function=_link, ignore=skip, dirs_exist_ok=True)
        elif path.is_file():
            target.mkdir(parents=True, exist_ok=True)
            _link(path, target / path.name)


def _skipping(root: Path, name: str, ignored: Sequence[str]) -> Callable[[str, list[str]], set[str]]:
    def skip(folder: str, names: list[str]) -> set[str]:
        inside = Path(name) / Path(folder).relative_to(root)
        return {entry for entry in names if entry.startswith(".") or _is_ignored((inside / entry).as_posix(), ignored)}

    return skip


def _is_ignored(path: str, ignored: Sequence[str]) -> bool:
    return any(fnmatch(path, pattern) for pattern in ignored)


def _link(source: str | Path, target: str | Path):
    if Path(source).suffix in LINKED:
        try:
            os.link(source, target)
            return
        except OSError:  # a file system without links
            pass
    shutil.copy2(source, target)


def _make_branch(api: HfApi, repo_id: str, revision: str, token: str | bool | None, repo_type: str | None):
    if revision.startswith("refs/"):  # a pull request, which cannot be made here
        return
    try:
        api.repo_info(repo_id, revision=revision, token=token, repo_type=repo_type)
    except RevisionNotFoundError:
        api.create_branch(repo_id, branch=revision, token=token, repo_type=repo_type, exist_ok=True)
