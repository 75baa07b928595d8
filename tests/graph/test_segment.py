import pytest
import torch
import torch_geometric.typing
from hypothesis import given, settings
from hypothesis import strategies as st

from pyg_mspipe.graph.segment import segment_argmax, segment_ids, segment_max

SEGMENTS = st.lists(st.lists(st.integers(-3, 3), max_size=4), max_size=6)
INSTALLED = pytest.mark.skipif(not torch_geometric.typing.WITH_TORCH_SCATTER, reason="torch_scatter is not installed")
BACKENDS = [pytest.param(True, id="torch_scatter", marks=INSTALLED), pytest.param(False, id="torch")]


def packed(segments, dtype=torch.long):
    src = torch.tensor([x for segment in segments for x in segment], dtype=dtype)
    ptr = torch.tensor([0, *(len(segment) for segment in segments)]).cumsum(0)
    return src, ptr


@pytest.mark.parametrize("scatter", BACKENDS)
@pytest.mark.parametrize("dtype", [torch.int64, torch.float32])
@settings(deadline=None)
@given(segments=SEGMENTS)
def test_the_maximum_of_each_segment_is_that_of_a_loop_and_0_where_it_is_empty(scatter, dtype, segments):
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(torch_geometric.typing, "WITH_TORCH_SCATTER", scatter)
        out = segment_max(*packed(segments, dtype))
    assert out.dtype == dtype
    assert out.tolist() == [max(segment, default=0) for segment in segments]


@pytest.mark.parametrize("scatter", BACKENDS)
@pytest.mark.parametrize("last", [False, True])
@settings(deadline=None)
@given(segments=SEGMENTS)
def test_the_place_of_the_maximum_is_the_first_or_the_last_of_equal_ones(scatter, last, segments):
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(torch_geometric.typing, "WITH_TORCH_SCATTER", scatter)
        src, ptr = packed(segments)
        out = segment_argmax(src, ptr, last=last)
    assert out.numel() == len(segments)
    for place, begin, segment in zip(out.tolist(), ptr.tolist(), segments, strict=False):
        if segment:
            places = [i for i, x in enumerate(segment) if x == max(segment)]
            assert place == begin + places[-1 if last else 0]


@given(segments=SEGMENTS)
def test_every_item_is_told_its_segment(segments):
    expected = [number for number, segment in enumerate(segments) for _ in segment]
    assert segment_ids(packed(segments)[1]).tolist() == expected
