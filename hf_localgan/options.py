"""Options of commands as plain data: their help, and what is near to an unknown one, without loading a framework."""

import argparse
import difflib
import json
import os
import shutil
import sys
import textwrap
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

# How much of a group the short help shows: every option with its text, the names, or a few names and the number.
SHOWN, NAMED, COUNTED = "shown", "named", "counted"
USUAL = ("output_dir", "learning_rate", "num_train_epochs", "max_steps", "per_device_train_batch_size", "seed")
EPILOG = (
    "Options may be written with hyphens, too: --max-steps. `--field none` takes back the file's value of an option\n"
    "that has no value by default (None). `--switch` alone means `--switch true`."
)
WIDE = 110  # columns of a terminal that has room for long names beside their texts
HELP_WORDS = ("-h", "--help")
EVERYTHING = "all"


@dataclass(frozen=True)
class Option:
    """One option.

    Attributes:
        names: in all spellings, the first is shown.
        value: placeholder of its value, `None` for an option without one.
        many: whether it takes several values.
        help: what it does, with its default.
    """

    names: tuple[str, ...]
    value: str | None
    many: bool
    help: str


@dataclass(frozen=True)
class Group:
    """Options under one heading.

    Attributes:
        title: the heading.
        detail: how much of it the short help shows, one of "shown", "named", "counted".
        options: in their order.
    """

    title: str
    detail: str
    options: tuple[Option, ...]


@dataclass(frozen=True)
class Options:
    """All options of a command.

    Attributes:
        usage: its words before the options.
        description: first lines of the help.
        groups: in their order.
        former: former names of options, with the present ones.
    """

    usage: str
    description: str
    groups: tuple[Group, ...]
    former: Mapping[str, str] = field(default_factory=dict)

    @property
    def names(self) -> list[str]:
        """Names of all options without hyphens before them, in the spelling with underscores."""
        names = [name for group in self.groups for option in group.options for name in option.names]
        return list(dict.fromkeys(name.lstrip("-").replace("-", "_") for name in names if name not in HELP_WORDS))

    def to_json(self) -> dict[str, Any]:
        """For `from_json`."""
        return json.loads(json.dumps(asdict(self)))

    @classmethod
    def from_json(cls, content: Mapping[str, Any]) -> "Options":
        """The options that `to_json` wrote."""
        groups = tuple(
            Group(
                group["title"], group["detail"],
                tuple(Option(**{**option, "names": tuple(option["names"])}) for option in group["options"]),
            )
            for group in content["groups"]
        )  # fmt: skip
        return cls(content["usage"], content["description"], groups, content["former"])


class HelpFormatter(argparse.RawDescriptionHelpFormatter):
    """Keeps the lines of the description, and names options in one spelling, beside their texts where there is room."""

    def __init__(self, prog: str, **settings: Any):
        columns = shutil.get_terminal_size().columns
        super().__init__(prog, **{"max_help_position": 36 if columns >= WIDE else 24, **settings})

    def _format_action_invocation(self, action: argparse.Action) -> str:
        names = action.option_strings
        if action.dest != "help" and len(names) > 1:
            shown = argparse.Action(names[:1], action.dest, nargs=action.nargs, metavar=action.metavar)
            return super()._format_action_invocation(shown)
        return super()._format_action_invocation(action)


class CommandParser(argparse.ArgumentParser):
    """A parser that looks for wrong options first, and says what is near to them.

    argparse alone tells first what is missing, and so of an option that is misspelled nothing.
    """

    def __init__(self, *args: Any, **settings: Any):
        super().__init__(*args, **{"allow_abbrev": False, **settings})

    def parse_known_args(self, args: Any = None, namespace: Any = None) -> Any:
        words = list(sys.argv[1:] if args is None else args)
        words = words[: words.index("--")] if "--" in words else words
        open_ended = any(action.nargs in (argparse.PARSER, argparse.REMAINDER) for action in self._actions)
        known = [name for name in self._option_string_actions if name.startswith("--")]
        given = [word.split("=")[0] for word in words if word.startswith("--")]
        wrong = [name for name in given if name not in known]
        if self.allow_abbrev:
            wrong = [name for name in wrong if not any(option.startswith(name) for option in known)]
        if wrong and not open_ended:
            near = difflib.get_close_matches(wrong[0], known, n=2, cutoff=0.6)
            hint = f" (did you mean {' or '.join(near)}?)" if near else ""
            self.error(f"there is no option {wrong[0]}{hint}; {self.prog} --help lists all")
        return super().parse_known_args(args, namespace)


