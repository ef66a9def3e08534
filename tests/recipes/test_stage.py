"""A stage that is killed, finished, begun with other settings."""

import json
import os

import pytest

from hf_localgan import MleConfig
from hf_localgan.recipes import Stage, settings_of
from hf_localgan.recipes.stage import fingerprints

SETTINGS = {"learning_rate": 0.1, "seed": 3}


def checkpoint(folder, number: int):
    (folder / f"checkpoint-{number}").mkdir(parents=True)


def test_a_stage_begins_goes_on_from_its_last_checkpoint_and_is_not_run_again(tmp_path, capsys):
    first = Stage("mle", tmp_path / "mle")
    assert first.begin(SETTINGS) and first.checkpoint is None
    again = Stage("mle", tmp_path / "mle")  # killed before its first checkpoint
    assert again.begin({**SETTINGS, "seed": 4}) and again.checkpoint is None  # nothing was made with the other seed
    assert again.begin(SETTINGS)
    checkpoint(tmp_path / "mle", 9)
    checkpoint(tmp_path / "mle", 10)
    again = Stage("mle", tmp_path / "mle")
    assert again.begin(SETTINGS) and again.checkpoint == str(tmp_path / "mle" / "checkpoint-10")
    (tmp_path / "mle" / "model.safetensors").write_bytes(b"weights")
    again.finish()
    assert not Stage("mle", tmp_path / "mle").begin(SETTINGS)
    kept = json.loads((tmp_path / "mle" / "finished.json").read_text())
    assert kept["settings"] == {**SETTINGS, "processes": 1}
    assert kept["files"] == fingerprints(tmp_path / "mle") and len(kept["files"]["model.safetensors"]) == 64
    said = capsys.readouterr().out.splitlines()
    assert [line.split(": ")[-1] for line in said] == [
        *3 * ["begins"],
        "resumes from checkpoint-10",
        "finished before",
    ]


@pytest.mark.parametrize("finished", [False, True])
def test_other_settings_are_refused_by_name_whether_the_stage_is_finished_or_not(tmp_path, finished):
    stage = Stage("energy", tmp_path / "energy")
    assert stage.begin({**SETTINGS, "made_from": {"generator": "a"}})
    checkpoint(stage.output, 5)
    if finished:
        stage.finish()
    before = sorted(tmp_path.rglob("*"))
    with pytest.raises(ValueError, match="other settings.*`learning_rate` was 0.1, now 0.2.*`output_dir`.*energy"):
        Stage("energy", tmp_path / "energy").begin({**SETTINGS, "learning_rate": 0.2, "made_from": {"generator": "a"}})
    with pytest.raises(ValueError, match='`made_from` was {"generator": "a"}, now {"tokenizer": "a"}'):
        Stage("energy", tmp_path / "energy").begin({**SETTINGS, "made_from": {"tokenizer": "a"}})
    assert sorted(tmp_path.rglob("*")) == before
    # what this version of a library does not know, or the former one did not, decides nothing
    assert Stage("energy", tmp_path / "energy").begin({"seed": 3, "new": 1}) is not finished


def test_a_stage_that_writes_elsewhere_says_what_to_remove(tmp_path):
    stage = Stage("adversarial", tmp_path / "stages" / "adversarial", tmp_path)
    checkpoint(tmp_path, 5)
    with pytest.raises(ValueError, match='checkpoint-5" is no checkpoint of the stage `adversarial`'):
        stage.begin(SETTINGS)
    (tmp_path / "checkpoint-5").rmdir()
    assert stage.begin(SETTINGS)
    checkpoint(tmp_path, 7)
    with pytest.raises(ValueError, match=f'stages/adversarial" and the checkpoints in "{tmp_path}"'):
        Stage("adversarial", stage.folder, tmp_path).begin({"seed": 4})
    again = Stage("adversarial", stage.folder, tmp_path)
    assert again.begin(SETTINGS) and again.checkpoint == str(tmp_path / "checkpoint-7")


def test_a_kill_while_a_file_is_written_leaves_none_and_its_remains_are_removed(tmp_path, monkeypatch):
    def killed(*args):
        raise KeyboardInterrupt

    stage = Stage("mle", tmp_path / "mle")
    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(os, "replace", killed)
        patch.setattr("pathlib.Path.replace", killed)
        patch.setattr("pathlib.Path.unlink", lambda *args, **kwargs: None)  # nor does a killed process clean up
        stage.begin(SETTINGS)
    assert [path.name[0] for path in (tmp_path / "mle").iterdir()] == ["."]
    again = Stage("mle", tmp_path / "mle")
    assert again.begin(SETTINGS)
    assert [path.name for path in (tmp_path / "mle").iterdir()] == ["settings.json"]
    left = {"evaluation.md", ".evaluation-cgs3gkqo.md", ".notes-12345678.md", ".hidden.md"}
    for name in left:
        (tmp_path / "mle" / name).write_text("")
    again.finish()
    names = {path.name for path in (tmp_path / "mle").iterdir()}
    assert names == left - {".evaluation-cgs3gkqo.md"} | {"settings.json", "finished.json"}


def test_a_damaged_file_is_named(tmp_path):
    Stage("mle", tmp_path / "mle").begin(SETTINGS)
    checkpoint(tmp_path / "mle", 1)
    (tmp_path / "mle" / "settings.json").write_text('{"seed": ')
    with pytest.raises(ValueError, match='settings.json" cannot be read.*to make the stage anew'):
        Stage("mle", tmp_path / "mle").begin(SETTINGS)


def test_what_decides_on_nothing_is_no_setting(tmp_path):
    args = MleConfig(output_dir=str(tmp_path), use_cpu=True, logging_steps=3, hub_token="secret", learning_rate=0.25)
    found = settings_of(args, without=("seed",))
    assert found["learning_rate"] == 0.25 and {"max_steps", "eval_steps", "per_device_train_batch_size"} <= set(found)
    assert not {"output_dir", "use_cpu", "logging_steps", "hub_token", "seed", "disable_tqdm"} & set(found)
