"""Finding the splits of a data set: on the Hub, in a folder, in files, or in memory."""

import glob
import os
import re
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TypeAlias

import datasets
import pyarrow as pa
import pyarrow.parquet as pq
from datasets import Dataset, DatasetDict, IterableDataset, IterableDatasetDict, load_dataset, load_from_disk

from hf_localgan.data.columns import column_path
from hf_localgan.data.json_rows import JSON_SETTINGS
from hf_localgan.data.parquet_files import damaged, read_parquet_files
from hf_localgan.data.smalltalk import smalltalk_files
from hf_localgan.data.table_rows import TABLE_SETTINGS
from hf_localgan.data.text_files import read_text_files
from hf_localgan.files import missing_path

SUFFIXES = (".parquet", ".jsonl", ".json", ".csv", ".tsv")
PACKED = (".gz", ".zst", ".xz", ".bz2")
ACCEPTED_FILES = "parquet, jsonl, json, csv or tsv, the last four also as .gz, .bz2, .xz or .zst"
ALIASES = {"training": "train", "valid": "validation", "val": "validation", "dev": "validation", "testing": "test"}
SHARD = r"-(?P<shard>\d{1,6})-of-(?P<shards>\d{1,6})(?:-[0-9a-zA-Z]+)?"
SPLIT_NAME = re.compile(
    rf"(?P<split>training|train|validation|valid|val|dev|testing|test)(?P<more>[_-]\w+?)?(?:{SHARD})?", re.IGNORECASE
)
DESCRIPTIONS = ("dataset_infos.json", "dataset_info.json")  # of data sets, which some folders of the Hub hold
FILE_OPTIONS = ("cache_dir", "download_mode", "keep_in_memory", "num_proc")
Source: TypeAlias = str | os.PathLike | Mapping[str, Any] | Dataset | IterableDataset
FindColumns = Callable[[str, Sequence[str]], tuple[str, ...]]  # the columns of a split that are read, among its names


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
    source: Source,
    find: FindColumns,
    name: str | None = None,
    *,
    streaming: bool = False,
    revision: str | None = None,
    **options: Any,
) -> dict[str, Dataset | IterableDataset]:
    """The splits of `source` by name.

    Args:
        source: as in `load_pairs`.
        find: returns the columns of a split that are read, given all its names.
        name, streaming, revision, options: as in `load_pairs`.

    Returns:
        Data sets with the columns they have; of text files with those of `text_files.FEATURES`.
    """
    if isinstance(source, str) and source == "smalltalk":
        source = smalltalk_files()
    if not isinstance(source, (Dataset, IterableDataset)) and not source:
        raise ValueError(f"`source` must name or hold data, got {source!r}, which is empty.")
    path = _path(source)
    is_local = path is None or path.exists()
    if is_local and revision is not None:
        raise ValueError(f"`revision` is for data sets of the Hub; {_source_name(source)} has none, got {revision!r}.")
    if is_local and name is not None and (path is None or not path.is_dir()):
        raise ValueError(
            f"`name` is a configuration of a Hub data set or a folder; {_source_name(source)} has none, got {name!r}."
        )
    if isinstance(source, (Dataset, IterableDataset, DatasetDict, IterableDatasetDict)):
        if options:
            raise ValueError(
                f"Options are for files and the Hub; {_source_name(source)} is read as it is, got "
                f"{', '.join(f'`{option}`' for option in options)}."
            )
        return dict(source) if isinstance(source, Mapping) else {"train": source}
    if isinstance(source, Mapping):
        return {split: _open_files(split, files, find, streaming, options) for split, files in source.items()}
    if path is None:
        raise ValueError(
            f"`source` must be a name, a path, a dict of files or datasets, or a Dataset, got {type(source).__name__}."
        )
    if path.is_file():
        match = _split_match(path)
        return {split: _open_files(split, path, find, streaming, options) for split in [_split_name(match)]}
    if path.is_dir():
        return _open_folder(path, name, find, streaming, options)
    if (
        not isinstance(source, str)
        or not re.fullmatch(r"[\w-][\w.-]*(/[\w-][\w.-]*)?", source)
        or path.suffix.lower() in SUFFIXES
    ):
        raise ValueError(f'There is no file or folder "{source}", and it is not the form of a Hub dataset id.')
    problem = missing_path(source)
    if problem is not None:
        raise ValueError(problem)
    loaded = load_dataset(source, name, revision=revision, streaming=streaming, **options)
    return dict(loaded) if isinstance(loaded, (DatasetDict, IterableDatasetDict)) else {"train": loaded}


def _path(source: Source) -> Path | None:
    return Path(source).expanduser() if isinstance(source, (str, os.PathLike)) else None