def help_text(options: Options, prog: str, epilog: str, *, everything: bool) -> str:
    """The help of a command.

    Args:
        options: of the command.
        prog: its name.
        epilog: last lines.
        everything: show every option with its text; otherwise the method's own ones, and the names of the others.
    """
    parser = argparse.ArgumentParser(
        prog=prog, usage=f"{prog} {options.usage}", description=options.description, formatter_class=HelpFormatter,
        add_help=False,
    )  # fmt: skip
    asked = parser.add_argument_group("help")
    asked.add_argument("-h", "--help", action="help", help="show the options of this command's own")
    asked.add_argument("--help all", dest="help", action="store_true", help="show every option")
    for group in options.groups:
        if everything or group.detail == SHOWN:
            part = parser.add_argument_group(group.title)
            for option in group.options:
                _add(part, option)
    lines = [parser.format_help().rstrip("\n")]
    named = [] if everything else [group for group in options.groups if group.detail != SHOWN and group.options]
    if named:
        lines += ["", f"further options, which `{prog} --help all` explains:"]
    for group in named:
        names = [option.names[0] for option in group.options if not option.names[0].startswith("--no_")]
        if group.detail == COUNTED:
            usual = [name for name in names if name.lstrip("-") in USUAL]
            names = [*usual, f"and {len(names) - len(usual)} more"]
        indents: Any = {"initial_indent": "  ", "subsequent_indent": "  ", "break_on_hyphens": False}
        lines += ["", f"{group.title}:", textwrap.fill(", ".join(names), 100, **indents)]
    return "\n".join([*lines, "", epilog, ""])


def argument_parser(options: Options, prog: str, files: Any = None) -> argparse.ArgumentParser:
    """A parser with these options, for what reads parsers and parses nothing, such as shell completion.

    Args:
        options: of the command.
        prog: its name.
        files: marks the words before the options as names of files.
    """
    parser = argparse.ArgumentParser(prog=prog, allow_abbrev=False)
    words: Any = parser.add_argument("words", nargs="*", metavar=options.usage.split(" [--")[0])
    words.complete = files
    for group in options.groups:
        for option in group.options:
            _add(parser, option)
    return parser


def _add(part: Any, option: Option):
    """An option as argparse shows it; nothing is ever parsed by it."""
    if option.value is None:
        settings: dict[str, Any] = {"action": "store_true"}
    else:
        settings = {"metavar": option.value} | ({"nargs": "*"} if option.many else {})
    part.add_argument(*option.names, help=option.help.replace("%", "%%"), dest=option.names[0], **settings)


def help_asked(words: Sequence[str]) -> str | None:
    """`"all"` or `""` where the words of a command ask for its help, `None` where they do not."""
    places = [place for place, word in enumerate(words) if word in HELP_WORDS]
    if not places:
        return None
    return EVERYTHING if EVERYTHING in words[places[0] + 1 : places[0] + 2] else ""


def unknown_names(words: Iterable[str], options: Options) -> list[str]:
    """Names of options among the words of a command that it does not have, as they are written."""
    names = [word[2:].split("=")[0] for word in words if word.startswith("--") and len(word) > 2]
    known = set(options.names)
    return [name for name in names if name.replace("-", "_") not in known]


def suggestions(names: Sequence[str], known: Sequence[str], former: Mapping[str, str]) -> str:
    """Unknown names, each with what it is called now or with the nearest known ones, for an error.

    Args:
        names: unknown ones, at least one.
        known: names with underscores.
        former: former names, with the present ones.
    """
    texts = []
    for name in names:
        plain = name.replace("-", "_")
        if plain in former:
            texts.append(f"`{name}` (it is called `{former[plain]}` now)")
            continue
        near = difflib.get_close_matches(plain, known, n=2, cutoff=0.6)
        texts.append(f"`{name}`" + (f" (did you mean `{'` or `'.join(near)}`?)" if near else ""))
    return f"{', '.join(texts)}. `--help all` lists every option."


def unknown_option_error(names: Sequence[str], known: Sequence[str], former: Mapping[str, str]) -> str:
    """The error for options that a command does not have."""
    return f"Unknown option{'s' if len(names) > 1 else ''}: {suggestions(names, known, former)}"


def no_configuration_file_error(path: str | os.PathLike) -> str:
    """The error for a settings file that is missing, with the YAML files beside it that have nearly its name."""
    place = Path(path)
    beside = [file.name for file in place.parent.glob("*.y*ml")] if place.parent.is_dir() else []
    near = [f'"{place.with_name(name)}"' for name in difflib.get_close_matches(place.name, beside, n=2, cutoff=0.6)]
    hint = f" Did you mean {' or '.join(near)}?" if near else ""
    return f'There is no configuration file "{place}".{hint} Give a YAML file, or none for the default.'


def print_help(text: str):
    """Prints a help at once, so that nothing that is loaded later comes before it."""
    sys.stdout.write(text)
    sys.stdout.flush()
