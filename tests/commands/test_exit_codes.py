"""What a command ends with: its exit code, and one line for what a user can mend."""

import importlib.metadata
import os
import signal
import subprocess
import sys
import zlib
from importlib.metadata import PackageNotFoundError
from types import SimpleNamespace

import httpx
import pytest
import torch
from datasets.exceptions import DatasetGenerationError
from safetensors import SafetensorError

from hf_localgan import cli
from hf_localgan.commands import exits
from hf_localgan.commands.exits import DONE, FAILED, INTERRUPTED, STOPPED, WRONG_USAGE, ending


def raises(error: BaseException):
    def run(*args):
        raise error

    return run


def test_codes_are_those_that_scripts_rely_on():
    assert (DONE, FAILED, WRONG_USAGE, STOPPED, INTERRUPTED) == (0, 1, 2, 3, 130)


@pytest.mark.parametrize(("returned", "code"), [(None, 0), (0, 0), (STOPPED, 3)])
def test_what_the_work_returns_is_the_code(returned, code, capsys):
    seen = []
    assert ending("prog", lambda: (1, 2), lambda *settings: seen.append(settings) or returned) == code
    assert seen == [(1, 2)] and capsys.readouterr() == ("", "")


@pytest.mark.parametrize(
    ("error", "reading", "working"),
    [
        (ValueError("no such\n   name"), 2, 1),
        (OSError("no such\n   name"), 1, 1),
        (ImportError("no such\n   name"), 1, 1),
    ],
    ids=lambda value: type(value).__name__,
)
def test_errors_of_the_user_are_one_line_and_what_was_read_wrongly_is_wrong_usage(error, reading, working, capsys):
    assert ending("prog", raises(error), raises(AssertionError())) == reading
    assert capsys.readouterr().err == "prog: no such name\n"
    assert ending("prog", tuple, raises(error)) == working
    assert capsys.readouterr().err == "prog: no such name\n"


URLS = ["RAML paper, https://paper", "Repository, https://code", "Issue Tracker, https://code/issues"]


@pytest.mark.parametrize(
    ("urls", "place"),
    [
        (URLS, "at https://code/issues"),
        (URLS[:2], "at https://code"),
        (URLS[:1], "to the maintainers of hf-localgan"),
        (None, "to the maintainers of hf-localgan"),
    ],
)
def test_a_fault_of_the_package_has_its_traceback_and_how_to_report_it(urls, place, monkeypatch, capsys):
    def metadata(name):
        if urls is None:
            raise PackageNotFoundError
        return SimpleNamespace(get_all=lambda header: urls if header == "Project-URL" else None)

    monkeypatch.setattr(exits, "metadata", metadata)
    words = ["my file.yaml", "--hub_token", "hf_1", "--token=hf_2", "--max_new_tokens", "3"]
    assert ending("prog", tuple, raises(KeyError("our own")), words) == FAILED
    lines = capsys.readouterr().err.splitlines()
    assert lines[0].startswith("Traceback") and "KeyError: 'our own'" in lines[-2]
    assert lines[-1].startswith(
        f"prog: This is a fault of hf-localgan, not yours (KeyError). Please report it {place} "
    )
    assert f"torch {importlib.metadata.version('torch')}" in lines[-1]
    assert lines[-1].endswith("Command: prog 'my file.yaml' --hub_token ... --token=... --max_new_tokens 3")


@pytest.mark.parametrize(
    ("error", "told"),
    [
        (EOFError("ended before the marker"), "ended before the marker. A compressed file or an input ends too early."),
        (zlib.error("invalid code"), "invalid code. A compressed file is damaged. Get it again."),
        (MemoryError(), "MemoryError. The memory is not enough."),
        (torch.OutOfMemoryError("CUDA out of memory."), "Lower the batch size"),
        (RuntimeError("Error(s) in loading state_dict for X: size mismatch for w"), "Take a checkpoint of the same"),
        (SafetensorError("header too large"), "A file of weights is damaged or cut off."),
        (DatasetGenerationError("An error occurred"), "The data set could not be read."),
        (httpx.ConnectError("no route"), "The network failed."),
        (OSError(), "OSError"),
    ],
    ids=lambda value: type(value).__name__,
)
def test_an_error_of_a_library_that_the_user_can_mend_is_one_line_with_the_remedy(error, told, capsys):
    assert ending("prog", tuple, raises(error)) == FAILED
    said = capsys.readouterr().err
    assert said.startswith("prog: ") and told in said and said.count("\n") == 1


def test_of_an_error_in_a_worker_of_a_loader_the_message_is_told(capsys):
    class Rows(torch.utils.data.Dataset):
        def __len__(self):
            return 2

        def __getitem__(self, number):
            raise ValueError("Row 0 is no text.")

    assert ending("prog", tuple, lambda: list(torch.utils.data.DataLoader(Rows(), num_workers=1))) == FAILED
    assert capsys.readouterr().err == "prog: Row 0 is no text.\n"


def test_an_interruption_or_an_error_while_a_command_is_imported_has_its_code(monkeypatch, capsys):
    monkeypatch.setattr(cli, "import_module", raises(KeyboardInterrupt()))
    assert cli.main(["chat", "model"]) == INTERRUPTED
    monkeypatch.setattr(cli, "import_module", raises(ImportError("no torch here")))
    assert cli.main(["chat", "model"]) == FAILED
    assert capsys.readouterr().err == "hf-localgan chat: interrupted\nhf-localgan chat: no torch here\n"


@pytest.mark.skipif(not os.path.exists("/dev/full"), reason="needs a device that is always full")
def test_output_that_cannot_be_written_is_an_error():
    code = (
        "import sys; from hf_localgan.commands.exits import ending; sys.exit(ending('prog', tuple, lambda: print('x')))"
    )
    with open("/dev/full", "w") as full:
        done = subprocess.run([sys.executable, "-c", code], stdout=full, stderr=subprocess.PIPE, text=True)
    assert done.returncode == FAILED and done.stderr.startswith("prog: [Errno 28]") and done.stderr.count("\n") == 1


def test_a_text_that_ends_the_process_is_an_error(capsys):
    assert ending("prog", tuple, raises(SystemExit("no use"))) == FAILED
    assert capsys.readouterr().err == "prog: no use\n"


@pytest.mark.parametrize(("code", "expected"), [(2, 2), (0, 0), (None, 0)])
def test_what_argparse_has_said_is_not_said_again(code, expected, capsys):
    assert ending("prog", raises(SystemExit(code)), raises(AssertionError())) == expected
    assert capsys.readouterr().err == ""


def test_an_interruption_is_130(capsys):
    assert ending("prog", tuple, raises(KeyboardInterrupt())) == 130
    assert capsys.readouterr().err == "prog: interrupted\n"


@pytest.mark.skipif(os.name == "nt", reason="needs a signal that ends a process as Ctrl-C does")
def test_ctrl_c_ends_a_process_with_130_and_without_a_traceback():
    code = """
import signal, sys, time
signal.signal(signal.SIGINT, signal.default_int_handler)  # a process in the background may have been told to ignore it
from hf_localgan.commands import exits
exits.register = lambda: None  # it would load transformers, which takes longer than the rest
def work():
    print("works", flush=True)
    time.sleep(60)
sys.exit(exits.ending("prog", tuple, work))
"""
    process = subprocess.Popen([sys.executable, "-c", code], text=True, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    assert process.stdout.readline() == "works\n"
    process.send_signal(signal.SIGINT)
    assert process.communicate()[1] == "prog: interrupted\n" and process.returncode == 130
