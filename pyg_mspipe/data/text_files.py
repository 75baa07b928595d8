"""Files of text: how their columns are separated, whether a header names them, and their rows."""

from __future__ import annotations

import csv as text_csv
import gzip
import io
import re
import zlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

import pyarrow as pa
from pyarrow import csv

from pyg_mspipe.data.errors import StreamError

TEXT_SUFFIXES = (".csv", ".txt", ".tsv")
SEPARATORS = {",": "commas", "\t": "tabs", ";": "semicolons", "|": "bars", " ": "blanks"}
"""What may separate columns, and how it is called; a blank stands for any run of blanks and tabs."""

UNREADABLE = (OSError, EOFError, zlib.error)
_SAMPLE_BYTES = 1 << 16
_GZIP = 20  # how many times as long as its file a text may be
_LEAST = 3  # columns: sources, destinations and times
_MARKS = ("#", "%")
# What begins so is no value: a mark, and a blank or another mark behind it, or nothing.
_COMMENT = re.compile(r"[ \t]*[#%](?:[ \t#%]|\r?\n?$)")
_COMMENT_LINE = re.compile(rb"(?m)^[#%](?:[ #%][^\n]*|\r?)$")
_QUOTED_OR_BLANKS = re.compile(rb'"[^"\n]*"|[ \t]+')


@dataclass(frozen=True)
class TextForm:
    """How a file of text holds its rows.

    Attributes:
        separator: One of `SEPARATORS`, or another character.
        header: Whether the first row names the columns.
        above: How many lines stand above the first row.
        comments: How many of these are comments.
        rows: The first rows that have as many columns as the first, with the header.
    """

    separator: str
    header: bool
    above: int
    comments: int
    rows: list[list[str]]

    @property
    def numbers(self) -> list[str]:
        """The names that columns have without a header: their numbers, from 0."""
        return [str(number) for number in range(len(self.rows[0]) if self.rows else 0)]

    def __str__(self) -> str:
        """Returns the form in words."""
        words = [f"columns separated by {SEPARATORS.get(self.separator, repr(self.separator))}"]
        words += [] if self.header else ["no header"]
        return ", ".join(words + ([f"comment lines above: {self.comments}"] if self.comments else []))


def is_text(path: Path) -> bool:
    """Returns whether a file is one of text by its suffix."""
    return path.name.lower().removesuffix(".gz").endswith(TEXT_SUFFIXES)


def text_form(path: Path, separator: str | None = None, header: bool = True) -> TextForm:
    """Returns how a file of text holds its rows, by its beginning.

    A line is a comment if it begins with ``#`` or ``%``, unless it has as many columns as the rows and the mark belongs
    to its first value.

    Args:
        path: The file.
        separator: What separates the columns; by default the only one that leaves three columns or more.
        header: Whether the first row names the columns.

    Raises:
        StreamError: If more than one separator fits.
    """
    if separator is not None and (len(separator) != 1 or separator.isalnum() or separator in "\"'\r\n.+-"):
        raise StreamError(f"separator is {separator!r}; give the one character between two columns, a blank for blanks")
    lines, whole = _sample(path)
    content = [line for line in lines if line.strip() and not _COMMENT.match(line)]
    plain = [line for line in content if not line.lstrip().startswith(_MARKS)] or content
    if separator is None:
        separator = _separator(path, plain)
    rows = _split(plain, separator, whole)
    width = len(rows[0]) if rows else 0
    above = comments = 0
    for line in lines:
        marked = line.lstrip().startswith(_MARKS)
        is_row = not _COMMENT.match(line) and [len(row) for row in _split([line], separator)] == [width]
        if line.strip() and not (marked and not is_row):
            break
        above, comments = above + 1, comments + marked
    rows = [row for row in _split(lines[above:], separator, whole) if len(row) == width]
    return TextForm(separator, header, above, comments, rows)


def is_comment(text: object) -> bool:
    """Returns whether a value begins as a comment does: with a mark that belongs to no word."""
    return isinstance(text, str) and _COMMENT.match(text) is not None


