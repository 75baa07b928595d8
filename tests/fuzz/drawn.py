"""Events that Hypothesis draws, written to files of each format by plain means, and what must be read from them."""

from __future__ import annotations

import csv
import gzip
import io
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa
from hypothesis import strategies as st
from plain import numbered
from pyarrow import parquet

_IDS = {
    "small": st.integers(0, 9),
    "large": st.integers(0, 2**63 - 1),
    "unsigned": st.integers(0, 2**64 - 1),
    "text": st.text("ué ,\"\n'#0", max_size=4).map("u{}".format),
}
_FLOATS = st.floats(width=32, allow_nan=False, allow_infinity=False)


@dataclass
class Events:
    """Events as plain values, and how they are to be read."""

    kind: str
    src: list
    dst: list
    t: list[int]
    msg: list[list[float]]
    relabel: bool
    sort: bool
    bipartite: bool

    @property
    def options(self) -> dict[str, bool]:
        return {"relabel": self.relabel, "sort": self.sort, "bipartite": self.bipartite}

    @property
    def usable(self) -> bool:
        """Whether there is nothing to refuse."""
        ids = {str(each) for each in (*self.src, *self.dst)}
        # Ids that differ in blanks around them alone are refused in files of text.
        apart = len({each.strip() for each in ids}) == len(ids)
        return apart and (self.sort or self.t == sorted(self.t)) and (self.relabel or self.kind in ("small", "large"))

    def expected(self) -> dict[str, list]:
        """What must be read, by the stream's field."""
        src, dst = self.src, self.dst
        if self.relabel:
            src, dst = numbered(src, dst, bipartite=self.bipartite)
        elif self.bipartite:
            dst = [each + max(src) + 1 for each in dst]
        order = sorted(range(len(src)), key=self.t.__getitem__) if self.sort else range(len(src))
        fields = {"src": src, "dst": dst, "t": self.t, "msg": self.msg}
        return {name: [values[place] for place in order] for name, values in fields.items()}

    def write(self, path: Path) -> None:
        """Writes the events in the format of the path's suffix."""
        columns = {"src": self.src, "dst": self.dst, "t": self.t}
        columns |= {f"msg_{place}": list(values) for place, values in enumerate(zip(*self.msg, strict=True))}
        if path.suffix == ".npz":
            kinds = {"unsigned": np.uint64, "text": None}
            ids = {name: np.array(columns.pop(name), dtype=kinds.get(self.kind, np.int64)) for name in ("src", "dst")}
            t = np.array(columns.pop("t"), dtype=np.int64)
            np.savez(path, **ids, t=t, msg=np.array(self.msg, dtype=np.float32))
        elif path.suffix == ".parquet":
            kinds = {"unsigned": pa.uint64(), "text": pa.string()}
            for name in ("src", "dst"):
                columns[name] = pa.array(columns[name], kinds.get(self.kind, pa.int64()))
            parquet.write_table(pa.table(columns), path)
        else:
            text = io.StringIO()
            csv.writer(text, lineterminator="\n").writerows([columns, *zip(*columns.values(), strict=True)])
            content = text.getvalue().encode()
            path.write_bytes(gzip.compress(content) if path.suffix == ".gz" else content)


@st.composite
def events(draw: st.DrawFn) -> Events:
    size, kind, width = draw(st.integers(1, 12)), draw(st.sampled_from(list(_IDS))), draw(st.integers(0, 2))
    relabel, bipartite = draw(st.booleans()), draw(st.booleans())

    def column(values):
        return draw(st.lists(values, min_size=size, max_size=size))

    t = column(st.integers(-(2**61), 2**61) | st.integers(0, 9))
    return Events(
        kind,
        column(_IDS[kind]),
        column(_IDS[kind]),
        sorted(t) if draw(st.booleans()) else t,
        [[*each] for each in zip(*(column(_FLOATS) for _ in range(width)), strict=True)] or [[] for _ in range(size)],
        relabel,
        draw(st.booleans()),
        bipartite and (relabel or kind == "small"),
    )
