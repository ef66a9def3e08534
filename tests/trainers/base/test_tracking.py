"""What TensorBoard and trackio show: named terms, sample tables, pictures, settings, resumed runs."""

import logging
import os
import socket
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from PIL import Image
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from transformers import TrainerCallback
from transformers.integrations import TensorBoardCallback, TrackioCallback

from hf_localgan.markdown import markdown_table
from hf_localgan.models import PairDiscriminator, PairDiscriminatorConfig
from hf_localgan.trainers import MatchingConfig, MatchingTrainer, RamlConfig, RamlTrainer, read_samples
from hf_localgan.trainers.base import tracking
from hf_localgan.trainers.base.tracking import TensorBoardTracker, TrackioTracker

EVALUATED = {
    "sample_rows": 2, "sample_max_new_tokens": 4, "eval_strategy": "steps", "eval_steps": 2, "max_steps": 4,
    "per_device_train_batch_size": 4,
}  # fmt: skip


@pytest.fixture(autouse=True)
def no_folder_of_the_environment(monkeypatch):
    for name in ("TENSORBOARD_LOGGING_DIR", "TRACKIO_SPACE_ID", "TRACKIO_SERVER_URL"):
        monkeypatch.delenv(name, raising=False)


@pytest.fixture
def trackio(tmp_path, monkeypatch):
    """trackio with its data in the test's folder, without a way to the network or to a server of its own."""
    import trackio

    old, new = trackio.utils.TRACKIO_DIR, tmp_path / "trackio"
    for name, module in list(sys.modules.items()):
        if name.split(".")[0] == "trackio":
            for key, value in list(vars(module).items()):
                if isinstance(value, Path) and value.is_relative_to(old):
                    monkeypatch.setattr(module, key, new / value.relative_to(old))

    def closed(*args, **kwargs):
        raise AssertionError("a socket was used")

    for name in ("connect", "connect_ex", "bind"):
        monkeypatch.setattr(socket.socket, name, closed)
    monkeypatch.setattr(socket, "getaddrinfo", closed)
    yield trackio
    if trackio.context_vars.current_run.get() is not None:
        trackio.finish()


@pytest.fixture
def picture(tmp_path) -> Path:
    path = tmp_path / "front.png"
    Image.new("RGBA", (6, 4), (255, 0, 0, 255)).save(path)
    return path


def board(folder: Path) -> EventAccumulator:
    """The events of the only TensorBoard run of an output folder."""
    (run,) = (folder / "runs").iterdir()
    return EventAccumulator(str(run), size_guidance={"images": 0, "tensors": 0}).Reload()


def scalars(events: EventAccumulator, tag: str) -> list[tuple[int, float]]:
    return [(event.step, event.value) for event in events.Scalars(tag)]


def text(events: EventAccumulator, tag: str) -> list[tuple[int, str]]:
    found = events.Tensors(f"{tag}/text_summary")
    return [(event.step, event.tensor_proto.string_val[0].decode()) for event in found]


def stored(trackio, name: str, project: str = "huggingface") -> dict[int, dict]:
    """What trackio stores of a run, by step."""
    steps = {}
    for row in trackio.SQLiteStorage.get_logs(project, name):
        steps.setdefault(row["step"], {}).update(row)
    return steps


def names(trackio, project: str = "huggingface") -> list[str]:
    return sorted(run.name for run in trackio.Api().runs(project))


# ---- TensorBoard ----


def test_tensorboard_shows_every_number_of_the_log_under_its_name(players, family, pairs, tmp_path, caplog):
    run = players(family("t5"), pairs(8), pairs(4, 1), **EVALUATED, report_to="tensorboard")
    with caplog.at_level(logging.WARNING):
        run.train()
    assert "attempting to log" not in caplog.text  # what is no number would be dropped with this warning
    events = board(tmp_path / "run")
    expected = {}
    for row in run.state.log_history:
        for name, value in row.items():
            if name != "step":
                tag = f"eval/{name.removeprefix('eval_')}" if name.startswith("eval_") else f"train/{name}"
                expected.setdefault(tag, []).append((row["step"], value))
    assert set(expected) == set(events.Tags()["scalars"])
    assert {"train/loss/generator", "train/loss/radial", "train/gan/delta_alpha", "eval/perplexity"} <= set(expected)
    for tag, values in expected.items():
        assert scalars(events, tag) == [(step, pytest.approx(value, rel=1e-6)) for step, value in values], tag
    assert text(events, "discriminator_config")[0][1] == run.discriminator.config.to_json_string()
    assert "hidden_size" in text(events, "energy_config")[0][1]
    assert "max_steps" in text(events, "args")[0][1]


