"""The shipped corpus as a data set for the Hub: parquet files and a card."""

import re
import tempfile
from pathlib import Path

import pyarrow.json
import pyarrow.parquet
from huggingface_hub import CommitInfo, DatasetCard, HfApi

from hf_localgan.data.smalltalk import smalltalk_files
from hf_localgan.files import replacing
from hf_localgan.hub.rendering import NAME
from hf_localgan.hub.upload import create_repository, push_folder

# Sentences of the corpus's own page that are of the package's files, and what they become in a data set's card.
FOR_THE_HUB = {
    "It was written for this project, to train": "It was written for hf_localgan, to train",
    "Each split is a file of JSON lines in UTF-8, of plain ASCII characters.\n`query` is one utterance, `responses` a "
    "list of different utterances of which each could follow it, in no order.\n": (
        "Each split is a parquet file; all characters are plain ASCII.\n\n"
        "| column | type | content |\n"
        "| --- | --- | --- |\n"
        "| `query` | string | one utterance |\n"
        "| `responses` | list of strings | different utterances of which each could follow it, in no order |\n\n"
    ),
    "All numbers are printed by `python recipes/smalltalk/measure_corpus.py`; a test compares this page with the "
    "files.\n": "All numbers are printed by `recipes/smalltalk/measure_corpus.py` of hf_localgan.\n",
}
CODE = """```python
from datasets import load_dataset

corpus = load_dataset("{name}")  # a row per query: `query` and `responses`

from hf_localgan.data import load_pairs

pairs = load_pairs("{name}")  # a row per pair, for training; pairs.grouped has a row per query
```"""


def write_smalltalk(folder: str | Path, repo_id: str | None = None) -> Path:
    """Writes the shipped corpus as a data set that `datasets.load_dataset` reads and the Hub shows.

    Args:
        folder: made where it is missing; files of the same names are replaced.
        repo_id: id on the Hub, for the example code of the card; by default the folder.

    Returns:
        The folder.
    """
    folder = Path(folder)
    card = DatasetCard.load(smalltalk_files()["train"].with_name(NAME))
    data_files = []
    for split, source in smalltalk_files().items():
        place = f"data/{split}-00000-of-00001.parquet"
        with replacing(folder / place) as path:
            pyarrow.parquet.write_table(pyarrow.json.read_json(source), path)
        data_files.append({"split": split, "path": place})
    card.data.configs = [{"config_name": "default", "data_files": data_files}]
    text = card.text
    for own, shown in FOR_THE_HUB.items():
        assert own in text, own
        text = text.replace(own, shown)
    example = CODE.format(name=repo_id or folder.resolve().name)
    card.text = re.sub(r"(?s)```python.*?```", lambda _: example, text, count=1)
    with replacing(folder / NAME) as path:
        path.write_text(str(card).rstrip() + "\n", encoding="utf-8")
    return folder


def push_smalltalk(
    repo_id: str, *, private: bool | None = None, token: str | bool | None = None, api: HfApi | None = None
) -> CommitInfo:
    """Uploads the shipped corpus to a data set on the Hub, by one commit.

    Args:
        repo_id: `owner/name`; made where it is missing.
        private: whether a new repository is; by default as the owner's settings say.
        token: with write permission; by default the one that `hf auth login` stored.
        api: the client.

    Raises:
        UploadError: names the repository and what to do.
    """
    api = api or HfApi(library_name="hf_localgan")
    advice = "The corpus is in the package: push it again."
    name = create_repository(repo_id, token=token, private=private, repo_type="dataset", advice=advice, api=api)
    with tempfile.TemporaryDirectory() as temporary:
        return push_folder(
            write_smalltalk(temporary, name), name, message="Small talk", token=token, repo_type="dataset",
            whole=("data",), advice=advice, api=api,
        )  # fmt: skip
