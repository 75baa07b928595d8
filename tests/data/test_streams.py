import inspect
from pathlib import Path

import pytest
import torch
from torch_geometric.data import TemporalData

from pyg_mspipe.data import StreamError, check_stream, load_stream, synthetic
from pyg_mspipe.data.generator import synthetic_fields
from pyg_mspipe.data.streams import load_fields
from pyg_mspipe.data.validation import check_fields
from pyg_mspipe.training import TrainConfig, Trainer

HEADER = "user_id,item_id,timestamp,state_label,comma_separated_list_of_features"


@pytest.fixture
def wikipedia(tmp_path):
    """A root folder with a small raw file of the JODIE set."""
    raw = tmp_path / "JODIE" / "wikipedia" / "raw" / "wikipedia.csv"
    raw.parent.mkdir(parents=True)
    raw.write_text(f"{HEADER}\n0,0,0.0,0,0.5,1.0\n1,0,36.0,0,0.1,2.0\n1,1,77.0,1,0.2,3.0\n")
    return tmp_path


def test_a_jodie_set_is_read_with_items_behind_users(wikipedia):
    data = load_stream("wikipedia", root=wikipedia)
    assert (data.src.tolist(), data.dst.tolist()) == ([0, 1, 1], [2, 2, 3])
    assert (data.t.tolist(), data.y.tolist()) == ([0, 36, 77], [0, 0, 1])
    assert torch.equal(data.msg, torch.tensor([[0.5, 1.0], [0.1, 2.0], [0.2, 3.0]]))


def test_a_jodie_set_is_checked(wikipedia):
    raw = wikipedia / "JODIE" / "wikipedia" / "raw" / "wikipedia.csv"
    raw.write_text(f"{HEADER}\n0,0,9.0,0,0.5\n1,0,3.0,0,0.1\n")
    with pytest.raises(StreamError, match="event 1: t decreases from 9 to 3"):
        load_stream("wikipedia", root=wikipedia)
    assert load_stream("wikipedia", root=wikipedia, sort=True).t.tolist() == [3, 9]


@pytest.mark.parametrize("content", ["", f"{HEADER}\n0,0,x,0,0.5\n", f"{HEADER}\n0,0\n"])
def test_a_damaged_jodie_file_is_named(wikipedia, content):
    raw = wikipedia / "JODIE" / "wikipedia" / "raw" / "wikipedia.csv"
    raw.write_text(content)
    with pytest.raises(StreamError) as raised:
        load_stream("wikipedia", root=wikipedia)
    assert str(raised.value).startswith(f"{raw} is damaged (")
    assert "\n" not in str(raised.value)


def test_a_download_without_network_says_what_to_do(tmp_path, monkeypatch):
    for name in ("http_proxy", "https_proxy"):
        monkeypatch.setenv(name, "http://127.0.0.1:9")
    monkeypatch.delenv("no_proxy", raising=False)
    with pytest.raises(StreamError) as raised:
        load_stream("mooc", root=tmp_path)
    assert str(raised.value).startswith("mooc cannot be fetched from http")
    assert str(raised.value).endswith(f"or place the file at {tmp_path / 'JODIE' / 'mooc' / 'raw' / 'mooc.csv'}")
    assert "\n" not in str(raised.value)


def test_a_tgb_set_is_read_from_its_folder_under_the_root(tmp_path, monkeypatch):
    pytest.importorskip("tgb.linkproppred.dataset")
    folder = tmp_path / "sets" / "tgbl_wiki"
    folder.mkdir(parents=True)
    (folder / "tgbl-wiki_edgelist_v2.csv").write_text(
        f"{HEADER}\n0,0,0.0,0,0.5,1.0\n1,0,36.0,0,0.1,2.0\n1,1,77.0,1,0,3\n"
    )
    monkeypatch.chdir(tmp_path)
    data = load_stream("tgbl-wiki", root="sets")
    assert (data.src.tolist(), data.dst.tolist(), data.t.tolist()) == ([0, 1, 1], [2, 2, 3], [0, 36, 77])
    assert torch.equal(data.msg, torch.tensor([[0.5, 1.0], [0.1, 2.0], [0.0, 3.0]]))
    assert "y" not in data


def test_a_set_of_tgb_with_node_properties_has_labels(tmp_path, monkeypatch):
    pytest.importorskip("tgb.nodeproppred.dataset")
    folder = tmp_path / "sets" / "tgbn_trade"
    folder.mkdir(parents=True)
    years, of = range(2000, 2040), "ABCD"
    rows = [f"{year},{u},{v},{1 + n}" for n, year in enumerate(years) for u in of for v in of if u != v]
    for name in ("tgbn-trade_edgelist.csv", "tgbn-trade_node_labels.csv"):
        (folder / name).write_text("\n".join(["year,nation,trading nation,weight", *rows]) + "\n")
    monkeypatch.setattr("builtins.input", lambda _: "n")
    data = load_stream("tgbn-trade", root=tmp_path / "sets")
    assert (data.num_events, data.num_nodes) == (480, 4)
    config = TrainConfig(task="property", epochs=1, memory_dim=4, time_dim=4, embedding_dim=4, tensorboard=False)
    source = {"name_or_path": "tgbn-trade", "root": str(tmp_path / "sets")}
    trainer = Trainer(data, config, source=source)
    assert trainer.task.labels.y.shape == (160, 4)
    assert trainer.task.labels.y[0].tolist() == [0.0, 1.0, 1.0, 1.0]
    assert trainer.fit().best > 0.5