def test_tensorboard_shows_samples_of_each_evaluation_and_pictures_after_training(
    trainer, family, pairs, tmp_path, picture
):
    run = trainer(family("t5"), pairs(8), pairs(4, 1), **EVALUATED, report_to="tensorboard", save_strategy="epoch")
    run.train()
    run.evaluate(pairs(4, 2), metric_key_prefix="test")
    report = picture.with_name("evaluation.md")
    report.write_text("# Scores")
    run.track_results([picture, report, tmp_path / "missing.png", tmp_path / "run" / "samples.parquet"])
    events = board(tmp_path / "run")
    shown, rows = text(events, "samples"), read_samples(tmp_path / "run" / "samples.parquet")
    assert [step for step, _ in shown] == [2, 4]
    columns = ("step", "query", "reference", "generation")
    cells = [[row[column] for column in columns] for row in rows[2:]]
    assert shown[1][1] == "\n".join(markdown_table(columns, cells))
    assert text(events, "reports/evaluation") == [(4, "# Scores")]
    assert [step for step, _ in scalars(events, "test/loss")] == [4]
    (image,) = events.Images("pictures/front")
    assert (image.step, image.width, image.height) == (4, 6, 4)
    checkpoint = next((tmp_path / "run").glob("checkpoint-*"))
    assert not list(checkpoint.rglob("*tfevents*")) and not list((tmp_path / "run").glob(".saving*"))


class BreaksOff(TrainerCallback):
    def on_step_end(self, args, state, control, **kwargs):
        if state.global_step == 4:
            raise KeyboardInterrupt


def resumed(trainer, family, pairs, **arguments):
    """A training that is broken off after step 3, resumed from its checkpoint of step 2."""
    arguments = {"max_steps": 5, "save_strategy": "steps", "save_steps": 2, **arguments}
    with pytest.raises(KeyboardInterrupt):
        trainer(family("t5"), pairs(8), callbacks=[BreaksOff()], **arguments).train()
    run = trainer(family("t5"), pairs(8), **arguments)
    run.train(resume_from_checkpoint=str(Path(run.args.output_dir) / "checkpoint-2"))
    return run


def test_tensorboard_goes_on_in_the_same_folder_without_steps_that_are_trained_again(trainer, family, pairs, tmp_path):
    run = resumed(trainer, family, pairs, report_to="tensorboard")
    steps = [step for step, _ in scalars(board(tmp_path / "run"), "train/loss")]
    assert steps == [1, 2, 3, 4, 5]
    assert run.state.log_history[-1]["step"] == 5


def test_a_tracker_that_the_checkpoint_did_not_have_can_be_added(trainer, family, pairs, tmp_path):
    settings = {"save_strategy": "steps", "save_steps": 2}
    trainer(family("t5"), pairs(8), max_steps=2, **settings).train()
    trainer(family("t5"), pairs(8), max_steps=4, report_to="tensorboard", **settings).train(resume_from_checkpoint=True)
    assert [step for step, _ in scalars(board(tmp_path / "run"), "train/loss")] == [3, 4]


def test_a_checkpoint_cannot_lead_out_of_the_folder(trainer, family, tmp_path):
    run = trainer(family("t5"), report_to="tensorboard")
    (tracker,) = run._trackers()
    state = SimpleNamespace(
        stateful_callbacks={"TensorBoardTracker": {"attributes": {"run": "../../elsewhere"}}}, global_step=2
    )
    tracker._choose_folder(run.args, tracker._earlier_run(state))
    assert Path(tracker.logging_dir) == tmp_path / "run" / "runs" / "elsewhere"


