"""Utterances: sound with its transcript, one contract of columns for every source, checked where the data comes in."""

import os
import warnings
import zlib
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from functools import partial
from pathlib import Path
from typing import Any, Literal

import numpy as np
from datasets import Audio, Dataset, Features, IterableDataset, Value, load_dataset
from datasets import Sequence as ListOf
from datasets.exceptions import DatasetGenerationError

from hf_localgan.data.audio import SILENT, read_audio
from hf_localgan.data.sources import ALIASES, Source, open_splits

SPLITS = ("train", "validation", "test")
TABLES = {".csv": "csv", ".jsonl": "json", ".parquet": "parquet"}  # that name sound files, and their readers
ROLES = ("audio", "text", "phones", "speaker", "id", "sampling_rate")
# Problems of an utterance; the first one that it has is counted.
PROBLEMS = (
    "missing file",
    "unreadable sound",
    "another sampling rate than stated",
    "silence",
    "too short",
    "too long",
    "no transcript",
)
ADVICE = {
    "missing file": "Put the files where the paths point, or give `root`.",
    "another sampling rate than stated": "Correct the `sampling_rate` column, or leave it out.",
    "too long": "Raise `max_seconds`, or cut the recordings.",
}
UTTERANCES = Features(
    {
        "id": Value("string"),
        "audio": {"bytes": Value("binary"), "path": Value("string")},
        "text": Value("string"),
        "phones": ListOf(Value("string")),
        "speaker": Value("string"),
        "seconds": Value("float32"),
        "draw_key": Value("int64"),
        "problem": Value("string"),
        "detail": Value("string"),
    }
)


@dataclass
class SpeechSplit:
    """Counts of one split: rows read, utterances kept, hours, speakers, and how many each problem took out."""

    rows: int
    utterances: int
    hours: float
    speakers: int
    removed: dict[str, int] = field(default_factory=dict)


@dataclass
class SpeechReport:
    """What `load_speech` read, kept and left out."""

    splits: dict[str, SpeechSplit]

    def as_dict(self) -> dict[str, Any]:
        """Plain numbers and names, for a JSON file."""
        return asdict(self)

    def __str__(self) -> str:
        lines = []
        for name, split in self.splits.items():
            removed = "".join(f", {count:,} left out: {problem}" for problem, count in split.removed.items())
            lines.append(
                f"{name}: {split.utterances:,} utterances of {split.rows:,}, {60 * split.hours:.1f} minutes, "
                f"{split.speakers:,} speakers{removed}"
            )
        return "\n".join(lines)


class Speech(Mapping):
    """Utterances by split: rows of `id`, `audio`, `text`, `phones`, `speaker`, `seconds` and `draw_key`.

    Attributes:
        report (`SpeechReport`): what was read, kept and left out.
    """

    def __init__(self, splits: dict[str, Dataset], report: SpeechReport):
        self._splits, self.report = splits, report

    def __getitem__(self, split: str) -> Dataset:
        if split not in self._splits:
            raise ValueError(f"There is no split `{split}` (found: {', '.join(f'`{name}`' for name in self._splits)}).")
        return self._splits[split]

    def __iter__(self) -> Iterator[str]:
        return iter(self._splits)

    def __len__(self) -> int:
        return len(self._splits)

    def __repr__(self) -> str:
        return f"Speech({', '.join(f'{name}: {len(rows):,}' for name, rows in self._splits.items())})"


