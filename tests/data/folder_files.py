"""Files of random events for the tests of stream folders, and what a folder must equal."""

import csv

import numpy as np
import pyarrow as pa
import torch
from pyarrow import parquet

from pyg_mspipe import TemporalCSR
from pyg_mspipe.data import load_stream, summarize
from pyg_mspipe.training.checkpoint import fingerprint

TINY = 20_000
"""So little memory that even small streams are cut into many parts."""


def events(count=3000, *, nodes=80, shuffled=False, texts=False, seed=0):
    """Returns columns of events, with many ties, self-loops, labels and messages."""
    rng = np.random.default_rng(seed)
    t = np.sort(rng.integers(0, count // 4, count))
    t[count // 2 : count // 2 + count // 5] = t[count // 2]  # a time of more events than fit into memory
    t.sort()
    table = {
        "src": rng.integers(0, nodes, count),
        "dst": rng.integers(nodes // 2, 3 * nodes, count),
        "t": t,
        "y": rng.integers(0, 2, count),
        "msg_0": rng.random(count).astype(np.float32),
        "msg_1": rng.random(count),
    }
    table["src"][: count // 3] = 7  # a node of more events than fit into memory
    if shuffled:
        order = rng.permutation(count)
        table = {name: values[order] for name, values in table.items()}
    if texts:
        table["src"] = np.array([f"user {each}" if each % 3 else f"{each}.0" for each in table["src"]])
        table["dst"] = np.array([str(each) if each % 5 else f"00{each}" for each in table["dst"]])
    return table


def write(path, table):
    """Writes a table in the format of the path's suffix."""
    if path.suffix == ".npz":
        np.savez(path, **table)
    elif path.suffix == ".parquet":
        parquet.write_table(pa.table(table), path, row_group_size=700)
    else:
        with path.open("w", newline="") as file:
            rows = csv.writer(file)
            rows.writerow(table)
            rows.writerows(zip(*(values.tolist() for values in table.values()), strict=True))
    return path


def check_equal(want, out):
    """Refuses a folder that is not, byte for byte, what a stream in memory is."""
    got = load_stream(out)
    for name in ("src", "dst", "t", "msg", "y"):
        assert (name in want) == (name in got), name
        if name in want:
            assert want[name].dtype == got[name].dtype, name
            assert torch.equal(want[name], got[name]), name
    one, other = TemporalCSR.from_stream(want), TemporalCSR.from_stream(got)
    for name in ("key", "neighbor", "indptr", "t"):
        assert torch.equal(getattr(one, name), getattr(other, name)), name
    assert fingerprint(want) == fingerprint(got)
    was, found = vars(summarize(want)), vars(summarize(got))
    assert {**was, "repeat_share": None} == found
