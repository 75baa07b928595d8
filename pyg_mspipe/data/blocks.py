"""Files of events, read block by block."""

from __future__ import annotations

import glob
import re
import zipfile
import zlib
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
from pyarrow import csv, parquet

from pyg_mspipe.data.columns import Columns, has_header, match_columns
from pyg_mspipe.data.errors import StreamError
from pyg_mspipe.data.tables import SUFFIXES, Array, Table, form_of, odd_line_error, table_of
from pyg_mspipe.data.text_files import (
    TextForm,
    csv_options,
    pass_over,
    refuse_other_encodings,
    text_schema,
    text_source,
)

# What Arrow takes a column of text for, in the order in which it tries.
_KINDS: tuple[pa.DataType, ...] = (
    pa.null(),
    pa.int64(),
    pa.bool_(),
    pa.date32(),
    pa.time32("s"),
    pa.timestamp("s"),
    pa.timestamp("ns"),
    pa.float64(),
    pa.string(),
)
_NOT_OF_KIND = re.compile(r"In CSV column #(\d+)")
_UNREADABLE = (OSError, ValueError, EOFError, KeyError, RuntimeError, zipfile.BadZipFile, zlib.error)
_MOST_BLOCK = 16 << 20
_ROW_BYTES = 64


class OtherKindError(Exception):
    """A column of text is not of the kind that its first block shows; reading has to begin again."""


def input_files(inputs: Sequence[str | Path]) -> list[Path]:
    """Returns the files that paths, patterns and folders of Parquet files stand for, in their order.

    Raises:
        StreamError: If one stands for no file.
    """
    found: list[Path] = []
    for each in inputs:
        path = Path(each)
        if path.is_dir():
            files = sorted(file for file in path.rglob("*.parquet") if not file.name.startswith(("_", ".")))
        elif path.exists() or not glob.has_magic(str(each)):
            files = [path]
        else:
            files = sorted(map(Path, glob.glob(str(each), recursive=True)))  # noqa: PTH207 - of any anchor
        if not files:
            raise StreamError(f"{each} stands for no file; give files of {', '.join(SUFFIXES)}, or a folder of Parquet")
        found += files
    return found


