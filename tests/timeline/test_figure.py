import struct
import sys

import pytest
from matplotlib.figure import Figure
from pipelined_records import pipelined

from pyg_mspipe.pipeline.record import STAGES, BatchRecord
from pyg_mspipe.timeline.figure import draw_timeline


def labels(figure):
    return [text.get_text() for text in figure.axes[0].texts if text.get_text()]


def arrows_drawn(figure):
    """Where arrows begin and end, in milliseconds."""
    return sorted((text.xyann[0], text.xy[0]) for text in figure.axes[0].texts if not text.get_text())


def test_the_figure_is_a_png_of_sensible_size(tmp_path):
    draw_timeline(pipelined(jitter=0.3), tmp_path / "out.png")
    content = (tmp_path / "out.png").read_bytes()
    assert content[:8] == b"\x89PNG\r\n\x1a\n"
    width, height = struct.unpack(">II", content[16:24])
    assert 1200 <= width <= 3000
    assert 500 <= height <= 1500
    assert 10_000 < len(content) < 500_000
    assert [path.name for path in tmp_path.iterdir()] == ["out.png"]


def test_a_dozen_batches_from_the_middle_are_drawn_unless_told_otherwise(tmp_path):
    records = pipelined((3, 2, 2, 5, 4), 100)
    figure = draw_timeline(records, str(tmp_path / "out.png"))
    trained = set(range(44, 56))
    assert trained <= {int(label) for label in labels(figure)} <= trained | set(range(40, 62))


@pytest.mark.parametrize(
    ("first", "last", "expected"), [(0, 5, (0, 5)), (None, 5, (0, 5)), (90, None, (90, 99)), (7, 7, (7, 7))]
)
def test_first_and_last_choose_what_is_drawn(tmp_path, first, last, expected):
    records = pipelined((3, 2, 2, 5, 4), 100)
    axes = draw_timeline(records, tmp_path / "out.png", first=first, last=last).axes[0]
    start, end = records[expected[0]], records[expected[1]]
    begin = min(start.begin.values()) if expected[0] == 0 else start.begin["fetch"]
    length = (end.finish["update"] - begin) * 1000
    assert axes.get_xlim() == pytest.approx((-0.005 * length, 1.005 * length))


def test_arrows_in_the_figure_lead_from_each_commit_to_the_first_fetch_that_saw_it(tmp_path):
    records = pipelined((2, 3, 2, 4, 5), 30, bound=3, jitter=0.8)
    first_seen_by = {
        commit: next(record for record in records if record.fetched > commit) for commit in range(records[-1].fetched)
    }
    assert len({record.index for record in first_seen_by.values()}) < len(first_seen_by), "no fetch saw two new commits"
    ends = {(commit, record.index) for commit, record in first_seen_by.items()}
    ends |= {(record.fetched - 1, record.index) for record in records if record.fetched > 0}
    expected = sorted((records[c].finish["update"] * 1000, records[i].begin["fetch"] * 1000) for c, i in ends)
    drawn = arrows_drawn(draw_timeline(records, tmp_path / "out.png", first=0, last=29))
    assert [x for pair in drawn for x in pair] == pytest.approx([x for pair in expected for x in pair])


@pytest.mark.parametrize(("first", "last"), [(5, 3), (100, 110), (100, None)])
def test_batches_that_are_not_there_are_refused(tmp_path, first, last):
    with pytest.raises(ValueError, match=r"no batches from \d+ to \d+; there are 0 to 39, choose among them"):
        draw_timeline(pipelined(), tmp_path / "out.png", first=first, last=last)
    assert not (tmp_path / "out.png").exists()


def test_unfinished_batches_are_drawn_as_far_as_they_came(tmp_path):
    records = pipelined(batches=6)
    for record, missing in zip(records[1:], range(1, 6), strict=True):
        for stage in STAGES[-missing:]:
            del record.finish[stage]
    draw_timeline(records, tmp_path / "out.png")
    draw_timeline(records, tmp_path / "late.png", first=3)
    with pytest.raises(ValueError, match="no batch finished a stage"):
        draw_timeline([BatchRecord(0)], tmp_path / "none.png")


def test_bars_too_narrow_for_a_white_edge_have_one_of_their_colour(tmp_path):
    bars = draw_timeline(pipelined((0.01, 1, 1, 9, 1)), tmp_path / "out.png").axes[0].patches
    narrow = [bar for bar in bars if bar.get_height() == pytest.approx(0.72) and bar.get_width() < 0.1]
    assert narrow
    assert all(bar.get_edgecolor() == bar.get_facecolor() and bar.get_linewidth() > 0.5 for bar in narrow)


def test_a_figure_is_drawn_into_axes_of_ones_own():
    figure = Figure()
    upper, lower = figure.subplots(2)
    assert draw_timeline(pipelined(), lower) is figure
    assert lower.patches
    assert not upper.patches


def test_without_matplotlib_the_error_names_the_extra(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "matplotlib.figure", None)
    with pytest.raises(ImportError, match=r"pip install 'pyg-mspipe\[plot\]'"):
        draw_timeline(pipelined(), tmp_path / "out.png")
