import json
from pathlib import Path

import numpy as np
import pytest
from small_commands import SMALL

from pyg_mspipe.data import synthetic
from pyg_mspipe.training import TrainConfig, Trainer, load_checkpoint

RUN_FILES = ["best.pt", "last.pt", "metrics.jsonl"]


def failed(result, message):
    assert result.exit_code == 2, result
    assert result.stderr.startswith("error: ")
    assert result.stderr.count("\n") == 1
    assert message in result.stderr


def write_csv(path, arrays, names=("src", "dst", "t"), *, msg=(), scale=1):
    columns = [arrays["src"], arrays["dst"], arrays["t"] / scale, *(arrays["msg"][:, i] for i in range(len(msg)))]
    rows = "".join(",".join(map(repr, row)) + "\n" for row in zip(*(c.tolist() for c in columns), strict=True))
    Path(path).write_text(",".join([*names, *msg]) + "\n" + rows)
    return path


def test_training_ends_with_its_best_ap_and_where_the_checkpoint_is(train, npz):
    result = train(npz(), "--out", "run")
    assert sorted(path.name for path in Path("run").iterdir()) == RUN_FILES
    read, epoch, summary = result.stdout.splitlines()
    assert read == "400 events, 39 nodes: 280 train, 60 val and 60 test events; model tgn, task link"
    assert epoch.startswith("epoch 1/1  loss ")
    best = load_checkpoint(Path("run/best.pt"))["progress"]["best"]
    assert summary == f"best validation AP {best:.4f} in epoch 1 (cut-off batch); checkpoint run/best.pt"
    assert result.stderr == ""


def test_runs_without_a_folder_are_numbered(train, npz):
    name = npz("clicks.of.may.npz")
    for _ in range(2):
        train(name)
    Path("runs/clicks-3").mkdir()
    train(name)
    assert sorted(path.name for path in Path("runs").iterdir()) == ["clicks-1", "clicks-2", "clicks-3", "clicks-4"]
    assert not list(Path("runs/clicks-3").iterdir())


def test_a_csv_with_other_names_trains_as_the_stream_it_holds(train, npz, arrays):
    train(npz(), "--out", "npz")
    write_csv("clicks.csv", arrays, ("user", "item", "ts"), msg=("price", "count"), scale=1000)
    mapping = ["--src", "user", "--dst", "item", "--time", "ts", "--msg", "price", "--msg", "count"]
    train("clicks.csv", *mapping, "--time-scale", "1000", "--out", "csv")
    one, other = (load_checkpoint(Path(name, "last.pt")) for name in ("npz", "csv"))
    assert one["stream"] == other["stream"]
    assert one["progress"] == other["progress"]
    assert other["source"]["columns"] == {"src": "user", "dst": "item", "t": "ts", "msg": ["price", "count"]}


def test_the_generated_stream_trains_evaluates_and_is_looked_at(mspipe, train):
    train("synthetic", "--batch-size", "4000", "--out", "run", "--num-neighbors", "2")
    assert mspipe("evaluate", "run").exit_code == 0
    shown = mspipe("data", "info", "synthetic")
    assert shown.exit_code == 0
    assert "20,000" in shown.stdout


def test_a_stream_is_looked_at(mspipe, npz, arrays):
    result = mspipe("data", "info", npz(y=np.ones(400, dtype=np.int64)))
    assert (result.exit_code, result.stderr) == (0, "")
    shown = {line[:17].strip(): line[17:].strip() for line in result.stdout.splitlines()}
    nodes = len(np.unique(np.concatenate([arrays["src"], arrays["dst"]])))
    assert shown["events"] == "400"
    assert shown["nodes"].startswith(f"{nodes} (")
    assert shown["message width"] == "2"
    assert shown["labels"] == "1: 400"
    assert "distinct times" in shown
    assert "events per node" in shown
    assert result.stdout.splitlines()[-1] == "nothing is wrong with it"


def test_sorting_mends_times_that_decrease(mspipe, train, npz, arrays):
    train(npz("sorted.npz"), "--out", "sorted")
    order = np.random.default_rng(0).permutation(400)
    name = npz("shuffled.npz", **{key: value[order] for key, value in arrays.items()})
    assert mspipe("data", "info", name).exit_code == 2
    assert mspipe("data", "info", name, "--sort").stdout == mspipe("data", "info", "sorted.npz").stdout
    train(name, "--sort", "--out", "shuffled")
    assert len(np.unique(arrays["t"])) > 390  # so that ties hardly matter
    epochs = [json.loads(Path(run, "metrics.jsonl").read_text().splitlines()[-1]) for run in ("sorted", "shuffled")]
    assert epochs[0]["num_events"] == epochs[1]["num_events"]


