"""``mspipe evaluate`` and ``mspipe train`` by protocols other than the default."""

import json
from pathlib import Path

import numpy as np
import pytest
from pyarrow import parquet
from small_commands import SMALL

from pyg_mspipe.data import load_stream, split_stream


@pytest.fixture
def run(train, npz):
    train(npz(), "--out", "run")
    return "run"


def failed(result, told):
    assert (result.exit_code, result.stdout, result.stderr.count("\n")) == (2, "", 1)
    assert told in result.stderr


def evaluation():
    return json.loads(Path("run/evaluation.json").read_text())


def test_lists_by_tgbs_rule_are_kept_beside_the_stream_and_used_again(mspipe, run, files):
    flags = ["--protocol", "tgb", "--eval-negatives", "7"]
    assert mspipe("evaluate", run, *flags).exit_code == 0
    first = evaluation()
    assert (first["protocol"], first["val"]["num_negatives"]) == ("tgb", 7)
    kept = {
        f"events.npz.negatives/tgb_{part}.parquet" for part in ("val_7_seed0_280_280-340", "test_7_seed0_280_340-400")
    }
    assert kept < set(files())
    before = {path: (Path(path).read_bytes(), Path(path).stat().st_mtime_ns) for path in kept}
    result = mspipe("evaluate", run, *flags)
    assert (result.exit_code, result.stderr) == (0, "")
    assert evaluation() == first
    assert {path: (Path(path).read_bytes(), Path(path).stat().st_mtime_ns) for path in kept} == before
    assert "protocol tgb" in result.stdout
    shown = mspipe("baseline", "events.npz", *flags)
    assert (shown.exit_code, "protocol tgb" in shown.stdout) == (0, True)
    assert {path: Path(path).stat().st_mtime_ns for path in kept} == {path: when for path, (_, when) in before.items()}


