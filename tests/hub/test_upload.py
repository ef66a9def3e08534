"""Folders to a Hub and back: one commit each, or none; what fails is told and loses nothing."""

from pathlib import Path

import pytest

from hf_localgan.hub.download import pull_checkpoint
from hf_localgan.hub.upload import UploadError, create_repository, link_files, push_folder

REPO = "somebody/tiny"
FIRST = {"README.md": b"one\n", "model.safetensors": b"1" * 3000, "energy/model.safetensors": b"2" * 3000}
SECOND = {"README.md": b"two\n", "model.safetensors": b"3" * 3000, "discriminator/model.safetensors": b"4" * 3000}


def write(folder: Path, files: dict[str, bytes]) -> Path:
    for name, data in files.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(data)
    return folder


def contents(folder: Path) -> dict[str, bytes]:
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def listing(hub, revision: str = "main") -> dict[str, bytes]:
    return {name: data for name, data in hub.files(REPO, revision).items() if name != ".gitattributes"}


@pytest.fixture
def repository(hub, tmp_path):
    """A repository that holds the first files; the second ones lie in `new`."""
    assert create_repository("tiny") == REPO == create_repository(REPO)
    push_folder(write(tmp_path / "old", FIRST), REPO, message="first")
    write(tmp_path / "new", SECOND)
    return hub


def test_a_push_is_one_commit_of_regular_and_large_files(repository, tmp_path):
    assert listing(repository) == FIRST
    info = push_folder(tmp_path / "new", REPO, message="second")
    assert listing(repository) == {**FIRST, **SECOND} and repository.messages(REPO)[1:] == ["first", "second"]
    assert info.oid == repository.find(REPO, "main")[0]
    assert [method for method, path in repository.requests if path.startswith("/lfs/put/")] == ["PUT"] * 4


def test_the_same_files_again_make_no_commit(repository, tmp_path):
    push_folder(tmp_path / "old", REPO, message="again")
    assert repository.messages(REPO)[1:] == ["first"]


def test_whole_folders_keep_no_file_of_before(repository, tmp_path):
    write(tmp_path / "new", {"energy/config.json": b"{}"})
    push_folder(tmp_path / "new", REPO, message="second", whole=("energy",))
    assert "energy/model.safetensors" not in listing(repository) and "energy/config.json" in listing(repository)


def test_a_branch_is_made_and_the_main_one_stays(repository, tmp_path):
    push_folder(tmp_path / "new", REPO, message="second", revision="trial")
    assert listing(repository) == FIRST and listing(repository, "trial") == {**FIRST, **SECOND}


FAILURES = {
    "a broken upload of a blob": ("PUT", "/lfs/put/", "break", "server or the connection failed"),
    "a blob that is refused": ("PUT", "/lfs/put/", 403, "token may not write there"),
    "no storage": ("POST", "/lfs/objects/batch", 500, "try again later"),
    "a commit that always fails": ("POST", "/commit/", 500, "try again later"),
    "a commit whose connection breaks": ("POST", "/commit/", "break", "server or the connection failed"),
    "a wrong token": ("POST", "/preupload/", 401, "hf auth login"),
}


@pytest.mark.parametrize("name", FAILURES)
def test_after_a_failure_everything_is_as_it_was_and_the_error_says_what_to_do(repository, tmp_path, name):
    method, pattern, how, advice = FAILURES[name]
    repository.fail(method, pattern, how)
    before = contents(tmp_path / "new")
    with pytest.raises(UploadError, match=f'"{REPO}" could not be uploaded to .*') as raised:
        push_folder(tmp_path / "new", REPO, message="second", advice="Then push again.")
    assert advice in str(raised.value) and str(raised.value).endswith("Then push again.")
    assert listing(repository) == FIRST and repository.messages(REPO)[1:] == ["first"]
    assert contents(tmp_path / "new") == before
    repository.failures.clear()
    push_folder(tmp_path / "new", REPO, message="second")
    assert listing(repository) == {**FIRST, **SECOND}


@pytest.mark.parametrize(("method", "pattern"), [("PUT", "/lfs/put/"), ("POST", "/commit/"), ("POST", "/batch")])
@pytest.mark.parametrize("how", [500, "break"])
def test_a_failure_for_a_moment_is_got_over(repository, tmp_path, method, pattern, how):
    repository.fail(method, pattern, how, times=1)
    push_folder(tmp_path / "new", REPO, message="second")
    assert listing(repository) == {**FIRST, **SECOND} and len(repository.messages(REPO)) == 3


