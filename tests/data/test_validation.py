import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch_geometric.data import TemporalData

from pyg_mspipe.data import StreamError, check_stream, find_problems


def stream(**changed: torch.Tensor | None) -> TemporalData:
    fields = {
        "src": torch.tensor([0, 1, 2, 0]),
        "dst": torch.tensor([3, 3, 4, 0]),
        "t": torch.tensor([10, 10, 11, 15]),
        "msg": torch.zeros(4, 2),
    }
    return TemporalData(**(fields | changed))


def test_a_sound_stream_passes_and_shares_its_tensors():
    data = stream()
    checked = check_stream(data)
    assert find_problems(data) == []
    assert all(checked[name] is data[name] for name in ("src", "dst", "t", "msg"))


def test_dtypes_are_normalised_and_the_input_is_left_alone():
    data = stream(
        src=torch.tensor([0, 1, 2, 0], dtype=torch.int32),
        dst=torch.tensor([3.0, 3.0, 4.0, 0.0]),
        t=torch.tensor([10, 10, 11, 15], dtype=torch.float64),
        msg=torch.ones(4, 2, dtype=torch.float64),
    )
    checked = check_stream(data)
    assert [checked[name].dtype for name in ("src", "dst", "t", "msg")] == [torch.int64] * 3 + [torch.float32]
    assert checked.dst.tolist() == [3, 3, 4, 0]
    assert data.src.dtype == torch.int32


@pytest.mark.parametrize("dtype", [torch.uint8, torch.uint16, torch.int8, torch.float16, torch.bfloat16])
def test_every_dtype_that_holds_whole_numbers_is_taken(dtype):
    assert check_stream(stream(src=torch.tensor([0, 1, 2, 0]).to(dtype))).src.tolist() == [0, 1, 2, 0]


def test_absent_features_become_features_of_width_zero():
    checked = check_stream(stream(msg=None))
    assert checked.msg.shape == (4, 0)
    assert checked.msg.dtype == torch.float32


def test_labels_are_kept_as_they_are():
    labels = torch.tensor([0, 0, 1, 0], dtype=torch.int8)
    assert check_stream(stream(y=labels)).y is labels


def test_epoch_milliseconds_survive():
    t = torch.tensor([1_700_000_000_001, 1_700_000_000_002, 1_700_000_000_002, 1_700_000_000_003])
    assert torch.equal(check_stream(stream(t=t)).t, t)


def test_thousands_of_events_at_one_instant_keep_their_order():
    events = torch.arange(10_000)
    data = TemporalData(src=events, dst=events.flip(0), t=(events < 5000).long())
    assert torch.equal(check_stream(data, sort=True).src, events.roll(5000))