def load_speech(
    source: Source,
    name: str | None = None,
    *,
    columns: Mapping[str, str] | None = None,
    splits: Sequence[str] | Mapping[str, str] | None = None,
    sampling_rate: int = 16_000,
    min_seconds: float = 0.1,
    max_seconds: float = 30.0,
    root: str | os.PathLike | None = None,
    on_bad: Literal["error", "drop"] = "error",
    revision: str | None = None,
    **options: Any,
) -> Speech:
    """Reads utterances and checks every one: its sound is decoded once, whatever its format.

    Args:
        source: the id of a data set on the Hub, a folder with files named for their splits (`train.parquet`, ...), one
            file, a folder of sound files with a `metadata.csv` or `metadata.jsonl` (`file_name` and transcripts) in it
            or in a folder of it for each split, a dict of split to file, or a `DatasetDict` or `Dataset`.
        name: configuration of a Hub data set.
        columns: the column of each role, such as `{"audio": "file", "text": "sentence"}`. By default `audio`, `text`,
            `phones`, `speaker`, `id` and `sampling_rate`; only `audio` and one of `text` and `phones` are needed.
            `audio` holds paths, bytes, or both as data sets of sound do; `phones` a list or a text with spaces.
        splits: which splits to take, or a mapping of their new names to their names in the source. By default all.
        sampling_rate: in Hz, what `encode_speech` will resample to; a shorter sound is judged by its own rate.
        min_seconds, max_seconds: shorter and longer utterances are bad.
        root: folder that relative paths begin at; by default that of `source`, where it is a folder or a file.
        on_bad: an utterance with a problem (see `PROBLEMS`) is an error, or is left out with a counted warning.
        revision: branch, tag or commit of a Hub data set.
        options: further arguments of `datasets.load_dataset`.

    Returns:
        The splits. `draw_key` is a check sum of the sound as it lies in the source: draws of RAML are keyed by it, so
        that no augmentation changes them.

    Raises:
        ValueError: for missing columns, bad utterances where they are an error, and a split without any utterance.
        ImportError: without soundfile.
    """
    if on_bad not in ("error", "drop"):
        raise ValueError(f'`on_bad` must be "error" or "drop", got {on_bad!r}.')
    if not 0 <= min_seconds < max_seconds:
        raise ValueError(f"`min_seconds` must be below `max_seconds`, got {min_seconds} and {max_seconds}.")
    opened = _chosen(_open(source, name, revision, options), splits)
    if root is None and isinstance(source, (str, os.PathLike)) and Path(source).expanduser().exists():
        path = Path(source).expanduser()
        root = path if path.is_dir() else path.parent
    kept, report = {}, SpeechReport({})
    for split, rows in opened.items():
        if isinstance(rows, IterableDataset):
            raise ValueError(f"Split `{split}` is streamed; speech is read whole. Leave out `streaming`.")
        roles = _roles(split, rows, columns)
        rows = _undecoded(rows, roles["audio"])
        read = partial(
            _read_utterance, roles=roles, root=None if root is None else str(root), limits=(min_seconds, max_seconds)
        )
        utterances = rows.map(
            read, with_indices=True, remove_columns=rows.column_names, features=UTTERANCES, desc=f"Reading {split}"
        )
        kept[split], report.splits[split] = _judge(split, utterances, on_bad)
    return Speech(kept, report)


def _open(
    source: Source, name: str | None, revision: str | None, options: Mapping[str, Any]
) -> dict[str, Dataset | IterableDataset]:
    path = Path(source).expanduser() if isinstance(source, (str, os.PathLike)) else None
    tables = _metadata(path) if path is not None and path.is_dir() else {}
    if not tables:
        texts = _text_tables(source, path)
        if texts:
            return {split: _read_table(table, options) for split, table in texts.items()}
        return open_splits(source, _all_columns, name, revision=revision, **options)
    opened: dict[str, Dataset | IterableDataset] = {}
    for split, table in tables.items():
        rows = _read_table(table, options)
        if "file_name" not in rows.column_names:
            raise ValueError(
                f'"{table}" has no column `file_name` (found: '
                f"{', '.join(f'`{column}`' for column in rows.column_names)}), which says where the sound lies."
            )
        paths = [str(table.parent / file) for file in rows["file_name"]]
        opened[split] = rows.remove_columns("file_name").add_column("audio", paths)
    return opened


def _all_columns(split: str, names: Sequence[str]) -> tuple[str, ...]:
    return tuple(names)


