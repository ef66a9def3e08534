"""Reading the settings of a recipe: a YAML file, and options of the command line that win over it."""

import argparse
import json
import os
import sys
from collections.abc import Callable, Sequence
from dataclasses import fields
from inspect import get_annotations
from pathlib import Path
from typing import Any, cast, get_args, get_origin, get_type_hints

import yaml
from transformers import HfArgumentParser, TrainingArguments
from transformers.hf_argparser import string_to_bool

from hf_localgan.options import (
    COUNTED,
    EPILOG,
    EVERYTHING,
    NAMED,
    SHOWN,
    Group,
    Option,
    Options,
    help_asked,
    help_text,
    no_configuration_file_error,
    print_help,
    suggestions,
    unknown_option_error,
)

LONGEST_CHOICES = 40  # characters: longer lists of choices are not shown with the option
METAVARS = {"str": "TEXT", "int": "N", "float": "X", "dict": "JSON"}


NO_VALUES = (None, -1)  # -1 of `max_steps`
UNSET = object()  # the value of an option that neither the file nor the command line gives


class OrNone:
    """Conversion of an option's text, where `none` is `None`.

    Args:
        convert: conversion of every other text.
    """

    def __init__(self, convert: Callable[[str], Any]):
        self.convert, self.__name__ = convert, getattr(convert, "__name__", str(convert))  # argparse names it in errors

    def __call__(self, text: str) -> Any:
        return None if text.lower() == "none" else self.convert(text)


