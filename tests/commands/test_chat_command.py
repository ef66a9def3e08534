"""`hf-localgan chat`: a pipe, a terminal, and what it refuses."""

import io
import os
import sys

import huggingface_hub.constants
import pytest
import torch
from transformers.utils import logging

from hf_localgan.cli import main


@pytest.fixture
def folder(tiny_generator, tiny_tokenizer, tmp_path):
    tiny_generator().save_pretrained(tmp_path)
    tiny_tokenizer.save_pretrained(tmp_path)
    return str(tmp_path)


@pytest.fixture(autouse=True)
def restore_logging():
    verbosity = logging.get_verbosity()
    yield
    logging.set_verbosity(verbosity)
    logging.enable_progress_bar()


def chat(monkeypatch, *arguments, lines=""):
    monkeypatch.setattr(sys, "stdin", io.StringIO(lines))
    return main(["chat", *arguments])


def test_a_pipe_of_queries_gives_a_line_for_each(folder, tiny_generator, tiny_tokenizer, monkeypatch, capsys):
    assert chat(monkeypatch, folder, "--max-new-tokens", "4", lines="hello how\n\nfine\n") == 0
    model, expected = tiny_generator(), []
    for query in ("hello how", "fine"):
        ids = model.generate(**tiny_tokenizer(query, return_tensors="pt"), max_new_tokens=4)
        expected += tiny_tokenizer.batch_decode(ids, skip_special_tokens=True)
    captured = capsys.readouterr()
    assert captured.out.split("\n") == [expected[0], "", expected[1], ""]
    assert captured.err == ""


def test_one_bad_byte_costs_no_answer(folder, monkeypatch, capsys):
    pipe = io.TextIOWrapper(io.BytesIO(b"hello\nhow \xff\nhello\n"), encoding="utf-8")
    monkeypatch.setattr(sys, "stdin", pipe)
    assert main(["chat", folder, "--max-new-tokens", "4", "--batch-size", "1"]) == 0
    captured = capsys.readouterr()
    first, _, last = captured.out.splitlines()
    assert first == last != ""
    assert captured.err == (
        "hf-localgan chat: Line 2 holds bytes or surrogates that are no text; U+FFFD replaces them.\n"
    )
    monkeypatch.setattr(sys, "stdin", None)
    assert main(["chat", folder]) == 1
    assert "must be open" in capsys.readouterr().err


def test_a_seed_repeats_a_sampled_run(folder, monkeypatch, capsys):
    outputs = []
    for seed in ("1", "1", "2"):
        options = ["--temperature", "1.5", "--top-p", "0.99", "--seed", seed, "--num-return-sequences", "4"]
        assert chat(monkeypatch, folder, *options, lines="hello\n" * 3) == 0
        outputs.append(capsys.readouterr().out)
    assert outputs[0] == outputs[1] != outputs[2]
    assert [line.count("\t") for line in outputs[0].splitlines()] == [3, 3, 3]


def test_a_terminal_starts_a_session(folder, monkeypatch, capsys):
    typed = iter(["hello", "/quit"])
    monkeypatch.setenv("COLUMNS", "200")
    monkeypatch.setattr(sys.stdin, "isatty", lambda: True, raising=False)
    monkeypatch.setattr(sys.stdout, "isatty", lambda: True, raising=False)
    monkeypatch.setattr("builtins.input", lambda *_: next(typed))
    assert main(["chat", folder, "--num-beams", "3"]) == 0
    assert "beam search, num_beams 3" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["chat"], "MODEL"),
        (["chat", "m", "--num-beams", "two"], "invalid int value: 'two'"),
        (["chat", "m", "--temperature", "0"], "`temperature` must be above 0"),
        (["chat", "m", "--num-return-sequences", "2"], "`num_beams` of at least 2"),
        (["chat", "m", "--batch-size", "0"], "--batch-size must be at least 1"),
    ],
)
def test_wrong_usage_exits_with_2_and_says_why(arguments, message, capsys):
    assert main(arguments) == 2
    captured = capsys.readouterr()
    assert message in captured.err and captured.out == ""


def test_what_cannot_be_loaded_exits_with_1_and_one_line(folder, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", True)
    for name, message in ((str(tmp_path / "none"), "There is no folder"), ("owner/name", "neither a folder")):
        assert chat(monkeypatch, name) == 1
        captured = capsys.readouterr()
        assert captured.err.startswith("hf-localgan chat: ") and message in captured.err
        assert captured.err.count("\n") == 1 and captured.out == ""
    weights = tmp_path / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:-1])
    assert chat(monkeypatch, folder) == 1
    assert "no complete safetensors file" in capsys.readouterr().err


def test_ctrl_c_in_a_pipe_exits_with_130(folder, monkeypatch):
    def interrupted(*args, **kwargs):
        raise KeyboardInterrupt

    monkeypatch.setattr("hf_localgan.chat.respond", interrupted)
    assert chat(monkeypatch, folder, lines="hello\n") == 130


def test_a_reader_that_leaves_ends_the_command_without_a_traceback(folder, monkeypatch, capsys):
    reading, writing = os.pipe()
    os.close(reading)
    with os.fdopen(writing, "w") as left:
        monkeypatch.setattr(sys, "stdout", left)
        assert chat(monkeypatch, folder, "--max-new-tokens", "2", lines="hello\n") == 1
    assert capsys.readouterr().err == ""


def test_the_chosen_device_is_used(folder, monkeypatch, capsys):
    if not torch.cuda.is_available():
        assert chat(monkeypatch, folder, "--device", "cuda:0", lines="hello\n") == 1
        assert "`device`" in capsys.readouterr().err
    assert chat(monkeypatch, folder, "--device", "cpu", lines="hello\n") == 0
