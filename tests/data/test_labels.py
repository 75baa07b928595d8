import numpy as np
import pytest
import torch
from torch_geometric.data import TemporalData

from pyg_mspipe.data import Labels, StreamError, read_labels

NAN = float("nan")


def stream(y=None):
    data = TemporalData(
        src=torch.tensor([0, 1, 0, 2]), dst=torch.tensor([3, 3, 4, 4]), t=torch.tensor([10, 20, 20, 30])
    )
    if y is not None:
        data.y = y
    return data


def test_labels_of_a_stream_are_of_its_sources_and_those_that_are_no_numbers_are_none():
    labels = Labels.of_stream(stream(torch.tensor([1.0, NAN, 0.0, 2.0])))
    assert labels.event.tolist() == [0, 2, 3]
    assert labels.node.tolist() == [0, 0, 2]
    assert labels.t.tolist() == [10, 20, 30]
    assert labels.y.tolist() == [1, 0, 2]
    assert labels.y.dtype == torch.int64
    assert labels.num_classes == 3


def test_a_label_of_two_classes_or_of_several_at_once():
    assert Labels.of_stream(stream(torch.tensor([True, False, True, True]))).num_classes == 2
    assert Labels.of_stream(stream(torch.zeros(4, dtype=torch.int64))).num_classes == 2
    several = Labels.of_stream(stream(torch.tensor([[1, 0, 1], [0, 0, 0], [0, NAN, 0], [1, 1, 1]])))
    assert several.event.tolist() == [0, 1, 3]
    assert several.y.dtype == torch.float32
    assert several.num_classes == 3


@pytest.mark.parametrize(
    ("y", "said"),
    [
        (torch.tensor([0, 1, -1, 0]), "event 2: y is -1; labels are classes, whole numbers from 0"),
        (torch.tensor([0, 1, 2.0**53, 0], dtype=torch.float64), "event 2: y is 9007199254740992.0; labels are classes"),
        (torch.tensor([0, 1, 2**63, 0], dtype=torch.uint64), "event 2: y is 9223372036854775808; labels are classes"),
        (torch.tensor([0, 1.5, 1, 0]), "event 1: y is 1.5; labels"),
        (torch.tensor([0, 1, 1, float("inf")]), "event 3: y is inf; labels"),
        (None, "the stream has no labels; name their column with --label, or give a file with --labels"),
    ],
)
def test_what_are_no_classes_is_refused(y, said):
    with pytest.raises(StreamError, match=f"^{said}"):
        Labels.of_stream(stream(y))


def test_labels_with_moments_of_their_own_are_asked_for_at_the_first_event_that_is_not_before_them():
    t = torch.tensor([31, 20, 5, 21, 30])
    labels = Labels.at(stream(), torch.tensor([0, 1, 2, 3, 4]), t, torch.tensor([0, 1, 0, 1, 1]))
    assert labels.t.tolist() == [5, 20, 21, 30]
    assert labels.event.tolist() == [0, 1, 3, 3]
    assert labels.node.tolist() == [2, 1, 3, 4]
    assert labels.y.tolist() == [0, 1, 1, 1]
    assert labels.dropped == 1
    assert [labels.count(range(*each)) for each in ((0, 1), (1, 3), (3, 4), (0, 4))] == [1, 1, 2, 4]
    few = labels.of(range(1, 4))
    assert (few.event.tolist(), few.node.tolist()) == ([0, 2, 2], [1, 3, 4])
    moved = labels.to(torch.device("cpu"))
    assert moved.dropped == 1


def test_a_node_without_events_or_a_label_that_is_no_number_is_refused():
    one = torch.tensor([1])
    with pytest.raises(StreamError, match="label 0: node 9 has no event in the stream; drop the label"):
        Labels.at(stream(), torch.tensor([9]), one, one)
    with pytest.raises(StreamError, match="label 0: y is not a number; fill it in or drop the label"):
        Labels.at(stream(), one, one, torch.tensor([NAN]))


@pytest.mark.parametrize("suffix", [".csv", ".npz"])
@pytest.mark.parametrize("several", [False, True])
def test_a_file_of_labels_is_read(tmp_path, suffix, several):
    path = tmp_path / f"labels{suffix}"
    columns = {"node": [1, 0], "t": [2, 1]} | ({"y_0": [0.5, 0.25], "y_1": [1, 2]} if several else {"y": [1, 0]})
    if suffix == ".npz":
        np.savez(path, **columns)
    else:
        rows = [",".join(map(str, row)) for row in zip(*columns.values(), strict=True)]
        path.write_text("\n".join([",".join(columns), *rows]))
    labels = read_labels(path, stream(), time_scale=10)
    assert labels.node.tolist() == [0, 1]
    assert labels.t.tolist() == [10, 20]
    assert labels.event.tolist() == [0, 1]
    assert labels.y.tolist() == ([[0.25, 2.0], [0.5, 1.0]] if several else [0, 1])


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("node,t\n0,1\n", "has no column y; it has node, t: name them node, t and y"),
        ("node,t,y\n", "has 0 nodes, 0 times and 0 labels; give one of each per row"),
        ("node,t,y\n0.5,1,1\n", "event 0 (line 2): node is 0.5, not a whole number"),
        ("node,t,y\n0,1.5,1\n", "event 0 (line 2): t is 1.5, not a whole number"),
        ("node,t,y\n0,1,1\n7,1,1\n", "label 1: node 7 has no event in the stream; drop the label"),
        ("node,t,y\n0,1,-1\n", "label 0: y is -1; labels are classes, whole numbers from 0"),
        ("node,t,y\nann,1,1\n", "column 'node' holds 'ann', not integer ids"),
    ],
)
def test_a_file_that_is_wrong_is_refused_in_one_line_that_names_it(tmp_path, text, said):
    path = tmp_path / "labels.csv"
    path.write_text(text)
    with pytest.raises(StreamError) as error:
        read_labels(path, stream())
    (line,) = error.value.problems
    assert line.startswith(str(path))
    assert said in line