def test_lists_of_another_stream_are_refused_and_those_that_are_damaged(mspipe, run, arrays):
    flags = ["--protocol", "tgb", "--eval-negatives", "7"]
    assert mspipe("evaluate", run, *flags).exit_code == 0
    path = Path("events.npz.negatives/tgb_test_7_seed0_280_340-400.parquet")
    whole = path.read_bytes()
    path.write_bytes(whole[: len(whole) // 2])
    failed(mspipe("evaluate", run, *flags), f"{path} cannot be read")
    path.write_bytes(Path("events.npz.negatives/tgb_val_7_seed0_280_280-340.parquet").read_bytes())
    failed(mspipe("evaluate", run, *flags), "delete the file to have the lists made anew")


@pytest.mark.parametrize("protocol", ["random", "historical", "inductive", "tgb"])
def test_a_run_may_be_trained_by_a_protocol_and_its_best_epoch_be_that_of_the_best_mrr(mspipe, npz, protocol):
    flags = ["--protocol", protocol, "--best-by", "mrr", "--filtered"]
    result = mspipe("train", npz(), *SMALL, "--epochs=3", *flags, "--out", "run")
    assert result.exit_code == 0, result.stderr
    lines = [json.loads(line) for line in Path("run/metrics.jsonl").read_text().splitlines()]
    epochs = [line for line in lines if line["kind"] == "epoch"]
    assert {line["protocol"] for line in epochs} == {protocol}
    best = max(epochs, key=lambda line: line["mrr"])
    assert f"best validation MRR {best['mrr']:.4f} in epoch {best['epoch'] + 1}" in result.stdout
    assert mspipe("evaluate", "run").exit_code == 0
    assert evaluation()["val"] == {name: best[name] for name in evaluation()["val"]}
    assert evaluation()["protocol"] == f"{protocol}, filtered"


def test_several_seeds_give_means_and_deviations_of_the_runs_that_each_gives(mspipe, run):
    result = mspipe("evaluate", run, "--seeds", "3", "--eval-negatives", "5")
    assert (result.exit_code, result.stderr) == (0, "")
    found = evaluation()
    assert (found["seeds"], len(found["each"])) == (3, 3)
    values = [each["test"]["mrr"] for each in found["each"]]
    assert len(set(values)) == 3
    assert found["test"]["mrr"] == {
        "mean": pytest.approx(np.mean(values)),
        "stdev": pytest.approx(np.std(values, ddof=1)),
    }
    assert f"{np.mean(values):.4f} ± {np.std(values, ddof=1):.4f}" in result.stdout
    assert mspipe("evaluate", run, "--eval-negatives", "5").exit_code == 0
    assert evaluation()["test"] == found["each"][0]["test"]


def test_candidates_of_ones_own_are_what_test_events_are_ranked_among(mspipe, run):
    data = load_stream("events.npz")
    test = split_stream(data).test
    rows = [(e, (e * k) % 20 + 20) for e in test for k in range(1 + e % 4)]
    Path("own.csv").write_text("event,dst\n" + "".join(f"{e},{dst}\n" for e, dst in reversed(rows)))
    result = mspipe("evaluate", run, "--candidates", "own.csv", "--ranks", "ranks.parquet")
    assert (result.exit_code, result.stderr) == (0, "")
    ranks = parquet.read_table("ranks.parquet").to_pandas()
    own = ranks[ranks.part == "test"]
    assert own.num_negatives.tolist() == [1 + e % 4 for e in test]
    assert evaluation()["candidates"] == "own.csv"
    np.save("seq.npy", np.random.default_rng(0).integers(20, 40, (len(test), 100)))
    assert mspipe("evaluate", run, "--candidates", "seq.npy").exit_code == 0
    assert evaluation()["test"]["num_negatives"] == 100
    assert evaluation()["val"]["num_negatives"] == 2
    Path("own.csv").write_text(f"event,dst\n{test.start},99\n")
    failed(mspipe("evaluate", run, "--candidates", "own.csv"), "dst is 99; the stream has the nodes 0 to")


def test_a_ctrl_c_in_an_evaluation_leaves_the_files_that_were_there(mspipe, run, files, monkeypatch):
    assert mspipe("evaluate", run).exit_code == 0
    before, there = Path("run/evaluation.json").read_bytes(), files()

    def leave(code):
        raise SystemExit(code)

    def interrupted(*args, **options):
        raise KeyboardInterrupt

    monkeypatch.setattr("pyg_mspipe.cli.errors._exit_now", leave)  # which ends this process
    monkeypatch.setattr("pyg_mspipe.tasks.ranking.Ranking.of", interrupted)
    result = mspipe("evaluate", run, "--eval-negatives", "9", "--ranks", "ranks.parquet")
    assert (result.exit_code, result.stderr) == (130, "interrupted\n")
    assert (Path("run/evaluation.json").read_bytes(), files()) == (before, there)


def test_what_says_nothing_for_a_task_on_labels_is_refused(mspipe, npz):
    name = npz(y=np.arange(400) % 2)
    assert mspipe("train", name, *SMALL, "--task", "edge", "--out", "run").exit_code == 0
    failed(mspipe("evaluate", "run", "--protocol", "tgb"), "--protocol is for link prediction; the run's task is edge")
    failed(mspipe("evaluate", "run", "--seeds", "2"), "--seeds is for link prediction")
    refused = mspipe("train", name, *SMALL, "--task", "edge", "--best-by", "mrr", "--out", "other")
    assert (refused.exit_code, refused.stderr.count("\n")) == (2, 1)
    assert "takes no best_by" in refused.stderr


def test_ranks_of_several_seeds_are_refused(mspipe, run):
    failed(mspipe("evaluate", run, "--seeds", "2", "--ranks", "r.parquet"), "--ranks has room for one rank of an event")


def test_one_command_trains_and_evaluates(mspipe, npz):
    flags = ["--protocol", "tgb", "--best-by", "mrr", "--out", "run"]
    result = mspipe("train", npz(), *SMALL, *flags, "--evaluate")
    assert (result.exit_code, result.stderr) == (0, "")
    found, shown = evaluation(), result.stdout
    assert "best validation MRR" in shown
    assert f"{found['test']['mrr']:.4f}" in shown
    assert mspipe("evaluate", "run").exit_code == 0
    assert evaluation() == found


def test_a_stream_with_a_single_destination_is_refused_in_one_line_and_has_negatives_among_all_nodes(mspipe):
    rows = [f"{event % 5},5,{event}" for event in range(100)]
    Path("one.csv").write_text("\n".join(["src,dst,t", *rows]))
    failed(mspipe("baseline", "one.csv"), "no event of 70 to 84 has a negative")
    assert mspipe("baseline", "one.csv", "--negatives", "nodes").exit_code == 0


def test_runs_that_split_a_stream_in_different_ways_have_lists_beside_one_another(mspipe, npz, files):
    flags = [npz(), "--protocol", "tgb", "--eval-negatives", "7"]
    first = mspipe("baseline", *flags)
    assert mspipe("baseline", *flags, "--val-ratio", "0.2").exit_code == 0
    assert len([path for path in files() if path.startswith("events.npz.negatives/")]) == 4
    assert mspipe("baseline", *flags).stdout == first.stdout


def test_neither_candidates_nor_a_file_in_the_place_of_lists_are_written_over(mspipe, run):
    Path("own.csv").write_text("event,dst\n")
    failed(mspipe("evaluate", run, "--candidates", "own.csv", "--ranks", "own.csv"), "would replace --candidates")
    Path("events.npz.negatives").write_text("mine")
    failed(
        mspipe("evaluate", run, "--protocol", "tgb"), "events.npz.negatives is a file, and the folder of this stream's"
    )
    assert Path("own.csv").read_text() == "event,dst\n"
    assert Path("events.npz.negatives").read_text() == "mine"
