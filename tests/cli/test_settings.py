from dataclasses import asdict, fields
from pathlib import Path

import pytest
from small_commands import SMALL

from pyg_mspipe.training import TrainConfig, load_checkpoint

CLASSES = Path(__file__).with_name("other_classes.py")
SETTINGS = {
    "task": f"{CLASSES}:OtherTask",
    "labels": str(CLASSES.with_name("other_labels.csv")),
    "class_weights": "balanced",
    "head": "common",
    "pair_features": True,
    "loss": "softmax",
    "embeddings": "",
    "model": f"{CLASSES}:OtherModel",
    "epochs": 1,
    "batch_size": 100,
    "lr": 0.01,
    "patience": 2,
    "seed": 3,
    "precision": "bf16",
    "device": "cpu",
    "threads": 1,
    "memory_dim": 4,
    "time_dim": 5,
    "embedding_dim": 6,
    "layers": 2,
    "heads": 3,
    "dropout": 0.25,
    "time_init": "log",
    "time_reference": "gaps",
    "static_dim": 7,
    "static_epochs": 2,
    "static_dropout": 0.25,
    "num_neighbors": 3,
    "strategy": "uniform",
    "cut_off": "event",
    "negatives": "nodes",
    "train_negatives": 2,
    "protocol": "historical",
    "eval_negatives": 2,
    "filtered": True,
    "best_by": "mrr",
    "staleness": "2",
    "prefetch": 4,
    "overlap": "never",
    "mitigation": "predictive",
    "timeline": "trace.json",
    "parallel": "1x1x2",
    "lr_scaling": "sqrt",
    "timeout": 30.0,
    "val_ratio": 0.2,
    "test_ratio": 0.25,
    "val_time": 1_500_000,
    "test_time": 2_000_000,
    "checkpoint_every": 2,
    "tensorboard": False,
}
# A run of one process has a plan of one trainer, and an emulated one no pipeline to draw.
# A stream is split by shares or at times.
RUNS = {
    "alone": SETTINGS | {"parallel": "1x1x1", "val_time": None, "test_time": None},
    "emulated": SETTINGS | {"timeline": "", "val_ratio": 0.15, "test_ratio": 0.15},
}
CSV = "user,item,ts,price,state,count\n" + "".join(
    f"u{n % 7},i{n % 5},{(99 - n) / 10},{n},{n % 2},{n * n}\n" for n in range(100)
)
STREAM = {
    "root": "sets",
    "src": "user",
    "dst": "item",
    "time": "ts",
    "msg": ["price", "count"],
    "label": "state",
    "sort": True,
    "time_scale": 10.0,
    "bipartite": True,
    "relabel": True,
}


def toml(values, name="run.toml"):
    def written(value):
        if isinstance(value, list):
            return f"[{', '.join(map(written, value))}]"
        return str(value).lower() if isinstance(value, bool) else repr(value)

    given = {key: value for key, value in values.items() if value is not None}
    Path(name).write_text(in_tables({key: written(value) for key, value in given.items()}))
    return name


def in_tables(written):
    """A TOML file of values that are written as they stand there, each in the table of its key."""
    own = {"out": "output", "overwrite": "output", "evaluate": "output", "emulate": "parallel"}
    own |= dict.fromkeys(STREAM, "stream")
    own |= {setting.name: setting.metadata["group"].lower() for setting in fields(TrainConfig)}
    tables = {}
    for key, value in written.items():
        tables.setdefault(own[key.replace("-", "_")], []).append(f"{key} = {value}\n")
    return "".join(f"[{table}]\n{''.join(lines)}" for table, lines in tables.items())


def flags(values):
    for name, value in values.items():
        flag = name.replace("_", "-")
        if value is None:
            continue
        if isinstance(value, bool):
            yield f"--{flag}" if value else f"--no-{flag}"
        else:
            for each in value if isinstance(value, list) else [value]:
                yield from (f"--{flag}", str(each))


def config_of(run):
    return load_checkpoint(Path(run, "last.pt"))["config"]


def failed(result, message):
    assert result.exit_code == 2, result
    assert (result.stdout, result.stderr.count("\n")) == ("", 1)
    assert result.stderr.startswith("error: ")
    assert message in result.stderr


