import os
from pathlib import Path

import pytest

from pyg_mspipe.data.atomic_write import atomic_write, remove_partial


@pytest.fixture
def path(tmp_path):
    (tmp_path / "file").write_bytes(b"old")
    return tmp_path / "file"


def names(path):
    return sorted(each.name for each in path.parent.iterdir())


def write(path, content=b"new"):
    with atomic_write(path) as file:
        file.write(content)


def test_what_was_written_replaces_the_file_when_the_block_ends(path):
    with atomic_write(path) as file:
        file.write(b"new")
        file.flush()
        assert path.read_bytes() == b"old"
    assert path.read_bytes() == b"new"
    assert names(path) == ["file"]


def test_a_reader_of_the_old_file_reads_it_to_its_end(path):
    with path.open("rb") as reader:
        write(path)
        assert reader.read() == b"old"


def test_a_block_that_raises_leaves_the_old_file_and_nothing_else(path):
    with pytest.raises(TypeError), atomic_write(path) as file:
        file.writelines([b"half", "no bytes"])
    assert path.read_bytes() == b"old"
    assert names(path) == ["file"]


def test_the_file_is_synced_before_it_is_renamed_and_its_folder_after(path, monkeypatch):
    synced, sync = [], os.fsync

    def fsync(descriptor):
        synced.append((os.fstat(descriptor).st_ino, path.read_bytes()))
        sync(descriptor)

    monkeypatch.setattr(os, "fsync", fsync)
    write(path)
    assert synced == [(path.stat().st_ino, b"old"), (path.parent.stat().st_ino, b"new")]


def test_a_disk_that_is_full_is_an_error_that_names_the_file(path, monkeypatch):
    def full(descriptor):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(OSError, match="No space left on device") as raised:
        write(path)
    assert (raised.value.errno, raised.value.filename) == (28, str(path))
    assert path.read_bytes() == b"old"
    assert names(path) == ["file"]


def test_a_folder_that_is_missing_is_an_error_that_names_the_file(tmp_path):
    with pytest.raises(FileNotFoundError) as raised:
        write(tmp_path / "nowhere" / "file")
    assert raised.value.filename == str(tmp_path / "nowhere" / "file")


@pytest.mark.parametrize("name", ["link", "folder/file", "nowhere/file", "../HERE/link", "x" * 300])
def test_an_error_names_the_file_as_it_was_given(tmp_path, monkeypatch, name):
    monkeypatch.chdir(tmp_path)
    name = name.replace("HERE", tmp_path.name)
    (tmp_path / "real").mkdir()
    (tmp_path / "folder").symlink_to("real")
    (tmp_path / "link").symlink_to("real/file")

    def full(descriptor):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(OSError, match=r"No space|No such file|too long") as raised:
        write(Path(name))
    assert raised.value.filename == str(Path(name))
    assert not list((tmp_path / "real").iterdir())


def test_a_link_that_leads_to_itself_is_an_error_that_names_it(tmp_path):
    (tmp_path / "one").symlink_to("two")
    (tmp_path / "two").symlink_to("one")
    with pytest.raises(OSError, match="Too many levels of symbolic links") as raised:
        write(tmp_path / "one")
    assert raised.value.filename == str(tmp_path / "one")
    assert names(tmp_path / "one") == ["one", "two"]


def test_a_folder_is_not_replaced(tmp_path):
    with pytest.raises(IsADirectoryError, match=r"is a folder; give the name of a file"):
        write(tmp_path)


def test_an_error_about_another_file_keeps_its_name(path):
    with pytest.raises(FileNotFoundError) as raised, atomic_write(path) as file:
        file.write((path.parent / "source").read_bytes())
    assert raised.value.filename == str(path.parent / "source")


def test_only_partial_files_are_removed(path):
    for name in (".last.pt.1.part", ".best.pt.22.part", "mine.part", ".hidden"):
        (path.parent / name).touch()
    remove_partial(path.parent)
    assert names(path) == [".hidden", "file", "mine.part"]