BAD = {
    "lengths": ({"dst": torch.tensor([1])}, "the lengths of the fields differ (src 4, dst 1, t 4, msg 4); give each"),
    "label lengths": ({"y": torch.zeros(3)}, "the lengths of the fields differ (src 4, dst 4, t 4, msg 4, y 3); "),
    "negative id": ({"dst": torch.tensor([3, -7, 4, 0])}, "event 1: dst is -7, a negative node id; "),
    "negative float id": ({"dst": torch.tensor([3.0, -7.0, 4.0, 0.0])}, "event 1: dst is -7.0, a negative node id; "),
    "fractional id": ({"src": torch.tensor([0, 1, 2.5, 0])}, "event 2: src is 2.5, not a whole number; "),
    "id that is NaN": ({"src": torch.tensor([0, torch.nan, 2, 0])}, "event 1: src is nan; drop the event"),
    "id beyond float32": ({"src": torch.tensor([0, 2.0**24 + 2, 2, 0])}, "event 1: src is 16777218, past 16777216, wh"),
    "bool id": ({"src": torch.tensor([True] * 4)}, "src has dtype bool; give it as int64"),
    "complex id": ({"src": torch.zeros(4, dtype=torch.complex64)}, "src has dtype complex64; give it as int64"),
    "decreasing t": (
        {"t": torch.tensor([10, 9, 11, 8])},
        "event 1: t decreases from 10 to 9; sort the stream or pass sort=True",
    ),
    "unsigned decreasing t": (
        {"t": torch.tensor([10, 9, 11, 12], dtype=torch.uint16)},
        "event 1: t decreases from 10 to 9; sort the stream or pass sort=True",
    ),
    "fractional t": (
        {"t": torch.tensor([10, 10, 10.25, 11])},
        "event 2: t is 10.25, not a whole number; times are kept as int64: pass time_scale=1000 to load_stream",
    ),
    "fractional t before 0": ({"t": torch.tensor([-1.5, 0, 1, 2])}, "event 0: t is -1.5, not a whole number; times "),
    "rounded t": ({"t": torch.tensor([1.7e9] * 4)}, "event 0: t is 1700000000, past 16777216, where float32 skips"),
    "infinite t": ({"t": torch.tensor([0, 1, 2, torch.inf])}, "event 3: t is inf; drop the event"),
    "complex t": ({"t": torch.zeros(4, dtype=torch.complex64)}, "t has dtype complex64; give it as int64"),
    "NaN feature": (
        {"msg": torch.tensor([[0.0, 0], [0, torch.nan], [0, 0], [0, 0]])},
        "event 1: msg is nan in column 1",
    ),
    "huge feature": (
        {"msg": torch.tensor([[0.0], [0], [1e300], [0]], dtype=torch.float64)},
        "event 2: msg is 1e+300 in column 0, beyond the range of float32; ",
    ),
    "bool features": ({"msg": torch.zeros(4, 1, dtype=torch.bool)}, "msg has dtype bool; give it as float32"),
    "flat features": ({"msg": torch.zeros(4)}, "msg has shape (4,), not [E, D]; pass msg.unsqueeze(-1)"),
    "ids in a column": ({"src": torch.zeros(4, 1)}, "src has shape (4, 1), not [E]; pass src.flatten()"),
    "no times": ({"t": None}, "the stream has no t; a TemporalData needs src, dst and t"),
    "a list": ({"t": [1, 2, 3, 4]}, "t is a list; make it a tensor with torch.as_tensor(t)"),
    "empty": (
        {"src": torch.empty(0), "dst": torch.empty(0), "t": torch.empty(0), "msg": None},
        "the stream is empty; give it at least one event",
    ),
}


@pytest.mark.parametrize(("changed", "message"), BAD.values(), ids=BAD.keys())
def test_bad_input_is_named_with_its_place_and_the_way_to_mend_it(changed, message):
    with pytest.raises(StreamError) as raised:
        check_stream(stream(**changed))
    assert str(raised.value).startswith(message)
    assert "\n" not in str(raised.value)
    assert find_problems(stream(**changed)) == [str(raised.value)]


def test_all_problems_are_found_and_the_first_is_raised():
    data = stream(
        src=torch.tensor([0.5, -1.0, torch.nan, 0]),
        t=torch.tensor([3, 2, 2, 2]),
        msg=torch.full((4, 1), torch.inf),
    )
    problems = find_problems(data)
    assert [problem.split(";")[0] for problem in problems] == [
        "event 2: src is nan",
        "event 0: src is 0.5, not a whole number",
        "event 1: src is -1.0, a negative node id",
        "event 1: t decreases from 3 to 2",
        "event 0: msg is inf in column 0, not finite",
    ]
    with pytest.raises(StreamError) as raised:
        check_stream(data)
    assert str(raised.value) == problems[0]


def test_decreasing_times_are_no_problem_where_the_stream_will_be_sorted():
    assert find_problems(stream(t=torch.tensor([4, 3, 2, 1])), sort=True) == []


@given(times=st.lists(st.integers(0, 5), min_size=1, max_size=40))
def test_sorting_moves_every_field_along_and_keeps_the_order_of_ties(times):
    events = torch.arange(len(times))
    data = TemporalData(src=events, dst=events + 1, t=torch.tensor(times), msg=events.view(-1, 1).float(), y=events * 2)
    checked = check_stream(data, sort=True)
    expected = sorted(range(len(times)), key=lambda event: times[event])
    assert checked.src.tolist() == expected
    assert checked.dst.tolist() == [event + 1 for event in expected]
    assert checked.t.tolist() == sorted(times)
    assert checked.msg.flatten().tolist() == expected
    assert checked.y.tolist() == [2 * event for event in expected]