def test_a_finished_run_says_so_and_more_epochs_go_on_with_it(mspipe, train, npz):
    train(npz(), "--out", "run")
    before = Path("run/last.pt").read_bytes()
    result = mspipe("resume", "run")
    assert (result.exit_code, result.stderr) == (0, "")
    assert result.stdout.startswith(
        "run is finished; to train more than 1 epochs give --epochs, or see: mspipe evaluate run"
    )
    assert Path("run/last.pt").read_bytes() == before
    result = mspipe("resume", "run", "--epochs", "3")
    assert result.exit_code == 0
    assert result.stdout.startswith("resuming run at epoch 2, batch 0\nepoch 2/3  loss")
    assert load_checkpoint(Path("run/last.pt"))["progress"]["epoch"] == 3


def test_sweeps_are_whole_and_epochs_are_counted_alike(mspipe, npz):
    result = mspipe("train", npz(), "--out", "run", "--parallel", "1x1x2", "--emulate", *SMALL, "--epochs", "1")
    assert result.exit_code == 0, result.stderr
    assert "plan 1x1x2 trains 2 epochs in a sweep: 1 become 2" in result.stdout
    assert "in epoch 2 (" in result.stdout
    assert "run, epoch 2; " in mspipe("evaluate", "run").stdout
    assert json.loads(Path("run", "evaluation.json").read_text())["epoch"] == 2
    assert mspipe("resume", "run").stdout.startswith("run is finished; to train more than 2 epochs")


def test_a_run_that_stays_at_chance_gets_a_hint(mspipe, npz, monkeypatch):
    monkeypatch.setattr("pyg_mspipe.cli.fitting._NEAR_CHANCE", 2.0)
    hint = "validation AP is near 0.5, which is chance: check that mspipe data info shows"
    assert hint not in mspipe("train", npz(), *SMALL, "--out", "one").stdout
    assert hint in mspipe("train", npz(), *SMALL, "--epochs", "3", "--out", "three").stdout


def test_what_a_run_leaves_to_look_at_is_said(mspipe, train, npz):
    said = train(npz(), "--out", "run", "--timeline", "out.json").stdout
    assert "timeline in out.json; read it with: mspipe timeline out.json" in said
    assert "timeline" not in mspipe("resume", "run", "--epochs", "2").stdout


def test_a_run_that_stopped_early_goes_on_with_more_epochs(mspipe, train, npz):
    # With nothing learned no epoch is better than the first.
    train(npz(), "--lr", "0", "--patience", "1", "--out", "run")
    stopped = mspipe("resume", "run", "--epochs", "5")
    assert stopped.stdout.splitlines()[-1].startswith("stopped early, best validation AP")
    assert "is finished" in mspipe("resume", "run").stdout
    assert load_checkpoint(Path("run/last.pt"))["progress"]["epoch"] == 2
    assert mspipe("resume", "run", "--epochs", "5").stdout.startswith("resuming run at epoch 3")
    assert load_checkpoint(Path("run/last.pt"))["progress"]["epoch"] == 3


def test_a_run_is_resumed_and_evaluated_from_any_folder(mspipe, train, npz, tmp_path, monkeypatch):
    train(npz(), "--out", "run")
    (tmp_path / "elsewhere").mkdir()
    monkeypatch.chdir(tmp_path / "elsewhere")
    assert mspipe("resume", "../run", "--epochs", "2").exit_code == 0
    assert mspipe("evaluate", "../run").exit_code == 0


def test_evaluation_gives_again_the_validation_metrics_of_the_best_epoch(mspipe, train, npz):
    train(npz(), "--epochs", "1", "--out", "run")
    assert mspipe("resume", "run", "--epochs", "3").exit_code == 0
    result = mspipe("evaluate", "run")
    assert (result.exit_code, result.stderr) == (0, "")
    lines = [json.loads(line) for line in Path("run/metrics.jsonl").read_text().splitlines()]
    best = [line for line in lines if line["kind"] == "epoch" and line["best"]][-1]
    evaluation = json.loads(Path("run/evaluation.json").read_text())
    assert evaluation["epoch"] == best["epoch"] + 1
    assert evaluation["val"] == {name: best[name] for name in evaluation["val"]}
    assert evaluation["test"]["num_events"] == 60
    assert (evaluation["cut_off"], evaluation["negatives"]) == ("batch", "destinations")
    assert f"{best['ap']:.4f}" in result.stdout
    assert not list(Path("run").glob(".*"))


