"""Help and wrong options of the commands with settings, answered at once: from a file, without importing a framework.

`known_options.json` holds the package's own options of each of these commands. Those of transformers' training
arguments are read from the source of the installed version, which imports nothing. After a change of options:
`python -m hf_localgan.commands.known_options`; a test says when that was forgotten.
"""

import ast
import json
from collections.abc import Sequence
from functools import cache
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from hf_localgan.commands.default_files import training_epilog
from hf_localgan.commands.exits import DONE, WRONG_USAGE, print_error
from hf_localgan.files import replacing
from hf_localgan.options import (
    COUNTED,
    EPILOG,
    EVERYTHING,
    Group,
    Option,
    Options,
    help_asked,
    help_text,
    no_configuration_file_error,
    print_help,
    unknown_names,
    unknown_option_error,
)

FILE = Path(__file__).with_name("known_options.json")
# Classes of transformers' training arguments and the files of their own fields, the inherited ones first.
FRAMEWORK = {
    "TrainingArguments": ("training_args.py",),
    "Seq2SeqTrainingArguments": ("training_args.py", "training_args_seq2seq.py"),
}
# Name of the default file of each command; `None` for one that has none.
COMMANDS: dict[str, str | None] = {
    "train-mle": "mle", "train-raml": "raml", "train-expected-reward": "expected_reward", "train-dbm": "dbm",
    "train-matching": "matching", "train-localgan": "localgan", "train-gan-ael": "gan_ael",
    "train-adver-regs": "adver_regs", "train-aim": "aim", "train-daim": "daim", "train-speech": "speech",
    "evaluate": None,
}  # fmt: skip


def answer_early(command: str, words: Sequence[str], prog: str) -> int | None:
    """Prints the help that is asked for, or the error for an option or a settings file that there is not.

    Returns:
        The exit code; `None` where the command itself must answer.
    """
    asked = help_asked(words)
    if command not in COMMANDS or asked == EVERYTHING:  # defaults of the framework are in no file
        return None
    options = known_options(command)
    if asked is not None:
        default = COMMANDS[command]
        epilog = EPILOG if default is None else training_epilog(EPILOG, default, prog)
        print_help(help_text(options, prog, epilog, everything=False))
        return DONE
    unknown = unknown_names(words, options)
    if unknown:
        return print_error(prog, unknown_option_error(unknown, options.names, options.former), WRONG_USAGE)
    settings = words[0] if words and COMMANDS[command] is not None else "-"
    if not settings.startswith("-") and not Path(settings).is_file():
        return print_error(prog, no_configuration_file_error(settings), WRONG_USAGE)
    return None


def known_options(command: str) -> Options:
    """The options of a command; those of the framework have names only."""
    content = json.loads(FILE.read_text(encoding="utf-8"))
    described = content["commands"][command]
    options = Options.from_json({**described, "groups": [content["groups"][index] for index in described["groups"]]})
    groups = tuple(
        group
        if group.detail != COUNTED
        else Group(
            group.title,
            COUNTED,
            tuple(Option((f"--{name}",), None, False, "") for name in framework_options(_class_in(group.title))),
        )
        for group in options.groups
    )
    own = {name for group in groups if group.detail != COUNTED for option in group.options for name in option.names}
    groups = tuple(
        Group(group.title, group.detail, tuple(
            option for option in group.options if group.detail != COUNTED or option.names[0] not in own
        ))
        for group in groups
    )  # fmt: skip
    return Options(options.usage, options.description, groups, options.former)


@cache
def framework_options(name: str) -> tuple[str, ...]:
    """Names of the options of a class of `FRAMEWORK`, in the installed version of transformers."""
    spec = find_spec("transformers")
    assert spec is not None and spec.submodule_search_locations
    names: dict[str, None] = {}
    for file in FRAMEWORK[name]:
        source = (Path(spec.submodule_search_locations[0]) / file).read_text(encoding="utf-8")
        for statement in ast.parse(source).body:
            if isinstance(statement, ast.ClassDef) and statement.name.endswith("TrainingArguments"):
                for member in statement.body:
                    names |= dict.fromkeys(_option_names(member))
    return tuple(names)


def _class_in(title: str) -> str:
    """The name in brackets at the end of a heading."""
    return title.rpartition("(")[2].rstrip(")")


def _option_names(member: ast.stmt) -> list[str]:
    """Names of the options that a field of a dataclass becomes: a switch that is on has a second one, `no_NAME`."""
    if not isinstance(member, ast.AnnAssign) or not isinstance(member.target, ast.Name):
        return []
    name, given = member.target.id, _arguments(member.value)
    if "ClassVar" in ast.unparse(member.annotation) or given.get("init") is False:
        return []
    is_switch = ast.unparse(member.annotation) == "bool"
    return [name, f"no_{name}"] if is_switch and given.get("default") is True else [name]


def _arguments(value: ast.expr | None) -> dict[str, Any]:
    """Constants among the arguments of `field(...)`, or the default itself."""
    if isinstance(value, ast.Call):
        return {
            keyword.arg: keyword.value.value
            for keyword in value.keywords
            if keyword.arg and isinstance(keyword.value, ast.Constant)
        }
    return {"default": value.value} if isinstance(value, ast.Constant) else {}


def describe_commands() -> dict[str, Any]:
    """The package's own options of every command, for the file; this imports the frameworks."""
    described: dict[str, Any] = {}
    shared: list[dict[str, Any]] = []  # groups that several commands have stand once
    for command in COMMANDS:
        module = import_module(f"hf_localgan.commands.{command.replace('-', '_')}")
        options = module.settings_parser().options()
        groups = tuple(
            Group(group.title, group.detail, () if group.detail == COUNTED else group.options)
            for group in options.groups
        )
        entry = Options(options.usage, options.description, groups, options.former).to_json()
        for group in entry["groups"]:
            if group not in shared:
                shared.append(group)
        described[command] = {**entry, "groups": [shared.index(group) for group in entry["groups"]]}
    return {"commands": described, "groups": shared}


if __name__ == "__main__":
    with replacing(FILE) as temporary:
        temporary.write_text(json.dumps(describe_commands(), indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
    print("written:", FILE)