class RecipeParser(HfArgumentParser):
    """Reads `[CONFIG.yaml] [--field value ...]` into dataclasses.

    A dataclass gets only the values that the file or the command line gives, so that it can tell them from its
    defaults: a value that a user gives wins over a preset even where it equals the default.

    The file replaces defaults of the fields, and options replace values of the file. Unknown names are errors that
    suggest the nearest known ones. Values of the file are converted as options are; `null` leaves the default. Where
    the type of a field includes `None`, the text `none` is `None` (unless the field's default is the text `none`, as of
    `report_to`), and the empty list for fields that `_argument_emptied_by_none` names.

    Args:
        dataclass_types: their fields are the options; `_argument_group_name` heads their group in `--help`. A trainer's
            options have a group for each class that declares some, the framework's last.
            `_argument_alternatives` are tuples of names of which only one may have a value: an option of the command
            line takes back the file's values of the others. `_argument_former_names` maps former names of options to
            the present ones, for the error.
        default_config: the file that is read when none is named.
        fit_default: called with the content of that file and with the values of the command line, by name; returns the
            values of the file that hold.
        positional: meaning of the words before the first option, in order: `config` for the file, or names of fields.
        description: first lines of `--help`.
        shown: headings of groups that the short help shows with their texts, for a command without a trainer's options.

    Attributes:
        folder: folder of the file that was read, to which names of other files in it are relative.
        given: names of the options that the command line or a named file gives.
    """

    def __init__(
        self,
        *dataclass_types: type,
        default_config: str | os.PathLike | None = None,
        fit_default: Callable[[dict[str, Any], dict[str, Any]], dict[str, Any]] | None = None,
        positional: Sequence[str] = ("config",),
        description: str = "",
        shown: Sequence[str] = (),
    ):
        self._details: dict[str, str] = dict.fromkeys(shown, SHOWN)
        super().__init__(
            cast(Any, dataclass_types), description=description, epilog=EPILOG, allow_abbrev=False, add_help=False
        )
        self.words = " ".join(f"[{name.upper()}]" for name in positional)
        self.default_config, self.positional, self.folder = default_config, positional, Path()
        self.fit_default = fit_default
        self.given: set[str] = set()
        self.names = [field.name for group in dataclass_types for field in fields(group) if field.init]
        self.former_names: dict[str, str] = {}
        for group in dataclass_types:
            self.former_names |= getattr(group, "_argument_former_names", {})
        self.emptied = {name for group in dataclass_types for name in getattr(group, "_argument_emptied_by_none", ())}
        self.by_name = {action.dest: action for action in reversed(self._actions)}  # not the `--no_` of a switch
        hints = {name: hint for group in dataclass_types for name, hint in get_type_hints(group).items()}
        hints = {name: hint for name, hint in hints.items() if name in self.by_name}
        self.text_or_list = {
            name for name, hint in hints.items() if _is_text_or_list(hint) and self.by_name[name].nargs is None
        }
        self.switches = {name for name, action in self.by_name.items() if action.type is string_to_bool}
        for action in (self.by_name[name] for name, hint in hints.items() if type(None) in get_args(hint)):
            if action.default != "none":
                action.type = OrNone(cast(Callable[[str], Any], action.type))
                action.choices = action.choices and [*action.choices, None]
        self.alternatives = [
            names for group in dataclass_types for names in getattr(group, "_argument_alternatives", ())
        ]
        for action in self._actions:
            if action.nargs == "+":
                action.nargs = "*"  # an empty list is a value, too
            if action.dest in self.text_or_list:
                action.nargs = "+"
            _describe(action, self.switches)

    def options(self) -> Options:
        """All options as plain data. The short help shows the method's own; without a method, all of the package."""
        has_method = SHOWN in self._details.values()
        groups = []
        for group in self._action_groups:
            detail = self._details.get(cast(str, group.title), NAMED if has_method else SHOWN)
            options = tuple(_option(action) for action in group._group_actions)
            if options:
                groups.append(Group(cast(str, group.title), detail, options))
        return Options(f"{self.words} [--field value ...]", self.description or "", tuple(groups), self.former_names)

    def _add_dataclass_arguments(self, dtype):
        if hasattr(dtype, "_argument_group_name") or not issubclass(dtype, TrainingArguments):
            return super()._add_dataclass_arguments(dtype)
        hints, left = get_type_hints(dtype), {field.name: field for field in fields(dtype) if field.init}
        for base in dtype.__mro__:
            own = [name for name in left if name in get_annotations(base)]
            if base.__module__.startswith("transformers."):
                own = list(left)
            if own:
                group = self.add_argument_group(_title(base))
                self._details[_title(base)] = _detail(base)
            for field in map(left.pop, own):
                field.type = hints[field.name]
                self._parse_dataclass_field(group, field)

    def read(self, arguments: Sequence[str] | None = None) -> tuple[Any, ...]:
        """The dataclasses, each made of the values that are given for its fields.

        Args:
            arguments: words of the command line; by default those of this process.

        Raises:
            SystemExit: with a message, for `--help` and for values that an option does not accept.
            ValueError: for a missing or malformed file, unknown names, and values that the dataclasses refuse.
        """
        arguments = list(sys.argv[1:] if arguments is None else arguments)
        asked = help_asked(arguments)
        if asked is not None:
            print_help(help_text(self.options(), self.prog, self.epilog or "", everything=asked == EVERYTHING))
            self.exit(0)
        config, fit_default, named = self.default_config, self.fit_default, []
        for name in self.positional:
            if not arguments or arguments[0].startswith("-"):
                break
            word = arguments.pop(0)
            if name == "config":
                config, fit_default = word, None
            else:
                named.append(f"--{name}={word}")
        self.folder = Path() if config is None else Path(config).parent
        settings = {} if config is None else read_config(config)
        if fit_default is not None:
            parsed, _ = self._parse(named + arguments)
            settings = fit_default(settings, parsed)
        from_file = [] if config is None else self._as_options(settings, config)
        values, unknown = self._parse(from_file + named + arguments)
        self.given = set(values)
        if fit_default is not None:
            self.given = set(parsed)
        if unknown:
            names = [word[2:].split("=")[0] for word in unknown if word.startswith("--")]
            if not names:
                self.error(f"unexpected {unknown[0]!r}: options are written `--field value`")
            raise ValueError(unknown_option_error(names, self.names, self.former_names))
        for name, value in values.items():
            if isinstance(value, list) and (name in self.text_or_list or None in value):
                if len(value) == 1:
                    values[name] = [] if name in self.emptied else value[0]
                elif None in value:
                    self.error(f"argument --{name}: `none` stands alone, got it among {len(value)} values")
        options = [word[2:] for word in named + arguments if word.startswith("--")]
        self._take_back(values, {option.split("=")[0].replace("-", "_") for option in options})
        return tuple(
            group(**{field.name: values[field.name] for field in fields(group) if field.init and field.name in values})
            for group in self.dataclass_types
        )

    def _parse(self, words: list[str]) -> tuple[dict[str, Any], list[str]]:
        """The values of the options among the words, and the words that are none."""
        empty = next((word for word in words if word.startswith("--") and word.partition("=")[2] == "--"), None)
        if empty is not None:  # argparse takes the value for the mark that ends the options, and drops it
            self.error(f"argument {empty[:-3]}: expected a value, got `--`")
        blank = argparse.Namespace(**dict.fromkeys(self.by_name, UNSET))
        parsed, unknown = self.parse_known_args(words, blank)
        return {name: value for name, value in vars(parsed).items() if value is not UNSET}, unknown

    def _take_back(self, values: dict[str, Any], given: set[str]):
        """Drops the alternatives to options of the command line, except to those that are given as absent."""
        for names in self.alternatives:
            if any(name in given and values[name] not in NO_VALUES for name in names):
                for name in set(names) - given:
                    values.pop(name, None)

    def error(self, message: str):
        # argparse would print the usage of some two hundred options first.
        message = " ".join(message.split()).removesuffix(".")
        self.exit(2, f"{self.prog}: {message}. `--help all` lists every option.\n")

    def _as_options(self, config: dict[str, Any], path: str | os.PathLike) -> list[str]:
        unknown = [name for name in config if name not in self.names]
        if unknown:
            hints = suggestions(unknown, self.names, self.former_names)
            raise ValueError(f'Unknown key{"s" if len(unknown) > 1 else ""} in "{path}": {hints}')
        return [word for name, value in config.items() if value is not None for word in self._option(name, value)]

    def _option(self, name: str, value: Any) -> list[str]:
        takes_list = self.by_name[name].nargs in ("*", "+")
        if isinstance(value, bool) and name not in self.switches:
            words = ("yes", "on") if value else ("no", "off")
            raise ValueError(
                f"`{name}` is no switch, but YAML reads a bare `{words[0]}` or `{words[1]}` as {str(value).lower()}. "
                f'Put the word in quotes: `{name}: "{words[0]}"`.'
            )
        if isinstance(value, list):
            if not takes_list:
                raise ValueError(f"`{name}` takes one value, got a list of {len(value)}: {value}.")
            return [f"--{name}", *(str(item) for item in value)]
        try:
            text = json.dumps(value) if isinstance(value, dict) else str(value)
        except (TypeError, ValueError) as error:  # dates, sets, a mapping that holds itself
            raise ValueError(f"`{name}` must be what JSON can hold, got {str(value)[:200]}: {error}.") from error
        return [f"--{name}", text] if takes_list else [f"--{name}={text}"]  # `=`, for a value may begin with a minus