def test_without_py_tgb_its_sets_say_what_to_install(tmp_path):
    try:
        import tgb  # noqa: F401
    except ImportError:
        with pytest.raises(StreamError, match=r"tgbl-wiki needs tgb; pip install 'pyg_mspipe\[tgb\]'"):
            load_stream("tgbl-wiki", root=tmp_path)
    else:
        pytest.skip("py-tgb is installed")


def test_the_generator_is_loaded_by_name_with_its_options():
    loaded = load_stream("synthetic", num_events=50, num_src=5, num_dst=6, bipartite=False, labels=True, seed=3)
    made = synthetic(50, num_src=5, num_dst=6, bipartite=False, labels=True, seed=3)
    assert all(torch.equal(loaded[name], made[name]) for name in ("src", "dst", "t", "msg", "y"))
    assert int(load_stream("synthetic", num_events=50).dst.min()) >= 1000


def test_what_is_read_without_pyg_takes_the_arguments_of_what_is_read_with_it():
    for fields, stream in ((load_fields, load_stream), (synthetic_fields, synthetic)):
        assert inspect.signature(fields).parameters == inspect.signature(stream).parameters


@pytest.mark.parametrize("sort", [False, True])
def test_checked_fields_are_those_of_the_checked_stream(sort):
    t = torch.tensor([5, 3, 4, 3] if sort else [3, 3, 4, 5], dtype=torch.int32)
    fields = {"src": torch.tensor([0, 1, 2, 3]), "dst": torch.tensor([4.0, 5.0, 6.0, 7.0]), "t": t}
    fields["y"] = torch.tensor([0, 1, 2, 3])
    checked, stream = check_fields(fields, sort=sort), check_stream(TemporalData(**fields), sort=sort)
    assert sorted(checked) == sorted(stream.to_dict())
    assert all(torch.equal(values, stream[name]) for name, values in checked.items())
    assert checked["y"].tolist() == ([1, 3, 2, 0] if sort else [0, 1, 2, 3])


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("wikipdia", "no stream is named 'wikipdia'; did you mean 'wikipedia'? known are wikipedia, reddit, mooc, "),
        ("Reddit", "no stream is named 'Reddit'; did you mean 'reddit'?"),
        ("tgbl-wiky", "no stream is named 'tgbl-wiky'; did you mean 'tgbl-wiki'?"),
        ("qqqqq", "no stream is named 'qqqqq'; known are "),
        ("missing.csv", "missing.csv does not exist; give the path of "),
        ("folder/missing", "folder/missing does not exist; give the path of "),
        (Path("wikipedia"), "wikipedia does not exist; give the path of "),
        (".", ". is a folder; give the path of "),
        ("notes.md", "notes.md: the format of 'notes.md' is not known; use one of .csv, .txt, .tsv, .csv.gz, .txt.gz"),
    ],
)
def test_unknown_names_and_paths_are_refused_with_what_is_known(name, message, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    Path("notes.md").touch()
    with pytest.raises(StreamError) as raised:
        load_stream(name)
    assert str(raised.value).startswith(message)


@pytest.mark.parametrize(
    ("name", "options", "message"),
    [
        (
            "wikipedia",
            {"relabel": True, "bipartite": True},
            "wikipedia: leave out relabel, bipartite, which only files take",
        ),
        (
            "synthetic",
            {"columns": {}, "time_scale": 2},
            "synthetic: leave out columns, time_scale, which only files take",
        ),
        ("reddit", {"num_events": 5}, "reddit: leave out num_events, which only the stream 'synthetic' takes"),
        ("events.csv", {"seed": 5}, "events.csv: leave out seed, which only the stream 'synthetic' takes"),
    ],
)
def test_options_of_another_source_are_refused(name, options, message):
    with pytest.raises(StreamError) as raised:
        load_stream(name, **options)
    assert str(raised.value).startswith(message)


@pytest.mark.parametrize("name", ["wikipedia", "collegemsg", "enron", "higgs_activity"])
def test_real_streams_pass_the_check(shared_data, name):
    data = load_stream(shared_data / f"{name}.npz")
    assert data.src.dtype == data.dst.dtype == data.t.dtype == torch.int64
    assert data.msg.shape == (data.num_events, 3 if name == "higgs_activity" else 0)