class Reader:
    """Reads files of events block by block.

    Args:
        columns: The mapping that `load_stream` gets.
        separator: What it gets.
        texts: The fields whose columns are read as texts, where a file is one of text.
        rows: How many rows a block has at most.
    """

    def __init__(self, columns: Columns | None, separator: str | None, texts: Sequence[str], rows: int) -> None:
        self._columns, self._separator, self._texts, self._rows = columns, separator, texts, rows
        self._kinds: dict[Path, dict[str, pa.DataType]] = {}

    def blocks(self, path: Path) -> Iterator[tuple[Table, dict[str, list[str]]]]:
        """Yields the rows of a file, with the columns of each field.

        Raises:
            StreamError: If the file cannot be read or lacks a column.
            OtherKindError: If it has to be read again from its beginning.
        """
        form = form_of(path, self._separator, has_header(self._columns))
        if form is not None:
            yield from self._text(path, form)
        elif path.suffix == ".npz":
            yield from self._npz(path)
        else:
            yield from self._parquet(path)

    def _match(self, path: Path, table: Table) -> dict[str, list[str]]:
        return match_columns(path, self._columns or {}, table)

    def _parquet(self, path: Path) -> Iterator[tuple[Table, dict[str, list[str]]]]:
        first = 0
        try:
            with parquet.ParquetFile(path, buffer_size=1 << 20, pre_buffer=False) as file:
                every = list(file.schema_arrow.names)
                names = self._match(path, table_of(path, file.schema_arrow.empty_table(), None, None, every))
                wanted = list(dict.fromkeys(each for chosen in names.values() for each in chosen))
                for batch in file.iter_batches(self._rows, columns=wanted):
                    rows = pa.Table.from_batches([batch])
                    yield table_of(path, rows, None, None, every, first), names
                    first += len(rows)
        except (OSError, pa.ArrowException) as error:
            raise StreamError(f"{path} cannot be read ({_first_line(error)}); write the file again") from error

    def _text(self, path: Path, form: TextForm) -> Iterator[tuple[Table, dict[str, list[str]]]]:
        kinds = self._kinds.setdefault(path, {})
        parse: dict[str, Any] = {"newlines_in_values": form.separator != " ", "delimiter": form.separator}
        parse["invalid_row_handler"] = pass_over
        size = {"block_size": min(max(self._rows * _ROW_BYTES // 4, 1 << 12), _MOST_BLOCK)}
        first = 0
        try:
            every = text_schema(path, form)
            guessed = dict(zip(every.names, every.types, strict=True))
            names = self._match(path, table_of(path, every.empty_table(), form, None, list(every.names)))
            wanted = list(dict.fromkeys(each for chosen in names.values() for each in chosen))
            texts = {each: pa.string() for field in self._texts for each in names.get(field, ())}
            types = {name: ({name: guessed[name]} | kinds | texts)[name] for name in wanted}
            options = csv_options(form, parse, size, {"column_types": types, "include_columns": wanted})
            with text_source(path, form) as source, csv.open_csv(source, **options) as reader:
                for batch in reader:
                    rows = pa.Table.from_batches([batch])
                    yield table_of(path, rows, form, _texts_of(rows), list(every.names), first), names
                    first += len(rows)
        except UnicodeDecodeError as error:
            raise StreamError(f"{path}: the first line is not in UTF-8; save the file as UTF-8") from error
        except (OSError, pa.ArrowException) as error:
            number = _NOT_OF_KIND.match(str(error))
            if number is not None and types[name := every.names[int(number[1])]] != _KINDS[-1]:
                kinds[name] = _next_kind(types[name])
                raise OtherKindError from error
            refuse_other_encodings(path)
            raise odd_line_error(path, form, error) from error

    def _npz(self, path: Path) -> Iterator[tuple[Table, dict[str, list[str]]]]:
        try:
            with np.load(path, allow_pickle=False) as arrays:
                every = list(arrays.files)
        except _UNREADABLE as error:
            raise StreamError(f"{path} cannot be read ({_first_line(error)}); write it with numpy.savez") from error
        names = self._match(path, Table(every, lambda name: np.empty(0)))
        wanted = list(dict.fromkeys(each for chosen in names.values() for each in chosen))
        readers = {name: _member_blocks(path, name, self._rows) for name in wanted}
        first = 0
        while True:
            found = {name: next(reader, None) for name, reader in readers.items()}
            here = {name: values for name, values in found.items() if values is not None}
            if not here:
                return
            lengths = {name: len(values) for name, values in here.items()}
            if len(set(lengths.values())) > 1 or len(here) < len(wanted):
                raise StreamError(
                    f"{path}: the arrays {', '.join(wanted)} differ in length; give each one entry per event"
                )
            yield Table(every, here.__getitem__, lambda event, first=first: f"event {first + event}"), names  # type: ignore[misc]
            first += next(iter(lengths.values()))


def _member_blocks(path: Path, name: str, rows: int) -> Iterator[Array]:
    """Yields an array of an ``.npz`` file; one in another order than C's is read whole."""
    first = 0
    try:
        with zipfile.ZipFile(path) as archive, archive.open(f"{name}.npy") as file:
            version = np.lib.format.read_magic(file)
            read = np.lib.format.read_array_header_1_0 if version == (1, 0) else np.lib.format.read_array_header_2_0
            shape, columns_first, dtype = read(file)
            if dtype.hasobject:
                raise ValueError("it holds objects")
            whole = np.load(path)[name] if not shape or (columns_first and len(shape) > 1) else None
            for first in range(0, shape[0] if shape else 1, rows):
                if whole is not None:
                    values: Array = whole[first : first + rows] if shape else whole
                else:
                    count = min(rows, shape[0] - first)
                    part = (count, *shape[1:])
                    data = file.read(int(np.prod(part)) * dtype.itemsize)
                    values = np.frombuffer(data, dtype=dtype).reshape(part)
                yield _dates_as_numbers(path, name, values, first)
    except StreamError:
        raise
    except _UNREADABLE as error:
        mend = "store plain numbers or strings"
        raise StreamError(f"{path}: array '{name}' cannot be read ({_first_line(error)}); {mend}") from error


def _dates_as_numbers(path: Path, name: str, values: Array, first: int) -> Array:
    if values.dtype.kind != "M":
        return values
    missing = np.isnat(values)
    if missing.any():
        event = first + int(np.argmax(missing))
        raise StreamError(f"{path}: event {event}: '{name}' is not a time; fill it in or drop the event")
    return values.astype(np.int64)


def _texts_of(rows: pa.Table) -> Any:
    def text(name: str) -> Array:
        array: Array = rows[name].combine_chunks().to_numpy(zero_copy_only=False)
        return array

    return text


def _next_kind(kind: pa.DataType) -> pa.DataType:
    return _KINDS[min(_KINDS.index(kind) + 1, len(_KINDS) - 1)] if kind in _KINDS else _KINDS[-1]


def _first_line(error: Exception) -> str:
    return next(iter(str(error).splitlines()), type(error).__name__)