def test_no_setting_is_left_out_here_or_at_its_default():
    assert SETTINGS.keys() == {setting.name for setting in fields(TrainConfig)}
    same = {setting.name for setting in fields(TrainConfig) if SETTINGS[setting.name] == setting.default}
    assert same == {"embeddings"}, "the model of a run is not that of this one"


@pytest.mark.parametrize("kind", RUNS)
@pytest.mark.parametrize("dashes", [False, True])
def test_every_setting_works_from_toml(mspipe, npz, dashes, kind):
    values = {name.replace("_", "-") if dashes else name: value for name, value in RUNS[kind].items()}
    result = mspipe("train", npz(), "--config", toml(values | {"out": "run", "emulate": kind == "emulated"}))
    assert result.exit_code == 0, result.stderr
    assert config_of("run") == RUNS[kind]


@pytest.mark.parametrize("kind", RUNS)
def test_every_setting_works_as_a_flag(mspipe, npz, kind):
    switches = ["--emulate"] if kind == "emulated" else []
    result = mspipe("train", npz(), "--out", "run", *switches, *flags(RUNS[kind]))
    assert result.exit_code == 0, result.stderr
    assert config_of("run") == RUNS[kind]


def test_settings_that_nobody_gives_have_their_defaults(mspipe, npz):
    few = {name: SETTINGS[name] for name in ("epochs", "memory_dim", "tensorboard")}
    assert mspipe("train", npz(), "--out", "run", *flags(few)).exit_code == 0
    assert config_of("run") == asdict(TrainConfig(**few))


def test_every_option_of_a_stream_works_from_toml_and_as_a_flag(train):
    Path("clicks.csv").write_text(CSV)
    train("clicks.csv", "--config", toml(STREAM), "--out", "from-toml")
    train("clicks.csv", *flags(STREAM), "--out", "from-flags")
    one, other = (load_checkpoint(Path(run, "last.pt")) for run in ("from-toml", "from-flags"))
    assert one["source"] == other["source"]
    assert one["stream"] == other["stream"]
    assert one["source"] == {
        "name_or_path": str(Path("clicks.csv").resolve()),
        "root": str(Path("sets").resolve()),
        "columns": {"src": "user", "dst": "item", "t": "ts", "msg": ["price", "count"], "y": "state"},
        "sort": True,
        "time_scale": 10.0,
        "bipartite": True,
        "relabel": True,
    }


def test_a_stream_of_many_options_resumes(mspipe, train):
    Path("clicks.csv").write_text(CSV)
    train("clicks.csv", "--config", toml(STREAM), "--out", "run")
    assert mspipe("resume", "run", "--epochs", "2").exit_code == 0
    assert mspipe("evaluate", "run").exit_code == 0


def test_a_message_column_may_stand_alone_in_toml(train):
    Path("clicks.csv").write_text(CSV)
    train("clicks.csv", "--config", toml(STREAM | {"msg": "price"}), "--out", "run")
    assert load_checkpoint(Path("run/last.pt"))["source"]["columns"]["msg"] == "price"


def test_what_is_typed_wins_over_what_is_written_even_if_it_is_the_default(mspipe, npz):
    written = toml({"epochs": 1, "memory_dim": 4, "patience": 2, "seed": 7, "tensorboard": False, "out": "written"})
    result = mspipe("train", npz(), "--config", written, "--patience", "5", "--memory-dim", "8", "--out", "typed")
    assert result.exit_code == 0, result.stderr
    found = config_of("typed")
    assert (found["patience"], found["memory_dim"], found["seed"]) == (5, 8, 7)
    assert not Path("written").exists()


def test_a_switch_in_toml_can_be_turned_off_by_a_flag(mspipe, npz):
    small = [word for word in SMALL if word != "--no-tensorboard"]
    written = toml({"tensorboard": True})
    assert mspipe("train", npz(), *small, "--config", written, "--no-tensorboard", "--out", "run").exit_code == 0
    assert not Path("run/tensorboard").exists()


