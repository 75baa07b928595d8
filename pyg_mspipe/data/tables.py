"""Columns of files by name, for each file format that a stream can be read from."""

import csv as text_csv
import gzip
import io
import zipfile
import zlib
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt
import pyarrow as pa
from pyarrow import compute, csv, parquet

from pyg_mspipe.data.errors import StreamError

SUFFIXES = (".csv", ".csv.gz", ".parquet", ".npz")

Array: TypeAlias = npt.NDArray[Any]

_SAVE_AS_UTF_8 = "save the file as UTF-8"
_GZIP = 20  # how many times as long as its file a text may be


@dataclass(frozen=True)
class Table:
    """The columns of a file.

    Attributes:
        names: The names of the columns, in the file's order.
        column: Returns a column by its name: `[E]`, or `[E, D]` where the file holds vectors. Strings come as objects
            or unicode, dates and timestamps as the integers that stand for them.
        place: Returns where in the file an event is, for error messages: its number and, in a CSV file, its line.
        text: Returns a column as the texts that stand in the file, [E]; none where the file holds no texts.
    """

    names: list[str]
    column: Callable[[str], Array]
    place: Callable[[int], str] = "event {}".format
    text: Callable[[str], Array] | None = None


def open_table(path: Path) -> Table:
    """Returns the columns of a file, read by the format that its suffix names.

    Raises:
        StreamError: If the file does not exist, has an unknown format, or cannot be read.
    """
    if not path.is_file():
        what = "is a folder" if path.is_dir() else "is no regular file" if path.exists() else "does not exist"
        raise StreamError(f"{path} {what}; give the path of a file with one of the suffixes {', '.join(SUFFIXES)}")
    if not path.name.endswith(SUFFIXES):
        raise StreamError(f"{path}: the format of '{path.name}' is not known; use one of {', '.join(SUFFIXES)}")
    return _open_npz(path) if path.suffix == ".npz" else _open_arrow(path)


def column_names(path: Path) -> list[str]:
    """Returns the names of a file's columns; an empty list if the file cannot be read."""
    try:
        if path.suffix == ".npz":
            with np.load(path, allow_pickle=False) as arrays:
                return list(arrays.files)
        return list(_schema(path).names)
    except (OSError, ValueError, EOFError, zipfile.BadZipFile, zlib.error, pa.ArrowException):
        return []


def text_columns(path: Path) -> list[str]:
    """Returns the columns that hold texts, by the beginning of the file; an empty list if it cannot be read."""
    if path.suffix == ".npz":
        return []
    try:
        return [field.name for field in _schema(path) if field.type in (pa.string(), pa.large_string())]
    except (OSError, ValueError, pa.ArrowException):
        return []


def _schema(path: Path) -> pa.Schema:
    """Returns the columns of a Parquet or CSV file with their types; for a CSV file, guessed from its beginning."""
    if path.suffix == ".parquet":
        return parquet.read_schema(path)
    with csv.open_csv(path, convert_options=csv.ConvertOptions(strings_can_be_null=True)) as reader:
        return reader.schema


def _open_npz(path: Path) -> Table:
    # For what is damaged zipfile and numpy have errors of any kind.
    unreadable = (OSError, ValueError, EOFError, KeyError, RuntimeError, SyntaxError, zipfile.BadZipFile, zlib.error)
    try:
        with path.open("rb") as file:
            loaded = np.load(file, allow_pickle=False)
            names = None if isinstance(loaded, np.ndarray) else list(loaded.files)
    except unreadable as error:
        raise StreamError(f"{path} cannot be read ({_first_line(error)}); write it with numpy.savez") from error
    if names is None:
        raise StreamError(f"{path} holds a single array; write src, dst and t with numpy.savez")

    def column(name: str) -> Array:
        try:
            with np.load(path, allow_pickle=False) as arrays:
                array: Array = arrays[name]
        except unreadable as error:
            mend = "store plain numbers or strings"
            raise StreamError(f"{path}: array '{name}' cannot be read ({_first_line(error)}); {mend}") from error
        if array.dtype.kind != "M":
            return array
        missing = np.isnat(array)
        if missing.any():
            event = int(np.argmax(missing))
            raise StreamError(f"{path}: event {event}: '{name}' is not a time; fill it in or drop the event")
        return array.astype(np.int64)

    return Table(names, column)


def _open_arrow(path: Path) -> Table:
    is_parquet = path.suffix == ".parquet"
    try:
        table = parquet.read_table(path) if is_parquet else _read_csv(path)
        names = list(table.column_names)
    except UnicodeDecodeError as error:
        raise StreamError(f"{path}: the first line is not in UTF-8; {_SAVE_AS_UTF_8}") from error
    except (OSError, pa.ArrowException) as error:
        mend = "write the file again" if is_parquet else "check the file; its first line names the columns"
        problem = None if is_parquet else _odd_line(path)
        raise StreamError(f"{path} cannot be read ({_first_line(error)}); {problem or mend}") from error

    def column(name: str) -> Array:
        values = table[name].combine_chunks()
        kind = values.type
        if pa.types.is_binary(kind) and not is_parquet:
            event = next(number for number, text in enumerate(values.to_pylist()) if not _is_utf_8(text))
            raise StreamError(f"{path}: {place(event)}: column '{name}' is not in UTF-8; {_SAVE_AS_UTF_8}")
        if pa.types.is_dictionary(kind):
            values = values.dictionary_decode()
        elif pa.types.is_null(kind):
            values = values.cast(pa.float64())
        elif pa.types.is_timestamp(kind) or pa.types.is_date64(kind):
            values = values.cast(pa.int64())
        elif pa.types.is_date32(kind):
            values = values.cast(pa.int32())
        elif pa.types.is_list(kind) or pa.types.is_large_list(kind) or pa.types.is_fixed_size_list(kind):
            return _stack_lists(path, name, values)
        array: Array = values.to_numpy(zero_copy_only=False)
        return array

    def text(name: str) -> Array:
        # As texts of a dictionary, so that an id that occurs often takes no place of its own each time.
        kinds = {name: pa.dictionary(pa.int32(), pa.string())}
        values = _read_csv(path, include_columns=[name], column_types=kinds)[name].combine_chunks().dictionary_decode()
        array: Array = values.to_numpy(zero_copy_only=False)
        return array

    def place(event: int) -> str:
        line = None if is_parquet else _line_of(path, event)
        return f"event {event}" if line is None else f"event {event} (line {line})"

    return Table(names, column, place, None if is_parquet else text)