def _source_name(source: Source) -> str:
    return f'"{source}"' if isinstance(source, (str, os.PathLike)) else f"a {type(source).__name__}"


# Folders


def _open_folder(folder: Path, name: str | None, find: FindColumns, streaming: bool, options: dict):
    inside = {path.name: path for place in (folder, folder / "data") for path in _folders(place)}
    configurations = {name: path for name, path in inside.items() if not _split_match(path) and _split_files(path)}
    if name is not None:
        if name not in configurations:
            names = ", ".join(sorted(configurations)) or "none"
            raise ValueError(f'The folder "{folder}" has no configuration, a folder inside, `{name}` (found: {names}).')
        folder = configurations[name]
    for file, loads in (("dataset_dict.json", dict), ("state.json", lambda data: {"train": data})):
        if (folder / file).is_file():
            if options:
                raise ValueError(
                    f'"{folder}" was written by `save_to_disk` and takes no options, got '
                    f"{', '.join(f'`{option}`' for option in options)}."
                )
            return loads(_load_from_disk(folder))
    files = _split_files(folder)
    if not files:
        if configurations:
            first, names = min(configurations), ", ".join(sorted(configurations))
            raise ValueError(
                f'The folder "{folder}" has a folder for each of several configurations: {names}. Say which by '
                f'name="{first}", on the command line by `--dataset_config {first}`.'
            )
        names = ", ".join(sorted(path.name for path in folder.iterdir())[:10]) or "nothing"
        raise ValueError(
            f'The folder "{folder}" has no train, validation or test file (found: {names}). Accepted are names such as '
            f"train.jsonl, validation.parquet or test_multi.csv ({ACCEPTED_FILES}), in the folder, in `data` or in a "
            "folder of the split's name; for other names pass a dict of split to file, such as "
            '{"train": "my-file.csv"}.'
        )
    for split, paths in files.items():
        _check_shards(folder, split, paths)
    _warn_of_others(folder, {path.parent for paths in files.values() for path in paths})
    ordered = sorted(
        files, key=lambda split: (["train", "validation", "test"].index(split.split("_")[0].split("-")[0]), split)
    )
    return {split: _open_files(split, files[split], find, streaming, options) for split in ordered}


def _warn_of_others(folder: Path, places: set[Path]):
    """Tells of data files beside those of the splits, for one of them may be meant."""
    beside = places & {folder, folder / "data"}
    others = sorted(
        str(path.relative_to(folder))
        for place in beside
        for path in place.iterdir()
        if path.is_file() and _suffix(path) in SUFFIXES and not _split_match(path) and path.name not in DESCRIPTIONS
    )
    if others:
        shown = ", ".join(others[:5]) + (", ..." if len(others) > 5 else "")
        warnings.warn(
            f'"{folder}" also holds {shown}, left out: such a name says no split. Names begin with train, validation '
            "(valid, val, dev) or test; for other names pass a dict of split to file.",
            stacklevel=2,
        )


def _load_from_disk(folder: Path):
    try:
        return load_from_disk(str(folder))
    except (OSError, ValueError, KeyError, TypeError, pa.ArrowException) as error:
        raise ValueError(f'"{folder}" cannot be read as what `save_to_disk` writes: {error}.') from error


def _folders(place: Path) -> list[Path]:
    return sorted(path for path in place.iterdir() if path.is_dir()) if place.is_dir() else []


def _split_files(folder: Path) -> dict[str, list[Path]]:
    """Files by split: named for it, or inside a folder that is; in the folder or, as a clone of the Hub, in `data`."""
    splits: dict[str, list[Path]] = {}
    for place in (folder, folder / "data"):
        for path in sorted(place.iterdir()) if place.is_dir() and not splits else ():
            match = _split_match(path)
            if match and path.is_file() and _suffix(path) in SUFFIXES:
                splits.setdefault(_split_name(match), []).append(path)
            elif match and path.is_dir():
                files = [file for file in sorted(path.iterdir()) if file.is_file() and _suffix(file) in SUFFIXES]
                splits.setdefault(_split_name(match), []).extend(files)
        splits = {split: paths for split, paths in splits.items() if paths}
    return splits