def test_a_run_that_is_there_is_not_replaced_by_accident(mspipe, train, npz):
    name = npz()
    train(name, "--out", "run")
    before = {path: path.read_bytes() for path in Path("run").iterdir()}
    failed(
        mspipe("train", name, *SMALL, "--out", "run"), "run has a run already; mspipe resume run, give another --out"
    )
    Path("run/last.pt").rename("last.pt")
    failed(mspipe("train", name, *SMALL, "--out", "run"), "run has a run already")
    Path("last.pt").rename("run/last.pt")
    assert {path: path.read_bytes() for path in Path("run").iterdir()} == before


def test_overwriting_replaces_the_run_and_nothing_else(mspipe, train, npz):
    name = npz()
    train(name, "--out", "run", "--seed", "1")
    mspipe("evaluate", "run")
    Path("run/notes.txt").write_text("mine")
    Path("run/tensorboard").mkdir()
    Path("run/tensorboard/events.out.tfevents.1").write_text("old")
    Path("run/tensorboard/mine").write_text("mine")
    train(name, "--out", "run", "--overwrite")
    train(name, "--out", "fresh")
    left = sorted(str(path.relative_to("run")) for path in Path("run").rglob("*"))
    assert left == [*RUN_FILES, "notes.txt", "tensorboard", "tensorboard/mine"]
    one, other = (load_checkpoint(Path(run, "last.pt")) for run in ("run", "fresh"))
    assert one["progress"] == other["progress"]


def test_a_bad_stream_or_setting_overwrites_nothing(mspipe, train, npz, arrays):
    train(npz(), "--out", "run")
    before = {path: path.read_bytes() for path in Path("run").iterdir()}
    bad = mspipe("train", npz("bad.npz", t=arrays["t"][::-1]), *SMALL, "--out", "run", "--overwrite")
    assert (bad.exit_code, bad.stdout) == (2, "")
    assert "t decreases" in bad.stderr.splitlines()[0]
    failed(mspipe("train", "events.npz", *SMALL, "--out", "run", "--overwrite", "--heads", "3"), "is not a multiple")
    failed(mspipe("train", "events.npz", *SMALL, "--out", "run", "--overwrite", "--device", "x"), "is not available")
    assert {path: path.read_bytes() for path in Path("run").iterdir()} == before


@pytest.mark.parametrize("command", ["resume", "evaluate"])
def test_a_folder_without_a_run_is_refused(mspipe, command, files):
    Path("empty").mkdir()
    Path("file").write_text("")
    failed(mspipe(command, "empty"), "no such checkpoint; a run has last.pt after --checkpoint-every batches")
    failed(mspipe(command, "nowhere"), "no such checkpoint; nowhere does not exist")
    failed(mspipe(command, "file"), "no such checkpoint; file is a file, not the folder of a run")
    assert files() == ["empty", "file"]


@pytest.mark.parametrize("command", ["resume", "evaluate"])
def test_where_a_run_is_expected_those_below_are_named(mspipe, train, npz, command):
    train(npz(), "--out", "runs/mine")
    failed(mspipe(command, "runs"), "no such checkpoint; the folders mine in runs have one")


@pytest.mark.parametrize("command", ["resume", "evaluate"])
def test_a_damaged_checkpoint_is_refused(mspipe, train, npz, command):
    train(npz(), "--out", "run")
    for name in ("last.pt", "best.pt"):
        path = Path("run", name)
        path.write_bytes(path.read_bytes()[:-100])
    failed(mspipe(command, "run"), "not a checkpoint of pyg_mspipe, or damaged; give another file")


def test_a_run_with_static_memory_goes_on_and_is_evaluated(mspipe, train, npz):
    train(npz(), "--out", "run", "--static-dim", "4", "--static-epochs", "1")
    assert sorted(path.name for path in Path("run").iterdir()) == [*RUN_FILES, "static.pt"]
    assert mspipe("resume", "run", "--epochs", "2").exit_code == 0
    assert mspipe("evaluate", "run").exit_code == 0


@pytest.mark.parametrize("command", [["evaluate", "run"], ["resume", "run", "--epochs", "2"]])
def test_a_run_without_its_static_memory_is_refused(mspipe, train, npz, command):
    train(npz(), "--out", "run", "--static-dim", "4", "--static-epochs", "1")
    Path("run/static.pt").unlink()
    failed(mspipe(*command), "run/static.pt: no such file; the run cannot continue without its static node vectors")


@pytest.mark.parametrize("command", ["resume", "evaluate"])
def test_a_run_whose_stream_is_gone_or_another_is_refused(mspipe, train, npz, arrays, command):
    name = npz()
    train(name, "--out", "run")
    npz(msg=arrays["msg"] + 1)
    failed(mspipe(command, "run", *(["--epochs", "2"] if command == "resume" else [])), "is of another stream")
    Path(name).unlink()
    failed(mspipe(command, "run"), "events.npz, the run's stream, does not exist")


