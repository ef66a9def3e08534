"""Reads columns of parquet files, whatever signs stand in their paths.

The builder of `datasets` takes `::` in a path for a chain of addresses once anything was streamed in the process, and
leaves what damaged files raise as it comes.
"""

import os
from collections.abc import Iterator
from dataclasses import dataclass

import datasets
import pyarrow as pa
import pyarrow.parquet as pq
from datasets import Dataset, Features, IterableDataset
from datasets.builder import Key
from datasets.data_files import DataFilesDict, DataFilesList
from datasets.exceptions import DatasetGenerationError
from datasets.table import table_cast

from hf_localgan.data.rows import beginning
from hf_localgan.data.text_files import BATCH, as_value_error, file_stamp

BUFFER = 2**20  # bytes
READER = "1"  # raise it when the rows that are read change, so that no older cache is used for them


@dataclass
class ParquetFilesConfig(datasets.BuilderConfig):
    """The columns that are read, with their types in the first file."""

    columns: tuple[str, ...] = ()
    features: Features | None = None


class ParquetFiles(datasets.ArrowBasedBuilder):
    """Rows of some columns, in the order of the files."""

    BUILDER_CONFIG_CLASS = ParquetFilesConfig

    def _info(self):
        return datasets.DatasetInfo(features=self.config.features)

    def _split_generators(self, dl_manager):
        files = {split: list(paths) for split, paths in self.config.data_files.items()}
        return [datasets.SplitGenerator(name=split, gen_kwargs={"paths": paths}) for split, paths in files.items()]

    def _generate_shards(self, paths):
        yield from paths

    def _generate_tables(self, paths):
        for shard, path in enumerate(paths):
            for number, table in enumerate(_tables(path, self.config.columns, self.config.features)):
                yield Key(shard, number), table


def _tables(path: str, columns: tuple[str, ...], features: Features) -> Iterator[pa.Table]:
    try:
        rows = 0
        # read piece by piece: a group of rows may be the whole file
        with pq.ParquetFile(path, buffer_size=BUFFER, pre_buffer=False) as file:
            for batch in file.iter_batches(BATCH, columns=list(columns)):
                rows += len(batch)
                table = pa.Table.from_batches([batch])
                table.validate(full=True)  # bytes of texts, too
                yield _cast(path, _decoded(table), features)
            if rows != file.metadata.num_rows:
                raise OSError(f"it names {file.metadata.num_rows:,} rows and has {rows:,}")
    except _OtherTypes:
        raise
    except (OSError, pa.ArrowException, TypeError, ValueError) as error:
        raise damaged(path, error) from error


class _OtherTypes(ValueError):
    """A file that is whole, with other types of columns than the first one has."""


def _cast(path: str, table: pa.Table, features: Features) -> pa.Table:
    try:
        return table_cast(table, features.arrow_schema)
    except (pa.ArrowException, TypeError, ValueError) as error:
        own, first = (
            ", ".join(f"`{field.name}` {field.type}" for field in t) for t in (table.schema, features.arrow_schema)
        )
        raise _OtherTypes(
            f"The files of one split must hold columns of the same types; {path} has {own}, the first file {first}."
        ) from error


def _decoded(table: pa.Table) -> pa.Table:
    """Columns of repeated values, as tables of pandas have them, as the values."""
    for index, column in enumerate(table.schema):
        if pa.types.is_dictionary(column.type):
            table = table.set_column(index, column.name, table[index].cast(column.type.value_type))
    return table


def damaged(path: str, error: Exception) -> ValueError:
    """The error for a file that cannot be read."""
    if os.path.isfile(path):
        with open(path, "rb") as opened:
            nature = beginning(opened.read(32))
        if nature is not None and not nature.startswith("parquet"):
            return ValueError(f'"{path}" is no parquet file: it is {nature}.')
    return ValueError(f"{path} cannot be read as parquet: {str(error).rstrip('.')}. It is damaged, or cut off.")


def read_parquet_files(
    paths: list[str], columns: list[str], streaming: bool, options: dict
) -> Dataset | IterableDataset:
    """Some columns of local files, one after another.

    Args:
        paths: files of one split.
        columns: what is read.
        streaming: read when they are asked for.
        options: `cache_dir`, `download_mode`, `keep_in_memory` and `num_proc` of `datasets.load_dataset`.

    Raises:
        ValueError: for files that cannot be read.
    """
    try:
        schema = pq.read_schema(paths[0])
        empty = _decoded(pa.schema([schema.field(name) for name in columns]).empty_table())
    except (OSError, pa.ArrowException, ValueError) as error:  # a name that is no text, too
        raise damaged(paths[0], error) from error
    try:
        features = Features.from_arrow_schema(empty.schema)
    except ValueError as error:  # such as a map
        types = ", ".join(f"`{field.name}` {field.type}" for field in empty.schema)
        raise ValueError(f"{paths[0]} holds columns of a type that cannot be read as text: {types}.") from error
    builder = ParquetFiles(
        cache_dir=options.get("cache_dir"), dataset_name="parquet_files", hash=READER, columns=tuple(columns),
        features=features, writer_batch_size=BATCH,
        data_files=DataFilesDict({"train": DataFilesList(paths, list(map(file_stamp, paths)))}),
    )  # fmt: skip
    if streaming:
        return builder.as_streaming_dataset(split="train")
    try:
        builder.download_and_prepare(
            download_mode=options.get("download_mode"), num_proc=options.get("num_proc"), verification_mode="no_checks"
        )
    except DatasetGenerationError as error:
        raise as_value_error(error, paths) from error
    return builder.as_dataset(split="train", in_memory=options.get("keep_in_memory") or False)
