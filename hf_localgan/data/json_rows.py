"""Rows of JSON lines and of JSON: a list of objects, or objects one after another."""

import json
from collections.abc import Iterator, Sequence
from itertools import chain
from json.scanner import make_scanner
from typing import Any

from hf_localgan.data.rows import shown

JSON_SETTINGS = ("field", "encoding", "encoding_errors")


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    values = dict(pairs)
    if len(values) < len(pairs):
        names = [name for name, _ in pairs]
        repeated = next(name for name in names if names.count(name) > 1)
        raise ValueError(f"the name `{repeated}` stands twice in one object")
    return values


DECODER = json.JSONDecoder(object_pairs_hook=_unique)
JsonRow = tuple[dict[str, Any], int]  # an object with its line, or its place in the list
_scan = make_scanner(json.JSONDecoder())  # type: ignore[arg-type]  # written in C, and blind to names that stand twice
_NO_WHOLE_LINE = (ValueError, RecursionError, StopIteration)


def _plain_object(line: str) -> dict[str, Any] | None:
    """The object in a line, without the slow look at its names, where a count of its colons rules out equal ones.

    Each name is followed by a colon. So where the line has no more colons than the object has names, or not more
    colons right behind quotation marks while no quotation mark is followed by white space, every name stands once.

    Returns:
        `None` where the line is to be read in the slow way: it is damaged, or the count leaves a doubt.
    """
    try:
        value, end = _scan(line, 0)
    except _NO_WHOLE_LINE:
        return None
    if type(value) is not dict or line[end:].strip(" \t\r\n"):
        return None
    for inner in value.values():
        if type(inner) is dict or type(inner) is list:
            return None  # with names of their own
    names = len(value)
    if line.count(":") == names:
        return value
    if line.count('":') != names or '" ' in line or '"\t' in line or '"\n' in line or '"\r' in line:
        return None
    return value


def json_rows(path: str, suffix: str, lines: Iterator[str], settings: dict[str, Any]) -> Iterator[JsonRow]:
    """The objects of a file, each with its line, or its place in the list.

    Raises:
        ValueError: for what is no JSON or no object, and for a name that stands twice in one.
    """
    if settings.get("field") is not None:
        yield from _objects(path, _field_value(path, _load(path, 1, "".join(lines)), settings["field"]))
        return
    before, first = [], ""
    for first in lines:
        before.append(first)
        if first.strip():
            break
    start = len(before)
    if not first.strip():
        return
    if first.lstrip().startswith("["):
        yield from _objects(path, _load(path, start, "".join([first, *lines])))
    elif suffix == ".json" and not _is_whole(first):
        yield from _concatenated(path, start, "".join([first, *lines]))
    else:
        number = start
        for line in chain([first], lines):
            value = _plain_object(line)
            if value is not None:
                yield value, number
            elif not line.isspace():
                yield _object(path, f"line {number}", _load(path, number, line)), number
            number += 1


def _is_whole(text: str) -> bool:
    try:
        json.loads(text)
    except (ValueError, RecursionError):
        return False
    return True


def _concatenated(path: str, start: int, text: str) -> Iterator[JsonRow]:
    """Objects one after another that take up several lines each."""
    position = 0
    while position < len(text):
        line = start + text.count("\n", 0, position)
        try:
            value, end = DECODER.raw_decode(text, position)
        except (ValueError, RecursionError) as error:
            raise ValueError(_broken_json(path, line, error)) from error
        yield _object(path, f"line {line}", value), line
        position = end
        while position < len(text) and text[position].isspace():
            position += 1


def _objects(path: str, values: Any) -> Iterator[JsonRow]:
    if not isinstance(values, list):
        raise ValueError(f'"{path}" must hold a list of objects, one per row, got {shown(values)}.')
    for index, value in enumerate(values):
        yield _object(path, f"entry {index}", value), index


def _field_value(path: str, value: Any, name: str) -> Any:
    for part in [name] if isinstance(value, dict) and name in value else str(name).split("."):
        if not isinstance(value, dict) or part not in value:
            listed = ", ".join(f"`{key}`" for key in value) if isinstance(value, dict) else shown(value)
            raise ValueError(f'"{path}" has no field `{name}` (found: {listed}).')
        value = value[part]
    return value


def _object(path: str, place: str, value: Any) -> dict[str, Any]:
    if not isinstance(value, dict):
        raise ValueError(f'"{path}", {place}: each row must be an object such as {{"query": ...}}, got {shown(value)}.')
    return value


def _load(path: str, line: int, text: str) -> Any:
    try:
        return DECODER.decode(text)
    except (ValueError, RecursionError) as error:
        raise ValueError(_broken_json(path, line, error)) from error


def _broken_json(path: str, line: int, error: Exception) -> str:
    cause = str(error)
    if isinstance(error, json.JSONDecodeError):
        line, cause = line + error.lineno - 1, f"{error.msg} (character {error.colno})"
    elif isinstance(error, RecursionError):
        cause = "too many brackets inside each other"
    return f"{path} cannot be read as JSON, line {line}: {cause}. It is damaged, or cut off."


def texts_at(value: Any, path: Sequence[str]) -> Any:
    """The value at a path of names, through objects and lists of objects; a list where the path leads through one."""
    for position, name in enumerate(path):
        if isinstance(value, list):
            return [texts_at(part, path[position:]) for part in value]
        value = value.get(name) if isinstance(value, dict) else None
    return value