@pytest.mark.parametrize("command", ["resume", "evaluate"])
def test_a_run_that_was_started_from_python_is_refused(mspipe, command):
    config = TrainConfig(epochs=1, batch_size=100, memory_dim=4, time_dim=4, embedding_dim=4, tensorboard=False)
    Trainer(synthetic(400, num_src=20, num_dst=20), config, "run").fit()
    failed(mspipe(command, "run"), "the run was not started by mspipe train; use it from Python")


def test_a_run_that_diverges_ends_in_one_line(mspipe, npz):
    failed(mspipe("train", npz(), *SMALL, "--lr", "1e37"), "lower lr, which is 1e+37, or scale msg")


@pytest.mark.parametrize("device", ["nowhere", "meta", "", "cuda:99"])
def test_a_device_that_is_not_there_is_refused(mspipe, npz, files, device):
    name = npz()
    failed(mspipe("train", name, *SMALL, "--device", device), "is not available here; use cpu or auto")
    assert files() == [name]


def test_a_folder_that_cannot_be_made_is_refused(mspipe, npz, files):
    name = npz()
    failed(mspipe("train", name, *SMALL, "--out", name), "is a file; give a folder with --out")
    failed(mspipe("train", name, *SMALL, "--out", f"{name}/run"), "Not a directory")
    assert files() == [name]


def test_tensorboard_files_are_written_by_default(mspipe, npz):
    pytest.importorskip("tensorboard")
    small = [word for word in SMALL if word != "--no-tensorboard"]
    assert mspipe("train", npz(), *small, "--out", "run").exit_code == 0
    assert len(list(Path("run/tensorboard").glob("events.out.tfevents.*"))) == 1


@pytest.mark.parametrize("command", [["train"], ["resume"], ["evaluate"], ["baseline"], ["data", "info"], []])
def test_help_has_examples(mspipe, command):
    result = mspipe(*command, "--help")
    assert result.exit_code == 0
    assert "Examples:" in result.stdout
    assert f"mspipe {' '.join(command)}" in result.stdout


def test_a_run_goes_on_with_another_device(mspipe, train, npz):
    train(npz(), "--out", "run")
    failed(mspipe("resume", "run", "--epochs", "2", "--device", "nowhere"), "is not available here")
    assert mspipe("resume", "run", "--epochs", "2", "--device", "cpu").exit_code == 0
    assert load_checkpoint(Path("run/last.pt"))["config"]["device"] == "cpu"


@pytest.mark.parametrize("command", [["evaluate", "run"], ["resume", "run", "--epochs", "2"]])
def test_a_run_finds_a_stream_that_was_moved(mspipe, train, npz, command):
    train(npz(), "--out", "run")
    Path("events.npz").rename("elsewhere.npz")
    failed(mspipe(*command), "events.npz, the run's stream, does not exist; if moved, give its new place with --stream")
    assert mspipe(*command, "--stream", "elsewhere.npz").exit_code == 0


def test_names_of_files_and_columns_are_not_taken_for_flags(mspipe):
    Path("val_ratio.csv").write_text("val_ratio,checkpoint_every,ts\n0,1,5\n")
    result = mspipe("train", "val_ratio.csv")
    assert result.exit_code == 2
    assert (
        "val_ratio.csv has no column 'src', 'dst', 't'; it has 'val_ratio', 'checkpoint_every', 'ts'" in result.stderr
    )
    assert "--val" not in result.stderr


def test_messages_speak_of_flags(mspipe):
    Path("s.csv").write_text("user,item,ts\n0,1,5\n")
    result = mspipe("train", "s.csv")
    assert result.exit_code == 2
    problem, mend = result.stderr.splitlines()
    assert problem.endswith("it has 'user', 'item', 'ts': give --src COLUMN --dst COLUMN --time COLUMN")
    assert mend == "to mend it: mspipe train s.csv --src user --dst item --time ts"


def test_times_in_fractions_of_a_second_are_told_with_the_way_to_seconds(mspipe, train, arrays):
    rows = zip(*(arrays[name].tolist() for name in ("src", "dst", "t")), strict=True)
    dates = (f"{a},{b},{np.datetime64(1_700_000_000_250 + 1000 * t, 'ms')}\n" for a, b, t in rows)
    Path("clicks.csv").write_text("src,dst,t\n" + "".join(dates))
    note = "times are in nanoseconds; --time-scale 1e-9 makes them seconds"
    assert mspipe("data", "info", "clicks.csv").stdout.endswith(f"note: {note}\n")
    assert train("clicks.csv").stdout.splitlines()[1] == note
    for scaled in (
        mspipe("data", "info", "clicks.csv", "--time-scale", "1e-9"),
        train("clicks.csv", "--time-scale=1e-9"),
    ):
        assert "time-scale" not in scaled.stdout
