"""The check of event streams, on whose guarantees all other code relies."""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from pyg_mspipe.data.errors import Problem, StreamError
from pyg_mspipe.data.stream_folder import folder_of

if TYPE_CHECKING:
    from torch_geometric.data import TemporalData

Place = Callable[[int], str]
"""Returns where in its source the event with a given number is, for error messages."""

Fields = dict[str, Tensor]
"""What a stream has of each event, by name: `src`, `dst`, `t` and whatever else there is, `E` entries each."""


def check_stream(
    data: TemporalData, *, sort: bool = False, msg_names: Sequence[str] = (), place: Place | None = None
) -> TemporalData:
    """Returns the stream in the form that the rest of the package relies on.

    The input is left as it is; tensors that need no change are shared with it. Further per-event attributes, such as
    labels `y: [E]`, are kept, and sorted along with the rest.

    Args:
        data: The events, in the order of their numbers.
        sort: Sort by time if needed; events of the same time keep their order.
        msg_names: The names of the columns of `msg` in the source, for error messages.
        place: Returns where in the source the event with a given number is, for error messages; by default its number.

    Returns:
        The stream with ``src: Int64[E], >= 0``, ``dst: Int64[E], >= 0``, ``t: Int64[E], non-decreasing`` and
        ``msg: Float32[E, D], finite``, where ``E >= 1`` and ``D`` may be 0.

    Raises:
        StreamError: If `find_problems` finds a problem.
    """
    from torch_geometric.data import TemporalData

    if not isinstance(data, TemporalData):
        raise StreamError(f"the stream is a {type(data).__name__}; give a TemporalData, such as load_stream returns")
    if folder_of(data, messages=True) is not None:
        return data  # checked when it was converted
    checked = copy.copy(data)
    for name, values in _in_form(data, sort=sort, msg_names=msg_names, place=place).items():
        checked[name] = values
    return checked if not sort or _is_sorted(checked["t"]) else checked[torch.argsort(checked["t"], stable=True)]


def check_fields(
    fields: Fields, *, sort: bool = False, msg_names: Sequence[str] = (), place: Place | None = None
) -> Fields:
    """Returns the fields of the stream that `check_stream` gives for a stream of these fields, without loading PyG.

    The arguments and what is raised are those of `check_stream`.
    """
    checked = fields | _in_form(fields, sort=sort, msg_names=msg_names, place=place)
    if not sort or _is_sorted(checked["t"]):
        return checked
    order = torch.argsort(checked["t"], stable=True)
    return {name: values[order] for name, values in checked.items()}


def _in_form(data: TemporalData | Fields, *, sort: bool, msg_names: Sequence[str], place: Place | None) -> Fields:
    """Returns `src`, `dst`, `t` and `msg` in the dtypes of a checked stream, or refuses them."""
    problems = find_problems(data, sort=sort, msg_names=msg_names, place=place)
    if problems:
        raise StreamError(*problems)
    formed: Fields = {name: data[name].to(torch.int64) for name in ("src", "dst", "t")}
    src = formed["src"]
    formed["msg"] = data["msg"].float() if "msg" in data else src.new_empty((len(src), 0), dtype=torch.float32)
    return formed


def _is_sorted(t: Tensor) -> bool:
    return not bool((t[1:] < t[:-1]).any())


def find_problems(
    data: TemporalData | Mapping[str, Tensor],
    *,
    sort: bool = False,
    msg_names: Sequence[str] = (),
    place: Place | None = None,
) -> list[str]:
    """Returns all problems that make a stream unusable, one line each; an empty list if there are none.

    For each kind of problem, the first event that shows it is named.

    Args:
        data: The events, in the order of their numbers, or their fields: `src: [E]`, `dst: [E]`, `t: [E]` and others.
        sort: Whether the stream will be sorted, so that decreasing times are no problem.
        msg_names: The names of the columns of `msg` in the source, for error messages.
        place: Returns where in the source the event with a given number is, for error messages; by default its number.
    """
    return list(_problems(data, sort=sort, msg_names=msg_names, place=place or "event {}".format))


def _problems(
    data: TemporalData | Mapping[str, Tensor], *, sort: bool, msg_names: Sequence[str], place: Place
) -> Iterator[str]:
    shape_problems = list(_shape_problems(data))
    yield from shape_problems
    if shape_problems:
        return  # values can be checked only if all fields have one entry per event
    for name in ("src", "dst", "t"):
        yield from _value_problems(name, data[name], place)
    if not sort and not data["t"].is_complex():
        t = _comparable(data["t"])
        event = _first(t[1:] < t[:-1])
        if event is not None:
            before, after = t[event : event + 2].tolist()
            text = f"{place(event + 1)}: t decreases from {before} to {after}; sort the stream or pass sort=True"
            yield Problem(text, sort=True)
    if not sort and not data["t"].is_floating_point() and not data["t"].is_complex() and data["t"].dtype != torch.bool:
        first, last = int(data["t"][0]), int(data["t"][-1])
        if last - first >= 2**63:
            yield f"t goes from {first} to {last}, further than int64 counts; check the unit of both"
    if "msg" in data:
        yield from _feature_problems(data["msg"], msg_names, place)