def test_an_evaluation_without_training_stays_in_the_output_folder(trainer, family, pairs, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    run = trainer(family("t5"), None, pairs(4), report_to="tensorboard")
    run.evaluate()
    assert os.listdir(tmp_path) == ["run"]
    assert scalars(board(tmp_path / "run"), "eval/loss")


def test_a_writer_and_a_subclass_of_the_user_are_used_as_they_are(trainer, family, pairs, tmp_path):
    from torch.utils.tensorboard import SummaryWriter

    class Own(TensorBoardCallback):
        pass

    writer = SummaryWriter(tmp_path / "mine")
    run = trainer(family("t5"), pairs(8), max_steps=1, callbacks=[TensorBoardCallback(writer)])
    run.train()
    run.track_table("words", ("word",), [{"word": "a | b"}])
    run.track_results([])
    events = EventAccumulator(str(tmp_path / "mine")).Reload()
    assert scalars(events, "train/loss") and r"a \| b" in text(events, "words")[0][1]
    assert not (tmp_path / "run" / "runs").exists()
    run.add_callback(Own)
    assert type(run.callback_handler.callbacks[-1]) is Own


# ---- the other trainers ----


def test_terms_of_raml_are_shown(trainer, family, pairs, tmp_path):
    arguments = {"config": RamlConfig, "cls": RamlTrainer, "temperature": 0.8, "max_steps": 2}
    trainer(family("t5"), pairs(8), report_to="tensorboard", **arguments).train()
    tags = board(tmp_path / "run").Tags()["scalars"]
    assert {"train/raml/edit_rate", "train/raml/temperature", "train/raml/edits_0"} <= set(tags)


def test_terms_of_an_energy_are_shown(energy_trainer, tiny_energy, vectors, tmp_path):
    energy_trainer(
        tiny_energy(), vectors(16), vectors(8), max_steps=2, eval_strategy="steps", eval_steps=2,
        report_to="tensorboard",
    ).train()  # fmt: skip
    tags = board(tmp_path / "run").Tags()["scalars"]
    assert {"train/dbm/period", "train/dbm/reconstruction", "eval/matching"} <= set(tags)


def test_terms_and_predictions_of_a_discriminator_are_shown(collate, tmp_path):
    rows = [{"input_ids": [4 + i, 2], "attention_mask": [1, 1], "labels": [5 + i, 2]} for i in range(8)]
    torch.manual_seed(0)
    model = PairDiscriminator(PairDiscriminatorConfig(body="cnn", vocab_size=20, eos_token_id=2))
    args = MatchingConfig(
        str(tmp_path / "run"), use_cpu=True, max_steps=1, logging_steps=1, save_strategy="no", disable_tqdm=True,
        report_to="tensorboard",
    )  # fmt: skip
    run = MatchingTrainer(model, args, train_dataset=rows, data_collator=collate)
    run.train()
    run.predict(rows)
    tags = board(tmp_path / "run").Tags()["scalars"]
    assert {"train/matching/real_accuracy", "test/matching"} <= set(tags)


# ---- trackio ----


def test_trackio_shows_numbers_tables_pictures_and_settings_in_one_run(
    trackio, players, family, pairs, tmp_path, picture
):
    run = players(family("t5"), pairs(8), pairs(4, 1), **EVALUATED, report_to="trackio")
    run.train()
    run.evaluate(pairs(4, 2), metric_key_prefix="test")
    run.track_results([picture])
    (name,) = names(trackio)
    assert name.startswith("run-")
    steps = stored(trackio, name)
    assert sorted(steps) == [1, 2, 3, 4]
    for row in run.state.log_history:
        for key in {"loss", "loss/generator", "loss/discriminator", "gan/delta_alpha"} & row.keys():
            assert steps[row["step"]][f"train/{key}"] == pytest.approx(row[key])
        if "eval_loss" in row:
            assert steps[row["step"]]["eval/loss"] == pytest.approx(row["eval_loss"])
    assert "test/loss" in steps[4]
    table = steps[4]["samples"]
    assert table["_type"] == "trackio.table"
    assert table["_value"] == read_samples(tmp_path / "run" / "samples.parquet")[2:]
    image = steps[4]["pictures/front"]
    assert (tmp_path / "trackio" / "media" / image["file_path"]).read_bytes() == picture.read_bytes()
    config = next(iter(trackio.Api().runs("huggingface"))).config
    assert config["max_steps"] == 4 and config["discriminator"]["model_type"] == "query_response_discriminator"
    assert trackio.context_vars.current_run.get() is None  # closed


def test_trackio_goes_on_in_the_same_run(trackio, trainer, family, pairs):
    resumed(trainer, family, pairs, report_to="trackio")
    (name,) = names(trackio)
    assert sorted(stored(trackio, name)) == [1, 2, 3, 4, 5]


def test_a_new_training_does_not_go_into_a_run_of_the_same_name(trackio, trainer, family, pairs):
    for _ in range(2):
        trainer(family("t5"), pairs(8), max_steps=1, report_to="trackio", run_name="mine", project="tests").train()
    assert names(trackio, "tests") == ["mine", "mine-2"]


def test_two_trainers_of_one_process_do_not_write_into_each_others_run(trackio, trainer, family, pairs):
    settings = {"report_to": "trackio", "project": "two", "max_steps": 1}
    first = trainer(family("t5"), pairs(8), pairs(4, 1), run_name="first", **settings)
    first.train()
    first.evaluate()  # opens it again
    trainer(family("t5"), pairs(8), run_name="second", **settings).train()
    first.evaluate(pairs(4, 2), metric_key_prefix="test")
    first.track_results([])
    assert "test/loss" in stored(trackio, "first", "two")[1]
    assert "test/loss" not in stored(trackio, "second", "two")[1]


def test_trackio_makes_no_space_unless_it_is_named(trainer, family, monkeypatch):
    calls = []
    monkeypatch.setattr(TrackioCallback, "on_push_begin", lambda self, args, *rest, **kwargs: calls.append(args))
    for space in (None, "somebody/board"):
        run = trainer(family("t5"), report_to="trackio", trackio_static_space_id=space)
        run.callback_handler.call_event("on_push_begin", run.args, run.state, run.control)
    assert [args.trackio_static_space_id for args in calls] == ["somebody/board"]


# ---- all of them ----


@pytest.mark.parametrize("kind", [TensorBoardTracker, TrackioTracker])
def test_another_process_writes_nothing(kind, trainer, family, pairs, tmp_path, monkeypatch):
    report = {TensorBoardTracker: "tensorboard", TrackioTracker: "trackio"}[kind]
    run = trainer(family("t5"), pairs(8), max_steps=1, report_to=report)
    monkeypatch.setattr(run, "is_world_process_zero", lambda: False)
    for name in ("setup", "_log", "_writer", "_init_summary_writer", "_choose_folder", "_new_name"):
        if hasattr(kind, name) and name != "setup":
            monkeypatch.setattr(kind, name, lambda *args, **kwargs: pytest.fail("another process has written"))
    run.train()
    run.track_table("words", ("word",), [{"word": "a"}])
    run.track_results([])
    assert not (tmp_path / "run" / "runs").exists()


def test_a_tracker_that_fails_ends_no_training(trainer, family, pairs, picture, caplog, monkeypatch):
    def full(*args):
        raise OSError("no space left on device")

    monkeypatch.setattr(TensorBoardTracker, "add_table", full)
    monkeypatch.setattr(TensorBoardTracker, "add_picture", full)
    run = trainer(family("t5"), pairs(8), pairs(4, 1), **EVALUATED, report_to="tensorboard")
    run.train()
    run.track_results([picture])
    assert run.state.global_step == 4
    assert "no space left on device" in caplog.text


def test_trackers_are_made_anew_with_their_trainer(trainer, family, pairs, tmp_path):
    settings = {"save_strategy": "steps", "save_steps": 1, "report_to": "tensorboard"}
    trainer(family("t5"), pairs(8), max_steps=1, **settings).train()
    run = trainer(family("t5"), pairs(8), max_steps=2, restore_callback_states_from_checkpoint=True, **settings)
    run.train(resume_from_checkpoint=True)
    assert [tracker.trainer for tracker in run._trackers()] == [run]
    assert [step for step, _ in scalars(board(tmp_path / "run"), "train/loss")] == [1, 2]


def test_every_tracker_stands_for_a_callback_of_transformers():
    for stock, tracker in tracking.TRACKERS.items():
        assert issubclass(tracker, stock) and issubclass(tracker, tracking.Tracker)
