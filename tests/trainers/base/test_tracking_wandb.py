"""What Weights & Biases gets: by its own package in offline mode where that is installed, and call by call."""

import importlib.machinery
import json
import sys
import types
from pathlib import Path
from types import SimpleNamespace

import pytest
from PIL import Image
from transformers.integrations import WandbCallback

from hf_localgan.trainers import read_samples
from hf_localgan.trainers.base.tracking import WandbTracker

EVALUATED = {"sample_rows": 2, "sample_max_new_tokens": 4, "eval_strategy": "steps", "eval_steps": 2, "max_steps": 2}


@pytest.fixture
def picture(tmp_path) -> Path:
    path = tmp_path / "front.png"
    Image.new("RGB", (6, 4), (255, 0, 0)).save(path)
    return path


@pytest.fixture
def recorded(monkeypatch):
    """A module in place of wandb that keeps what its documented functions are called with."""
    wandb = types.ModuleType("wandb")
    wandb.__spec__ = importlib.machinery.ModuleSpec("wandb", None)
    wandb.run, wandb.begun, wandb.logged, wandb.ended = None, [], [], 0

    class Config(dict):
        def update(self, values, allow_val_change=False):
            super().update(values)

    def init(**settings):
        wandb.begun.append(settings)
        name = settings.get("id") or f"run{len(wandb.begun)}"
        wandb.run = SimpleNamespace(id=name, name=settings.get("name"), summary={}, _label=lambda **kwargs: None)
        return wandb.run

    def finish():
        wandb.run, wandb.ended = None, wandb.ended + 1

    wandb.config, wandb.init, wandb.finish = Config(), init, finish
    wandb.log = lambda values: wandb.logged.append((wandb.run.id, values))
    wandb.define_metric = wandb.termwarn = lambda *args, **kwargs: None
    for kind in ("Table", "Image", "Html"):
        setattr(wandb, kind, lambda *args, kind=kind, **kwargs: (kind, args, kwargs))
    errors = types.ModuleType("wandb.sdk.lib.config_util")
    errors.ConfigError = ValueError
    for name in ("wandb.sdk", "wandb.sdk.lib"):
        monkeypatch.setitem(sys.modules, name, types.ModuleType(name))
    monkeypatch.setitem(sys.modules, errors.__name__, errors)
    monkeypatch.setitem(sys.modules, "wandb", wandb)
    monkeypatch.setattr(WandbTracker, "_latest_run", None)
    return wandb


def test_tables_pictures_and_parts_are_handed_over_at_their_steps(recorded, players, family, pairs, picture, tmp_path):
    run = players(family("t5"), pairs(8), pairs(4, 1), **EVALUATED, report_to="wandb")
    run.train()
    run.track_results([picture])
    by_name = {name: (values[name], values["train/global_step"]) for _, values in recorded.logged for name in values}
    (kind, _, table), step = by_name["samples"]
    assert (kind, step, table["columns"]) == ("Table", 2, ["step", "query", "reference", "generation"])
    assert table["data"] == [list(row.values()) for row in read_samples(tmp_path / "run" / "samples.parquet")]
    assert by_name["pictures/front"] == (("Image", (str(picture),), {"caption": "front"}), 2)
    assert isinstance(by_name["train/loss/generator"][0], float) and "eval/loss" in by_name
    assert recorded.config["discriminator"]["model_type"] == "query_response_discriminator"
    assert recorded.run is None and recorded.ended == 1


def test_a_resumed_training_names_the_run_it_came_from(recorded, trainer, family, pairs):
    settings = {"report_to": "wandb", "save_strategy": "steps", "save_steps": 1}
    trainer(family("t5"), pairs(8), max_steps=1, **settings).train()
    recorded.finish()  # the process has ended
    trainer(family("t5"), pairs(8), max_steps=2, **settings).train(resume_from_checkpoint=True)
    assert [(one.get("id"), one.get("resume")) for one in recorded.begun] == [(None, None), ("run1", "allow")]


def test_each_trainer_of_a_process_has_a_run_and_the_users_own_stays_open(recorded, trainer, family, pairs):
    first, second = (trainer(family("t5"), pairs(8), max_steps=1, report_to="wandb") for _ in range(2))
    first.train()
    second.train()
    assert [one for one, values in recorded.logged if "train/loss" in values] == ["run1", "run2"]
    second.track_results([])
    mine = recorded.init(id="mine")
    third = trainer(family("t5"), pairs(8), max_steps=1, report_to="wandb")
    third.train()
    third.track_results([])
    assert recorded.run is mine and recorded.logged[-1][0] == "mine"


def test_another_process_opens_no_run(recorded, trainer, family, pairs, monkeypatch):
    run = trainer(family("t5"), pairs(8), max_steps=1, report_to="wandb")
    monkeypatch.setattr(run, "is_world_process_zero", lambda: False)
    run.train()
    run.track_results([])
    assert recorded.begun == [] and recorded.logged == []


def test_the_real_package_takes_all_of_it_offline(trainer, family, pairs, picture, tmp_path, monkeypatch):
    wandb = pytest.importorskip("wandb", reason="Weights & Biases is no dependency of the package; `pip install wandb`")
    monkeypatch.setenv("WANDB_MODE", "offline")
    monkeypatch.setenv("WANDB_DIR", str(tmp_path))
    run = trainer(family("t5"), pairs(8), pairs(4, 1), **EVALUATED, report_to="wandb")
    assert isinstance(
        next(one for one in run.callback_handler.callbacks if isinstance(one, WandbCallback)), WandbTracker
    )
    run.train()
    run.track_results([picture])
    assert wandb.run is None
    (table,) = (tmp_path / "wandb").glob("offline-run-*/files/media/table/samples_*.table.json")
    rows = [list(row.values()) for row in read_samples(tmp_path / "run" / "samples.parquet")]
    assert json.loads(table.read_text(encoding="utf-8"))["data"] == rows
    assert list((tmp_path / "wandb").glob("offline-run-*/files/media/images/pictures/front_*.png"))
