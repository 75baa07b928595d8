import pytest
from small_runs import small_config, small_stream

from pyg_mspipe.training import ConfigError, Trainer
from pyg_mspipe.training.run_folder import own_folder


def test_two_runs_in_one_folder_at_once_are_refused(tmp_path):
    (tmp_path / ".last.pt.1.part").write_bytes(b"somebody is writing")
    refused = pytest.raises(ConfigError, match="another process is training in this folder; wait for it or stop it")
    with own_folder(tmp_path / "run", fresh=True, replace=False):
        partial = tmp_path / "run" / ".last.pt.1.part"
        partial.write_bytes(b"being written")
        with refused, own_folder(tmp_path / "run", fresh=True, replace=True):
            pass
        assert partial.exists()
    with own_folder(tmp_path / "run", fresh=True, replace=False):
        assert not partial.exists()


def test_a_run_that_is_there_is_removed_on_request_alone(tmp_path):
    data = small_stream()
    Trainer(data, small_config(epochs=1), tmp_path).fit()
    before = {path: path.read_bytes() for path in tmp_path.iterdir() if path.is_file()}
    with pytest.raises(ConfigError, match="has a run already; resume it, give another folder, or pass replace=True"):
        Trainer(data, small_config(epochs=1, seed=1), tmp_path).fit()
    assert {path: path.read_bytes() for path in tmp_path.iterdir() if path.is_file()} == before
    Trainer(data, small_config(epochs=1, seed=1), tmp_path).fit(replace=True)
    assert (tmp_path / "metrics.jsonl").read_bytes() != before[tmp_path / "metrics.jsonl"]