def _sample(path: Path) -> tuple[list[str], bool]:
    """Returns the first lines of a file, and whether these are all; no lines where it cannot be read."""
    try:
        with _opened(path) as file:
            lines = file.readlines(_SAMPLE_BYTES)
            whole = not file.read(1)
    except UNREADABLE:
        return [], True
    text = b"".join(lines).decode("utf-8-sig", errors="replace")
    return list(io.StringIO(text, newline="")), whole


def _separator(path: Path, lines: Sequence[str]) -> str:
    suffix = path.name.lower().removesuffix(".gz")
    usual = "," if suffix.endswith(".csv") else "\t" if suffix.endswith(".tsv") else " "
    split = {mark: _split(lines, mark, whole=False) or _split(lines, mark) for mark in SEPARATORS}
    if usual != " " and split[usual] and len(split[usual][0]) > 1:
        return usual
    fits = [mark for mark, rows in split.items() if rows and len(rows[0]) >= _LEAST]
    fits = [mark for mark in fits if len({len(row) for row in split[mark]}) == 1] or fits
    # Blanks within values are common, as in dates with times; marks within values that blanks separate are not.
    fits = [mark for mark in fits if mark != " "] or fits
    if len(fits) > 1:
        one, other = fits[:2]
        raise StreamError(
            f"{path}: its columns may be separated by {SEPARATORS[one]} or by {SEPARATORS[other]}; pass "
            f"separator={one!r} or separator={other!r}"
        )
    return fits[0] if fits else usual


def _split(lines: Sequence[str], separator: str, whole: bool = True) -> list[list[str]]:
    """Returns lines as rows; the last one is left out where it may not be whole."""
    if separator == " ":
        lines = [_single_blanks(line.encode()).decode() for line in lines]
    try:
        rows = [row for row in text_csv.reader(lines, delimiter=separator) if _is_row(row)]
    except text_csv.Error:  # such as a field that is too long for this reader
        return []
    return rows if whole or len(rows) < 2 else rows[:-1]


def _is_row(row: Sequence[str]) -> bool:
    return bool(row) and (len(row) > 1 or bool(row[0].strip()))


def _single_blanks(lines: bytes) -> bytes:
    """Returns whole lines with one blank between two columns, and none of the comments."""
    if b'"' in lines:
        lines = _QUOTED_OR_BLANKS.sub(lambda found: found[0] if found[0][:1] == b'"' else b" ", lines)
    else:
        lines = lines.replace(b"\t", b" ")
        while b"  " in lines:
            lines = lines.replace(b"  ", b" ")
    lines = lines.replace(b" \r", b"\r").replace(b" \n", b"\n").replace(b"\n ", b"\n").strip(b" ")
    return _COMMENT_LINE.sub(b"", lines) if b"#" in lines or b"%" in lines else lines


class _SingleBlanks(io.RawIOBase):
    """A file whose columns are separated by runs of blanks, as one where each run is a single blank."""

    def __init__(self, file: IO[bytes]) -> None:
        self._file = file
        self._left = b""
        self._begins = True

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        while not self._left:
            lines = b"".join(self._file.readlines(_SAMPLE_BYTES))
            if not lines:
                return 0
            self._left = _single_blanks(lines.removeprefix(b"\xef\xbb\xbf") if self._begins else lines)
            self._begins = False
        size = min(len(buffer), len(self._left))
        buffer[:size], self._left = self._left[:size], self._left[size:]
        return size

    def close(self) -> None:
        self._file.close()
        super().close()


def _opened(path: Path, separator: str = ",") -> IO[bytes]:
    file: Any = (gzip.open if path.suffix == ".gz" else open)(path, "rb")
    return io.BufferedReader(_SingleBlanks(file), 1 << 20) if separator == " " else file