def first_unlike(values: Array, kinds: Sequence[pa.DataType]) -> int:
    """Returns the position of the first text that is of none of `kinds`; 0 if one kind reads all texts.

    Each kind fails at some text; the position is that of the last such failure.
    """
    try:
        texts = pa.array(values.reshape(-1).tolist(), pa.string())
    except pa.ArrowException:
        return 0  # not texts at all
    event = max(_readable(texts, kind) for kind in kinds)
    return event if event < len(texts) else 0


def is_like(text: str, kind: pa.DataType) -> bool:
    """Returns whether a text can be read as `kind`."""
    return _readable(pa.array([text], pa.string()), kind) == 1


def _readable(texts: pa.Array, kind: pa.DataType) -> int:
    """Returns how many entries, from the first on, can be read as `kind`."""
    low, high = 0, len(texts)
    while low < high:
        middle = (low + high) // 2
        try:
            texts[low : middle + 1].cast(kind)
            low = middle + 1
        except pa.ArrowException:
            high = middle
    return low


def _line_of(path: Path, event: int) -> int | None:
    """Returns the line, from 1, in which an event of a CSV file ends; blank lines and the header are no events."""
    return next(islice((line for line, _ in _csv_rows(path)), event + 1, None), None)


def _odd_line(path: Path) -> str | None:
    """Returns the problem of the first line of a CSV file with more or fewer columns than the header, if any."""
    rows = _csv_rows(path)
    expected = len(next(rows, (0, []))[1])
    for line, row in rows:
        if len(row) != expected:
            return f"line {line} has {len(row)} columns, the first line {expected}: make them the same"
    return None


def _csv_rows(path: Path) -> Iterator[tuple[int, list[str]]]:
    """Yields each row of a CSV file that is not blank, with the number of its last line, as far as it is readable."""
    with gzip.open(path) if path.suffix == ".gz" else path.open("rb") as file:
        rows = text_csv.reader(io.TextIOWrapper(file, encoding="utf-8", errors="replace", newline=""))
        try:
            for row in rows:
                if row and (len(row) > 1 or row[0].strip()):
                    yield rows.line_num, row
        except (text_csv.Error, OSError, EOFError, zlib.error):  # such as a field that is too long for this reader
            return


def _is_utf_8(text: bytes | None) -> bool:
    try:
        (text or b"").decode()
    except UnicodeDecodeError:
        return False
    return True


def _skip_blank(row: csv.InvalidRow) -> str:
    return "error" if row.text.strip() else "skip"


def _read_csv(path: Path, **convert: Any) -> pa.Table:
    """Returns a CSV file's columns; lines of blanks alone are no events."""
    # An empty text or NA is a missing value in a column of texts, as it is in a column of numbers.
    options = csv.ConvertOptions(strings_can_be_null=True, **convert)
    # A line break within quotes ends no row.
    parse = csv.ParseOptions(newlines_in_values=True)
    try:
        return csv.read_csv(path, convert_options=options, parse_options=parse)
    except pa.ArrowInvalid:
        # Arrow calls a handler with rows of another length, which it cannot where they are no UTF-8.
        line = _first_not_utf_8(path)
        if line is not None:
            raise StreamError(f"{path}: line {line} is not in UTF-8; {_SAVE_AS_UTF_8}") from None
    parse = csv.ParseOptions(newlines_in_values=True, invalid_row_handler=_skip_blank)
    # A row longer than a block is read where all are one block.
    read = csv.ReadOptions(block_size=min(max(path.stat().st_size + 1, 1 << 20) * _GZIP, (1 << 31) - 1))
    return csv.read_csv(path, read_options=read, convert_options=options, parse_options=parse)


def _first_not_utf_8(path: Path) -> int | None:
    """Returns the first line of a file that is not in UTF-8, from 1."""
    with gzip.open(path) if path.suffix == ".gz" else path.open("rb") as file:
        return next((number for number, line in enumerate(file, start=1) if not _is_utf_8(line)), None)


def _stack_lists(path: Path, name: str, lists: pa.Array) -> Array:
    """Returns the lists of a column as rows `[E, D]`."""
    lengths = compute.list_value_length(lists).to_numpy(zero_copy_only=False)
    if not len(lengths):
        return np.empty((0, 0))
    odd = np.flatnonzero(lengths != lengths[0])  # a missing list has length NaN, which equals nothing
    if lists.null_count or len(odd):
        raise StreamError(
            f"{path}: column '{name}' holds lists of different lengths or none (event {odd[0]}); "
            f"give every event a list of the same length"
        )
    rows: Array = lists.flatten().to_numpy(zero_copy_only=False).reshape(len(lengths), int(lengths[0]))
    return rows


def _first_line(error: Exception) -> str:
    return next(iter(str(error).splitlines()), type(error).__name__)