def _text_tables(source: Source, path: Path | None) -> dict[str, Path]:
    """By split, files of CSV or JSON lines, which name sound files: one file, those of a folder, or a dict of them."""
    if isinstance(source, Mapping) and all(isinstance(file, (str, os.PathLike)) for file in source.values()):
        named = {split: Path(file).expanduser() for split, file in source.items()}
    elif path is not None and path.is_file():
        named = {path.stem: path}
    else:
        named = {file.stem: file for file in sorted(path.iterdir())} if path is not None and path.is_dir() else {}
        named = {stem: file for stem, file in named.items() if ALIASES.get(stem, stem) in SPLITS}
    named = {split: file for split, file in named.items() if file.suffix in (".csv", ".jsonl") and file.is_file()}
    tables = {ALIASES.get(split, split): file for split, file in named.items()}
    if path is not None and path.is_file():
        return {split if split in SPLITS else "train": file for split, file in tables.items()}
    return tables


def _read_table(table: Path, options: Mapping[str, Any]) -> Dataset:
    try:
        return load_dataset(TABLES[table.suffix], data_files={"train": [str(table)]}, split="train", **options)
    except (DatasetGenerationError, ValueError) as error:
        raise ValueError(f'"{table}" cannot be read as {table.suffix[1:]}: {error.__cause__ or error}.') from error


def _metadata(folder: Path) -> dict[str, Path]:
    """By split, the table that lies among sound files: `metadata.csv` in the folder, or in one for each split."""
    places = {"train": folder} | {path.name: path for path in sorted(folder.iterdir()) if path.is_dir()}
    tables = {}
    for split, place in places.items():
        candidates = [place / f"metadata{ending}" for ending in TABLES]
        table = next((table for table in candidates if table.is_file()), None)
        if table is not None:
            tables[ALIASES.get(split, split)] = table
    return tables


def _chosen(
    opened: dict[str, Dataset | IterableDataset], splits: Sequence[str] | Mapping[str, str] | None
) -> dict[str, Dataset | IterableDataset]:
    if splits is None:
        return opened
    names = dict(splits) if isinstance(splits, Mapping) else {split: split for split in splits}
    missing = sorted(set(names.values()) - set(opened))
    if missing:
        raise ValueError(
            f"There is no split {', '.join(f'`{split}`' for split in missing)} (found: "
            f"{', '.join(f'`{split}`' for split in opened)})."
        )
    return {new: opened[old] for new, old in names.items()}


def _roles(split: str, rows: Dataset, columns: Mapping[str, str] | None) -> dict[str, str]:
    """The column of each role; roles without a column are left out."""
    columns = dict(columns or {})
    unknown = sorted(set(columns) - set(ROLES))
    if unknown:
        raise ValueError(f"`columns` knows {', '.join(ROLES)}, got {', '.join(unknown)}.")
    names = ", ".join(f"`{name}`" for name in rows.column_names)
    for role, column in columns.items():
        if column not in rows.column_names:
            raise ValueError(f"Split `{split}` has no column `{column}` for `{role}` (found: {names}).")
    roles = {role: columns.get(role, role) for role in ROLES}
    roles = {role: column for role, column in roles.items() if column in rows.column_names}
    if "audio" not in roles:
        raise ValueError(
            f"Split `{split}` has no `audio` column (found: {names}). Name it by `columns`, such as "
            'columns={"audio": "file"}.'
        )
    if not {"text", "phones"} & set(roles):
        raise ValueError(
            f"Split `{split}` has sound but neither `text` nor `phones` (found: {names}). Name the transcript by "
            '`columns`, such as columns={"text": "sentence"}.'
        )
    return roles


def _undecoded(rows: Dataset, audio: str) -> Dataset:
    """The rows with sound as bytes and path, whatever decodes it elsewhere."""
    return rows.cast_column(audio, Audio(decode=False)) if isinstance(rows.features[audio], Audio) else rows


