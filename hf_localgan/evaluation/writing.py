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
        content: of the JSON file; `plain` converts it.
        markdown: content of the Markdown file.

    Returns:
        The paths of both files.
    """
    files = [Path(folder) / name for name in names]
    text = json.dumps(plain(content), indent=2, ensure_ascii=False, allow_nan=False) + "\n"
    for file, lines in zip(files, (text, markdown), strict=True):
        with replacing(file) as path:
            path.write_text(lines, encoding="utf-8")
    return files


def plain(value: Any) -> Any:
    """The value for JSON: dataclasses and named tuples become dicts, arrays lists, NaN and infinity null."""
    if hasattr(value, "_asdict"):
        value = value._asdict()
    elif is_dataclass(value) and not isinstance(value, type):
        value = asdict(value)
    if isinstance(value, dict):
        return {str(key): plain(item) for key, item in value.items()}
    if isinstance(value, (list, tuple, np.ndarray)):
        return [plain(item) for item in value]
    value = value.item() if isinstance(value, np.generic) else value
    return None if isinstance(value, float) and not math.isfinite(value) else value
