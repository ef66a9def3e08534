"""Finding the splits of a data set: on the Hub, in a folder, in files, or in memory."""

import os
import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

import datasets
import pyarrow as pa
from datasets import Dataset, DatasetDict, IterableDataset, IterableDatasetDict, load_dataset, load_from_disk
from datasets.exceptions import DatasetGenerationError

from hf_localgan.data.smalltalk import smalltalk_files

BUILDERS = {".parquet": "parquet", ".jsonl": "json", ".json": "json", ".csv": "csv", ".tsv": "csv"}
ACCEPTED_FILES = "parquet, jsonl, json, csv or tsv, the last four also as .gz"
ALIASES = {"valid": "validation", "val": "validation", "dev": "validation"}
SPLIT_NAME = re.compile(r"(train|validation|valid|val|dev|test)([_-]\w+?)?(?:-\d{5}-of-\d{5})?")


@contextmanager
def _uncounted() -> Iterator[None]:
    """Keeps `datasets` from telling a counter on the network that something was read, local files included."""
    before = datasets.config.HF_UPDATE_DOWNLOAD_COUNTS
    datasets.config.HF_UPDATE_DOWNLOAD_COUNTS = False
    try:
        yield
    finally:
        datasets.config.HF_UPDATE_DOWNLOAD_COUNTS = before


@_uncounted()
def open_splits(
    source, name=None, *, streaming=False, revision=None, **options
) -> dict[str, Dataset | IterableDataset]:
    """The splits of `source` by name, with the columns they have; the arguments are those of `load_pairs`."""
    if isinstance(source, (Dataset, IterableDataset)):
        return {"train": source}
    if isinstance(source, (DatasetDict, IterableDatasetDict)):
        return dict(source)
    if isinstance(source, Mapping):
        return {split: _open_files(split, files, streaming, options) for split, files in source.items()}
    if not isinstance(source, (str, os.PathLike)):
        raise ValueError(
            f"`source` must be a name, a path, a dict of files or datasets, or a Dataset, got {type(source).__name__}."
        )
    if source == "smalltalk":
        return {split: _open_files(split, path, streaming, options) for split, path in smalltalk_files().items()}
    path = Path(source).expanduser()
    if path.is_file():
        match = SPLIT_NAME.fullmatch(path.name.split(".")[0])
        split = _split_name(match) if match else "train"
        return {split: _open_files(split, path, streaming, options)}
    if path.is_dir():
        return _open_folder(path, streaming, options)
    if (
        not isinstance(source, str)
        or not re.fullmatch(r"[\w-][\w.-]*(/[\w-][\w.-]*)?", source)
        or path.suffix in BUILDERS
    ):
        raise ValueError(f'There is no file or folder "{source}", and it is not the form of a Hub dataset id.')
    loaded = load_dataset(source, name, revision=revision, streaming=streaming, **options)
    return dict(loaded) if isinstance(loaded, (DatasetDict, IterableDatasetDict)) else {"train": loaded}


def _open_folder(folder: Path, streaming: bool, options: dict) -> dict[str, Dataset | IterableDataset]:
    if (folder / "dataset_dict.json").is_file():
        return dict(load_from_disk(str(folder)))
    if (folder / "dataset_info.json").is_file() and (folder / "state.json").is_file():
        return {"train": load_from_disk(str(folder))}
    found: dict[str, list[Path]] = {}
    for place in (folder, folder / "data"):  # a clone of a Hub repository often keeps its files in data/
        for path in sorted(place.iterdir()) if place.is_dir() and not found else ():
            match = SPLIT_NAME.fullmatch(path.name.split(".")[0])
            if match and path.is_file() and _suffix(path) in BUILDERS:
                found.setdefault(_split_name(match), []).append(path)
    if not found:
        names = ", ".join(sorted(path.name for path in folder.iterdir())[:10]) or "nothing"
        raise ValueError(
            f'The folder "{folder}" has no train, validation or test file (found: {names}). Accepted are names such as '
            f"train.jsonl, validation.parquet or test_multi.csv ({ACCEPTED_FILES}); for other names pass a dict of "
            'split to file, such as {"train": "my-file.csv"}.'
        )
    for split, paths in found.items():
        stems = {re.sub(r"-\d{5}-of-\d{5}", "", path.name) for path in paths}
        if len(stems) > 1:
            raise ValueError(
                f'Several files in "{folder}" are named for the split `{split}`: {", ".join(sorted(stems))}. Pass a '
                "dict of split to file to say which is meant."
            )
    ordered = sorted(
        found, key=lambda split: (["train", "validation", "test"].index(split.split("_")[0].split("-")[0]), split)
    )
    return {split: _open_files(split, found[split], streaming, options) for split in ordered}


def _open_files(split: str, files, streaming: bool, options: dict) -> Dataset | IterableDataset:
    if isinstance(files, (Dataset, IterableDataset)):
        return files
    paths = [str(files)] if isinstance(files, (str, os.PathLike)) else [str(file) for file in files]
    suffixes = {_suffix(Path(path)) for path in paths}
    if len(suffixes) != 1 or not suffixes <= set(BUILDERS):
        raise ValueError(
            f"Files of split `{split}` must all be of one kind ({ACCEPTED_FILES}), got {', '.join(paths)}."
        )
    for path in paths:
        if "://" not in path and "*" not in path and not Path(path).expanduser().is_file():
            raise ValueError(f'The file "{path}" of split `{split}` does not exist.')
    suffix = suffixes.pop()
    if BUILDERS[suffix] == "csv":
        # "None" or "NA" can be a reply; an empty cell is still found, as an empty text
        options = {"keep_default_na": False, "sep": "\t" if suffix == ".tsv" else ",", **options}
    paths = [path if "://" in path else str(Path(path).expanduser()) for path in paths]
    files = {"data_files": {"train": paths}, "split": "train"}
    try:
        return load_dataset(BUILDERS[suffix], **files, streaming=streaming, **options)
    except (DatasetGenerationError, pa.ArrowInvalid) as error:
        cause = error.__cause__ or error
        raise ValueError(f"{', '.join(paths)} cannot be read as {suffix[1:]}: {cause}") from error
    except (StopIteration, ValueError) as error:  # what the readers of JSON and CSV make of a file without rows
        if isinstance(error, ValueError) and "no data" not in str(error):
            raise
        raise ValueError(f"Split `{split}` has no rows ({', '.join(paths)}).") from error


def _split_name(match: re.Match) -> str:
    return ALIASES.get(match[1], match[1]) + (match[2] or "")


def _suffix(path: Path) -> str:
    suffixes = path.suffixes
    return suffixes[-2] if len(suffixes) > 1 and suffixes[-1] in (".gz", ".zst", ".xz", ".bz2") else path.suffix
