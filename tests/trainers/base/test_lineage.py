"""A folder with checkpoints of several trainings: each resumes from its own, and removes none of the others'."""

import json
import logging
from pathlib import Path

import pytest

from hf_localgan import MleConfig
from hf_localgan.recipes.resuming import checkpoint_to_resume
from hf_localgan.recipes.stage import Stage
from hf_localgan.trainers.base.lineage import (
    UNKNOWN,
    CheckpointRecord,
    continues,
    foreign_checkpoints,
    last_checkpoint,
    new_run,
    rotate_own_checkpoints,
)


@pytest.fixture
def run(family, trainer, pairs):
    """`run(**arguments)`: a trainer that saves a checkpoint after each second update, in the same folder each time."""

    def build(**arguments):
        settings = {"max_steps": 4, "save_strategy": "steps", "save_steps": 2, **arguments}
        return trainer(family("rnn_seq2seq"), pairs(8), pairs(3), **settings)

    return build


def names(folder: Path) -> list[str]:
    return sorted((path.name for path in folder.glob("checkpoint-*")), key=lambda name: int(name.split("-")[1]))


def write(folder: Path, step: int, lineage=None, saved_at: float = 0.0):
    place = folder / f"checkpoint-{step}"
    place.mkdir(parents=True)
    if lineage is not None:
        CheckpointRecord(lineage, saved_at).write(place)


def test_a_shorter_training_after_a_longer_one_in_the_same_folder(run, tmp_path, caplog):
    output = tmp_path / "run"
    run(max_steps=8).train()
    caplog.clear()
    with caplog.at_level(logging.WARNING, logger="hf_localgan"):
        run(max_steps=3, save_total_limit=1, learning_rate=0.1).train()
    said = [record.getMessage() for record in caplog.records if "does not continue" in record.getMessage()]
    assert len(said) == 1 and "checkpoint-2, checkpoint-4, checkpoint-6, checkpoint-8" in said[0]
    assert "another `output_dir`" in said[0]
    assert names(output) == ["checkpoint-3", "checkpoint-4", "checkpoint-6", "checkpoint-8"]  # its own 2 was rotated
    last = str(output / "checkpoint-3")
    args = MleConfig(str(output), use_cpu=True, resume_from_checkpoint="last")
    assert checkpoint_to_resume(args) == last == last_checkpoint(output)
    longer = run(max_steps=5, save_total_limit=1, learning_rate=0.1)
    longer.train(resume_from_checkpoint=True)
    assert longer.state.global_step == 5
    assert names(output) == ["checkpoint-5", "checkpoint-6", "checkpoint-8"]  # 3 is its ancestor, and 4 was replaced
    saved = json.loads((output / "checkpoint-5" / "checkpoint.json").read_text())
    assert [start for _, start in saved["lineage"]] == [0, 3] and len({name for name, _ in saved["lineage"]}) == 2


def test_the_best_model_of_one_training_removes_no_other_training(run, tmp_path):
    best = {"eval_strategy": "steps", "eval_steps": 2, "load_best_model_at_end": True, "metric_for_best_model": "loss"}
    run(max_steps=7, save_steps=7).train()
    run(save_total_limit=1, learning_rate=1e-9, **best).train()
    found = names(tmp_path / "run")
    assert len(found) == 2 and "checkpoint-7" in found
    run(save_total_limit=1, **best).train(resume_from_checkpoint=str(tmp_path / "run" / found[0]))
    assert "checkpoint-7" in names(tmp_path / "run")


def test_a_best_model_that_another_training_has_replaced_is_missed(run, tmp_path):
    output, best = tmp_path / "run", {"eval_strategy": "steps", "eval_steps": 2, "metric_for_best_model": "loss"}
    best |= {"load_best_model_at_end": True, "learning_rate": 0.0}  # no later model is better
    first = run(**best)
    first.train()
    assert first.state.best_global_step == 2
    run(max_steps=2, learning_rate=0.1).train()
    with pytest.raises(ValueError, match=r'its best checkpoint, ".*checkpoint-2", is missing or was replaced'):
        run(max_steps=6, **best).train(resume_from_checkpoint=str(output / "checkpoint-4"))
    best["load_best_model_at_end"] = False
    run(max_steps=6, **best).train(resume_from_checkpoint=str(output / "checkpoint-4"))


