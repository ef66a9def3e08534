"""Random command lines and settings files: each ends in the settings that were given, or in one clear message.

The work of every command is cut off where it would begin, so that only what is read is tried.
"""

import argparse
import contextlib
import dataclasses
import io
import math
import os
import tempfile
import warnings
from collections.abc import Callable
from importlib import import_module
from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from hf_localgan.cli import MODULES, main
from hf_localgan.commands import exits, recipe
from hf_localgan.recipes.parser import RecipeParser

SHORT, LONG = 5, 1_000  # of a command; of all commands together
QUIET = [HealthCheck.too_slow, HealthCheck.function_scoped_fixture, HealthCheck.data_too_large]
FILED = [name for name in MODULES if name.startswith("train-")]  # their settings may stand in a file

NUMBERS = [
    "0",
    "1",
    "2",
    "-1",
    "0.5",
    "1e-3",
    "1.5",
    "-0.0",
    "1e400",
    "nan",
    "inf",
    "-inf",
    "9" * 25,
    "9" * 5000,
    "1_0",
]
WORDS = ["", " ", "none", "None", "null", "true", "False", "yes", "no", "steps", "epoch", "é你", "%s %(prog)s", "{x}"]
ODD = [
    "[1, 2]", "[", '{"query": "a"}', "{", "a=b", "=", "-", "--", "$NOWHERE", "${", "~", "\n", "a\tb", "\udcff",
    "\u2028", "9" * 5_000,     "/", ".", "../../x", "x" * 300, "*", "#", "'", '"', "\\", "0x10", "1,5", "٣",
]  # fmt: skip
TEXTS = st.sampled_from([*NUMBERS, *WORDS, *ODD])


HARDWARE = (
    "fp16",
    "bf16",
    "tf32",
    "torch_compile",
    "dataloader_pin",
)  # settled by what the hardware can do, which is told


class Captured(BaseException):  # which no command takes for an error
    def __init__(self, parser: argparse.ArgumentParser):
        self.parser = parser


def parser_of(name: str) -> argparse.ArgumentParser:
    """The parser of a command."""

    def capture(parser, *words, **names):
        raise Captured(parser)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(RecipeParser, "read", capture)
        patch.setattr(argparse.ArgumentParser, "parse_args", capture)
        with pytest.raises(Captured) as caught:
            main([name])
    return caught.value.parser


def all_actions(parser: argparse.ArgumentParser) -> list[argparse.Action]:
    """The options of a parser and of the parsers under it."""
    actions = []
    for action in parser._actions:
        if isinstance(action, argparse._SubParsersAction):
            actions += [inner for under in action.choices.values() for inner in all_actions(under)]
        elif action.option_strings:
            actions.append(action)
    return actions


class Command:
    """A command whose work is cut off.

    Args:
        name: of the command.
        patch: undoes what is changed in the package.
    """

    def __init__(self, name: str, patch: pytest.MonkeyPatch):
        self.name, self.parser = name, parser_of(name)
        self.steps: list[str] = []
        for action in self.parser._actions:
            if isinstance(action, argparse._SubParsersAction):
                self.steps = list(action.choices)
        self.options = {action.option_strings[0]: action for action in all_actions(self.parser)}
        self.spellings = [spelling for action in self.options.values() for spelling in action.option_strings]
        self.read: tuple | None = None
        module = import_module(f"hf_localgan.commands.{MODULES[name]}")
        for place in (recipe, module):
            if hasattr(place, "ending"):
                patch.setattr(place, "ending", self._ending)

    def _ending(self, prog: str, read: Callable[[], tuple], work: Callable[..., Any], *rest: Any) -> int:
        def keep(*settings):
            self.read = settings

        return exits.ending(prog, read, keep)

    def run(self, words: list[str], folder: Path) -> tuple[int, str]:
        """The exit code and what stands on standard error, after checks of both; it works in the folder."""
        self.read, before = None, contents(folder)
        errors, out = io.StringIO(), io.StringIO()
        with pytest.MonkeyPatch.context() as patch, warnings.catch_warnings():
            warnings.simplefilter("ignore")
            patch.chdir(folder)
            variables = dict(os.environ)
            with contextlib.redirect_stderr(errors), contextlib.redirect_stdout(out):
                code = main([self.name, *words])
            os.environ.clear()
            os.environ.update(variables)
        said = errors.getvalue()
        if code == 0:
            assert self.read is not None or out.getvalue().startswith("usage: "), (words, said)
        else:
            assert code in (1, 2) and self.read is None, (code, words)
            usage, _, message = said.rpartition(f"hf-localgan {self.name}")
            lines = message.count("\n") - sum(word.count("\n") for word in words)  # a word may be a line break
            assert message.strip() and lines <= 1, said  # argparse says the usage before it
            assert len(message) < 2_000 + sum(map(len, words)), message
            assert not usage or usage.startswith(("usage: ", *NOTES)), said
        assert contents(folder) == before, words
        return code, said


