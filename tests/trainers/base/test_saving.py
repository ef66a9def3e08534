"""What is on disk after saving, and after saving was cut short by a full disk, Ctrl-C or a kill."""

import errno
import json
import os
import pickletools
import signal
import subprocess
import sys
from pathlib import Path

import pyarrow.parquet
import pytest
import torch
from transformers import AutoModelForSeq2SeqLM, AutoTokenizer, TrainerState
from transformers.trainer_utils import get_last_checkpoint

from hf_localgan.trainers import read_samples
from hf_localgan.trainers.base import staging


def full_disk(*args, **kwargs):
    raise OSError(errno.ENOSPC, "No space left on device")


def interrupted(*args, **kwargs):
    raise KeyboardInterrupt


def after_writing(function, fail):
    """As `function`, but what it wrote is cut in half before `fail`: what a full disk leaves."""

    def cut(*args, **kwargs):
        function(*args, **kwargs)
        for argument in (*args, *kwargs.values()):
            if isinstance(argument, (str, Path)) and Path(argument).is_file():
                os.truncate(argument, Path(argument).stat().st_size // 2)
        fail()

    return cut


def later(function, fail, calls: int):
    """As `function` for some calls, then `fail`."""
    left = [calls]

    def counting(*args, **kwargs):
        left[0] -= 1
        return fail() if left[0] < 0 else function(*args, **kwargs)

    return counting


def contents(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def hidden(folder: Path) -> list[str]:
    return [path.name for path in folder.iterdir() if path.name.startswith(".")]


def is_pickle(data: bytes) -> bool:
    try:
        return bool(list(pickletools.genops(data)))
    except Exception:
        return False


MOMENTS = ["weights", "tokenizer", "arguments", "optimizer", "random state", "trainer state", "rename"]


def break_at(monkeypatch, moment: str, fail):
    """Lets saving fail at one of the `MOMENTS`."""
    import transformers.modeling_utils

    if moment == "weights":
        save = transformers.modeling_utils.safe_save_file
        monkeypatch.setattr(transformers.modeling_utils, "safe_save_file", after_writing(save, fail))
    elif moment == "tokenizer":
        monkeypatch.setattr("transformers.PreTrainedTokenizerBase.save_pretrained", fail)
    elif moment == "arguments":
        write = Path.write_text

        def writing(path, *args, **kwargs):
            write(path, *args, **kwargs)
            if path.name == "training_args.json":
                os.truncate(path, 20)
                fail()

        monkeypatch.setattr(Path, "write_text", writing)
    elif moment in ("optimizer", "random state"):
        name = {"optimizer": "optimizer.pt", "random state": "rng_state.pth"}[moment]
        save = torch.save

        def failing(data, path, *args, **kwargs):
            writing = after_writing(save, fail) if Path(path).name == name else save
            writing(data, path, *args, **kwargs)

        monkeypatch.setattr(torch, "save", failing)
    elif moment == "trainer state":
        monkeypatch.setattr(TrainerState, "save_to_json", after_writing(TrainerState.save_to_json, fail))
    elif moment == "rename":
        monkeypatch.setattr(staging.os, "replace", later(os.replace, fail, 1))


@pytest.fixture
def run(family, trainer, pairs):
    """`run(**arguments)`: a trainer of four steps that saves a checkpoint after each second one."""

    def build(**arguments):
        settings = {"max_steps": 4, "save_strategy": "steps", "save_steps": 2, **arguments}
        return trainer(family("rnn_seq2seq"), pairs(8), pairs(3), **settings)

    return build


@pytest.mark.parametrize("name", ["rnn_seq2seq", "t5", "bart"])
def test_the_output_loads_through_auto_classes_and_holds_no_pickle(
    name, family, trainer, pairs, tiny_tokenizer, tmp_path
):
    model = family(name)
    token = "hf_do_not_write_me_down"
    run = trainer(model, pairs(8), max_steps=2, save_strategy="steps", save_steps=1, hub_token=token)
    run.train()
    run.save_model()
    output = tmp_path / "run"
    for folder in (output, output / "checkpoint-1"):
        assert not (folder / "training_args.bin").exists()
        arguments = json.loads((folder / "training_args.json").read_text())
        assert arguments["learning_rate"] == 0.5 and arguments["fast_loss"] is True
    assert not [name for name, data in contents(output).items() if token.encode() in data]
    assert not [path.name for path in output.iterdir() if path.is_file() and is_pickle(path.read_bytes())]
    reloaded = AutoModelForSeq2SeqLM.from_pretrained(output)
    assert type(reloaded) is type(model)
    for (key, before), after in zip(model.state_dict().items(), reloaded.state_dict().values(), strict=True):
        assert torch.equal(before, after), key
    tokenizer = AutoTokenizer.from_pretrained(output)
    assert tokenizer("hello you").input_ids == tiny_tokenizer("hello you").input_ids
    assert hidden(output) == []


@pytest.mark.parametrize("fail", [full_disk, interrupted])
@pytest.mark.parametrize("moment", MOMENTS)
def test_an_error_while_saving_a_checkpoint_leaves_the_earlier_ones_and_nothing_else(
    moment, fail, run, monkeypatch, tmp_path
):
    output = tmp_path / "run"
    run(max_steps=2).train()
    before = contents(output)
    with monkeypatch.context() as patch, pytest.raises((OSError, KeyboardInterrupt)):
        break_at(patch, moment, fail)
        run().train(resume_from_checkpoint=True)
    assert contents(output) == before
    assert [path.name for path in output.iterdir()] == ["checkpoint-2"]
    resumed = run()
    resumed.train(resume_from_checkpoint=True)  # and saving goes on where there is room again
    assert resumed.state.global_step == 4
    assert get_last_checkpoint(output) == str(output / "checkpoint-4")


@pytest.mark.parametrize("fail", [full_disk, interrupted])
@pytest.mark.parametrize("moment", ["weights", "tokenizer", "arguments", "rename"])
def test_an_error_while_saving_the_model_leaves_the_earlier_output_as_it_was(moment, fail, run, monkeypatch, tmp_path):
    output = tmp_path / "run"
    trained = run(save_strategy="no")
    trained.save_model()
    before = contents(output)
    trained.train()
    with monkeypatch.context() as patch, pytest.raises((OSError, KeyboardInterrupt)):
        break_at(patch, moment, fail)
        trained.save_model()
    assert contents(output) == before
    AutoModelForSeq2SeqLM.from_pretrained(output)
    trained.save_model()
    assert contents(output).keys() == before.keys()
    assert contents(output)["model.safetensors"] != before["model.safetensors"]
    assert hidden(output) == []


@pytest.fixture
def folders(tmp_path):
    """`new` and `old`, with files and a folder of the same names, and one file more in each."""
    for name in ("new", "old"):
        (tmp_path / name / "part").mkdir(parents=True)
        for path in ("a.json", "c.json", "part/d.json"):
            (tmp_path / name / path).write_text(name)
    (tmp_path / "new" / "b.json").write_text("new")
    (tmp_path / "old" / "kept.json").write_text("old")
    return tmp_path / "new", tmp_path / "old"


def test_moving_replaces_what_is_there_and_leaves_other_files_alone(folders):
    new, old = folders
    staging.move_all(new, old)
    expected = {"a.json": b"new", "b.json": b"new", "c.json": b"new", "part/d.json": b"new", "kept.json": b"old"}
    assert contents(old) == expected


@pytest.mark.parametrize("links", [True, False])
@pytest.mark.parametrize("name", ["a.json", "b.json", "c.json", "part"])
def test_an_error_in_any_move_puts_back_what_was_there(name, links, folders, monkeypatch):
    new, old = folders
    before, replace = contents(old), os.replace

    def failing(source, target):
        if Path(source) == new / name:
            full_disk()
        replace(source, target)

    monkeypatch.setattr(staging.os, "replace", failing)
    if not links:
        monkeypatch.setattr(staging.os, "link", full_disk)
    with pytest.raises(OSError, match="No space left"):
        staging.move_all(new, old)
    assert contents(old) == before


def test_a_checkpoint_of_an_earlier_run_is_replaced_whole(run, tmp_path):
    output = tmp_path / "run"
    run().train()
    before = contents(output / "checkpoint-2")
    (output / "checkpoint-2" / "left over").write_text("from another run")
    run(learning_rate=0.1).train()
    after = contents(output / "checkpoint-2")
    assert after.keys() == before.keys()
    assert after["model.safetensors"] != before["model.safetensors"]
    assert hidden(output) == []


@pytest.mark.parametrize("fail", [full_disk, interrupted])
def test_an_error_while_writing_the_sample_table_keeps_the_earlier_one(fail, run, monkeypatch, tmp_path):
    settings = {"sample_rows": 2, "eval_strategy": "steps", "eval_steps": 2, "sample_max_new_tokens": 3}
    path = tmp_path / "run" / "samples.parquet"
    run(max_steps=2, **settings).train()
    before = read_samples(path)
    with monkeypatch.context() as patch, pytest.raises((OSError, KeyboardInterrupt)):
        writing = after_writing(pyarrow.parquet.write_table, fail)
        patch.setattr(pyarrow.parquet, "write_table", writing)
        run(**settings).train(resume_from_checkpoint=True)
    assert read_samples(path) == before
    assert sorted(os.listdir(tmp_path / "run")) == ["checkpoint-2", "samples.parquet"]


KILLED = """
import os, signal, sys
from pathlib import Path
import torch, transformers.modeling_utils
from transformers import AutoModelForSeq2SeqLM, AutoTokenizer, DataCollatorForSeq2Seq
from hf_localgan.trainers import MleConfig, MleTrainer
from hf_localgan.trainers.base import staging

output, moment = Path(sys.argv[1]), sys.argv[2]

def die(*args, **kwargs):
    os.kill(os.getpid(), signal.SIGKILL)

def break_now():
    if moment == "weights":
        save = transformers.modeling_utils.safe_save_file
        def half(data, path, *args, **kwargs):
            save(data, path, *args, **kwargs)
            os.truncate(path, os.path.getsize(path) // 2)
            die()
        transformers.modeling_utils.safe_save_file = half
    elif moment == "rename":
        staging.os.replace = die
    elif moment == "optimizer":
        torch.save = die

tokenizer = AutoTokenizer.from_pretrained(output)
model = AutoModelForSeq2SeqLM.from_pretrained(output)
rows = [{"input_ids": [5, 6, 2], "attention_mask": [1, 1, 1], "labels": [7, 8, 2]}] * 8
args = MleConfig(str(output), use_cpu=True, max_steps=4, save_steps=4, disable_tqdm=True, sample_rows=0)
trainer = MleTrainer(model, args, train_dataset=rows, processing_class=tokenizer,
                     data_collator=DataCollatorForSeq2Seq(tokenizer))
if sys.argv[3] == "final":
    break_now()
    trainer.save_model()
else:
    break_now()
    trainer.train()
"""


@pytest.mark.slow
@pytest.mark.parametrize(
    ("moment", "what"), [("rename", "checkpoint"), ("optimizer", "checkpoint"), ("weights", "final")]
)
def test_a_kill_at_other_moments_leaves_earlier_output_whole(moment, what, run, tmp_path):
    killed_while_saving(moment, what, run, tmp_path / "run")


def test_a_kill_while_weights_are_written_leaves_no_checkpoint_and_is_cleaned_up_later(run, tmp_path):
    killed_while_saving("weights", "checkpoint", run, tmp_path / "run")


def killed_while_saving(moment: str, what: str, run, output: Path):
    first = run(max_steps=2)
    first.train()
    first.save_model()
    before = contents(output)
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": os.pathsep.join(sys.path)}
    command = [sys.executable, "-c", KILLED, str(output), moment, what]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=300)
    assert done.returncode == -signal.SIGKILL, done.stderr[-4000:]
    visible = {path: data for path, data in contents(output).items() if not path.startswith(".")}
    assert visible == before
    assert len(hidden(output)) == 1  # the killed process could not clear it away
    assert get_last_checkpoint(output) == str(output / "checkpoint-2")
    AutoModelForSeq2SeqLM.from_pretrained(output)
    resumed = run(save_total_limit=1)
    resumed.train(resume_from_checkpoint=True)
    assert hidden(output) == []
    assert sorted(path.name for path in output.glob("checkpoint-*")) == ["checkpoint-4"]


def test_what_a_subclass_saves_beside_the_model_is_moved_with_it(run, tmp_path, monkeypatch):
    first = run(save_strategy="no")

    def extra(folder):
        (folder / "discriminator").mkdir()
        (folder / "discriminator" / "config.json").write_text("{}")

    monkeypatch.setattr(first, "_save_extra", extra)
    first.save_model()
    first.save_model()  # over a folder that is there
    assert (tmp_path / "run" / "discriminator" / "config.json").read_text() == "{}"
    assert hidden(tmp_path / "run") == []
