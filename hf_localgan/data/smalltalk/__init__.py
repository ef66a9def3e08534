"""The shipped corpus: English small talk with several natural responses to each query."""

from pathlib import Path


def smalltalk_files() -> dict[str, Path]:
    """Path of each split's JSON-lines file, whose rows are `query` (text) and `responses` (list of texts)."""
    folder = Path(__file__).parent
    return {split: folder / f"{split}.jsonl" for split in ("train", "validation", "test")}


def load_smalltalk(**options):
    """The corpus as a `DatasetDict` of `query` and `responses`, as written; `load_pairs("smalltalk")` gives pairs.

    `options` go to `datasets.load_dataset` (`streaming`, `cache_dir`, ...).
    """
    from datasets import load_dataset

    return load_dataset("json", data_files={split: str(path) for split, path in smalltalk_files().items()}, **options)