def _read_utterance(
    row: Mapping[str, Any], index: int, *, roles: Mapping[str, str], root: str | None, limits: tuple[float, float]
) -> dict[str, Any]:
    """One utterance in the package's columns, with its problem, if it has one."""
    value = {role: row[column] for role, column in roles.items()}
    phones = value.get("phones")
    phones = phones.split() if isinstance(phones, str) else list(phones or [])
    text = value.get("text")
    name = value.get("id")
    utterance = {
        "id": str(index if name is None else name), "audio": {"bytes": None, "path": None}, "text": text,
        "phones": phones, "speaker": None if value.get("speaker") is None else str(value["speaker"]), "seconds": 0.0,
        "draw_key": 0, "problem": None, "detail": None,
    }  # fmt: skip
    try:
        content = _content(value["audio"], root)
        samples, rate = read_audio(content)
    except FileNotFoundError as error:
        return {**utterance, "problem": "missing file", "detail": str(error)}
    except ValueError as error:
        return {**utterance, "problem": "unreadable sound", "detail": str(error)}
    seconds = len(samples) / rate
    utterance |= {"audio": content, "draw_key": zlib.crc32(content["bytes"]), "seconds": seconds}
    stated, peak = value.get("sampling_rate"), float(np.abs(samples).max(initial=0.0))
    detail = {
        "another sampling rate than stated": (
            stated is not None and int(stated) != rate, f"{stated} Hz stated, {rate} Hz in the sound"
        ),
        "silence": (peak < SILENT, f"peak {peak:.1e}"),
        "too short": (seconds < limits[0], f"{seconds:.2f} s, at least {limits[0]:g} s"),
        "too long": (seconds > limits[1], f"{seconds:.1f} s, at most {limits[1]:g} s"),
        "no transcript": (not phones and not (text or "").strip(), "neither text nor phones"),
    }  # fmt: skip
    problem = next((name for name in PROBLEMS if detail.get(name, (False,))[0]), None)
    return {**utterance, "problem": problem, "detail": None if problem is None else detail[problem][1]}


def _content(audio: Any, root: str | None) -> dict[str, Any]:
    """The whole file as bytes, and its path; arrays become the bytes of a WAV file."""
    if isinstance(audio, Mapping) and audio.get("array") is not None:
        import io

        from hf_localgan.data.audio import require_soundfile

        samples, rate = read_audio(audio)
        file = io.BytesIO()
        require_soundfile().write(file, samples, rate, format="WAV", subtype="FLOAT")
        return {"bytes": file.getvalue(), "path": audio.get("path")}
    if isinstance(audio, Mapping):
        content, path = audio.get("bytes"), audio.get("path")
    else:
        content, path = (audio, None) if isinstance(audio, bytes) else (None, audio)
    if content is None:
        if path is None:
            raise ValueError("the cell is empty")
        place = Path(path).expanduser()
        place = place if place.is_absolute() or root is None else Path(root) / place
        if not place.is_file():
            raise FileNotFoundError(f'There is no sound file "{place}".')
        content = place.read_bytes()
    return {"bytes": content, "path": path}


def _judge(split: str, utterances: Dataset, on_bad: str) -> tuple[Dataset, SpeechSplit]:
    problems = utterances["problem"][:]
    bad = [index for index, problem in enumerate(problems) if problem is not None]
    counts = Counter(problem for problem in problems if problem is not None)
    if bad:
        faults = "; ".join(_described(problem, utterances, problems) for problem in PROBLEMS if counts[problem])
        message = f"Split `{split}`: {faults}. Rows are counted from 0."
        if on_bad == "error":
            advice = " ".join(ADVICE[problem] for problem in PROBLEMS if counts[problem] and problem in ADVICE)
            raise ValueError(f'{message} {advice}{" " * bool(advice)}on_bad="drop" leaves these utterances out.')
        warnings.warn(f"{message} They are left out.", stacklevel=3)
        utterances = utterances.select([index for index, problem in enumerate(problems) if problem is None])
    kept = utterances.remove_columns(["problem", "detail"])
    if not len(kept):
        raise ValueError(f"Split `{split}` has no utterance left of {len(problems):,}.")
    speakers = {speaker for speaker in kept["speaker"] if speaker is not None}
    hours = float(np.sum(kept["seconds"][:])) / 3600
    removed = {problem: counts[problem] for problem in PROBLEMS if counts[problem]}
    return kept, SpeechSplit(len(problems), len(kept), hours, len(speakers), removed)


def _described(problem: str, utterances: Dataset, problems: Sequence[str | None]) -> str:
    rows = [index for index, name in enumerate(problems) if name == problem]
    first = ", ".join(f"row {index} ({utterances[index]['detail']})" for index in rows[:3])
    return f"{len(rows):,} with {problem}: {first}{', ...' if len(rows) > 3 else ''}"
