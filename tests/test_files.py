"""Nothing half-written is left under the final name; a name in a folder that is here is a path."""

import os
import stat

import pytest

from hf_localgan.files import missing_path, replacing


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
