"""Columns of files by name, for each file format that a stream can be read from."""

import zipfile
import zlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt
import pyarrow as pa
from pyarrow import compute, parquet

from pyg_mspipe.data.dates import unit_of_type
from pyg_mspipe.data.errors import Problem, StreamError
from pyg_mspipe.data.text_files import (
    TEXT_SUFFIXES,
    TextForm,
    is_text,
    odd_line,
    read_text,
    text_form,
    text_rows,
    text_schema,
)

SUFFIXES = (*TEXT_SUFFIXES, *(f"{suffix}.gz" for suffix in TEXT_SUFFIXES), ".parquet", ".npz")

Array: TypeAlias = npt.NDArray[Any]

_SAVE_AS_UTF_8 = "save the file as UTF-8"


@dataclass(frozen=True)
class Table:
    """The columns of a file.

    Attributes:
        names: The names of the columns, in the file's order.
        column: Returns a column by its name: `[E]`, or `[E, D]` where the file holds vectors. Strings come as objects
            or unicode, dates and timestamps as the integers that stand for them.
        place: Returns where in the file an event is, for error messages: its number and, in a file of text, its line.
        text: Returns a column as the texts that stand in the file, [E]; none where the file holds no texts.
        unit: Returns the unit that the dates of a column are counted in; none where it holds no dates.
        form: How a file of text holds its rows; none for other files.
    """

    names: list[str]
    column: Callable[[str], Array]
    place: Callable[[int], str] = "event {}".format
    text: Callable[[str], Array] | None = None
    unit: Callable[[str], str | None] = lambda name: None
    form: TextForm | None = None


def open_table(path: Path, separator: str | None = None, header: bool = True) -> Table:
    """Returns the columns of a file, read by the format that its suffix names.

    Args:
        path: The file; one of text where `separator` is given, whatever its suffix.
        separator: For files of text: what separates the columns; by default what their beginning shows.
        header: For files of text: whether the first row names the columns, which have their numbers as names otherwise.

    Raises:
        StreamError: If the file does not exist, has an unknown format, or cannot be read.
    """
    form = form_of(path, separator, header)
    return _open_npz(path) if path.suffix == ".npz" else _open_arrow(path, form)


def form_of(path: Path, separator: str | None, header: bool) -> TextForm | None:
    """Returns how a file of text holds its rows; None for another file.

    Arguments and errors are those of `open_table`.
    """
    if not path.is_file():
        what = "is a folder" if path.is_dir() else "is no regular file" if path.exists() else "does not exist"
        raise StreamError(f"{path} {what}; give the path of a file with one of the suffixes {', '.join(SUFFIXES)}")
    form = _form(path, separator, header)
    if form is None and not path.name.endswith(SUFFIXES):
        looks = text_form(path, header=header)
        likely = looks.separator if len(looks.numbers) > 2 else None
        text = f"{path}: the format of '{path.name}' is not known; use one of {', '.join(SUFFIXES)}"
        more = "" if likely is None else f", or pass separator={likely!r} if it is text whose columns these separate"
        raise StreamError(Problem(f"{text}{more}", **({} if likely is None else {"separator": likely})))
    return form


def _form(path: Path, separator: str | None, header: bool) -> TextForm | None:
    """Returns how a file of text holds its rows; None for another file."""
    if path.suffix not in (".parquet", ".npz") and (is_text(path) or separator is not None):
        return text_form(path, separator, header)
    if separator is not None:
        raise StreamError(f"{path}: leave out separator, which only files of text take")
    if not header:
        raise StreamError(f"{path}: columns have numbers only in a file of text without a header; give their names")
    return None


def column_names(path: Path, separator: str | None = None, header: bool = True) -> list[str]:
    """Returns the names of a file's columns, as `open_table` has them; an empty list if the file cannot be read."""
    try:
        if path.suffix == ".npz":
            with np.load(path, allow_pickle=False) as arrays:
                return list(arrays.files)
        return list(_schema(path, separator, header).names)
    except (OSError, ValueError, EOFError, zipfile.BadZipFile, zlib.error, pa.ArrowException):
        return []


def text_columns(path: Path, separator: str | None = None, header: bool = True) -> list[str]:
    """Returns the columns that hold texts, by the beginning of the file; an empty list if it cannot be read."""
    if path.suffix == ".npz":
        return []
    try:
        schema = _schema(path, separator, header)
        return [field.name for field in schema if field.type in (pa.string(), pa.large_string())]
    except (OSError, ValueError, pa.ArrowException):
        return []


def _schema(path: Path, separator: str | None, header: bool) -> pa.Schema:
    """Returns the columns of a file with their types; for a file of text, guessed from its beginning."""
    form = _form(path, separator, header)
    return parquet.read_schema(path) if form is None else text_schema(path, form)


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

    def unit(name: str) -> str | None:
        with np.load(path, allow_pickle=False) as arrays:
            return unit_of_type(arrays[name].dtype)

    return Table(names, column, unit=unit)


def _open_arrow(path: Path, form: TextForm | None) -> Table:
    try:
        table = parquet.read_table(path) if form is None else read_text(path, form)
        names = list(table.column_names)
    except UnicodeDecodeError as error:
        raise StreamError(f"{path}: the first line is not in UTF-8; {_SAVE_AS_UTF_8}") from error
    except (OSError, pa.ArrowException) as error:
        raise odd_line_error(path, form, error) from error

    def text(name: str) -> Array:
        # As texts of a dictionary, so that an id that occurs often takes no place of its own each time.
        assert form is not None
        kinds = {name: pa.dictionary(pa.int32(), pa.string())}
        values = read_text(path, form, include_columns=[name], column_types=kinds)[name]
        array: Array = values.combine_chunks().dictionary_decode().to_numpy(zero_copy_only=False)
        return array

    return table_of(path, table, form, None if form is None else text, names)


def odd_line_error(path: Path, form: TextForm | None, error: Exception) -> StreamError:
    """Returns the error of a file that Arrow cannot read."""
    mend = "write the file again" if form is None else "check the file; its first line names the columns"
    problem = None if form is None else odd_line(path, form)
    return StreamError(f"{path} cannot be read ({_first_line(error)}); {problem or mend}")


def table_of(
    path: Path,
    rows: pa.Table,
    form: TextForm | None,
    text: Callable[[str], Array] | None,
    names: list[str],
    first: int = 0,
) -> Table:
    """Returns rows of a file that Arrow has read.

    Args:
        path: The file.
        rows: Some of its columns.
        form: How a file of text holds its rows; none for other files.
        text: See `Table`.
        names: The names of all of the file's columns.
        first: How many rows of the file come before these.
    """

    def place(event: int) -> str:
        # Of the rows the first may be the header.
        event += first
        lines = iter(()) if form is None else islice(text_rows(path, form), event + form.header, None)
        line = next((line for line, _ in lines), None)
        return f"event {event}" if line is None else f"event {event} (line {line})"

    def column(name: str) -> Array:
        values = rows[name].combine_chunks()
        kind = values.type
        if pa.types.is_binary(kind) and form is not None:
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

    return Table(names, column, place, text, lambda name: unit_of_type(rows[name].type), form)


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


def _is_utf_8(text: bytes | None) -> bool:
    try:
        (text or b"").decode()
    except UnicodeDecodeError:
        return False
    return True


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
