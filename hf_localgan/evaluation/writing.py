"""The two files of every report: its numbers as JSON, its tables as Markdown."""

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, is_dataclass
from pathlib import Path
from typing import Any

import numpy as np

from hf_localgan.files import replacing


def write_report(folder: str | Path, names: Sequence[str], content: Mapping[str, Any], markdown: str) -> list[Path]:
    """Writes a report's JSON and its Markdown, each whole or not at all.

    Args:
        folder: made where it is missing; files of an earlier report are replaced.
        names: of the JSON file and of the Markdown file.
        content: for JSON, see `plain`.
        markdown: the tables.

    Returns:
        Both files.
    """
    files = [Path(folder) / name for name in names]
    text = json.dumps(plain(content), indent=2, ensure_ascii=False, allow_nan=False) + "\n"
    for file, written in zip(files, (text, markdown), strict=True):
        with replacing(file) as path:
            path.write_text(written, encoding="utf-8")
    return files


def plain(value):
    """The same for JSON, which knows no NaN, no infinity, no arrays and no tuples with names."""
    if hasattr(value, "_asdict"):
        value = value._asdict()
    elif is_dataclass(value):
        value = asdict(value)
    if isinstance(value, dict):
        return {str(key): plain(one) for key, one in value.items()}
    if isinstance(value, (list, tuple, np.ndarray)):
        return [plain(one) for one in value]
    value = value.item() if isinstance(value, np.generic) else value
    return None if isinstance(value, float) and not math.isfinite(value) else value
