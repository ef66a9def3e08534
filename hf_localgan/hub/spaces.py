"""The package's `evaluate` modules as Spaces, where `evaluate.load` finds them."""

import tempfile
from pathlib import Path

from huggingface_hub import CommitInfo, HfApi

from hf_localgan.hub.upload import create_repository, link_files, push_folder
from hf_localgan.metrics.loading import module_path


def push_metric(
    name: str, repo_id: str, *, private: bool | None = None, token: str | bool | None = None, api: HfApi | None = None
) -> CommitInfo:
    """Uploads an `evaluate` module with its page and card to a Space, by one commit.

    ```python
    push_metric("distinct_n", "your-name/distinct_n")
    evaluate.load("your-name/distinct_n")  # on any machine with hf_localgan
    ```

    Args:
        name: one of `hf_localgan.metrics.module_names()`.
        repo_id: `owner/name`; made where it is missing.
        private: whether a new Space is; by default as the owner's settings say.
        token: with write permission; by default the one that `hf auth login` stored.
        api: the client.

    Raises:
        ValueError: for an unknown module, and a Space of another name, where `evaluate.load` would look for another
            file.
        UploadError: names the repository and what to do.
    """
    source = Path(module_path(name))
    if repo_id.split("/")[-1] != name:
        raise ValueError(f'A Space of the module must be called "{name}", as its file is, got "{repo_id}".')
    api = api or HfApi(library_name="hf_localgan")
    advice = "The module is in the package: push it again."
    space = create_repository(
        repo_id, token=token, private=private, repo_type="space", space_sdk="gradio", advice=advice, api=api
    )
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        link_files(source, folder, ignored=("__pycache__", "*.pyc"))
        return push_folder(folder, space, message=name, token=token, repo_type="space", advice=advice, api=api)