NOTES = ("hf-localgan", "[")  # the command's name may stand in its message, too


def contents(folder: Path) -> dict[str, bytes]:
    return {str(path): path.read_bytes() if path.is_file() else b"" for path in sorted(folder.rglob("*"))}


@st.composite
def option_words(draw, command: Command) -> list[str]:
    """One option with a value, as somebody might write it."""
    spelling = draw(st.sampled_from(command.spellings))
    way = draw(st.sampled_from(["fit", "fit", "fit", "any", "any", "several", "alone", "joined", "mistyped", "word"]))
    action = command.options.get(spelling)
    if way == "word":
        return [draw(TEXTS)]
    if way == "mistyped":
        at = draw(st.integers(2, len(spelling)))
        spelling = spelling[:at] + draw(st.sampled_from(["", "x", "_", "-", "=", "é"])) + spelling[at + 1 :]
        return [spelling, draw(TEXTS)]
    if way == "alone":
        return [spelling]
    if way == "several":
        return [spelling, *draw(st.lists(TEXTS, min_size=2, max_size=3))]
    value = draw(TEXTS)
    if way == "fit" and action is not None:
        if action.choices:
            value = str(draw(st.sampled_from(list(action.choices))))
        elif getattr(action.type, "__name__", "") in ("int", "float"):
            value = draw(st.sampled_from(NUMBERS))
    return [f"{spelling}={value}"] if way == "joined" else [spelling, value]


@st.composite
def command_lines(draw, command: Command) -> list[str]:
    """A command line: perhaps positional words, then up to four options."""
    words = [draw(st.sampled_from(command.steps))] if command.steps and draw(st.booleans()) else []
    words += draw(st.lists(st.sampled_from(["x", "none.yaml", "smalltalk", ".", ""]), max_size=2))
    for option in draw(st.lists(option_words(command), max_size=4)):
        words += option
    if "-h" in words or "--help" in words:
        words = [word for word in words if word not in ("-h", "--help")]
    return words


def check_values(command: Command, asked: dict[str, Any]):
    """The settings that were read are those that were asked for, each in the type of its field.

    Only numbers and truth values of the package's own settings can be told by other means.
    """
    for group in command.read:
        if not dataclasses.is_dataclass(group):
            continue
        for field in dataclasses.fields(group):
            text, value = asked.get(field.name), getattr(group, field.name)
            if not isinstance(text, str) or text.lower() == "none" or isinstance(value, (list, dict)):
                continue
            if field.name.startswith(HARDWARE):
                continue
            if isinstance(value, bool):
                assert (text.lower() in ("true", "t", "yes", "y", "1")) == value, (field.name, text, value)
            elif isinstance(value, (int, float)):
                number = int(text) if isinstance(value, int) else float(text)
                assert value == number or (math.isnan(value) and math.isnan(number)), (field.name, text, value)


def examples(count: int):
    return settings(
        max_examples=count, deadline=None, database=None, derandomize=count == SHORT, suppress_health_check=QUIET
    )


def check_command_line(command: Command, words: list[str]):
    with tempfile.TemporaryDirectory() as place:
        code, _ = command.run(words, Path(place))
    if code != 0 or command.read is None:
        return
    asked = {}
    for word, after in zip(words, [*words[1:], "--"], strict=False):
        if word.startswith("--"):
            name, mark, value = word[2:].partition("=")
            asked[name.replace("-", "_")] = value if mark else "true" if after.startswith("--") else after
    check_values(command, asked)


def try_command_lines(name: str, count: int, monkeypatch):
    command = Command(name, monkeypatch)

    @examples(count)
    @given(command_lines(command))
    def tried(words):
        check_command_line(command, words)

    tried()


