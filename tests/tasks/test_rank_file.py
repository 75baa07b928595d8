from pathlib import Path

import pytest
import torch
from pyarrow import parquet

from pyg_mspipe.data import EventGroups, split_stream, synthetic
from pyg_mspipe.tasks import LinkPrediction, Ranking, rank_table, write_ranks


@pytest.fixture
def parts():
    """A stream, its groups, and scores of its parts, of which some events have fewer negatives or none."""
    data = synthetic(400, num_src=60, num_dst=60)
    split, generator = split_stream(data), torch.Generator().manual_seed(0)
    scores = {}
    for part in ("val", "test"):
        sizes = [len(batch) for batch in torch.arange(len(getattr(split, part))).split(25)]
        scores[part] = [torch.randint(4, (8, size), generator=generator).float() for size in sizes]
        for each in scores[part]:
            counts = torch.randint(8, (each.size(1),), generator=generator)
            each[1:].masked_fill_(torch.arange(7)[:, None] >= counts, -torch.inf)
    tables = {part: [Ranking.of(each).table for each in batches] for part, batches in scores.items()}
    return data, split, EventGroups.of(data, split), tables


def test_what_is_read_back_comes_to_the_metrics(parts, tmp_path):
    data, split, groups, scores = parts
    tables = [rank_table(data, part, getattr(split, part), each, groups) for part, each in scores.items()]
    write_ranks(tmp_path / "ranks.parquet", tables)
    read = parquet.read_table(tmp_path / "ranks.parquet").to_pandas()
    assert list(path.name for path in tmp_path.iterdir()) == ["ranks.parquet"]
    for part in ("val", "test"):
        events, own = getattr(split, part), read[read.part == part]
        assert own.event.tolist() == list(events)
        for name in ("src", "dst", "t"):
            assert own[name].tolist() == data[name][events.start : events.stop].tolist()
        metrics = LinkPrediction(4).metrics(scores[part], events, groups)
        assert (1 / own["rank"]).mean() == pytest.approx(metrics.mrr)
        assert (own["rank"] <= 3).mean() == pytest.approx(metrics.hits_3)
        assert own.num_negatives.max() == metrics.num_negatives
        assert own.num_negatives.min() == 0
        in_group = {name: own[own.group == name.replace("_", "-")] for name in ("transductive", "new_new")}
        in_group |= {"inductive": own[own.group != "transductive"]}
        in_group |= {f"activity_{quarter}": own[own.quartile == quarter] for quarter in range(1, 5)}
        for name, rows in in_group.items():
            assert len(rows) == (metrics.groups[name].num_events if name in metrics.groups else 0)
            if len(rows):
                assert (1 / rows["rank"]).mean() == pytest.approx(metrics.groups[name].mrr)


def test_a_ctrl_c_while_ranks_are_written_leaves_what_was_there_before(parts, tmp_path, monkeypatch):
    data, split, groups, scores = parts
    table = rank_table(data, "val", split.val, scores["val"], groups)
    path = tmp_path / "ranks.parquet"

    def interrupted(table, file):
        file.write(b"half")
        raise KeyboardInterrupt

    monkeypatch.setattr(parquet, "write_table", interrupted)
    with pytest.raises(KeyboardInterrupt):
        write_ranks(path, [table])
    assert not list(Path(tmp_path).iterdir())
    path.write_bytes(b"before")
    with pytest.raises(KeyboardInterrupt):
        write_ranks(path, [table])
    assert path.read_bytes() == b"before"
    assert len(list(tmp_path.iterdir())) == 1