def _shape_problems(data: TemporalData | Mapping[str, Tensor]) -> Iterator[str]:
    required = ("src", "dst", "t")
    present = {name: data[name] for name in (*required, "msg", "y") if name in data}
    missing = [name for name in required if name not in present]
    if missing:
        yield f"the stream has no {', '.join(missing)}; a TemporalData needs src, dst and t, one entry per event"
    misshapen = False
    for name, value in present.items():
        if not isinstance(value, Tensor):
            yield f"{name} is a {type(value).__name__}; make it a tensor with torch.as_tensor({name})"
            return
        if value.layout != torch.strided:
            yield f"{name} is a sparse tensor; pass {name}.to_dense()"
            return
        shape = tuple(value.shape)
        if name in required and len(shape) != 1:
            misshapen = True
            yield f"{name} has shape {shape}, not [E]; pass {name}.flatten() if it holds one entry per event"
        elif name == "msg" and len(shape) != 2:
            misshapen = True
            mend = "msg.unsqueeze(-1)" if len(shape) == 1 else "msg.flatten(1)"
            yield f"msg has shape {shape}, not [E, D]; pass {mend}, or leave msg out if there are no features"
    if missing or misshapen:
        return
    lengths = {name: value.size(0) if value.dim() else 0 for name, value in present.items()}
    if len(set(lengths.values())) > 1:
        listed = ", ".join(f"{name} {length}" for name, length in lengths.items())
        yield f"the lengths of the fields differ ({listed}); give each field one entry per event"
    elif lengths["src"] == 0:
        yield "the stream is empty; give it at least one event"


def _value_problems(name: str, values: Tensor, place: Place) -> Iterator[str]:
    """Yields the problems of `src`, `dst` or `t` (`values: [E]`): values that are not whole, ids below 0."""
    mends = {}
    if name == "t":
        mends = {"time_scale": _scale(values)}
        mend = (
            f"times are kept as int64: pass time_scale={mends['time_scale']} to load_stream, or multiply t, to keep a "
            f"finer unit"
        )
    else:
        mend = "node ids are whole numbers from 0: pass relabel=True to load_stream, or number them"
    if values.dtype == torch.bool or values.is_complex():
        yield f"{name} has dtype {_dtype(values)}; give it as int64"
        return
    if values.is_floating_point():
        finite = torch.isfinite(values)
        event = _first(~finite)
        if event is not None:
            yield f"{place(event)}: {name} is {values[event].item()}; drop the event or fill in its {name}"
        event = _first(finite & (values != values.trunc()))
        if event is not None:
            yield Problem(f"{place(event)}: {name} is {values[event].item()}, not a whole number; {mend}", **mends)
        exact_up_to = 2.0 / torch.finfo(values.dtype).eps
        event = _first(finite & (values.abs() >= exact_up_to))
        if event is not None:
            yield (
                f"{place(event)}: {name} is {values[event].item():.0f}, past {exact_up_to:.0f}, where "
                f"{_dtype(values)} skips whole numbers; give {name} as int64"
            )
    if name != "t":
        event = _first(_comparable(values) < 0)
        if event is not None:
            yield f"{place(event)}: {name} is {values[event].item()}, a negative node id; {mend}"


def _scale(t: Tensor) -> int:
    """Returns the factor that makes the times whole: that of milliseconds, or the next where these are too coarse."""
    if not t.is_floating_point():
        return 1000
    finite = t[torch.isfinite(t)].double()
    for scale in (1000, 1_000_000):
        # A time read from decimal digits is the float next to their number.
        if bool((((finite * scale).round() / scale) == finite).all()):
            return scale
    return 1000


def _feature_problems(msg: Tensor, names: Sequence[str], place: Place) -> Iterator[str]:
    if msg.dtype == torch.bool or msg.is_complex():
        yield f"msg has dtype {_dtype(msg)}; give it as float32"
        return
    finite = torch.isfinite(msg.float())
    if not finite.all():
        event, column = (~finite).nonzero()[0].tolist()
        value = msg[event, column].item()
        what = "beyond the range of float32" if msg[event, column].isfinite() else "not finite"
        # One name can stand for several columns of msg; then the name of this column is not known.
        where = f"'{names[column]}'" if len(names) == msg.size(1) else column
        yield f"{place(event)}: msg is {value} in column {where}, {what}; fill in, scale or drop it"


def _first(mask: Tensor) -> int | None:
    """Returns the index of the first true entry of `mask: Bool[E]`, if there is one."""
    return int(mask.int().argmax()) if bool(mask.any()) else None


def _comparable(values: Tensor) -> Tensor:
    """Returns the values in a dtype that torch can compare; it cannot compare unsigned integers."""
    return values if values.is_floating_point() else values.to(torch.int64)


def _dtype(values: Tensor) -> str:
    return str(values.dtype).removeprefix("torch.")
