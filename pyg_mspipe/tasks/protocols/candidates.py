"""Negatives that are fixed: a list of destinations for each event."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa
import torch
from pyarrow import parquet
from torch import Tensor

from pyg_mspipe.data.atomic_write import atomic_write
from pyg_mspipe.data.errors import StreamError
from pyg_mspipe.data.negatives import Negatives, Positives

if TYPE_CHECKING:
    from torch_geometric.data import TemporalData

_ABOUT = b"pyg_mspipe.candidates"
# Lists that are read at once, so that they are not in memory twice.
_ROWS = 2**12


@dataclass(frozen=True)
class Candidates:
    """A list of destinations for each of ``n`` consecutive events, of any length. Only looked up, never drawn.

    Attributes:
        first: The first event that has a list.
        ptr: Int64[n + 1]: event ``first + i`` has the destinations ``dst[ptr[i]:ptr[i + 1]]``.
        dst: Int64[M], or Int32[M], which takes half the place.

    Example:
        >>> import torch
        >>> from pyg_mspipe import synthetic
        >>> from pyg_mspipe.data import Positives
        >>> from pyg_mspipe.tasks.protocols import Candidates
        >>> lists = Candidates(400, torch.tensor([0, 2, 5]), torch.tensor([1003, 1001, 1005, 1002, 1009]))
        >>> lists(Positives.of(synthetic(500), range(400, 402))).dst
        tensor([[1003, 1005],
                [1001, 1002],
                [  -1, 1009]])
    """

    first: int
    ptr: Tensor
    dst: Tensor

    @property
    def events(self) -> range:
        """The events that have lists."""
        return range(self.first, self.first + self.ptr.numel() - 1)

    @cached_property
    def num(self) -> int:
        """The length of the longest list."""
        return int(self.ptr.diff().max()) if self.ptr.numel() > 1 else 0

    def __call__(self, positives: Positives, /) -> Negatives:
        """Returns the lists of events, as many rows as the longest list of all events has, on the CPU.

        Args:
            positives: The events.

        Raises:
            ValueError: If an event has no list.
        """
        asked, known = positives.events, self.events
        if asked and (asked.start < known.start or asked.stop > known.stop):
            odd = asked.start if asked.start < known.start else max(asked.start, known.stop)
            raise ValueError(
                f"event {odd} has no list of candidates; those given are for the events {known.start} to "
                f"{known.stop - 1}: evaluate that part, or give candidates for this one"
            )
        ptr = self.ptr[asked.start - self.first : asked.stop - self.first + 1]
        there = torch.arange(self.num) < ptr.diff()[:, None]
        dst = torch.full((len(asked), self.num), -1)
        if asked:
            dst[there] = self.dst[int(ptr[0]) : int(ptr[-1])].long()
        return Negatives(dst.t().contiguous(), padded=not bool(there.all()))

    def save(self, path: Path, about: Mapping[str, int | str]) -> None:
        """Writes the lists to a Parquet file with a row for each event, so that ``path`` holds all of them or none.

        Args:
            path: The file.
            about: What the lists were made from, such as the stream's digest and a seed; :meth:`load` compares it.

        Raises:
            OSError: If the file cannot be written.
        """
        lists = pa.LargeListArray.from_arrays(self.ptr.numpy(), pa.array(self.dst.numpy()))
        event = pa.array(np.arange(self.events.start, self.events.stop))
        table = pa.table({"event": event, "dst": lists}).replace_schema_metadata({_ABOUT: json.dumps(dict(about))})
        with atomic_write(path) as file:
            parquet.write_table(table, file, row_group_size=_ROWS, write_page_checksum=True)

    @staticmethod
    def load(path: Path, about: Mapping[str, int | str]) -> Candidates:
        """Returns the lists of a file that :meth:`save` wrote.

        Args:
            path: The file.
            about: What must have been said of the lists when they were saved.

        Raises:
            StreamError: If the file is damaged, is no such file, or something else was said of it.
        """
        mend = "delete the file to have the lists made anew"
        try:
            found = about_file(path)
            if found is None:
                raise StreamError(f"{path} is no file of candidates that were made here; move it away")
            for name, value in about.items():
                if found.get(name) != value:
                    wrong = "another stream" if name == "stream" else f"{name} {found.get(name)}, not {value}"
                    raise StreamError(f"{path} holds candidates made for {wrong}; {mend}")
            with parquet.ParquetFile(path, page_checksum_verification=True) as file:
                first = 0
                blocks: list[tuple[Tensor, Tensor]] = []
                for batch in file.iter_batches(_ROWS):
                    first = first if blocks else batch["event"][0].as_py()
                    blocks.append(_lists(batch["dst"]))
        except (OSError, pa.ArrowException, ValueError, KeyError) as error:
            if isinstance(error, StreamError):
                raise
            raise StreamError(f"{path} cannot be read ({error}); {mend}") from error
        count, dst = zip(*blocks, strict=True) if blocks else ((torch.empty(0).long(),), (torch.empty(0).long(),))
        return Candidates(first, torch.cat([torch.zeros(1).long(), *count]).cumsum(0), torch.cat(dst))


def about_file(path: Path) -> dict[str, Any] | None:
    """Returns what was said of the lists that :meth:`Candidates.save` wrote to a file; None for another Parquet file.

    Args:
        path: The file.

    Raises:
        OSError: If it cannot be read.
        pyarrow.ArrowException: If it is no Parquet file.
        ValueError: If what was said is damaged.
    """
    said = (parquet.read_schema(path).metadata or {}).get(_ABOUT)
    if said is None:
        return None
    found = json.loads(said)
    if not isinstance(found, dict):
        raise ValueError("what it says of itself is damaged")
    return found


def _lists(lists: pa.LargeListArray) -> tuple[Tensor, Tensor]:
    """Returns the lengths of lists, Int64[n], and their items, Int32[M] or Int64[M]."""
    # Copied, as torch wants tensors that may be written to, which Arrow's are not.
    count, dst = lists.value_lengths(), lists.flatten()
    return torch.from_numpy(np.array(count, dtype=np.int64)), torch.from_numpy(np.array(dst))


def stream_digest(data: TemporalData) -> str:
    """Returns a digest of who meets whom and when in a stream, by which a file of candidates knows its stream.

    Args:
        data: The stream.
    """
    digest = hashlib.blake2b(digest_size=16)
    for name in ("src", "dst", "t"):
        digest.update(memoryview(data[name].cpu().contiguous().numpy()).cast("B"))
    return digest.hexdigest()