def test_overwriting_may_be_written_down(train, npz):
    name = npz()
    train(name, "--out", "run")
    train(name, "--config", toml({"out": "run", "overwrite": True}))


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (
            "[training]\nbatchsize = 3",
            "no setting is named 'batchsize'; did you mean 'batch_size' in [training]? known are",
        ),
        ("[model]\nzzz = 3", "run.toml: no setting is named 'zzz'; known are root, src, dst"),
        ("[trainer]\nepochs = 3", "no table is named [trainer]; known are stream, training, model, sampling"),
        ("epochs = 3", "run.toml: epochs stands in no table; put it in [training]"),
        ("[model]\nepochs = 3", "run.toml: epochs stands in [model]; put it in [training]"),
        ("epochs = '3'", "epochs is '3'; give a whole number"),
        ("epochs = 2.0", "epochs is 2.0; give a whole number"),
        ("epochs = true", "epochs is True; give a whole number"),
        ("epochs = 0", "epochs is 0; give a number from 1"),
        ("lr = 'fast'", "lr is 'fast'; give a number"),
        ("lr = nan", "lr is nan; give a number from 0"),
        ("strategy = 'last'", "strategy is 'last'; choose one of recent, uniform"),
        ("strategy = ['recent']", "strategy is ['recent']; choose one of"),
        ("tensorboard = 1", "tensorboard is 1; give true or false"),
        ("device = 0", "device is 0; give a text"),
        ("seed = 99999999999999999999", "seed is 99999999999999999999; give a number below 2**63"),
        ("out = 3", "run.toml: out is 3; give a path"),
        ("root = ['a']", "root is ['a']; give a path"),
        ("overwrite = 'no'", "overwrite is 'no'; give true or false"),
        ("emulate = 1", "emulate is 1; give true or false"),
        ("parallel = 2", "parallel is 2; give a text"),
        ("parallel = '2x2'", "plan '2x2' is not of the form i x j x k; give three whole numbers, as in 1x2x2"),
        ("parallel = '2x1x1'\nstaleness = '1'", "staleness 1 with 2 trainers on one memory"),
        (
            "parallel = '1x2x1'\nmitigation = 'predictive'",
            "mitigation predictive has nothing to repair",
        ),
        ("parallel = '1x2x1'", "wants 2 processes; start it with: torchrun --nproc-per-node 2 -m pyg_mspipe train"),
        ("lr_scaling = 'log'", "lr_scaling is 'log'; choose one of linear, sqrt, none"),
        ("timeout = 0", "timeout is 0; give a number from 1"),
        ("src = 5", "src is 5; give a text"),
        ("msg = [1, 2]", "msg is [1, 2]; give texts"),
        ("sort = 'false'", "sort is 'false'; give true or false"),
        ("relabel = 1", "relabel is 1; give true or false"),
        ("time_scale = '1000'", "time_scale is '1000'; give a number"),
        ("time_scale = true", "time_scale is True; give a number"),
        ("epochs =", "run.toml: not a TOML file"),
        ("\0", "run.toml: not a TOML file"),
    ],
)
def test_toml_that_cannot_be_used_is_refused_in_one_line(mspipe, npz, files, text, message):
    name = npz()
    if not text.startswith("[") and "no table" not in message and "not a TOML" not in message:
        text = in_tables(dict(line.split(" = ") for line in text.split("\n")))
    Path("run.toml").write_text(text + "\n")
    before = files()
    failed(mspipe("train", name, "--config", "run.toml"), message)
    assert files() == before


def test_a_toml_file_that_is_not_there_or_no_text_is_refused(mspipe, npz):
    name = npz()
    failed(mspipe("train", name, "--config", "nowhere.toml"), "nowhere.toml: No such file or directory; give the path")
    failed(mspipe("train", name, "--config", "."), "Is a directory; give the path of a TOML file")
    failed(mspipe("train", name, "--config", name), "not a TOML file")


def test_flags_out_of_range_are_refused_in_one_line(mspipe, npz, files):
    name = npz()
    for flag, value, message in (
        ("--epochs", "0", "epochs is 0; give a number from 1"),
        ("--dropout", "1", "dropout is 1.0; give a number from 0 to below 1"),
        ("--lr", "nan", "lr is nan; give a number from 0"),
        ("--parallel", "0x1x1", "i is 0 in a plan i x j x k; give whole numbers from 1, as in 1x2x2"),
        ("--parallel", "2x1x1", "or add --emulate to emulate all in one process"),
        ("--timeout", "0.5", "timeout is 0.5; give a number from 1"),
        ("--heads", "3", "embedding_dim 4 is not a multiple of heads 3; change either"),
    ):
        failed(mspipe("train", name, *SMALL, flag, value), message)
    for flag, value in (("--epochs", "many"), ("--strategy", "last"), ("--nothing", "1")):
        assert mspipe("train", name, *SMALL, flag, value).exit_code == 2
    assert files() == [name]