def _check_shards(folder: Path, split: str, paths: list[Path]):
    """Refuses files of one split that are not the shards of one set, all of them."""
    inside = {path.parent for path in paths}
    if len(inside) == 1 and not _split_match(paths[0]):
        return  # the files of a folder that is named for the split
    matches = [_split_match(path) for path in paths]
    numbers = {match["shards"] if match else None for match in matches}
    if len(paths) == 1 and numbers == {None}:
        return
    if len(inside) > 1 or None in numbers or len(numbers) > 1 or len({_suffix(path) for path in paths}) > 1:
        raise ValueError(
            f'Several files in "{folder}" are named for the split `{split}`: '
            f"{', '.join(sorted(str(path.relative_to(folder)) for path in paths))}. Pass a dict of split to file to "
            "say which is meant."
        )
    shards = [int(match["shard"]) for match in matches if match]
    [count] = [int(number) for number in numbers if number]
    missing = [str(shard) for shard in range(count) if shard not in shards]
    if missing or len(shards) != count:
        raise ValueError(
            f'Split `{split}` in "{folder}" must have one file for each of {count} shards, numbered from 0; found: '
            f"{', '.join(path.name for path in paths)}; missing: {', '.join(missing) or 'none'}."
        )


def _split_match(path: Path) -> re.Match | None:
    return SPLIT_NAME.fullmatch(path.name.split(".")[0])


def _split_name(match: re.Match | None) -> str:
    if match is None:
        return "train"
    split = match["split"].lower()
    return ALIASES.get(split, split) + (match["more"] or "")


# Files


def _open_files(split: str, files: Any, find: FindColumns, streaming: bool, options: dict) -> Dataset | IterableDataset:
    if isinstance(files, (Dataset, IterableDataset)):
        return files
    listed = [files] if isinstance(files, (str, os.PathLike)) else files
    if not isinstance(listed, Sequence) or not all(isinstance(file, (str, os.PathLike)) for file in listed):
        raise ValueError(
            f"The value of split `{split}` must be a file, a list of files or a data set, got {files!r:.80} "
            f"({type(files).__name__})."
        )
    processes = options.get("num_proc")
    if processes is not None and (isinstance(processes, bool) or not isinstance(processes, int) or processes < 1):
        raise ValueError(f"`num_proc` must be a whole number of at least 1 or None, got {processes!r}.")
    paths = [path for file in listed for path in _existing_files(split, str(file))]
    suffixes = {_suffix(Path(path)) for path in paths}
    if len(suffixes) != 1 or not suffixes <= set(SUFFIXES):
        raise ValueError(
            f"Files of split `{split}` must all be of one format ({ACCEPTED_FILES}), got {', '.join(paths) or 'none'}."
        )
    suffix = suffixes.pop()
    if suffix == ".parquet":
        data = _open_parquet(split, paths, find, streaming, options)
    else:
        names = {*TABLE_SETTINGS, *JSON_SETTINGS}
        settings = {name: value for name, value in options.items() if name in names and value is not None}
        further = {name: value for name, value in options.items() if name not in names}
        data = read_text_files(
            paths, suffix, settings, lambda names: find(split, names), streaming=streaming, **further
        )
    if data is None:
        raise ValueError(f"Split `{split}` has no rows ({', '.join(paths)}).")
    return data


def _existing_files(split: str, file: str) -> list[str]:
    """The files that a path names: the one of this very name, or those that a pattern fits."""
    if "://" in file:
        return [file]
    path = Path(file).expanduser()
    if path.is_file():
        return [str(path.absolute())]
    matches = sorted(name for name in glob.glob(str(path)) if Path(name).is_file()) if glob.has_magic(file) else []
    if not matches:
        raise ValueError(f'The file "{file}" of split `{split}` does not exist.')
    return [str(Path(name).absolute()) for name in matches]


def _open_parquet(split: str, paths: list[str], find: FindColumns, streaming: bool, options: dict):
    unknown = sorted({*options} - {*FILE_OPTIONS})
    if unknown:
        raise ValueError(
            f"Options that are not known for parquet files: {', '.join(f'`{name}`' for name in unknown)}. Accepted are "
            f"{', '.join(FILE_OPTIONS)}."
        )
    columns, rows = None, 0
    for path in paths:
        if "://" in path:
            continue
        try:
            with pq.ParquetFile(path) as file:
                names, rows = file.schema_arrow.names, rows + file.metadata.num_rows
        except (OSError, pa.ArrowException, ValueError) as error:
            raise damaged(path, error) from error
        read = sorted({column_path(names, name)[0] for name in find(split, names)})
        if columns is not None and read != columns:
            raise ValueError(f"The files of split `{split}` must hold the same columns, got {columns} and {read}.")
        columns = read
    if columns is not None and not rows:
        return None
    if columns is None:  # at an address
        return load_dataset("parquet", data_files={"train": paths}, split="train", streaming=streaming, **options)
    return read_parquet_files(paths, columns, streaming, options)


def _suffix(path: Path) -> str:
    suffixes = [suffix.lower() for suffix in path.suffixes]
    return suffixes[-2] if len(suffixes) > 1 and suffixes[-1] in PACKED else path.suffix.lower()