def _title(settings_class: type) -> str:
    """Heading of the options that a class of settings declares."""
    if settings_class.__module__.startswith("transformers."):
        return f"training, as everywhere in transformers ({settings_class.__name__})"
    return f"training ({settings_class.__name__})"


def _detail(settings_class: type) -> str:
    """How much the short help shows of the options that a class of settings declares."""
    if settings_class.__module__.startswith("transformers."):
        return COUNTED
    return NAMED if settings_class.__module__.startswith("hf_localgan.trainers.base.") else SHOWN


def _option(action: argparse.Action) -> Option:
    """An option of argparse as plain data, with its default in the help."""
    text = " ".join((action.help or "").replace("%%", "%").split())
    value = None
    if action.nargs != 0:
        value = cast(str, action.metavar) if action.metavar else "{" + ",".join(map(str, action.choices or ())) + "}"
        text += f" (default: {action.default})"
    return Option(tuple(action.option_strings), value, action.nargs in ("*", "+"), text)


def _describe(action: argparse.Action, switches: set[str]):
    """Makes `--help` show the type of a value instead of the option's name again, and explain `--no_` options."""
    if action.dest in switches and action.nargs == 0:
        action.help = f"The same as `--{action.dest} false`."
    elif action.option_strings and action.nargs != 0:
        if action.dest in switches:
            action.metavar = "true|false"
        elif action.choices is None:
            action.metavar = METAVARS.get(getattr(action.type, "__name__", ""), "VALUE")
        elif len(",".join(map(str, action.choices))) > LONGEST_CHOICES:
            action.metavar = "NAME"


def read_config(path: str | os.PathLike) -> dict[str, Any]:
    """A YAML file of one mapping, as a dict.

    Raises:
        ValueError: if the file is missing, is not YAML, holds no mapping, or has a key twice.
    """
    path = Path(path)
    if not path.is_file():
        raise ValueError(no_configuration_file_error(path))
    try:
        config = yaml.load(path.read_text(encoding="utf-8"), _Loader)
    except (yaml.YAMLError, ValueError, TypeError, AttributeError, RecursionError) as error:
        # PyYAML lets the errors of its conversions through: a date that no calendar has, a tag that does not fit
        raise ValueError(f'"{path}" is not YAML: {" ".join(str(error).split())}') from error
    if config is None:
        return {}
    if not isinstance(config, dict) or not all(isinstance(key, str) for key in config):
        raise ValueError(f'"{path}" must hold `name: value` lines, got {type(config).__name__}.')
    return config


class _Loader(yaml.SafeLoader):
    """Refuses a repeated key; YAML would silently keep the last value."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict:
        seen = set()
        for key, _ in node.value:
            if not isinstance(key, yaml.ScalarNode):
                raise yaml.constructor.ConstructorError(None, None, "a name must be one word", key.start_mark)
            if key.value in seen:
                raise yaml.constructor.ConstructorError(None, None, f"`{key.value}` stands twice", key.start_mark)
            seen.add(key.value)
        return super().construct_mapping(node, deep=deep)


def _is_text_or_list(hint: Any) -> bool:
    """Whether a field takes one text or a list of them."""
    types = get_args(hint)
    return str in types and any(get_origin(member) is list for member in types)


def expand_path(value: str, option: str) -> str:
    """Replaces `$NAME` and `${NAME}` by environment variables, and `~` by the home folder.

    Raises:
        ValueError: if a variable is not set.
    """
    expanded = os.path.expanduser(os.path.expandvars(value))
    if "$" in expanded:
        raise ValueError(
            f'`{option}` is "{value}", and that environment variable is not set. Set it, or give the path itself: '
            f"`--{option} PATH`."
        )
    return expanded
