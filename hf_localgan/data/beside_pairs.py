"""Files that are made of pairs once and kept beside them, in the cache that the pairs lie in."""

import hashlib
import json
from pathlib import Path

from datasets import Dataset, IterableDataset


def place_beside(pairs: Dataset | IterableDataset, name: str, *settings: object) -> Path | None:
    """The file beside cached pairs, named by the pairs and by all else that its content depends on.

    Args:
        pairs: what the file is made of.
        name: first part of the file's name, and its suffix, such as `vectors.parquet`.
        settings: what the content depends on, a version among it: anything that JSON can hold.

    Returns:
        The path, whether there is such a file or not; `None` for a stream, and for pairs that lie in no cache.
    """
    if isinstance(pairs, IterableDataset) or not pairs.cache_files:
        return None
    folder = Path(pairs.cache_files[0]["filename"]).parent
    if (folder / "state.json").is_file():  # what `save_to_disk` wrote: a folder of the user's, not a cache
        return None
    content = json.dumps([pairs._fingerprint, *settings])
    first = Path(name)
    return folder / f"{first.stem}-{hashlib.sha256(content.encode()).hexdigest()[:32]}{first.suffix}"
