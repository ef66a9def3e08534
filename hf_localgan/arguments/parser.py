"""Settings of a recipe: a YAML file, and options of the command line that win over it."""

import argparse
import difflib
import json
import os
import sys
from collections.abc import Sequence
from dataclasses import fields
from pathlib import Path
from typing import Any

import yaml
from transformers import HfArgumentParser


class RecipeParser(HfArgumentParser):
    """Reads `[CONFIG.yaml] [--field value ...]` into dataclasses.

    The file says what differs from the defaults of the fields, and options say what differs from the file. Unknown
    names are errors that suggest the nearest known ones. Values of the file go through the same conversions as options.

    Args:
        dataclass_types: their fields are the options; `_argument_group_name` heads their group in `--help`.
        default_config: the file read when none is named.
        positional: what the words before the first option are, in order: `config` for the file, or names of fields.
        description: first lines of `--help`.
    """

    def __init__(
        self,
        *dataclass_types,
        default_config: str | os.PathLike | None = None,
        positional: Sequence[str] = ("config",),
        description: str = "",
    ):
        words = " ".join(f"[{name.upper()}]" for name in positional)
        usage = f"%(prog)s {words} [--field value ...]"
        formatter = argparse.RawDescriptionHelpFormatter
        super().__init__(
            dataclass_types, usage=usage, description=description, allow_abbrev=False, formatter_class=formatter
        )
        self.default_config, self.positional = default_config, positional
        self.known = [field.name for kind in dataclass_types for field in fields(kind) if field.init]

    def read(self, arguments: Sequence[str] | None = None) -> tuple[Any, ...]:
        """The dataclasses, filled.

        Args:
            arguments: of the command line; by default those of this process.

        Raises:
            SystemExit: with a message, for `--help` and for values that an option does not accept.
            ValueError: for a missing or malformed file, unknown names, and what the dataclasses themselves refuse.
        """
        arguments = list(sys.argv[1:] if arguments is None else arguments)
        config, named = self.default_config, []
        for name in self.positional:
            if not arguments or arguments[0].startswith("-"):
                break
            word = arguments.pop(0)
            if name == "config":
                config = word
            else:
                named.append(f"--{name}={word}")
        from_file = [] if config is None else self._as_options(read_config(config), config)
        parsed, unknown = self.parse_known_args(from_file + named + arguments)
        if unknown:
            names = [word[2:].split("=")[0] for word in unknown if word.startswith("--")]
            if not names:
                self.error(f"unexpected {unknown[0]!r}: options are written `--field value`")
            raise ValueError(f"Unknown option{'s' if len(names) > 1 else ''}: {self._suggest(names)}")
        values = vars(parsed)
        return tuple(
            kind(**{field.name: values[field.name] for field in fields(kind) if field.init and field.name in values})
            for kind in self.dataclass_types
        )

    def error(self, message: str):
        # argparse would print the usage of some two hundred options first.
        self.exit(2, f"{self.prog}: {message}. `--help` lists every option.\n")

    def _as_options(self, config: dict[str, Any], path) -> list[str]:
        unknown = [name for name in config if name not in self.known]
        if unknown:
            raise ValueError(f'Unknown key{"s" if len(unknown) > 1 else ""} in "{path}": {self._suggest(unknown)}')
        options = []
        for name, value in config.items():
            if isinstance(value, dict):
                options += [f"--{name}", json.dumps(value)]
            elif isinstance(value, list):
                options += [f"--{name}", *(str(item) for item in value)]
            elif value is not None:
                options += [f"--{name}", str(value)]
        return options

    def _suggest(self, names: Sequence[str]) -> str:
        told = []
        for name in names:
            near = difflib.get_close_matches(name, self.known, n=2, cutoff=0.6)
            told.append(f"`{name}`" + (f" (did you mean `{'` or `'.join(near)}`?)" if near else ""))
        return ", ".join(told) + ". `--help` lists every option."


def read_config(path: str | os.PathLike) -> dict[str, Any]:
    """A YAML file of one mapping, as a dict.

    Raises:
        ValueError: if the file is missing, is not YAML, or holds something else than a mapping.
    """
    path = Path(path)
    if not path.is_file():
        raise ValueError(f'There is no configuration file "{path}". Give a YAML file, or none for the default.')
    try:
        config = yaml.safe_load(path.read_text(encoding="utf-8"))
    except yaml.YAMLError as error:
        raise ValueError(f'"{path}" is not YAML: {error}') from error
    if config is None:
        return {}
    if not isinstance(config, dict) or not all(isinstance(key, str) for key in config):
        raise ValueError(f'"{path}" must hold `name: value` lines, got {type(config).__name__}.')
    return config


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