def text_rows(path: Path, form: TextForm) -> Iterator[tuple[int, list[str]]]:
    """Yields each row of a file, the header too, with the number of its last line, as far as it is readable."""
    with _opened(path, form.separator) as file:
        lines = io.TextIOWrapper(file, encoding="utf-8-sig", errors="replace", newline="")
        width = 0
        try:
            for _ in range(form.above):
                next(lines)
            rows = text_csv.reader(lines, delimiter=form.separator)
            for row in rows:
                if not _is_row(row) or (len(row) != width and width and _COMMENT.match(row[0])):
                    continue
                width = width or len(row)
                yield form.above + rows.line_num, row
        except (text_csv.Error, StopIteration, *UNREADABLE):
            return


def odd_line(path: Path, form: TextForm) -> str | None:
    """Returns the problem of the first row with more or fewer columns than the first row has, if there is one."""
    rows = text_rows(path, form)
    first, expected = next(rows, (0, []))
    for line, row in rows:
        if len(row) == len(expected):
            continue
        where = "the first line" if first == 1 else f"line {first}"
        text = form.separator.join(row)
        other = next((mark for mark in SEPARATORS if [len(r) for r in _split([text], mark)] == [len(expected)]), None)
        if other is not None and len(expected) > 1:
            by, before = SEPARATORS[other], SEPARATORS.get(form.separator, repr(form.separator))
            return f"line {line} separates its columns by {by}, {where} by {before}: make them the same"
        return f"line {line} has {len(row)} columns, {where} {len(expected)}: make them the same"
    return None


def read_text(path: Path, form: TextForm, **convert: Any) -> pa.Table:
    """Returns a file's columns; lines of blanks alone and comments are no events.

    Raises:
        StreamError: If a line is not in UTF-8.
        ArrowException: If a row has more or fewer columns than the first.
    """
    parse = {"newlines_in_values": form.separator != " ", "delimiter": form.separator}
    try:
        return _read(path, form, parse, {}, convert)
    except pa.ArrowInvalid:
        # Arrow calls a handler with rows of another length, which it cannot where they are no UTF-8.
        refuse_other_encodings(path)
    # A row longer than a block is read where all are one block.
    block = min(max(path.stat().st_size + 1, 1 << 20) * _GZIP, (1 << 31) - 1)
    return _read(path, form, parse | {"invalid_row_handler": pass_over}, {"block_size": block}, convert)


def _read(path: Path, form: TextForm, parse: dict[str, Any], read: dict[str, Any], convert: dict[str, Any]) -> pa.Table:
    with text_source(path, form) as source:
        return csv.read_csv(source, **csv_options(form, parse, read, convert))


def csv_options(form: TextForm, parse: dict[str, Any], read: dict[str, Any], convert: dict[str, Any]) -> dict[str, Any]:
    """Returns how Arrow is to read a file of text."""
    names = {} if form.header else {"column_names": form.numbers}
    return {
        "read_options": csv.ReadOptions(skip_rows=form.above, **names, **read),
        "parse_options": csv.ParseOptions(**parse),
        # An empty text or NA is a missing value in a column of texts, as it is in a column of numbers.
        "convert_options": csv.ConvertOptions(strings_can_be_null=True, **convert),
    }


def text_schema(path: Path, form: TextForm) -> pa.Schema:
    """Returns the columns of a file with their types, guessed from its beginning."""
    with (
        text_source(path, form) as source,
        csv.open_csv(source, **csv_options(form, {"delimiter": form.separator}, {}, {})) as reader,
    ):
        return reader.schema


def text_source(path: Path, form: TextForm) -> Any:
    """Returns what Arrow reads: the file itself where it can."""
    if form.separator == " ":
        return _opened(path, " ")
    return pa.input_stream(str(path), compression="gzip" if path.suffix == ".gz" else None)


def pass_over(row: csv.InvalidRow) -> str:
    """Returns what is to be done with a row of another length: only lines of blanks and comments are passed over."""
    return "skip" if not row.text.strip() or _COMMENT.match(row.text) else "error"


def refuse_other_encodings(path: Path) -> None:
    """Refuses a file with a line that is not in UTF-8."""
    with _opened(path) as file:
        for number, line in enumerate(file, start=1):
            try:
                line.decode()
            except UnicodeDecodeError:
                raise StreamError(f"{path}: line {number} is not in UTF-8; save the file as UTF-8") from None
