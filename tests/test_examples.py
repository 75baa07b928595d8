import re
from pathlib import Path

import numpy as np
import pytest
from processes import Forked, torchrun

from pyg_mspipe import load_stream

ROOT = Path(__file__).parents[1]


def run(*command):
    process = Forked(*command, cwd=ROOT)
    out, errors = process.communicate()
    assert process.returncode == 0, errors
    return out


def test_the_drop_in_example_learns():
    ap = float(run("examples/tgn_drop_in.py", "--epochs", "1").split()[-1])
    assert ap > 0.8


@pytest.mark.parametrize("staleness", ["exact", "minimal"])
def test_the_pipelined_example_learns(staleness):
    ap = float(run("examples/tgn_pipeline.py", "--epochs", "1", "--staleness", staleness).split()[-1])
    assert ap > 0.8


def test_the_pipelined_example_changes_at_most_ten_lines():
    text = (ROOT / "examples" / "tgn_pipeline.py").read_text(encoding="utf-8")
    assert 1 <= text.count("# <-\n") <= 10


def test_a_csv_file_is_trained_on_and_tested():
    *_, val, test = run("examples/own_data.py", "--epochs", "1").splitlines()
    for part, line in (("val", val), ("test", test)):
        numbers = r"AP (0\.\d{4})  MRR@10 (0\.\d{4})  AP of unseen nodes (0\.\d{4})"
        found = re.fullmatch(rf"{part} +{numbers}", line)
        assert found, line
        assert float(found[1]) > 0.55


def test_a_csv_file_may_be_given(tmp_path):
    path = tmp_path / "mine.csv"
    rows = [f"{'abc'[i % 3]},{i % 5},2024-01-01 00:{59 - i % 60:02}:00,{i / 10}" for i in range(240)]
    path.write_text("\n".join(["user,item,time,amount", *rows]), encoding="utf-8")
    assert "AP of unseen nodes none" in run("examples/own_data.py", path, "--epochs", "1")


def test_a_custom_message_and_aggregator_learn():
    ap = float(run("examples/custom_message.py", "--epochs", "1").split()[-1])
    assert ap > 0.8


def test_a_trained_model_scores_links_and_gives_vectors(tmp_path):
    said = run("examples/score_links.py", "--epochs", "1", "--source", "3", "--vectors", tmp_path / "vectors.npy")
    scores = [float(score) for score in re.findall(r"source 3 -> destination \d+: (-?\d+\.\d{3})", said)]
    assert len(scores) == 5
    assert scores == sorted(scores, reverse=True)
    nodes, width = np.load(tmp_path / "vectors.npy").shape
    assert (nodes, width) == (load_stream("synthetic").num_nodes, 100)


def test_two_trainers_under_torchrun_report_once_and_do_as_one_process_that_stands_for_them():
    processes = torchrun(2, ROOT / "examples/distributed.py", "--epochs", "2")
    together = "".join(process.communicate()[0] for process in processes).splitlines()
    notice, *alone = run("examples/distributed.py", "--epochs", "2").splitlines()
    assert "not started by torchrun" in notice
    assert alone == together
    assert float(alone[0].split()[-1]) > 0.7


def test_a_model_of_ones_own_learns_in_two_processes():
    processes = torchrun(2, ROOT / "examples/tgn_ddp.py", "--epochs", "1")
    said = "".join(process.communicate()[0] for process in processes)
    assert float(said.split()[-1]) > 0.8


def test_a_timeline_is_read_and_drawn(tmp_path):
    pytest.importorskip("matplotlib")
    said = run("examples/read_timeline.py", "--staleness", "1", "--png", tmp_path / "out.png")
    assert re.search(r"batches a second; limited by \w+: ", said)
    assert re.search(r"memory missed \d commits in \d+ of 70 batches", said)
    assert (tmp_path / "out.png").read_bytes().startswith(b"\x89PNG")


def test_labels_of_nodes_are_told_with_an_embedding_that_stays_and_with_one_that_is_trained():
    said = run("examples/node_labels.py", "--epochs", "1")
    aucs = dict(re.findall(r"(frozen|together) +test AUC (\d\.\d{4})  AP \d\.\d{4}  3,000 labels", said))
    assert set(aucs) == {"frozen", "together"}
    # One epoch on some fifty positive labels: on another processor one of the two may not have found them yet.
    assert max(map(float, aucs.values())) > 0.6, said


def test_labels_of_events_are_told():
    auc, ap, chance = map(float, re.findall(r"\d\.\d{4}", run("examples/edge_labels.py", "--epochs", "2")))
    assert auc > 0.6
    assert ap > chance


@pytest.mark.parametrize("example", ["node_properties.py", "tgn_property_drop_in.py"])
def test_node_properties_are_told(example):
    figures = re.findall(r"\d\.\d{4}", run(f"examples/{example}", "--epochs", "2"))
    assert float(figures[0]) > 0.1, figures
