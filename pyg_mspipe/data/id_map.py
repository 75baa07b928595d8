"""Numbering of node ids as they come, block by block, with the ids kept in a file."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pyarrow as pa
from pyarrow import compute, parquet

from pyg_mspipe.data.errors import StreamError
from pyg_mspipe.data.ids import Ids, ids_of
from pyg_mspipe.data.regrouped import sorted_order
from pyg_mspipe.data.tables import Array

_LONGEST_INT = 18
"""Digits of whole numbers that int64 surely holds; longer ones are numbered by their texts."""

_WHOLE = r"^-?(0|[1-9][0-9]*)(\.0+)?$"
_KEYS = "0123456789abcdef", "fedcba9876543210"
_ROWS = 1 << 20


class SortedMap:
    """Numbers of keys, in sorted runs; those of similar length are merged.

    Args:
        checks: Whether each key has a second one, which must be equal too.
    """

    def __init__(self, checks: bool = False) -> None:
        self._runs: list[tuple[Array, Array, Array]] = []
        self._checks = checks
        self._rare: dict[tuple[int, int], int] = {}

    @property
    def nbytes(self) -> int:
        """Bytes of all runs."""
        return sum(each.nbytes for run in self._runs for each in run)

    def find(self, key: Array, check: Array) -> Array:
        """Returns the number of each key, Int64[n], -1 where it has none."""
        found = np.full(len(key), -1, dtype=np.int64)
        for keys, checks, numbers in self._runs:
            at = np.searchsorted(keys, key).clip(max=len(keys) - 1)
            same = keys[at] == key
            if self._checks:
                same &= checks[at] == check
            found[same] = numbers[at[same]]
        for (one, other), number in self._rare.items():
            found[(key == one) & (check == other)] = number
        return found

    def add(self, key: Array, check: Array, number: Array) -> None:
        """Adds keys that have no numbers yet, each once."""
        if self._checks:  # of two that are equal in the first key alone, one is kept apart
            unchecked = np.zeros(len(key), dtype=np.bool_)
            for keys, _, _ in self._runs:
                unchecked |= keys[np.searchsorted(keys, key).clip(max=len(keys) - 1)] == key
            _, first = np.unique(key, return_index=True)
            again = np.ones(len(key), dtype=np.bool_)
            again[first] = False
            for place in np.flatnonzero(unchecked | again):
                self._rare[int(key[place]), int(check[place])] = int(number[place])
            keep = ~(unchecked | again)
            key, check, number = key[keep], check[keep], number[keep]
        if not len(key):
            return
        order = np.argsort(key, kind="stable")
        run = key[order], check[order] if self._checks else check[:0], number[order]
        while self._runs and len(self._runs[-1][0]) < 2 * len(run[0]):
            run = _merged(self._runs.pop(), run)
        self._runs.append(run)


def _merged(one: tuple[Array, Array, Array], other: tuple[Array, Array, Array]) -> tuple[Array, Array, Array]:
    order = np.argsort(np.concatenate([one[0], other[0]]), kind="stable")  # merges two runs in one pass
    joined = [np.concatenate([a, b]) for a, b in zip(one, other, strict=True)]
    return joined[0][order], joined[1][order] if len(joined[1]) else joined[1], joined[2][order]


class IdMap:
    """Numbers ids from 0 in the order of their appearance, over many blocks.

    Ids are what :func:`~pyg_mspipe.data.ids.ids_of` takes them for. They are written to a Parquet file in the order of
    their numbers, as texts; those of whole numbers are their digits.

    Args:
        path: The file.
        memory: Bytes that the map may take.
        before: A file of ids that have numbers already, if there is one.
    """

    def __init__(self, path: Path, memory: int, before: Path | None = None) -> None:
        self._ints, self._texts = SortedMap(), SortedMap(checks=True)
        self._memory = memory
        self._spaced: list[str] = []
        self.count = 0
        self._writer = parquet.ParquetWriter(path, pa.schema([("id", pa.string())]))
        if before is not None:
            with parquet.ParquetFile(before) as file:
                for batch in file.iter_batches(_ROWS):
                    self._number_texts(batch.column(0))

    def number(self, *sides: Array) -> list[Array]:
        """Returns the numbers of the ids of a block: Int64[n] for each side.

        Args:
            *sides: [n] each, numbers or texts; an id appears in the order of the rows, in a row in that of the sides.

        Raises:
            UnusableIdError: If a column holds what is no id.
        """
        if all(side.dtype.kind in "iu" and side.dtype != np.uint64 for side in sides):
            codes = self._number_ints(np.stack([side.astype(np.int64) for side in sides], axis=1).reshape(-1))
        else:
            texts = pa.chunked_array([_texts(side) for side in sides]).combine_chunks()
            coded = texts.dictionary_encode()
            code = coded.indices.to_numpy().reshape(len(sides), -1).T.reshape(-1)
            codes = self._number_codes(code, coded.dictionary)
        if self._ints.nbytes + self._texts.nbytes > self._memory:
            raise StreamError(f"{self.count} ids take more memory than there is; give a larger memory")
        return [codes[place :: len(sides)] for place in range(len(sides))]

    def discard(self) -> None:
        """Ends the file, whatever the ids are."""
        self._writer.close()

    def close(self) -> None:
        """Ends the file.

        Raises:
            StreamError: If ids differ in the blanks around them alone.
        """
        self._writer.close()
        bare: dict[str, str] = {}
        for text in self._spaced:
            other = bare.setdefault(text.strip(), text)
            if other == text and self._find(pa.array([text.strip()]))[0] >= 0:
                other = text.strip()
            if other != text:
                raise StreamError(f"the ids {other!r} and {text!r} differ in blanks alone; remove those around ids")

    def _number_ints(self, values: Array) -> Array:
        order = sorted_order(values)
        ordered = values[order]
        begins = np.concatenate([[True], ordered[1:] != ordered[:-1]])
        distinct, first = ordered[begins], order[begins]
        number = self._ints.find(distinct, distinct)
        new = np.flatnonzero(number < 0)
        new = new[sorted_order(first[new])]
        number[new] = self.count + np.arange(len(new))
        self.count += len(new)
        self._ints.add(distinct[new], distinct[:0], number[new])
        self._write(pa.array(distinct[new]).cast(pa.string()))
        codes = np.empty(len(values), dtype=np.int64)
        codes[order] = number[begins.cumsum() - 1]
        return codes

    def _number_codes(self, code: Array, keys: pa.StringArray) -> Array:
        """Returns numbers of places in a list of keys; the keys get theirs in the order in which places come."""
        places, first = np.unique(code, return_index=True)
        places = places[first.argsort()]
        number = np.empty(len(keys), dtype=np.int64)
        number[places] = self._number_texts(keys.take(pa.array(places)))
        return number[code]

    def _number_texts(self, texts: pa.StringArray) -> Array:
        number = self._find(texts)
        new = np.flatnonzero(number < 0)
        number[new] = self.count + np.arange(len(new))
        self.count += len(new)
        added = texts.take(pa.array(new))
        for keys, checks, places, into in self._split(added):
            into.add(keys, checks, number[new[places]])
        trimmed = compute.utf8_trim_whitespace(added)
        self._spaced += added.filter(compute.not_equal(trimmed, added)).to_pylist()
        self._write(added)
        return number

    def _find(self, texts: pa.StringArray) -> Array:
        found = np.empty(len(texts), dtype=np.int64)
        for keys, checks, places, within in self._split(texts):
            found[places] = within.find(keys, checks)
        return found

    def _split(self, texts: pa.StringArray) -> list[tuple[Array, Array, Array, SortedMap]]:
        """Returns whole numbers by their values and other ids by two digests, with their places among the texts."""
        from pandas.util import hash_array  # takes half a second, and few conversions need it

        length = compute.utf8_length(texts).to_numpy()
        is_int = compute.match_substring_regex(texts, _WHOLE).to_numpy(zero_copy_only=False).astype(np.bool_)
        for place in np.flatnonzero(is_int & (length > _LONGEST_INT)):
            is_int[place] = -(2**63) <= int(texts[place].as_py()) < 2**63
        ints = np.flatnonzero(is_int)
        others = np.flatnonzero(~is_int)
        value = texts.take(pa.array(ints)).cast(pa.int64()).to_numpy()
        objects = texts.take(pa.array(others)).to_numpy(zero_copy_only=False)
        one, other = (hash_array(objects, hash_key=key, categorize=False) for key in _KEYS)
        return [(value, value, ints, self._ints), (one, other, others, self._texts)]

    def _write(self, ids: pa.StringArray) -> None:
        if len(ids):
            self._writer.write_table(pa.table({"id": ids}))


def _texts(values: Array) -> pa.StringArray:
    """Returns ids as texts, equal for equal ids alone."""
    found: Ids | None = None
    if values.dtype.kind == "O":
        try:
            texts = pa.array(values, pa.string())
        except (pa.ArrowException, TypeError):
            found = ids_of(values)
    elif values.dtype.kind == "U":
        texts = pa.array(values.tolist(), pa.string())
    elif values.dtype.kind in "iu" and values.dtype != np.uint64:
        return pa.array(values).cast(pa.string())
    else:
        found = ids_of(values)
    if found is not None:
        return pa.array([str(key) for key in found.key], pa.string()).take(pa.array(found.code))
    whole = compute.match_substring_regex(texts, _WHOLE)
    digits = compute.replace_substring_regex(texts, r"\.0+$", "")
    digits = compute.if_else(compute.equal(digits, "-0"), "0", digits)
    return compute.if_else(whole, digits, texts)