def test_a_wrong_token_is_told_before_anything_is_made(hub, monkeypatch):
    monkeypatch.setenv("HF_TOKEN", "hf_wrong")
    with pytest.raises(UploadError, match='"somebody/other" cannot be made or written to .*hf auth login'):
        create_repository("somebody/other")
    assert not hub.commits


def test_without_a_server_the_repository_is_named(hub, tmp_path):
    hub.close()
    with pytest.raises(UploadError, match='"somebody/tiny" could not be uploaded to'):
        push_folder(write(tmp_path, FIRST), REPO, message="first")
    assert contents(tmp_path) == FIRST


def test_weights_are_linked_and_what_is_written_into_is_copied(tmp_path):
    source = write(tmp_path / "source", {**FIRST, "runs/events": b"e", "stages/mle/model.safetensors": b"s"})
    write(source, {".saving-1/model.safetensors": b"h", "energy/.cache": b"h"})
    target = tmp_path / "target"
    target.mkdir()
    link_files(source, target, ignored=(".*", "stages"))
    assert contents(target) == {**FIRST, "runs/events": b"e"}
    assert (target / "energy/model.safetensors").samefile(source / "energy/model.safetensors")
    assert not (target / "runs/events").samefile(source / "runs/events")
    (source / "energy/model.safetensors").unlink()  # as when an old checkpoint is removed
    assert contents(target)["energy/model.safetensors"] == FIRST["energy/model.safetensors"]


# ---- checkpoints that come back ----

STATE = b'{"global_step": 7, "best_global_step": null, "log_history": []}'
CHECKPOINT = {"model.safetensors": b"5" * 2000, "optimizer.pt": b"6" * 2000, "trainer_state.json": STATE}


@pytest.fixture
def with_checkpoint(repository, tmp_path):
    """The repository has a `last-checkpoint` of step 7."""
    write(tmp_path / "state", {f"last-checkpoint/{name}": data for name, data in CHECKPOINT.items()})
    push_folder(tmp_path / "state", REPO, message="checkpoint")
    return repository


@pytest.mark.parametrize("repo", [REPO, "tiny"])
def test_a_checkpoint_comes_back_alone_and_whole(with_checkpoint, tmp_path, repo):
    path = pull_checkpoint(repo, "last-checkpoint", tmp_path / "out")
    assert path == tmp_path / "out" / "checkpoint-7" and [*(tmp_path / "out").iterdir()] == [path]
    assert contents(path) == CHECKPOINT
    assert pull_checkpoint(repo, "last-checkpoint", tmp_path / "out") == path  # it is there already


def test_a_checkpoint_of_another_training_is_not_overwritten(with_checkpoint, tmp_path):
    own = write(tmp_path / "out" / "checkpoint-7", {"model.safetensors": b"mine"})
    with pytest.raises(ValueError, match="different weights"):
        pull_checkpoint(REPO, "last-checkpoint", tmp_path / "out")
    assert contents(own) == {"model.safetensors": b"mine"} and [*own.parent.iterdir()] == [own]


@pytest.mark.parametrize("how", [500, "break", 401])
def test_a_download_that_fails_leaves_nothing(with_checkpoint, tmp_path, how):
    with_checkpoint.fail("GET", "resolve/.*optimizer", how)
    with pytest.raises(OSError, match='`last-checkpoint` could not be downloaded from the repository "somebody/tiny"'):
        pull_checkpoint(REPO, "last-checkpoint", tmp_path / "out")
    assert not [*(tmp_path / "out").iterdir()]
    with_checkpoint.failures.clear()
    assert contents(pull_checkpoint(REPO, "last-checkpoint", tmp_path / "out")) == CHECKPOINT


def test_what_is_not_there_is_told(with_checkpoint, tmp_path):
    with pytest.raises(FileNotFoundError, match="no `checkpoint-9` .found: last-checkpoint.*hub_strategy"):
        pull_checkpoint(REPO, "checkpoint-9", tmp_path / "out")
    with pytest.raises(OSError, match='repository "somebody/none".*Check `hub_model_id`'):
        pull_checkpoint("somebody/none", "last-checkpoint", tmp_path / "out")
    write(tmp_path / "half", {"last-checkpoint/model.safetensors": b"7" * 100})
    push_folder(tmp_path / "half", REPO, message="half", whole=("last-checkpoint",))
    with pytest.raises(ValueError, match="`last-checkpoint` .*is incomplete: it has no trainer_state.json"):
        pull_checkpoint(REPO, "last-checkpoint", tmp_path / "out")
    assert not [*(tmp_path / "out").iterdir()]