def test_a_checkpoint_beyond_the_end_trains_nothing_and_says_so(run, tmp_path, caplog):
    run(max_steps=6).train()
    resumed = run(max_steps=4)
    with caplog.at_level(logging.WARNING, logger="hf_localgan"):
        resumed.train(resume_from_checkpoint=True)
    said = [record.getMessage() for record in caplog.records if "beyond the end" in record.getMessage()]
    assert len(said) == 1 and "made 6 updates" in said[0] and "to make 4" in said[0] and "takes no step" in said[0]
    assert resumed.state.global_step == 6
    assert names(tmp_path / "run") == [
        "checkpoint-2",
        "checkpoint-4",
        "checkpoint-6",
    ]


def test_a_training_that_goes_back_leaves_what_came_after(run, tmp_path, caplog):
    output = tmp_path / "run"
    run(max_steps=6).train()
    run(max_steps=5, save_steps=5, save_total_limit=2).train(resume_from_checkpoint=str(output / "checkpoint-4"))
    assert names(output) == ["checkpoint-4", "checkpoint-5", "checkpoint-6"]
    assert last_checkpoint(output) == str(output / "checkpoint-5")


def test_without_a_checkpoint_it_says_what_is_looked_for(run):
    with pytest.raises(ValueError, match=r"no checkpoint to resume from in \".*run\".*`resume_from_checkpoint`"):
        run().train(resume_from_checkpoint=True)


def test_checkpoints_of_before_count_as_one_training(tmp_path):
    for step in (5, 10, 9):
        write(tmp_path, step)
    (tmp_path / "checkpoint-11").touch()  # a file
    (tmp_path / "checkpoint-of-mine").mkdir()
    assert last_checkpoint(tmp_path) == str(tmp_path / "checkpoint-10")
    assert last_checkpoint(tmp_path / "nowhere") is None
    resumed = new_run(9, UNKNOWN)
    assert [path.name for path in foreign_checkpoints(tmp_path, resumed)] == ["checkpoint-10"]
    write(tmp_path, 12, resumed, saved_at=1.0)
    assert last_checkpoint(tmp_path) == str(tmp_path / "checkpoint-12")
    rotate_own_checkpoints(tmp_path, resumed, 2)
    assert {path.name for path in tmp_path.iterdir()} == {
        "checkpoint-9", "checkpoint-10", "checkpoint-11", "checkpoint-12", "checkpoint-of-mine",
    }  # fmt: skip


def test_which_checkpoints_a_training_has_passed_through():
    first = new_run(0)
    resumed = new_run(50, first)
    assert continues(first, first, 100) and continues(resumed, first, 50) and continues(resumed, resumed, 75)
    assert not continues(resumed, first, 51)  # made after the one that was resumed
    assert not continues(first, resumed, 75) and not continues(first, new_run(0), 5)
    assert not continues(new_run(50, first), resumed, 75)  # another branch
    assert not continues(new_run(0), UNKNOWN, 5) and continues(new_run(5, UNKNOWN), UNKNOWN, 5)


def test_rotation_keeps_the_last_and_what_it_is_told(tmp_path):
    own, other = new_run(0), new_run(0)
    for step in (2, 4, 6, 8):
        write(tmp_path, step, own, step)
    write(tmp_path, 1, other, 0.5)
    rotate_own_checkpoints(tmp_path, own, None)
    rotate_own_checkpoints(tmp_path, own, 0)
    assert len(names(tmp_path)) == 5
    rotate_own_checkpoints(tmp_path, own, 3, kept=[str(tmp_path / "checkpoint-2"), None])
    assert names(tmp_path) == [f"checkpoint-{step}" for step in (1, 2, 6, 8)]
    rotate_own_checkpoints(tmp_path, own, 1, newest=9)
    rotate_own_checkpoints(tmp_path, own, 1, kept=[str(tmp_path / "checkpoint-2")], newest=2)
    assert names(tmp_path) == [f"checkpoint-{step}" for step in (1, 2, 6, 8)]
    rotate_own_checkpoints(tmp_path, own, 1, kept=[str(tmp_path / "checkpoint-2")])
    assert names(tmp_path) == [f"checkpoint-{step}" for step in (1, 2, 8)]
    rotate_own_checkpoints(tmp_path, own, 1, kept=[str(tmp_path / "checkpoint-2")], newest=0)
    assert names(tmp_path) == ["checkpoint-1", "checkpoint-2"]


def test_a_stage_goes_on_from_the_training_that_saved_last(tmp_path):
    stage = Stage("mle", tmp_path)
    assert stage.begin({"seed": 1})
    write(tmp_path, 8, new_run(0), saved_at=1.0)
    write(tmp_path, 3, new_run(0), saved_at=2.0)
    assert stage.begin({"seed": 1}) and stage.checkpoint == str(tmp_path / "checkpoint-3")
