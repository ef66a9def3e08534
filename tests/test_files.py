"""Nothing half-written is left under the final name; a name in a folder that is here is a path."""

import errno
import os
import signal
import stat

import pytest
import torch
from safetensors.torch import save_file

from hf_localgan.files import missing_path, replacing, unwritten_named


@pytest.fixture
def umask_027():
    before = os.umask(0o027)
    yield
    os.umask(before)


def names(folder) -> list[str]:
    return sorted(os.listdir(folder))


def test_a_file_appears_with_its_content_in_a_folder_that_is_made(tmp_path):
    path = tmp_path / "new" / "table.parquet"
    with replacing(str(path)) as temporary:
        assert temporary.parent == path.parent and temporary.suffix == ".parquet"
        temporary.write_text("whole")
        assert not path.exists()
    assert path.read_text() == "whole"
    assert names(path.parent) == ["table.parquet"]


@pytest.mark.parametrize("error", [OSError, KeyboardInterrupt, SystemExit])
def test_an_error_while_writing_keeps_the_old_file(error, tmp_path):
    path = tmp_path / "table.json"
    path.write_text("old")
    with pytest.raises(error), replacing(path) as temporary:
        temporary.write_text("half")
        raise error
    assert path.read_text() == "old"
    assert names(tmp_path) == ["table.json"]


def test_an_error_in_the_renaming_keeps_the_old_file(tmp_path, monkeypatch):
    path = tmp_path / "table.json"
    path.write_text("old")

    def fail(self, target):
        raise OSError("No space left on device")

    monkeypatch.setattr("pathlib.Path.replace", fail)
    with pytest.raises(OSError, match="No space left"), replacing(path) as temporary:
        temporary.write_text("new")
    assert path.read_text() == "old"
    assert names(tmp_path) == ["table.json"]


def test_files_get_the_usual_permissions(tmp_path, umask_027):
    with replacing(tmp_path / "file") as temporary:
        temporary.write_text("")
    assert stat.S_IMODE((tmp_path / "file").stat().st_mode) == 0o640


@pytest.mark.parametrize(
    ("name", "told"),
    [
        ("owner/name", None),
        ("owner/name/energy", None),
        ("t5-small", None),
        ("runs/first", None),  # it is there
        ("runs/frist", '"runs" is a folder here, and holds no "frist"; did you mean runs/first?'),
        ("runs/first/energy", 'holds no "energy".'),
        ("runs/frist/energy", 'holds no "frist"; did you mean runs/first?'),
        ("./runs/none", 'There is no "./runs/none"'),
        ("/nowhere/at/all", 'There is no "/nowhere/at/all"'),
        ("~nobody-of-this-name/x", "Give a file or folder that exists"),
    ],
)
def test_a_name_in_a_folder_that_is_here_is_a_path(name, told, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "runs" / "first").mkdir(parents=True)
    problem = missing_path(name)
    assert problem is None if told is None else told in problem and name in problem
    assert missing_path(tmp_path / "none") is not None  # a path is no id


@pytest.fixture
def quota():
    """`quota(size)`: from now on no file of this process may grow beyond that number of bytes."""
    resource = pytest.importorskip("resource", reason="needs limits of files")
    before, handler = resource.getrlimit(resource.RLIMIT_FSIZE), signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    yield lambda size: resource.setrlimit(resource.RLIMIT_FSIZE, (size, before[1]))
    resource.setrlimit(resource.RLIMIT_FSIZE, before)
    signal.signal(signal.SIGXFSZ, handler)


@pytest.mark.parametrize("save", [torch.save, save_file], ids=["torch", "safetensors"])
def test_libraries_that_cannot_write_weights_are_an_error_of_the_disk(save, quota, tmp_path):
    quota(20_000)  # less than the probe
    with pytest.raises(OSError, match="cannot be written to: .*File too large.*make room") as caught:
        with unwritten_named(tmp_path):
            save({"a": torch.zeros(10_000)}, tmp_path / "weights")
    assert str(tmp_path) in str(caught.value)


def test_other_errors_of_writing_go_through(tmp_path):
    for error in (RuntimeError("shapes"), ValueError("no"), OSError(errno.ENOSPC, "No space left on device")):
        with pytest.raises(type(error)) as caught, unwritten_named(tmp_path):
            raise error
        assert caught.value is error


def test_an_error_without_a_reason_has_that_of_a_small_file(quota, tmp_path):
    quota(20_000)
    with pytest.raises(OSError, match="File too large"), unwritten_named(tmp_path):
        raise RuntimeError("basic_ios::clear: iostream error")  # of `torch.save`, which closes an archive