@pytest.mark.parametrize("name", MODULES)
def test_random_command_lines_end_in_settings_or_a_message(name, monkeypatch):
    try_command_lines(name, SHORT, monkeypatch)


@pytest.mark.slow
@pytest.mark.timeout(3600)
@pytest.mark.parametrize("name", MODULES)
def test_a_thousand_random_command_lines_end_in_settings_or_a_message(name, monkeypatch):
    try_command_lines(name, -(-LONG // len(MODULES)), monkeypatch)


# ---- settings files ----

PLAIN = st.one_of(
    TEXTS, st.text(max_size=5), st.integers(), st.integers(-2, 5), st.floats(), st.booleans(), st.none(), st.dates(),
    st.datetimes(), st.binary(max_size=5),
)  # fmt: skip
NESTED = st.recursive(
    PLAIN, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(PLAIN, inner, max_size=3), max_leaves=5
)
PIECES = [
    "&a [*a]", "*a", "&a 1", "!!python/object:os.system x", "!!binary x", "!!set {a, b}", "!!int x", "!!float x",
    "!!timestamp x", "!!omap [a: 1]", "!unknown x", "2020-13-45", "{a: {b: {c: 1}}}",
    "[" * 3_000, "? [a]", "<<: {a: 1}",
    "0o17", "1:30", "1e3", ".nan", ".inf", "~", "|\n  a\n  b", ">-\n  a", "'", '"', "%YAML 9", "---", "...", "\t- a",
    "@", "`", "0b2", "1_000", "+1", "=", "<<", "? {a: 1}\n: 2", "[1, 2]: 3", "null: 1", "1: 1",
]  # fmt: skip


@st.composite
def settings_files(draw, command: Command) -> bytes:
    """A settings file of up to four options, perhaps with pieces of YAML that do not belong, and damaged bytes."""
    names = [name[2:] for name in command.options if not name.startswith("--no_")]
    values = draw(st.dictionaries(st.sampled_from(names), NESTED | PLAIN, max_size=4))
    text = yaml.safe_dump(values, allow_unicode=draw(st.booleans()))
    for piece in draw(st.lists(st.sampled_from(PIECES), max_size=2)):
        way = draw(st.sampled_from(["line", "value", "key"]))
        name = draw(st.sampled_from(names))
        text += {"line": f"{piece}\n", "value": f"{name}: {piece}\n", "key": f"{piece}: 1\n"}[way]
    content = text.encode("utf-8", "surrogatepass")
    for _ in range(draw(st.sampled_from([0, 0, 1, 2]))):
        at = draw(st.integers(0, len(content)))
        way = draw(st.sampled_from(["cut", "flip", "put"]))
        if way == "cut":
            content = content[:at]
        elif way == "flip" and at < len(content):
            content = content[:at] + bytes([content[at] ^ draw(st.integers(1, 255))]) + content[at + 1 :]
        else:
            content = content[:at] + draw(st.binary(min_size=1, max_size=3)) + content[at:]
    return content


def check_settings_file(command: Command, content: bytes):
    with tempfile.TemporaryDirectory() as place:
        path = Path(place) / "own.yaml"
        path.write_bytes(content)
        code, _ = command.run([path.name], Path(place))
    if code != 0:
        return
    values = yaml.safe_load(content) or {}
    assert isinstance(values, dict) and all(isinstance(name, str) for name in values), values
    known = {field.name for group in command.read for field in dataclasses.fields(group)}
    assert set(values) <= known
    check_values(command, {name: str(value) for name, value in values.items() if value is not None})


def try_settings_files(name: str, count: int, monkeypatch):
    command = Command(name, monkeypatch)

    @examples(count)
    @given(settings_files(command))
    def tried(content):
        check_settings_file(command, content)

    tried()


@pytest.mark.parametrize("name", FILED)
def test_random_settings_files_end_in_settings_or_a_message(name, monkeypatch):
    try_settings_files(name, SHORT, monkeypatch)


@pytest.mark.slow
@pytest.mark.timeout(3600)
@pytest.mark.parametrize("name", FILED)
def test_a_thousand_random_settings_files_end_in_settings_or_a_message(name, monkeypatch):
    try_settings_files(name, -(-LONG // len(FILED)), monkeypatch)
