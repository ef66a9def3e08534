"""What a command ends with: its exit code, and one line for what a user can mend."""

import os
import signal
import subprocess
import sys

import pytest

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


def test_an_error_of_the_package_keeps_its_traceback():
    with pytest.raises(RuntimeError, match="our own"):
        ending("prog", tuple, raises(RuntimeError("our own")))


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
